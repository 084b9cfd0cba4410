// Targets for the tests, which say what happens to them.
import { WebSocket as WS } from 'ws';

import { createWebSocketClientEventTarget } from '../dist/index.js';
import { Recorder } from './hub.mjs';

/** The WebSockets there are in this Node. */
export const sockets = Object.entries({ ws: WS, global: globalThis.WebSocket }).filter(([, socket]) => socket);

/** A target that is closed with the test, with everything it tells in `told`. */
export function connect(t, url, options = {}) {
  const told = new Recorder();
  const tell = (what) => (value) => told.note({ what, at: performance.now(), ...value });
  const target = createWebSocketClientEventTarget({
    url,
    WebSocket: WS,
    backoffMinMs: 20,
    backoffMaxMs: 200,
    onStatus: tell('status'),
    onGap: tell('gap'),
    onError: tell('error'),
    ...options,
  });
  t.after(() => target.close());
  return {
    target,
    told,
    /** Waits for a state, from the given place in what was told on. */
    state: (state, from) => told.until((e) => e.what === 'status' && e.state === state, from),
    error: (code, from) => told.until((e) => e.what === 'error' && e.code === code, from),
    gap: (reason, from) => told.until((e) => e.what === 'gap' && e.reason === reason, from),
    errors: () => told.all.filter((e) => e.what === 'error'),
    /** Listens, and collects the events. */
    listen(topic) {
      const events = new Recorder();
      target.addEventListener(topic, (e) => events.note(e));
      return events;
    },
    dispatch: (type, id, payload) =>
      target.dispatchEvent(new CustomEvent(id ? `${type}:${id}` : type, { detail: { type, id, payload } })),
  };
}

/** Waits until the hub has so many takers for the topic: the subscription has arrived. */
export async function subscribed(hub, topic, takers = 1) {
  for (;;) {
    const spokes = await hub.spokes();
    if (spokes.filter((spoke) => spoke.topics?.includes(topic)).length === takers) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A WebSocket that keeps what is sent in the given list. */
export const spying = (sent, Base = WS) =>
  class extends Base {
    send(data) {
      sent.push(JSON.parse(data));
      super.send(data);
    }
  };
