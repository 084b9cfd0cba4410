import { byteLength } from './topics.js';

/** Bounds of one message: a refusal is about all topics in it, and the hub takes 64 KiB. */
const MAX_TOPICS = 64;
const MAX_BYTES = 16 * 1024;

/** So many refusals on a connection are looked into. The hub closes a spoke after 16 in a minute. */
const MAX_REFUSALS = 8;

/** A control message of the hub's protocol. */
export const control = (type: string, id: string, payload: unknown): string => JSON.stringify({ type, id, payload });

/**
 * Compares what is wanted with what the hub has been told on this connection. To a new connection little has been
 * told, so everything wanted is sent.
 */
export class Subscriptions {
  readonly #wanted = new Map<string, number>(); // listeners by pattern
  readonly #told = new Set<string>();
  readonly #refused = new Set<string>();
  readonly #changed = new Set<string>(); // may be wanted and not told, or told and not wanted
  readonly #unanswered = new Map<string, string[]>(); // topics by the id of their __subscribe
  #sequence = 0;
  #refusals = 0; // on this connection
  #narrowed = false; // the hub does not send everything any more
  #known: string | undefined; // a pattern that the hub has taken

  /** anyTopic may be asked for to get nothing else; undefined if a refusal is to be expected. */
  constructor(anyTopic: string | undefined) {
    this.#known = anyTopic;
  }

  /** Begins a connection. */
  reset(): void {
    this.#told.clear();
    this.#unanswered.clear();
    this.#narrowed = false;
    this.#refusals = 0;
    this.retry();
    for (const pattern of this.#wanted.keys()) this.#changed.add(pattern);
  }

  /** Asks again for what was refused. */
  retry(): void {
    for (const pattern of this.#refused) this.#changed.add(pattern);
    this.#refused.clear();
  }

  /** Counts one listener more (by = 1) or less (by = -1). */
  listen(pattern: string, by: 1 | -1): void {
    const count = (this.#wanted.get(pattern) ?? 0) + by;
    if (count) this.#wanted.set(pattern, count);
    else this.#wanted.delete(pattern);
    this.#changed.add(pattern);
  }

  /** What the hub is to be told now; it is taken for told. */
  messages(): string[] {
    const remove: string[] = [];
    for (const pattern of this.#changed) {
      if (this.#wanted.has(pattern)) continue;
      this.#refused.delete(pattern);
      if (this.#told.delete(pattern)) remove.push(pattern);
    }
    if (remove.length) this.retry(); // there may be room now
    const add: string[] = [];
    for (const pattern of this.#changed) {
      if (!this.#wanted.has(pattern) || this.#told.has(pattern) || this.#refused.has(pattern)) continue;
      this.#told.add(pattern);
      add.push(pattern);
    }
    this.#changed.clear();
    const messages = chunks(remove).map((topics) => control('__unsubscribe', '', { topics }));
    for (const topics of chunks(add)) {
      const id = `__s${++this.#sequence}`;
      this.#unanswered.set(id, topics);
      messages.push(control('__subscribe', id, { topics }));
    }
    // A connection begins with everything: to have nothing, one asks for something and takes it back.
    if (!this.#narrowed && !add.length && this.#known) {
      const topic = this.#known;
      messages.push(control('__subscribe', '__s0', { topic }), control('__unsubscribe', '__s0', { topic }));
    }
    this.#narrowed = true;
    return messages;
  }

  /** The hub has taken the __subscribe with this id. */
  taken(id: string): void {
    this.#known = this.#unanswered.get(id)?.[0] ?? this.#known;
    this.#unanswered.delete(id);
  }

  /**
   * The hub has refused the __subscribe with this id. Returns the topics that stay refused: the one that the message
   * names, and the others are asked for again; or all of them. Undefined if the id is none of ours.
   */
  refuse(id: string, message: string): string[] | undefined {
    const topics = this.#unanswered.get(id);
    if (!topics) return id === '__s0' ? [] : undefined;
    this.#unanswered.delete(id);
    const named = this.#refusals++ < MAX_REFUSALS ? topics.filter((topic) => ` ${message} `.includes(` ${topic} `)) : [];
    for (const topic of topics) {
      this.#told.delete(topic);
      this.#changed.add(topic);
    }
    return this.lose(named.length ? named : topics);
  }

  /** The hub does not send these any more. Returns those that somebody still wants. */
  lose(topics: readonly string[]): string[] {
    return topics.filter((topic) => {
      this.#told.delete(topic);
      if (!this.#wanted.has(topic)) return false;
      this.#refused.add(topic);
      return true;
    });
  }
}

/** Cuts a list so that each piece fits into one message. */
function chunks(topics: string[]): string[][] {
  const all: string[][] = [];
  let last: string[] = [];
  let bytes = MAX_BYTES;
  for (const topic of topics) {
    const length = byteLength(JSON.stringify(topic)) + 1;
    if (bytes + length > MAX_BYTES || last.length === MAX_TOPICS) {
      all.push((last = []));
      bytes = 0;
    }
    last.push(topic);
    bytes += length;
  }
  return all;
}
