// Each line behind an @ts-expect-error must not compile: tsc says so if it does.
import { createPubSub } from '@graphql-yoga/subscription';
import { createWebSocketClientEventTarget } from '@alkdev/hub-client';

interface Events {
  tick: { price: number };
  order: { lines: readonly string[] };
}

const target = createWebSocketClientEventTarget<Events>({ url: 'ws://x' });
const payloads = createWebSocketClientEventTarget<Events>({ url: 'ws://x', detail: 'payload' });

// @ts-expect-error: an event type that there is not
target.addEventListener('tock:42', () => {});
// @ts-expect-error: the payload has no such member
target.addEventListener('tick:42', ({ detail }) => detail.payload.cost);
// @ts-expect-error: of another type of event
target.addEventListener('tick:42', ({ detail }) => detail.payload.lines);
// @ts-expect-error: everything is not all ticks
target.addEventListener('*', ({ detail }) => detail.payload.price);
// @ts-expect-error: the detail is the envelope
target.addEventListener('tick:42', ({ detail }) => detail.price);
// @ts-expect-error: the detail is the payload
payloads.addEventListener('tick:42', ({ detail }) => detail.payload);
// @ts-expect-error: no payload but the type's own
target.dispatchEvent(new CustomEvent('tick:1', { detail: { type: 'tick', id: '1', payload: { lines: [] } } as const }));
// @ts-expect-error: an id is a string
target.dispatchEvent(new CustomEvent('tick:1', { detail: { type: 'tick', id: 1, payload: { price: 1 } } as const }));
// @ts-expect-error: without a detail
target.dispatchEvent(new Event('tick:1'));
// @ts-expect-error: nobody sets the status
target.status = { state: 'open', spoke: '', node: '' };
// @ts-expect-error: not what it can be
createWebSocketClientEventTarget({ url: 'ws://x', detail: 'both' });
// @ts-expect-error: no address
createWebSocketClientEventTarget({});
// @ts-expect-error: not a WebSocket
createWebSocketClientEventTarget({ url: 'ws://x', WebSocket: EventTarget });
// @ts-expect-error: a token is text
createWebSocketClientEventTarget({ url: 'ws://x', token: () => 7 });
// @ts-expect-error: envelopes where payloads are expected
createPubSub<{ tick: [id: string, payload: { price: number }] }>({ eventTarget: target });
