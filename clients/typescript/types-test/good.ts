// What has to compile, as strictly as can be, with the platform's types from lib.dom or from Node.
import { createWebSocketClientEventTarget, type Envelope, type Status } from '@alkdev/hub-client';

interface Events {
  tick: { price: number };
  order: { lines: readonly string[] };
}

declare const id: string;
const same = <T>(value: T, _: T extends unknown ? T : never): T => value;

const target = createWebSocketClientEventTarget<Events>({ url: 'wss://example.com/ws', token: async () => 'x' });

target.addEventListener('tick:42', (event) => {
  const envelope: Envelope<'tick', { price: number }> = event.detail;
  const topic: string = event.type;
  same(envelope.payload.price.toFixed(), topic);
});
target.addEventListener('tick', ({ detail }) => detail.payload.price);
target.addEventListener(`order:${id}`, ({ detail }) => detail.payload.lines.length, { once: true });
target.addEventListener('order:*', { handleEvent: ({ detail }) => void detail.payload.lines }, true);
target.addEventListener('*', ({ detail }) => {
  if (detail.type === 'tick') same(detail.payload.price, 1);
  else same(detail.payload.lines, []);
});
target.addEventListener('tick:1', null);
target.removeEventListener('tick:1', null, { capture: true });

const taken: boolean = target.dispatchEvent(
  new CustomEvent('tick:42', { detail: { type: 'tick', id: '42', payload: { price: 7 } } as const }),
);
const plain: EventTarget = target;
const { status } = target;
const text = (s: Status): string => (s.state === 'waiting' ? `${s.retryInMs} ${s.reason}` : s.state === 'open' ? s.spoke : s.state);

const payloads = createWebSocketClientEventTarget<Events>({ url: new URL('ws://x'), detail: 'payload' });
payloads.addEventListener('tick:42', ({ detail }) => detail.price);
payloads.dispatchEvent(new CustomEvent('order:1', { detail: { lines: [] } }));

const any = createWebSocketClientEventTarget({
  url: 'ws://x',
  token: undefined,
  onStatus: undefined,
  onGap: ({ dropped = 0 }) => void dropped.toFixed(),
  onError: ({ code, topics = [] }) => void [code, ...topics],
});
any.addEventListener('whatever:1', ({ detail }) => {
  const payload: unknown = detail.payload;
  return payload;
});

export { taken, plain, status, text };
