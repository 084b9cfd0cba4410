// The target is what graphql-yoga's packages want.
import { createPubSub } from '@graphql-yoga/subscription';
import type { TypedEventTarget } from '@graphql-yoga/typed-event-target';
import { createWebSocketClientEventTarget, type Envelope } from '@alkdev/hub-client';

interface Events {
  tick: { price: number };
  order: { lines: readonly string[] };
}

// createPubSub has the types, the target takes everything: maps with and without ids may be mixed.
const eventTarget = createWebSocketClientEventTarget({ url: 'ws://x', detail: 'payload' });
const pubSub = createPubSub<{ tick: [id: string, payload: Events['tick']]; hello: [payload: string] }>({ eventTarget });
pubSub.publish('tick', '42', { price: 7 });
pubSub.publish('hello', 'you');
export async function prices(): Promise<number[]> {
  const all: number[] = [];
  for await (const { price } of pubSub.subscribe('tick', '42')) all.push(price);
  for await (const text of pubSub.subscribe('hello')) all.push(text.length);
  return all;
}

// A typed target fits as well.
const payloads = createWebSocketClientEventTarget<Events>({ url: 'ws://x', detail: 'payload' });
createPubSub<{ tick: [id: string, payload: Events['tick']]; order: [id: string, payload: Events['order']] }>({ eventTarget: payloads });

const envelopes = createWebSocketClientEventTarget<Events>({ url: 'ws://x' });
export const typed: TypedEventTarget<CustomEvent<Envelope<'tick', Events['tick']> | Envelope<'order', Events['order']>>> = envelopes;
