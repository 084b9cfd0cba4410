// Every snippet of the README compiles, runs, and does what the text around it says; and so does the example page.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';

import { servePages, startChromium } from './chromium.mjs';
import { subscribed } from './connect.mjs';
import { Recorder, startHub } from './hub.mjs';
import { KEY, token } from './token.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const ADDRESS = 'ws://localhost:8080/ws';

const codesIn = (text) => [...text.matchAll(/^```(\w*)\n(.*?)^```/gms)].map(([, language, code]) => ({ language, code }));

/** The snippets by the heading above each. */
const snippets = new Map();
const readme = await readFile(join(root, 'README.md'), 'utf8');
for (const section of readme.split(/^## /m).slice(1)) {
  const codes = codesIn(section);
  if (codes.length === 0 || section.startsWith('Install')) continue; // package.test.mjs installs
  assert.deepEqual(codes.map(({ language }) => language), ['ts'], 'one snippet a section, which a test can run');
  snippets.set(section.slice(0, section.indexOf('\n')), codes[0].code);
}
/** Those for browsers in the project's README. */
const project = await readFile(join(root, '../../README.md'), 'utf8');
const [, fromABrowser] = /^## From a browser\n(.*?)^## /ms.exec(project);
const projectSnippets = codesIn(fromABrowser).filter(({ language }) => language !== 'sh');

/** The snippet under a heading, or one itself, as a script for the given platform, with the address of a real hub. */
async function script(snippet, hub, platform) {
  const text = snippets.get(snippet) ?? snippet;
  assert.ok(text.includes(ADDRESS), snippet);
  checked.add(snippet);
  const { outputFiles } = await build({
    stdin: { contents: text.replaceAll(ADDRESS, hub.url), loader: 'ts', resolveDir: root },
    bundle: true,
    format: 'esm',
    platform,
    alias: { '@alkdev/hub-client': join(root, 'dist/index.js') },
    external: platform === 'node' ? ['ws'] : [],
    write: false,
  });
  return outputFiles[0].text;
}
const checked = new Set();

let browser;
before(async () => {
  browser = await startChromium();
});
after(() => browser?.close());

/** Opens a page at the path, and returns what it prints. */
async function openPage(t, url) {
  const page = await browser.newPage();
  t.after(() => page.close());
  const printed = new Recorder();
  page.on('console', (message) => printed.note(message.text()));
  page.on('pageerror', (error) => printed.note(String(error)));
  await page.goto(url);
  return { page, printed };
}

/** Runs a snippet, by its heading or itself, in a page. */
async function runInPage(t, snippet, { answers = {}, ...options } = {}) {
  const pages = { '/index.html': '<!doctype html><meta charset="utf-8"><script type="module" src="/snippet.js"></script>', ...answers };
  const origin = await servePages(t, pages);
  const hub = await startHub(t, { flags: ['--origins', origin], ...options });
  const heard = await hub.listen();
  pages['/snippet.js'] = await script(snippet, hub, 'browser');
  const { printed } = await openPage(t, `${origin}/index.html`);
  return { hub, heard, printed, origin };
}

test('README: A listener', async (t) => {
  const { hub, heard, printed } = await runInPage(t, 'A listener');
  assert.deepEqual((await heard.count(1))[0], { type: 'hello', id: '1', payload: 'from the browser' });
  await subscribed(hub, 'tick:42');
  await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } });
  assert.deepEqual(await printed.count(1), ['42 7']);
});

test('README: With createPubSub', async (t) => {
  const { hub, heard, printed } = await runInPage(t, 'With createPubSub');
  assert.deepEqual((await heard.count(1))[0], { type: 'hello', id: '', payload: 'from graphql-yoga' });
  await subscribed(hub, 'tick:42');
  await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } });
  assert.deepEqual(await printed.count(1), ['7']);
});

test('README: In Node', async (t) => {
  const hub = await startHub(t);
  await mkdir(join(root, 'node_modules/.cache'), { recursive: true });
  const folder = await mkdtemp(join(root, 'node_modules/.cache/readme-')); // where 'ws' is found
  t.after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'snippet.mjs'), await script('In Node', hub, 'node'));
  const child = spawn('node', [join(folder, 'snippet.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let printed = '';
  child.stdout.on('data', (data) => (printed += data));
  await subscribed(hub, 'tick:*');
  await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } }, { type: 'tick', id: 'last' });
  const [code] = await once(child, 'close');
  assert.equal(code, 0);
  assert.equal(printed, '42 { price: 7 }\nlast null\n');
});

test('README: What it tells', async (t) => {
  const { hub, printed, origin } = await runInPage(t, 'What it tells');
  await printed.until((line) => line.startsWith('open at '));
  await hub.end();
  await printed.until((line) => /^lost: 1006 .*, next try in [\d.]+ ms$/.test(line));
  await printed.until((line) => line.startsWith('connect '));
  await startHub(t, { flags: ['--origins', origin], address: hub.address });
  await printed.until((line) => line === 'events are missing: reconnect, nobody knows how many');
});

test('README: With tokens', async (t) => {
  const { hub, printed } = await runInPage(t, 'With tokens', {
    answers: { '/hub-token': token() },
    env: { HUB_AUTH_JWT_KEY: KEY },
  });
  await subscribed(hub, 'tick:*');
  await hub.publish({ type: 'tick', id: '42', payload: 7 });
  assert.deepEqual(await printed.count(1), ['42 7']);
});

test("the project's README: a target", async (t) => {
  const { hub, printed } = await runInPage(t, projectSnippets.find(({ language }) => language === 'ts').code);
  await subscribed(hub, 'tick:42');
  await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } });
  assert.deepEqual(await printed.count(1), ['7']);
});

test("the project's README: any WebSocket", async (t) => {
  const pages = {};
  const origin = await servePages(t, pages);
  const hub = await startHub(t, { flags: ['--origins', origin] });
  const heard = await hub.listen();
  const { code } = projectSnippets.find(({ language }) => language === 'html');
  checked.add(code);
  pages['/index.html'] = code.replace(ADDRESS, hub.url);
  const { printed } = await openPage(t, `${origin}/index.html`);
  assert.equal((await heard.count(1))[0].payload, 'from the browser');
  await hub.publish({ type: 'tick', id: '42', payload: 7 });
  assert.deepEqual(await printed.count(1), ['tick 42 7']);
});

test('every snippet was run', () => {
  const all = [...snippets.keys(), ...projectSnippets.map(({ code }) => code)];
  assert.deepEqual([...checked].sort(), all.sort());
});

test('the example page shows prices', async (t) => {
  const server = spawn('node', [join(root, 'examples/serve.mjs'), '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => server.kill('SIGKILL'));
  const origin = String((await once(server.stdout, 'data'))[0]).trim();
  const hub = await startHub(t, { flags: ['--origins', origin] });
  const heard = await hub.listen();
  const { page, printed } = await openPage(t, `${origin}/?hub=${encodeURIComponent(hub.url)}`);
  await subscribed(hub, 'tick:*');
  await page.waitForFunction(() => document.querySelector('#status').textContent.startsWith('connected to '));
  await hub.publish({ type: 'tick', id: '42', payload: { price: 6 } }, { type: 'tick', id: '7', payload: { price: 1 } });
  await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } });
  await page.waitForFunction(() => document.querySelector('#prices').innerText.replace(/\s+/g, ' ') === '42 7 7 1');
  await page.click('#hello');
  assert.equal((await heard.count(1))[0].payload, 'from the browser');
  assert.deepEqual(printed.all, []);
});
