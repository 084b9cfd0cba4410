import { byteLength } from './topics.js';

/** The encoded events that no connection has taken yet, oldest first. */
export class Queue {
  readonly #events: string[] = [];
  #bytes = 0;

  constructor(readonly limit: number) {}

  /** Reports false, and takes nothing, if more than the limit would wait: here, or as `elsewhere` says. */
  push(event: string, elsewhere: number): boolean {
    const bytes = this.#bytes + byteLength(event);
    if (bytes + elsewhere > this.limit) return false;
    this.#bytes = bytes;
    this.#events.push(event);
    return true;
  }

  /** Gives the events to send, one after the other, for as long as that says it took one. */
  drain(send: (event: string) => boolean): void {
    let sent = 0;
    for (const event of this.#events) {
      if (!send(event)) break;
      this.#bytes -= byteLength(event);
      sent++;
    }
    this.#events.splice(0, sent);
  }

  get length(): number {
    return this.#events.length;
  }
}
