// The same in headless Chromium: in a page, and in a worker.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { servePages, startChromium } from './chromium.mjs';
import { subscribed } from './connect.mjs';
import { Recorder, eventually, startHub } from './hub.mjs';
import { KEY, token } from './token.mjs';

let browser;
before(async () => {
  browser = await startChromium();
});
after(() => browser?.close());

/** Opens a spoke. Returns what it says, and a way to tell it what to do. */
async function open(t, place) {
  const origin = await servePages(t);
  const page = await browser.newPage();
  t.after(() => page.close());
  const said = new Recorder();
  page.on('pageerror', (error) => said.note({ what: 'error', code: 'page', message: String(error) }));
  await page.exposeFunction('say', (message) => said.note(message));
  await page.goto(`${origin}/test/browser/page.html#${place}`);
  await said.until((e) => e.what === 'loaded');
  return {
    origin,
    said,
    page,
    tell: (...command) => page.evaluate((given) => window.command(given), command),
    state: (state, from) => said.until((e) => e.what === 'status' && e.state === state, from),
    errors: () => said.all.filter((e) => e.what === 'error').map((e) => e.code),
  };
}

for (const place of ['page', 'worker']) {
  describe(place, { concurrency: 4 }, () => {
    test(`${place}: events go both ways, and subscriptions follow the listeners`, async (t) => {
      const spoke = await open(t, place);
      const hub = await startHub(t, { flags: ['--origins', spoke.origin] });
      const heard = await hub.listen();
      await spoke.tell('connect', { url: hub.url });
      await spoke.tell('listen', 'tick:42');
      await spoke.tell('listen', 'order:*');
      await spoke.tell('dispatch', { type: 'hello', id: '1', payload: 'é€😀' });
      assert.deepEqual((await heard.count(1))[0], { type: 'hello', id: '1', payload: 'é€😀' });
      await subscribed(hub, 'order:*');
      await hub.publish({ type: 'tick', id: '42', payload: { price: 7 } }, { type: 'tick', id: '43' }, { type: 'order', id: '1' });
      await spoke.said.until((e) => e.type === 'order');
      assert.deepEqual(
        spoke.said.all.filter((e) => e.what === 'event'),
        [
          { what: 'event', topic: 'tick:42', type: 'tick', id: '42', payload: { price: 7 } },
          { what: 'event', topic: 'order:*', type: 'order', id: '1', payload: null },
        ],
      );
      await spoke.tell('unlisten', 'order:*');
      await subscribed(hub, 'order:*', 0);
      await spoke.tell('close');
      await eventually(async () => (await hub.spokes()).length === 0);
      assert.deepEqual(spoke.errors(), []);
    });

    test(`${place}: a hub that was killed, and then drained, is found again`, async (t) => {
      const spoke = await open(t, place);
      const flags = ['--origins', spoke.origin, '--frames', 'binary', '--drain-timeout', '1s'];
      const first = await startHub(t, { flags });
      await spoke.tell('connect', { url: first.url });
      await spoke.tell('listen', 'tick:42');
      await subscribed(first, 'tick:42');
      let from = spoke.said.all.length;
      await first.end();
      assert.equal((await spoke.state('waiting', from)).code, 1006);
      const second = await startHub(t, { flags, address: first.address });
      await subscribed(second, 'tick:42');
      await spoke.said.until((e) => e.what === 'gap' && e.reason === 'reconnect');
      await second.publish({ type: 'tick', id: '42', payload: 'second' });
      await spoke.said.until((e) => e.payload === 'second');

      from = spoke.said.all.length;
      await second.end('SIGTERM');
      const waiting = await spoke.state('waiting', from);
      assert.equal(waiting.code, 1001);
      assert.ok(waiting.retryInMs >= 1000);
      await spoke.tell('dispatch', { type: 'hello', id: 'away', payload: 1 });
      const third = await startHub(t, { flags, address: first.address });
      await subscribed(third, 'tick:42');
      assert.equal(spoke.errors().every((code) => code === 'connect'), true);
    });

    test(`${place}: a token travels as a subprotocol, and another one is had when it is refused`, async (t) => {
      const spoke = await open(t, place);
      const hub = await startHub(t, { flags: ['--origins', spoke.origin], env: { HUB_AUTH_JWT_KEY: KEY } });
      const tokens = [token({ key: 'another secret of thirty-two bytes' }), token(), token({ topics: ['*'] })];
      await spoke.tell('connect', { url: hub.url, tokens });
      await spoke.tell('listen', 'tick:1');
      await spoke.tell('listen', 'order:1');
      const { spoke: id } = await spoke.state('open');
      assert.deepEqual((await spoke.said.until((e) => e.code === 'forbidden')).topics, ['order:1']);
      await subscribed(hub, 'tick:1');
      await spoke.tell('renew');
      await subscribed(hub, 'order:1');
      assert.deepEqual((await hub.spokes()).map((s) => s.id), [id], 'the connection stays');
      assert.deepEqual(spoke.errors(), ['connect', 'forbidden']);
    });

    test(`${place}: with the network the wait is over`, async (t) => {
      const spoke = await open(t, place);
      const first = await startHub(t, { flags: ['--origins', spoke.origin] });
      await spoke.tell('connect', { url: first.url, backoffMinMs: 300_000 });
      await spoke.state('open');
      await spoke.tell('random', 0.9);
      await first.end();
      assert.equal((await spoke.state('waiting')).retryInMs, 270_000);
      await spoke.tell('random', 0);
      const hub = await startHub(t, { flags: ['--origins', spoke.origin], address: first.address });
      const from = spoke.said.all.length;
      if (place === 'worker') {
        await spoke.tell('online'); // the browser's tools reach only pages
      } else {
        await spoke.page.context().setOffline(true);
        await spoke.page.context().setOffline(false);
      }
      await spoke.state('open', from);
      assert.equal((await hub.spokes()).length, 1);
    });

    test(`${place}: what does not fit waits, what is lost is told`, async (t) => {
      const spoke = await open(t, place);
      const hub = await startHub(t, { flags: ['--origins', spoke.origin] });
      await spoke.tell('connect', { url: hub.url, maxQueueBytes: 300_000 });
      await spoke.state('open');
      hub.signal('SIGSTOP');
      const payload = 'x'.repeat(60_000);
      await eventually(async () => {
        for (let i = 0; i < 10; i++) await spoke.tell('dispatch', { type: 'large', id: '1', payload });
        return spoke.errors().includes('queue_full');
      });
      await hub.end();
      await spoke.said.until((e) => e.code === 'unsent');
    });
  });
}
