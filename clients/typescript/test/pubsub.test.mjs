// createPubSub of graphql-yoga, as npm serves it, on top of the target.
import assert from 'node:assert/strict';
import test from 'node:test';
import { createPubSub } from '@graphql-yoga/subscription';

import { connect, sockets, subscribed } from './connect.mjs';
import { eventually, startHub } from './hub.mjs';

for (const [name, WebSocket] of sockets) {
  test(`${name}: what is published at the hub comes out of subscribe, and publish reaches the hub`, async (t) => {
    const hub = await startHub(t);
    const heard = await hub.listen();
    const { target, errors } = connect(t, hub.url, { WebSocket, detail: 'payload' });
    const pubSub = createPubSub({ eventTarget: target });
    const ticks = pubSub.subscribe('tick', '42');
    const first = ticks.next();
    const hello = pubSub.subscribe('hello');
    const greeting = hello.next();
    await subscribed(hub, 'tick:42');
    await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } }, { type: 'tick', id: '43' }, { type: 'hello', payload: 'you' });
    assert.deepEqual(await first, { done: false, value: { price: 7 } });
    assert.deepEqual(await greeting, { done: false, value: 'you' });

    pubSub.publish('tick', '42', { price: 8 });
    pubSub.publish('tick', 43, 'a number as id');
    pubSub.publish('hello', 'hub');
    pubSub.publish('nothing');
    assert.deepEqual(await heard.count(4), [
      { type: 'tick', id: '42', payload: { price: 8 } },
      { type: 'tick', id: '43', payload: 'a number as id' },
      { type: 'hello', id: '', payload: 'hub' },
      { type: 'nothing', id: '', payload: null },
    ]);
    await ticks.return();
    await hello.return();
    await eventually(async () => (await hub.spokes())[0].topics?.length === 0 || !(await hub.spokes())[0].topics);
    assert.deepEqual(errors(), []);
  });
}

test('two programs talk through a hub that relays', async (t) => {
  const hub = await startHub(t, { flags: ['--relay', 'others'] });
  const [one, two] = [1, 2].map(() => createPubSub({ eventTarget: connect(t, hub.url, { detail: 'payload' }).target }));
  const answers = two.subscribe('tick', '42');
  const first = answers.next();
  await subscribed(hub, 'tick:42');
  for (let price = 0; price < 100; price++) one.publish('tick', '42', { price });
  assert.deepEqual((await first).value, { price: 0 });
  for (let price = 1; price < 100; price++) assert.deepEqual((await answers.next()).value, { price });
  await answers.return();
});
