// Serves page.html and what it imports: node examples/serve.mjs [port]
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

const types = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8' };
const server = createServer(async ({ url }, response) => {
  const path = new URL(url, 'http://localhost').pathname;
  if (path === '/favicon.ico') return void response.writeHead(204).end();
  const file = path === '/' ? 'examples/page.html' : /^\/dist\/[\w-]+\.js$/.test(path) && path.slice(1);
  try {
    const body = await readFile(new URL(`../${file}`, import.meta.url));
    response.writeHead(200, { 'Content-Type': types[file.split('.').pop()] }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.argv[2] ?? 3000), 'localhost', () => console.log(`http://localhost:${server.address().port}`));
