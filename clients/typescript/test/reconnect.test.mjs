// What happens when connections end: hubs that are killed, drained, stopped and too slow for.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import test from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';

import { connect, sockets, spying, subscribed } from './connect.mjs';
import { eventually, startHub } from './hub.mjs';

for (const [name, WebSocket] of sockets) {
  test(`${name}: a killed hub is found again, with subscriptions, the queue and a gap`, async (t) => {
    const first = await startHub(t);
    const c = connect(t, first.url, { WebSocket });
    const events = c.listen('tick:42');
    await subscribed(first, 'tick:42');
    await first.publish({ type: 'tick', id: '42', payload: 1 });
    await events.count(1);
    const from = c.told.all.length;
    await first.end();
    const waiting = await c.state('waiting', from);
    assert.equal(waiting.code, 1006);
    assert.ok(waiting.retryInMs <= 20, 'the first wait is below backoffMinMs');
    c.listen('order:*'); // while it is away
    c.dispatch('hello', '1', 'from away');
    await c.error('connect');

    const second = await startHub(t, { address: first.address });
    const heard = await second.listen();
    await c.state('open', from);
    await subscribed(second, 'tick:42');
    assert.deepEqual((await second.spokes())[0].topics, ['order:*', 'tick:42']);
    const { what, at, ...gap } = await c.gap('reconnect');
    assert.deepEqual(gap, { reason: 'reconnect' });
    assert.equal(c.told.all.filter((e) => e.what === 'gap').length, 1);
    await second.publish({ type: 'tick', id: '42', payload: 2 });
    assert.deepEqual((await events.count(2)).map((e) => e.detail.payload), [1, 2]);
    assert.ok(heard.all.length <= 1, 'nothing is sent twice');
  });
}

test('what was dispatched while there was no hub arrives, in order', async (t) => {
  const first = await startHub(t);
  const c = connect(t, first.url);
  await c.state('open');
  await first.end();
  await c.state('waiting');
  for (let n = 0; n < 100; n++) assert.equal(c.dispatch('tick', '', n), true);
  // A hub tells its listeners only what comes while they listen: this one stands for a hub that does.
  const server = new WebSocketServer({ host: '127.0.0.1', port: Number(first.address.split(':')[1]), handleProtocols: () => 'hub.v1' });
  t.after(() => server.close());
  const got = [];
  server.on('connection', (ws) => ws.on('message', (data) => got.push(JSON.parse(data))));
  await eventually(() => got.filter((e) => e.type === 'tick').length === 100);
  const ticks = got.filter((e) => e.type === 'tick');
  assert.deepEqual(ticks.map((e) => e.payload), [...Array(100).keys()]);
  assert.equal(got[0].type, '__subscribe', 'subscriptions go first');
  for (const ws of server.clients) ws.terminate();
});

test('waits grow, and stay below their bound', async (t) => {
  const c = connect(t, 'ws://127.0.0.1:1', { backoffMinMs: 1, backoffMaxMs: 8 });
  await c.told.until((e) => e.state === 'waiting' && e.failures === 8);
  for (const { retryInMs, failures } of c.told.all.filter((e) => e.state === 'waiting')) {
    assert.ok(retryInMs >= 0 && retryInMs <= Math.min(2 ** (failures - 1), 8), `${failures}: ${retryInMs}`);
  }
  assert.match(c.errors()[0].message, /ECONNREFUSED/);
});

test('a drained hub is come back to in the slot it gave', async (t) => {
  const first = await startHub(t, { flags: ['--drain-timeout', '1s'] });
  const c = connect(t, first.url);
  c.listen('tick:42');
  await subscribed(first, 'tick:42');
  const from = c.told.all.length;
  await first.end('SIGTERM');
  const waiting = await c.state('waiting', from);
  assert.equal(waiting.code, 1001);
  assert.ok(waiting.retryInMs >= 1000, `${waiting.retryInMs}: beyond any backoff of this test`);
  assert.equal(waiting.failures, 0);
  const second = await startHub(t, { address: first.address });
  const connecting = await c.state('connecting', from);
  assert.ok(connecting.at - waiting.at > waiting.retryInMs - 5, 'not before');
  await subscribed(second, 'tick:42');
});

test('who is too slow is told, closed with 4008, and comes back', async (t) => {
  const hub = await startHub(t, { flags: ['--spoke-buffer', '64KiB', '--sndbuf', '8KiB'] });
  const all = [];
  const c = connect(t, hub.url, {
    WebSocket: class extends WebSocket {
      constructor(...args) {
        super(...args);
        all.push(this);
      }
    },
  });
  const events = c.listen('tick:*');
  await subscribed(hub, 'tick:*');
  all[0].pause();
  const payload = 'x'.repeat(32 * 1024);
  await eventually(async () => (await hub.publish({ type: 'tick', payload })) === 0);
  all[0].resume();
  const waiting = await c.state('waiting');
  assert.equal(waiting.code, 4008);
  assert.match(waiting.reason, /^slow: /);
  await c.gap('reconnect');
  await subscribed(hub, 'tick:*');
  await hub.publish({ type: 'tick', id: 'last' });
  await events.until((e) => e.detail.id === 'last');
});

test('a gap that the hub tells is passed on', async (t) => {
  const hub = await startHub(t, { flags: ['--spoke-buffer', '64KiB', '--sndbuf', '8KiB', '--slow', 'drop-oldest'] });
  let socket;
  const c = connect(t, hub.url, {
    WebSocket: class extends WebSocket {
      constructor(...args) {
        super(...args);
        socket = this;
      }
    },
  });
  const events = c.listen('tick:*');
  await subscribed(hub, 'tick:*');
  socket.pause();
  const payload = 'x'.repeat(32 * 1024);
  let published = 0;
  await eventually(async () => {
    published += 1;
    await hub.publish({ type: 'tick', id: String(published), payload });
    return (await hub.spokes())[0].dropped > 0;
  });
  socket.resume();
  const gap = await c.told.until((e) => e.what === 'gap');
  await events.until((e) => e.detail.id === String(published));
  const dropped = c.told.all.filter((e) => e.what === 'gap').reduce((n, e) => n + e.dropped, 0);
  assert.equal(events.all.length + dropped, published, 'every event has come or was announced');
  assert.equal(gap.conflated, 0);
});

test('a hub that does not answer is left, and found again', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url, { pingMs: 50, timeoutMs: 1500 });
  await c.state('open');
  hub.signal('SIGSTOP');
  await c.told.until((e) => e.state === 'waiting' && e.reason === 'the hub does not answer');
  await c.error('connect'); // nor does it answer the next handshake
  const from = c.told.all.length;
  hub.signal('SIGCONT');
  await c.state('open', from);
  await c.gap('reconnect');
});

test('a quiet hub that answers is stayed with', async (t) => {
  const hub = await startHub(t);
  const sent = [];
  const c = connect(t, hub.url, { WebSocket: spying(sent), pingMs: 20 });
  await c.state('open');
  await eventually(() => sent.filter((e) => e.id === '__ping').length > 5);
  assert.equal(c.told.all.filter((e) => e.state === 'waiting').length, 0);
  assert.equal((await hub.spokes()).length, 1);
});

test('the queue is bounded, and says what it does not take', async (t) => {
  const c = connect(t, 'ws://127.0.0.1:1', { maxQueueBytes: 1000 });
  const taken = [];
  for (let n = 0; n < 100; n++) taken.push(c.dispatch('tick', '', 'x'.repeat(60)));
  const lost = taken.filter((ok) => !ok).length;
  assert.equal(taken.indexOf(false), 10, 'ten events of 96 bytes');
  assert.equal(c.errors().filter((e) => e.code === 'queue_full').length, lost);
  c.target.close();
  assert.match((await c.error('unsent')).message, /10 events/);
});

test('what waits in the socket counts', async (t) => {
  /** Opens, and sends nothing. */
  class Stuck extends EventTarget {
    readyState = 0;
    bufferedAmount = 0;
    constructor() {
      super();
      queueMicrotask(() => {
        this.readyState = 1;
        this.dispatchEvent(new Event('open'));
      });
    }
    send(data) {
      this.bufferedAmount += Buffer.byteLength(data);
    }
    close() {}
  }
  const c = connect(t, 'ws://127.0.0.1:1', { maxQueueBytes: 1000, WebSocket: Stuck });
  let taken = 0;
  for (let n = 0; n < 100; n++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (c.dispatch('tick', '', 'x'.repeat(60))) taken++;
  }
  assert.ok(taken > 5 && taken <= 10, `${taken} events of 96 bytes`);
});

test('the loss of what waits in the socket is told', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url, { maxQueueBytes: 256 * 1024 });
  await c.state('open');
  hub.signal('SIGSTOP');
  await eventually(() => !c.dispatch('tick', '', 'x'.repeat(60 * 1024))); // a task each: the queue is empty
  await c.error('queue_full');
  await hub.end();
  const [, bytes] = /up to (\d+) bytes/.exec((await c.error('unsent')).message);
  assert.ok(bytes > 0 && bytes < 128 * 1024, `${bytes}: what waited beside the socket is not lost`);
});

test('what waited beside the socket goes out on the next connection', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url);
  await c.state('open');
  hub.signal('SIGSTOP');
  let n = 0;
  await eventually(() => !c.dispatch('tick', String(n++), 'x'.repeat(60 * 1024)));
  await hub.end();
  const server = new WebSocketServer({ host: '127.0.0.1', port: Number(hub.address.split(':')[1]), handleProtocols: () => 'hub.v1' });
  t.after(() => server.close());
  const got = [];
  server.on('connection', (ws) => ws.on('message', (data) => got.push(JSON.parse(data))));
  const last = String(n - 2); // the last that was taken
  await eventually(() => got.some((e) => e.id === last));
  const ids = got.filter((e) => e.type === 'tick').map((e) => Number(e.id));
  assert.ok(ids.length > 10);
  assert.deepEqual(ids, ids.map((_, i) => ids[0] + i), 'in order, none missing, none twice');
  for (const ws of server.clients) ws.terminate();
});

test('close is final', async (t) => {
  const hub = await startHub(t);
  const heard = await hub.listen();
  const c = connect(t, hub.url);
  c.listen('tick:1');
  await c.state('open');
  c.dispatch('last', '', 1);
  c.target.close();
  c.target.close();
  assert.deepEqual(c.target.status, { state: 'closed', code: 1000, reason: '' });
  assert.equal((await heard.count(1))[0].type, 'last');
  await eventually(async () => (await hub.spokes()).length === 0);
  assert.equal(c.dispatch('later', '', 1), false);
  await c.error('closed');
  const told = c.told.all.length;
  c.listen('tick:2');
  await hub.end();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(c.told.all.length, told);
  assert.equal(c.told.all.filter((e) => e.state === 'closed').length, 1);
});

test('close before the connection is made makes none', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  let upgrades = 0;
  server.on('upgrade', (_, socket) => {
    upgrades++;
    socket.destroy();
  });
  const url = `ws://127.0.0.1:${server.address().port}`;
  const c = connect(t, url);
  c.target.close();
  const during = connect(t, url, { token: () => during.target.close() });
  await during.state('closed');
  const inside = connect(t, url, { onStatus: (status) => status.state === 'waiting' && inside.target.close() });
  await eventually(() => inside.target.status.state === 'closed');
  assert.equal(upgrades, 1, 'the one of the last');
});

test('a listener or callback that throws harms nobody else', async (t) => {
  const hub = await startHub(t);
  const thrown = [];
  const catcher = (error) => thrown.push(error.message);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', catcher);
  t.after(() => {
    process.removeAllListeners('uncaughtException');
    for (const other of others) process.on('uncaughtException', other);
  });
  const c = connect(t, hub.url, {
    onStatus({ state }) {
      if (state !== 'closed') throw new Error('status');
    },
  });
  c.target.addEventListener('tick:1', () => {
    throw new Error('listener');
  });
  const events = c.listen('tick:1');
  await subscribed(hub, 'tick:1');
  await hub.publish({ type: 'tick', id: '1' });
  await events.count(1);
  await eventually(() => thrown.length >= 3);
  assert.deepEqual(new Set(thrown), new Set(['status', 'listener']));
});
