import type { Envelope } from './types.js';

const RESERVED = '__';
const MAX_TYPE_BYTES = 256;
const MAX_ID_BYTES = 256;

const encoder = new TextEncoder();

/** The length in UTF-8. */
export const byteLength = (text: string): number => encoder.encode(text).length;

/** Type and id of a topic, which splits at the first ':'. Throws a TypeError on what is none. */
export function splitTopic(topic: string): [type: string, id: string] {
  const colon = topic.indexOf(':');
  const type = colon < 0 ? topic : topic.slice(0, colon);
  const id = colon < 0 ? '' : topic.slice(colon + 1);
  check(type, id);
  return [type, id];
}

/** Throws a TypeError unless there can be events of this type and id. */
export function check(type: unknown, id: unknown): void {
  let problem = '';
  if (typeof type !== 'string' || typeof id !== 'string') problem = 'type and id are strings';
  else if (!type || byteLength(type) > MAX_TYPE_BYTES) problem = `a type has 1 to ${MAX_TYPE_BYTES} bytes`;
  else if (type.includes(':') || type === '*') problem = "a type has no ':', and is not '*'";
  else if (type.startsWith(RESERVED)) problem = `types that begin with ${RESERVED} are the hub's`;
  else if (byteLength(id) > MAX_ID_BYTES) problem = `an id has up to ${MAX_ID_BYTES} bytes`;
  if (problem) throw new TypeError(`hub: ${problem}: ${JSON.stringify({ type, id })}`);
}

/** What the hub calls the events that a listener to the topic may get. */
export function patternOf(topic: string): string {
  if (topic === '*') return topic;
  const [type, id] = splitTopic(topic);
  return id ? topic : `${type}:*`; // without an id the hub knows no single topic
}

/** The topics under which an event is listened to. */
export function topicsOf({ type, id }: Envelope): Set<string> {
  return new Set([id ? `${type}:${id}` : type, `${type}:`, `${type}:*`, '*']);
}
