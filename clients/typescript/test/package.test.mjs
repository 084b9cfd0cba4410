// The package as it is published: its size, its content, and that an empty project can use it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import test from 'node:test';
import { build } from 'esbuild';

import { startHub } from './hub.mjs';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));

const MAX_BYTES = 5000;

test('minified and compressed it is below 5 KB, and has no dependencies', async (t) => {
  const { outputFiles } = await build({
    entryPoints: [join(root, 'dist/index.js')],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'silent',
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  t.diagnostic(`${bytes} bytes minified and compressed`);
  assert.ok(bytes < MAX_BYTES, `${bytes} bytes`);
  for (const kind of ['dependencies', 'peerDependencies', 'optionalDependencies']) assert.equal(manifest[kind], undefined);
});

test('versions are exact, and the lock file names no registry', () => {
  for (const [name, version] of Object.entries(manifest.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
  for (const [path, entry] of Object.entries(lock.packages)) assert.equal(entry.resolved, undefined, path);
  assert.doesNotMatch(JSON.stringify(lock.packages), /registry\./);
});

test('packed and installed in an empty project it works with createPubSub', { timeout: 120_000 }, async (t) => {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  assert.equal(/^```sh\n(.*?)^```/ms.exec(readme)[1], 'npm ci\nnpm pack\n', 'ci has come before this test, the rest is here');
  const folder = await mkdtemp(join(tmpdir(), 'hub-client-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
  const [pack] = Object.values(JSON.parse(packed.stdout));
  assert.ok(readme.includes(`\`${pack.filename}\``), pack.filename);
  const files = pack.files.map((file) => file.path).sort();
  for (const file of ['README.md', 'dist/index.d.ts', 'dist/index.js', 'package.json']) assert.ok(files.includes(file), file);
  for (const file of files) assert.match(file, /^(README\.md|package\.json|dist\/[\w-]+(\.d\.ts|\.js))$/);

  await writeFile(join(folder, 'package.json'), '{"private": true, "type": "module"}');
  const { devDependencies } = manifest;
  const others = ['@graphql-yoga/subscription', 'ws'].map((name) => `${name}@${devDependencies[name]}`);
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', join(folder, pack.filename), ...others], { cwd: folder });
  await writeFile(
    join(folder, 'main.js'),
    `import { createPubSub } from '@graphql-yoga/subscription';
import { WebSocket } from 'ws';
import { createWebSocketClientEventTarget } from '@alkdev/hub-client';
const eventTarget = createWebSocketClientEventTarget({ url: process.argv[2], detail: 'payload', WebSocket });
const pubSub = createPubSub({ eventTarget });
pubSub.publish('ready', 'now');
for await (const { price } of pubSub.subscribe('tick', '42')) {
  console.log(price);
  eventTarget.close();
  break;
}
`,
  );
  const hub = await startHub(t);
  const heard = await hub.listen();
  const result = run('node', ['main.js', hub.url], { cwd: folder });
  await Promise.race([heard.until((e) => e.type === 'ready'), result]);
  await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } });
  assert.equal((await result).stdout, '7\n');
});
