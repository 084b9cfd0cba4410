// A spoke that does what it is told, and says what happens.
import { createWebSocketClientEventTarget } from '/dist/index.js';

export function spoke(say) {
  let target;
  const tell = (what) => (value) => say({ what, ...value, cause: undefined });
  const listener = ({ type, detail }) => say({ what: 'event', topic: type, ...detail });
  const commands = {
    connect({ tokens, ...options }) {
      target = createWebSocketClientEventTarget({
        backoffMinMs: 20,
        backoffMaxMs: 200,
        onStatus: tell('status'),
        onGap: tell('gap'),
        onError: tell('error'),
        ...options,
        token: tokens && (() => (tokens.length > 1 ? tokens.shift() : tokens[0])),
      });
    },
    listen: (topic) => target.addEventListener(topic, listener),
    unlisten: (topic) => target.removeEventListener(topic, listener),
    dispatch: (detail) => target.dispatchEvent(new CustomEvent(`${detail.type}:${detail.id}`, { detail })),
    close: () => target.close(),
    renew: () => target.renew(),
    online: () => globalThis.dispatchEvent(new Event('online')),
    random: (value) => (Math.random = () => value),
  };
  return ([name, argument]) => void commands[name](argument);
}
