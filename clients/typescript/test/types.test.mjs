// What must and must not compile for those who use the package.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'node:test';

const run = promisify(execFile);
const cwd = fileURLToPath(new URL('..', import.meta.url));

for (const config of ['tsconfig.dom.json', 'tsconfig.node.json']) {
  test(`types: ${config}`, async () => {
    await run('npx', ['tsc', '--noEmit', '-p', `types-test/${config}`], { cwd }).catch(({ stdout }) => {
      throw new Error(stdout);
    });
  });
}
