/** Waits between attempts: random up to a ceiling that doubles, so that the clients of a lost hub do not come as one. */
export class Backoff {
  failures = 0;
  #ceiling = 0;

  constructor(
    readonly minMs: number,
    readonly maxMs: number,
  ) {}

  /** The wait after one more failure. */
  next(): number {
    this.failures++;
    this.#ceiling = Math.min(this.#ceiling * 2 || this.minMs, this.maxMs);
    return Math.random() * this.#ceiling;
  }

  /** A connection has lasted for so long. */
  lasted(ms: number): void {
    if (ms >= this.maxMs) this.reset();
  }

  reset(): void {
    this.failures = this.#ceiling = 0;
  }
}
