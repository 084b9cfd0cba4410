// Listening and dispatching, on every WebSocket that this Node has.
import assert from 'node:assert/strict';
import test from 'node:test';

import { createWebSocketClientEventTarget } from '../dist/index.js';
import { connect, sockets, spying, subscribed } from './connect.mjs';
import { eventually, startHub } from './hub.mjs';

const topicsOf = (sent, type) => sent.filter((e) => e.type === type).flatMap((e) => e.payload.topics ?? []);

for (const [name, WebSocket] of sockets) {
  test(`${name}: a listener gets the events of its topic as envelopes`, async (t) => {
    const hub = await startHub(t);
    const c = connect(t, hub.url, { WebSocket });
    const one = c.listen('tick:42');
    const bare = c.listen('tick');
    const type = c.listen('tick:*');
    const other = c.listen('order:*');
    const open = await c.state('open');
    await subscribed(hub, 'tick:42');
    assert.equal(open.spoke, (await hub.spokes())[0].id);
    const payload = { text: 'é€😀', nothing: null };
    await hub.publish({ type: 'tick', id: '42', payload }, { type: 'tick' }, { type: 'tick', id: '7:1' }, { type: 'none', id: '1' });
    await hub.publish({ type: 'order', id: '1', payload: 'last' });
    await other.count(1);
    assert.deepEqual(one.all.map((e) => [e.type, e.detail]), [['tick:42', { type: 'tick', id: '42', payload }]]);
    assert.deepEqual(bare.all.map((e) => e.detail), [{ type: 'tick', id: '', payload: null }]);
    assert.deepEqual(type.all.map((e) => [e.type, e.detail.id]), [['tick:*', '42'], ['tick:*', ''], ['tick:*', '7:1']]);
    assert.deepEqual(c.errors(), []);
  });

  test(`${name}: what is dispatched reaches the hub, in order, from before the connection on`, async (t) => {
    const hub = await startHub(t);
    const heard = await hub.listen();
    const c = connect(t, hub.url, { WebSocket });
    assert.equal(c.dispatch('early', '1', { n: 1 }), true);
    await c.state('open');
    for (let n = 0; n < 100; n++) c.dispatch('late', String(n), '€');
    c.dispatch('bare', '', undefined);
    const all = await heard.count(102);
    assert.deepEqual(all[0], { type: 'early', id: '1', payload: { n: 1 } });
    assert.deepEqual(all.slice(1, 101).map((e) => e.id), [...Array(100).keys()].map(String));
    assert.deepEqual([all[101].type, all[101].payload ?? null], ['bare', null]);
  });

  test(`${name}: binary messages are read as well`, async (t) => {
    const hub = await startHub(t, { flags: ['--frames', 'binary'] });
    const c = connect(t, hub.url, { WebSocket });
    const events = c.listen('tick:1');
    await subscribed(hub, 'tick:1');
    await hub.publish({ type: 'tick', id: '1', payload: '€' });
    assert.equal((await events.count(1))[0].detail.payload, '€');
  });
}

test('the first listener of a topic subscribes, the last one unsubscribes', async (t) => {
  const hub = await startHub(t);
  const sent = [];
  const c = connect(t, hub.url, { WebSocket: spying(sent) });
  await c.state('open');
  const listeners = [() => {}, { handleEvent() {} }];
  for (const listener of listeners) c.target.addEventListener('tick:1', listener);
  c.target.addEventListener('tick:1', listeners[0]); // again: the same one
  c.target.addEventListener('tick:1', listeners[0], true); // in the other phase: another one
  c.target.addEventListener('tick:1', null);
  await subscribed(hub, 'tick:1');
  c.target.removeEventListener('tick:1', listeners[0]);
  c.target.removeEventListener('tick:1', listeners[0], { capture: true });
  c.target.removeEventListener('tick:1', () => {});
  c.listen('tick:2');
  await subscribed(hub, 'tick:2');
  assert.deepEqual((await hub.spokes())[0].topics, ['tick:1', 'tick:2']);
  c.target.removeEventListener('tick:1', listeners[1]);
  await subscribed(hub, 'tick:1', 0);
  assert.deepEqual(topicsOf(sent, '__subscribe'), ['tick:1', 'tick:2']);
  assert.deepEqual(topicsOf(sent, '__unsubscribe'), ['tick:1']);
});

test('listeners that come and go within a task are not told of', async (t) => {
  const hub = await startHub(t);
  const sent = [];
  const c = connect(t, hub.url, { WebSocket: spying(sent) });
  c.listen('tick:1');
  await c.state('open');
  const before = sent.length;
  for (let i = 0; i < 10; i++) {
    const listener = () => {};
    c.target.addEventListener('tick:2', listener);
    c.target.removeEventListener('tick:2', listener);
  }
  c.dispatch('after', '', 1);
  await eventually(() => sent.length > before);
  assert.deepEqual(sent.slice(before).map((e) => e.type), ['after']);
});

test('once and signal end a subscription', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url);
  const stop = new AbortController();
  let calls = 0;
  c.target.addEventListener('tick:1', () => calls++, { once: true });
  c.target.addEventListener('tick:2', () => calls++, { signal: stop.signal });
  c.target.addEventListener('tick:3', () => calls++, { signal: AbortSignal.abort() });
  const last = c.listen('tick:4');
  await subscribed(hub, 'tick:4');
  assert.deepEqual((await hub.spokes())[0].topics, ['tick:1', 'tick:2', 'tick:4']);
  const events = ['1', '1', '2', '3', '4'].map((id) => ({ type: 'tick', id }));
  await hub.publish(...events);
  await last.count(1);
  stop.abort();
  await subscribed(hub, 'tick:2', 0);
  assert.equal(calls, 2);
  assert.deepEqual((await hub.spokes())[0].topics, ['tick:4']);
});

test('many topics make few messages, in which the hub takes 1024', async (t) => {
  const hub = await startHub(t);
  const sent = [];
  const c = connect(t, hub.url, { WebSocket: spying(sent) });
  await c.state('open');
  const from = sent.length;
  const long = '€'.repeat(85); // 255 bytes
  for (let i = 0; i < 1024; i++) c.target.addEventListener(`t${i}:${i % 2 ? long : 'short'}`, () => {});
  await eventually(async () => (await hub.spokes())[0].topics?.length === 1024);
  const messages = sent.slice(from);
  assert.ok(messages.length <= 24, `${messages.length} messages`);
  for (const message of messages) assert.ok(Buffer.byteLength(JSON.stringify(message)) < 32 * 1024);
  assert.deepEqual(c.errors(), []);

  c.target.addEventListener('more:1', () => {});
  const error = await c.error('too_many_topics');
  assert.deepEqual(error.topics, ['more:1']);
  c.target.addEventListener('more:2', () => {}); // the one that was refused is not asked for again and again
  const second = await c.told.until((e) => e.topics?.includes('more:2'));
  assert.deepEqual(second.topics, ['more:2']);
  assert.equal(c.errors().length, 2);
});

test('a refused topic is asked for again when there is room', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url);
  const listener = () => {};
  for (let i = 0; i < 1024; i++) c.target.addEventListener(`tick:${i}`, listener);
  await eventually(async () => (await hub.spokes())[0]?.topics?.length === 1024);
  c.target.addEventListener('more:1', listener);
  await c.error('too_many_topics');
  c.target.removeEventListener('tick:7', listener);
  await subscribed(hub, 'more:1');
});

test('a topic that the hub has no room for is told, and asked for again', async (t) => {
  const hub = await startHub(t, { flags: ['--max-topic-memory', '256B'] }); // room for one of them
  const c = connect(t, hub.url);
  const listener = () => {};
  c.target.addEventListener('tick:1', listener);
  await subscribed(hub, 'tick:1');
  c.target.addEventListener('tick:2', listener);
  assert.deepEqual((await c.error('topic_memory')).topics, ['tick:2']);
  c.target.removeEventListener('tick:1', listener);
  await subscribed(hub, 'tick:2');
  assert.equal(c.errors().length, 1);
});

test('who listens to nothing gets nothing', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url);
  await c.state('open');
  await eventually(async () => (await hub.spokes())[0].everything === false);
  assert.equal(await hub.publish({ type: 'tick', id: '1' }), 0);
  assert.deepEqual(c.errors(), []);
});

test('an answer to what is dispatched behind a new listener finds it subscribed', async (t) => {
  const hub = await startHub(t, { flags: ['--relay', 'others'] });
  const asker = connect(t, hub.url);
  const answerer = connect(t, hub.url);
  answerer.target.addEventListener('ask:*', (e) => answerer.dispatch('answer', e.detail.id, e.detail.payload));
  await subscribed(hub, 'ask:*');
  await asker.state('open');
  for (let i = 0; i < 50; i++) {
    const answers = asker.listen(`answer:${i}`);
    asker.dispatch('ask', String(i), i);
    assert.equal((await answers.count(1))[0].detail.payload, i);
  }
});

test('what is no event is refused where it is dispatched', async (t) => {
  const hub = await startHub(t);
  const c = connect(t, hub.url, { maxMessageBytes: 1000 });
  const dispatch = (topic, detail) => () => c.target.dispatchEvent(new CustomEvent(topic, { detail }));
  const envelope = (type, id, payload = 1) => ({ type, id, payload });
  for (const [topic, detail] of [
    ['tick:1', undefined],
    ['tick:1', 7],
    ['tick:1', envelope('tick', '2')],
    ['tick', envelope('tick', '1')],
    [':1', envelope('', '1')],
    ['*', envelope('*', '')],
    ['__gap:1', envelope('__gap', '1')],
    ['a:b', envelope('a:b', '')],
    ['x'.repeat(257), envelope('x'.repeat(257), '')],
    [`tick:${'€'.repeat(86)}`, envelope('tick', '€'.repeat(86))],
    ['tick:1', envelope('tick', '1', 1n)],
  ]) {
    assert.throws(dispatch(topic, detail), TypeError, topic);
  }
  assert.throws(dispatch('tick:1', envelope('tick', '1', 'x'.repeat(1000))), RangeError);
  for (const topic of ['', ':1', '__welcome:', 'x'.repeat(257)]) {
    assert.throws(() => c.target.addEventListener(topic, () => {}), TypeError, topic);
  }
  assert.equal(dispatch('tick:1', envelope('tick', '1'))(), true);
});

test('a message that the hub does not take is told', async (t) => {
  const hub = await startHub(t);
  const sent = [];
  const Spy = spying(sent);
  let socket;
  const c = connect(t, hub.url, {
    WebSocket: class extends Spy {
      constructor(...args) {
        super(...args);
        socket = this;
      }
    },
  });
  await c.state('open');
  socket.send('{"type":7,"id":"mine"}');
  const error = await c.error('bad_envelope');
  assert.equal(error.id, 'mine');
  assert.match(error.message, /type/);
  assert.equal(c.target.status.state, 'open');
});

test('without any WebSocket the option is asked for', (t) => {
  const global = globalThis.WebSocket;
  t.after(() => (globalThis.WebSocket = global));
  globalThis.WebSocket = undefined;
  assert.throws(() => createWebSocketClientEventTarget({ url: 'ws://127.0.0.1:1' }), /option WebSocket/);
});
