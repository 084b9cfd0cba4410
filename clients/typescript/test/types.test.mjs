// What must and must not compile for those who use the package, the snippets of the READMEs among it.
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'node:test';

const run = promisify(execFile);
const cwd = fileURLToPath(new URL('..', import.meta.url));
const compile = (config) =>
  run('npx', ['tsc', '--noEmit', '-p', `types-test/${config}`], { cwd }).catch(({ stdout, stderr }) => {
    throw new Error(stdout + stderr);
  });

test('types: those of the platform, of ws and of graphql-yoga, and the snippets of the READMEs', async (t) => {
  const folder = join(cwd, 'types-test/readme');
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(folder, { recursive: true });
  const readmes = await Promise.all(['README.md', '../../README.md'].map((path) => readFile(join(cwd, path), 'utf8')));
  const snippets = [...readmes.join('\n').matchAll(/^```ts\n(.*?)^```/gms)].map(([, text]) => text);
  await Promise.all(snippets.map((text, i) => writeFile(join(folder, `${i}.ts`), text)));
  await compile('tsconfig.dom.json');
});

test('types: without those of the DOM', () => compile('tsconfig.node.json'));
