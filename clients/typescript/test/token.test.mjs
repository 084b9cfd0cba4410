// Tokens: given at every connection, renewed, refused.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { connect, sockets, spying, subscribed } from './connect.mjs';
import { eventually, startHub } from './hub.mjs';
import { KEY, token } from './token.mjs';

const startGuardedHub = (t, options) => startHub(t, { ...options, env: { HUB_AUTH_JWT_KEY: KEY } });

describe('tokens', { concurrency: 6 }, () => {
  for (const [name, WebSocket] of sockets) {
    test(`${name}: a token travels with the handshake`, async (t) => {
      const hub = await startGuardedHub(t);
      const c = connect(t, hub.url, { WebSocket, token: token() });
      const events = c.listen('tick:1');
      await subscribed(hub, 'tick:1');
      assert.equal((await hub.spokes())[0].sub, 'ada');
      await hub.publish({ type: 'tick', id: '1' });
      await events.count(1);
    });

    test(`${name}: who is refused (401) is told and tries again with another token`, async (t) => {
      const hub = await startGuardedHub(t);
      let calls = 0;
      const c = connect(t, hub.url, {
        WebSocket,
        token: async () => (++calls < 3 ? token({ key: 'another secret of thirty-two bytes' }) : token()),
      });
      await c.state('open');
      assert.equal(calls, 3);
      const errors = c.errors();
      assert.deepEqual(errors.map((e) => e.code), ['connect', 'connect']);
      if (name === 'ws') assert.match(errors[0].message, /401/);
    });
  }

  test('a token function that fails is told, and asked again', async (t) => {
    const hub = await startGuardedHub(t);
    let calls = 0;
    const c = connect(t, hub.url, {
      token() {
        if (++calls === 1) throw new Error('nobody is logged in');
        if (calls === 2) return Promise.reject(new Error('the network is away'));
        return token();
      },
    });
    await c.state('open');
    assert.deepEqual(c.errors().map((e) => [e.code, e.message]), [
      ['token', 'Error: nobody is logged in'],
      ['token', 'Error: the network is away'],
    ]);
  });

  test('a token function that does not answer is not waited for longer than timeoutMs', async (t) => {
    const hub = await startGuardedHub(t);
    let calls = 0;
    const c = connect(t, hub.url, { timeoutMs: 2000, token: () => (++calls === 1 ? new Promise(() => {}) : token()) });
    await c.state('open');
    assert.match(c.errors()[0].message, /within 2000 ms/);
  });

  test('a fresh token is sent before the one in use expires, and the connection stays', async (t) => {
    const hub = await startGuardedHub(t);
    const sent = [];
    let calls = 0;
    const c = connect(t, hub.url, {
      WebSocket: spying(sent),
      token: () => token({ seconds: ++calls === 1 ? 10 : 3600 }),
    });
    c.listen('tick:1');
    const { spoke } = await c.state('open');
    await eventually(() => sent.some((e) => e.type === '__auth'));
    await new Promise((resolve) => setTimeout(resolve, 10_000)); // past the first one's exp
    assert.equal(c.target.status.spoke, spoke, 'the same connection');
    assert.equal(calls, 2);
    assert.deepEqual(c.errors(), []);
  });

  test('renew sends a fresh token at once, with which refused topics are asked for again', async (t) => {
    const hub = await startGuardedHub(t);
    let topics = ['tick:*'];
    const c = connect(t, hub.url, { token: () => token({ topics }) });
    for (const topic of ['tick:1', 'order:1', 'tick:2', 'order:2', 'tick:3']) c.listen(topic);
    await c.told.until((e) => e.code === 'forbidden' && e.topics[0] === 'order:1');
    await c.told.until((e) => e.code === 'forbidden' && e.topics[0] === 'order:2');
    await subscribed(hub, 'tick:3');
    assert.deepEqual((await hub.spokes())[0].topics, ['tick:1', 'tick:2', 'tick:3'], 'only those at fault are missing');
    assert.equal(c.errors().length, 2);

    topics = ['tick:1', 'order:*'];
    const from = c.told.all.length;
    c.target.renew();
    const lost = await c.error('forbidden', from);
    assert.deepEqual([...lost.topics].sort(), ['tick:2', 'tick:3']);
    await subscribed(hub, 'order:2');
    assert.deepEqual((await hub.spokes())[0].topics, ['order:1', 'order:2', 'tick:1']);

    topics = ['*'];
    c.target.renew();
    await eventually(async () => (await hub.spokes())[0].topics.length === 5);
    assert.equal(c.target.status.state, 'open');
  });

  test('many refused topics do not cost the connection', async (t) => {
    const hub = await startGuardedHub(t);
    const c = connect(t, hub.url, { token: token() });
    c.listen('tick:1');
    const { spoke } = await c.state('open');
    await subscribed(hub, 'tick:1');
    const all = [...Array(100).keys()].map((n) => `order:${n}`);
    for (const topic of all) c.listen(topic);
    await eventually(() => c.errors().flatMap((e) => e.topics).length >= all.length);
    c.listen('tick:2');
    await subscribed(hub, 'tick:2');
    assert.deepEqual((await hub.spokes()).map((s) => s.id), [spoke]);
    assert.deepEqual(c.errors().flatMap((e) => e.topics).sort(), all.sort(), 'each is told once');
  });

  test('a fresh token that is not taken is followed by another', async (t) => {
    const hub = await startGuardedHub(t);
    const subs = ['ada', 'eve', 'ada'];
    const c = connect(t, hub.url, { token: () => token({ sub: subs.shift() }) });
    await c.state('open');
    c.target.renew();
    await c.error('unauthenticated');
    await eventually(() => subs.length === 0);
    assert.equal(c.target.status.state, 'open');
  });

  test('a fresh token that cannot be had is asked for again', async (t) => {
    const hub = await startGuardedHub(t);
    let calls = 0;
    const sent = [];
    const c = connect(t, hub.url, {
      WebSocket: spying(sent),
      token: () => (++calls === 2 ? Promise.reject(new Error('away')) : token()),
    });
    await c.state('open');
    c.target.renew();
    await c.error('token');
    await eventually(() => sent.some((e) => e.type === '__auth'));
    assert.equal(c.target.status.state, 'open');
  });

  test('an event beyond the token is told', async (t) => {
    const hub = await startGuardedHub(t);
    const c = connect(t, hub.url, { token: token({ publish: ['mine:*'] }) });
    await c.state('open');
    c.dispatch('mine', '1', 1);
    c.dispatch('yours', '1', 1);
    const error = await c.error('forbidden');
    assert.match(error.message, /yours:1/);
    assert.equal(error.id, '1');
    assert.equal(c.errors().length, 1);
  });

  test('with a token of one time its end (4001) is the end', async (t) => {
    const hub = await startGuardedHub(t);
    const c = connect(t, hub.url, { token: token({ seconds: 5 }) });
    await c.state('open');
    assert.equal((await c.state('closed')).code, 4001);
    assert.equal(c.target.status.state, 'closed');
    await c.error('unauthenticated');
    assert.equal(c.dispatch('late', '', 1), false);
  });

  test('with a token function it is not', async (t) => {
    const hub = await startGuardedHub(t);
    let calls = 0;
    const c = connect(t, hub.url, {
      token: () => (++calls === 2 ? new Promise(() => {}) : token({ seconds: calls === 1 ? 5 : 3600 })),
    });
    await c.state('open');
    assert.equal((await c.state('waiting')).code, 4001);
    await c.gap('reconnect');
    assert.equal(c.target.status.state, 'open');
  });
});
