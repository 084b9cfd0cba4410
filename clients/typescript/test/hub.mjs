// Real hubs for the tests: bin/hub in child processes, on ports of the kernel's choice.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const binary = process.env.HUB_BIN ?? fileURLToPath(new URL('../../../bin/hub', import.meta.url));

/** Starts a hub that ends with the test. address makes it come back where another was. */
export async function startHub(t, { flags = [], address = '127.0.0.1:0', env = {} } = {}) {
  const child = spawn(binary, ['serve', '--listen', address, '--admin', '127.0.0.1:0', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  const started = Promise.withResolvers?.() ?? withResolvers();
  let log = '';
  createInterface(child.stderr).on('line', (line) => {
    log += `${line}\n`;
    const found = /spokes=(ws:\/\/\S+) admin=(http:\/\/\S+)/.exec(line);
    if (found) started.resolve({ url: found[1], admin: found[2] });
  });
  ended.then(() => started.reject(new Error(`the hub ended before it had started:\n${log}`)), () => {});
  const { url, admin } = await started.promise;
  const call = async (path, init) => {
    const answer = await fetch(admin + path, init).catch((error) => {
      if (init?.method) throw error;
      return fetch(admin + path, init); // the hub may just have closed the idle connection that was used
    });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  };
  return {
    url,
    admin,
    address: new URL(url).host,
    signal: (name) => child.kill(name),
    /** Kills it, and waits until it is gone. */
    async end(name = 'SIGKILL') {
      child.kill(name);
      await ended;
    },
    /** Publishes events, and returns to how many spokes they go. */
    async publish(...events) {
      const answer = await call('/v1/events', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(events),
      });
      return (await answer.json()).matched;
    },
    async spokes() {
      return (await (await call('/v1/spokes')).json()).spokes;
    },
    async metric(name) {
      const text = await (await call('/metrics')).text();
      return Number(text.split('\n').find((line) => line.startsWith(`${name} `))?.split(' ')[1] ?? 0);
    },
    /** Collects what spokes send: `await heard(event => ...)` resolves with the first that fits. */
    async listen() {
      const events = new Recorder();
      const stop = new AbortController();
      t.after(() => stop.abort());
      const answer = await call('/v1/events', { signal: stop.signal });
      void (async () => {
        let rest = '';
        for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
          const lines = (rest + part).split('\n');
          rest = lines.pop();
          for (const line of lines) {
            const event = line && JSON.parse(line).event;
            if (event) events.note({ ...event, id: event.id ?? '' });
          }
        }
      })().catch(() => {});
      return events;
    },
  };
}

function withResolvers() {
  const all = {};
  all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
  return all;
}

const PATIENCE_MS = 60_000;

/** What happened, in order, and a way to wait for it. */
export class Recorder {
  all = [];
  #waiting = new Set();

  note(what) {
    this.all.push(what);
    for (const look of this.#waiting) look();
  }

  /** The first that fits, from the given place on. */
  until(fits, from = 0) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.all.slice(from).find(fits);
        if (!found) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(found);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`not seen in time: ${fits}\n${this.all.slice(-12).map((e) => JSON.stringify(e)).join('\n')}`));
      }, PATIENCE_MS);
      this.#waiting.add(look);
      look();
    });
  }

  /** Waits until there are so many. */
  async count(n) {
    await this.until(() => this.all.length >= n);
    return this.all;
  }
}

/** Waits until the condition, which may be asked for, holds. */
export async function eventually(condition) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not so in time: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
