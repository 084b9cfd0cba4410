/** What the client needs of a WebSocket: that of browsers, of Node, and of the package `ws` all have it. */
export interface WebSocketLike {
  readonly readyState: number;
  readonly bufferedAmount: number;
  binaryType: unknown;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: 'open' | 'message' | 'close' | 'error', listener: (event: SocketEvent) => void): void;
}

/** What the client looks at in the events of a WebSocket. */
export interface SocketEvent {
  readonly type: string;
  readonly data?: unknown;
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
}

/** As of the global `WebSocket`. */
export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike;

/** The readyState in which a WebSocket takes messages. */
export const OPEN = 1;

/** The longest time that a timer takes. */
const LONGEST_MS = 2 ** 31 - 1;

/** A timer that holds one call at most. */
export class Timer {
  #id: ReturnType<typeof setTimeout> | undefined;

  /** Calls fn in ms, and whatever was to be called before not at all. */
  set(ms: number, fn: () => void): void {
    this.clear();
    this.#id = setTimeout(
      () => {
        this.#id = undefined;
        fn();
      },
      Math.min(Math.max(ms, 0), LONGEST_MS),
    );
  }

  get pending(): boolean {
    return this.#id !== undefined;
  }

  clear(): void {
    clearTimeout(this.#id);
    this.#id = undefined;
  }
}
