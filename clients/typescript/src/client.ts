import { Backoff } from './backoff.js';
import { Queue } from './queue.js';
import { OPEN, Timer, type SocketEvent, type WebSocketConstructor, type WebSocketLike } from './socket.js';
import { control, type Subscriptions } from './subscriptions.js';
import type { ClientOptions, Envelope, HubError, Status } from './types.js';

const PROTOCOL = 'hub.v1';
const PING_ID = '__ping';
const AUTH_ID = '__auth';

const NORMAL = 1000;
const ABNORMAL = 1006; // what a WebSocket says of an end without a close frame
const UNAUTHENTICATED = 4001;

/** The least time between two tokens, and that after one that was not had or not taken. */
const MIN_RENEWAL_MS = 100;
const RETRY_RENEWAL_MS = 1000;

/** Beyond this events wait here, not in the socket: what is here when a connection ends goes out on the next one. */
const HANDED_OVER_BYTES = 64 * 1024;
const POLL_MS = 20; // a WebSocket does not say when it has sent something

/** Browsers, and workers in them, tell when there is a network again. */
const { addEventListener: addGlobal, removeEventListener: removeGlobal } = globalThis as Partial<
  Pick<typeof globalThis, 'addEventListener' | 'removeEventListener'>
>;

type Fields = Readonly<Record<string, unknown>>;

/**
 * One spoke: makes one connection after the other until the end, and keeps the hub told of the subscriptions. What
 * belongs to a connection that is over is recognised by its number, and ignored.
 */
export class Client {
  status: Status = { state: 'connecting', failures: 0 };

  readonly #Constructor: WebSocketConstructor;
  readonly #queue: Queue;
  readonly #backoff: Backoff;
  readonly #pause = new Timer(); // until the next attempt
  readonly #deadline = new Timer(); // of connecting, or of the answer to a ping
  readonly #silence = new Timer(); // until it is looked whether the hub was heard
  readonly #renewal = new Timer();
  readonly #poll = new Timer(); // while there is something in the socket

  #connection = 0; // the number of the latest
  #socket: WebSocketLike | undefined;
  #openedAt = 0; // 0 while it is not open
  #welcomed = false; // at any time
  #heard = false; // since it was looked
  #unsent = 0; // bytes in the socket when last seen; afterwards not every WebSocket tells
  #drainMs: number | undefined; // to wait after this connection, as the hub said
  #flushing = false;

  constructor(
    readonly options: ClientOptions,
    readonly subscriptions: Subscriptions,
    readonly deliver: (event: Envelope) => void,
  ) {
    this.#queue = new Queue(options.maxQueueBytes ?? 1 << 20);
    const min = options.backoffMinMs ?? 500;
    this.#backoff = new Backoff(min, Math.max(min, options.backoffMaxMs ?? 30_000));
    const Constructor = options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
    if (!Constructor) throw new TypeError('hub: there is no WebSocket here, the option WebSocket gives one');
    this.#Constructor = Constructor;
    addGlobal?.('online', this.#online);
    queueMicrotask(() => {
      if (this.status.state !== 'closed') void this.#connect();
    });
  }

  /** Takes an encoded event. Reports false, and has told why, if it could not. */
  send(event: string): boolean {
    if (this.status.state === 'closed') {
      this.#tell({ code: 'closed', message: 'an event was not taken: the target is closed' });
      return false;
    }
    if (!this.#queue.push(event, this.#socket?.bufferedAmount ?? 0)) {
      this.#tell({ code: 'queue_full', message: `an event was not taken: more than ${this.#queue.limit} bytes would wait` });
      return false;
    }
    this.flush();
    return true;
  }

  /** Sends what there is to send at the end of the current task: many changes make one message. */
  flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  renew(): void {
    const { token } = this.options;
    const connection = this.#connection;
    if (token === undefined || !this.#openedAt) return; // the next connection begins with a fresh one
    this.#renewal.clear();
    void this.#token()
      .then((fresh) => {
        if (connection !== this.#connection) return;
        this.#write(control('__auth', AUTH_ID, { token: fresh }));
      })
      .catch((cause: unknown) => {
        if (connection !== this.#connection) return;
        this.#tell({ code: 'token', message: `no fresh token: ${String(cause)}`, cause });
        this.#renewal.set(RETRY_RENEWAL_MS, () => this.renew());
      });
  }

  close(): void {
    if (this.status.state === 'closed') return;
    this.#flush(Infinity);
    this.#leave();
    this.#finish(NORMAL, '');
  }

  #finish(code: number, reason: string): void {
    removeGlobal?.('online', this.#online);
    this.#set({ state: 'closed', code, reason });
    if (this.#queue.length) this.#tell({ code: 'unsent', message: `closed, and ${this.#queue.length} events have not left` });
  }

  async #connect(): Promise<void> {
    const connection = ++this.#connection;
    const current = (): boolean => connection === this.#connection;
    const { url, protocols = [], timeoutMs = 10_000 } = this.options;
    this.#drainMs = undefined;
    this.#heard = false;
    this.#deadline.set(timeoutMs, () => this.#end(ABNORMAL, `no hub within ${timeoutMs} ms`));
    this.#set({ state: 'connecting', failures: this.#backoff.failures });
    let step = 'token';
    try {
      const token = await this.#token();
      if (!current()) return;
      step = 'connect';
      const all = [PROTOCOL, ...protocols];
      if (token !== undefined) all.push(`bearer.${token}`);
      const socket = new this.#Constructor(String(url), all);
      this.#socket = socket;
      socket.binaryType = 'arraybuffer';
      const on = (type: 'open' | 'message' | 'close' | 'error', fn: (event: SocketEvent) => void): void =>
        socket.addEventListener(type, (event) => void (current() && fn(event)));
      let problem = '';
      on('open', () => this.#open());
      on('message', ({ data }) => this.#message(data));
      on('error', ({ message = '' }) => {
        problem = message;
        if (!this.#openedAt) this.#end(ABNORMAL, problem); // not every WebSocket goes on to say that it is closed
      });
      on('close', ({ code, reason }) => this.#end(code ?? ABNORMAL, reason || problem));
    } catch (cause) {
      if (current()) this.#end(ABNORMAL, String(cause), { code: step, message: String(cause), cause });
    }
  }

  async #token(): Promise<string | undefined> {
    const { token } = this.options;
    return typeof token === 'function' ? token() : token;
  }

  #open(): void {
    this.#openedAt = Date.now();
    this.subscriptions.reset();
    this.#flush();
    this.#watch();
  }

  /** Looks now and then whether the hub was heard, and asks for a sign of life if it was not. */
  #watch(): void {
    const { pingMs = 30_000, timeoutMs = 10_000 } = this.options;
    this.#silence.set(pingMs, () => {
      if (!this.#heard && !this.#deadline.pending) {
        this.#write(control('__unsubscribe', PING_ID, { topics: [] }));
        this.#deadline.set(timeoutMs, () => this.#end(ABNORMAL, 'the hub does not answer'));
      }
      this.#heard = false;
      this.#watch();
    });
  }

  #message(data: unknown): void {
    if (!this.#heard) this.#deadline.clear();
    this.#heard = true;
    let event: Partial<Envelope> | null;
    try {
      event = JSON.parse(typeof data === 'string' ? data : new TextDecoder().decode(data as ArrayBuffer)) as Partial<Envelope> | null;
    } catch {
      event = null;
    }
    const { type, id = '', payload = null } = event ?? {};
    if (typeof type !== 'string') this.#tell({ code: 'bad_message', message: 'what the hub sent is no envelope' });
    else if (type.startsWith('__')) this.#control(type, id, (payload ?? {}) as Fields);
    else this.deliver({ type, id, payload });
  }

  #control(type: string, id: string, payload: Fields): void {
    const { subscriptions, options } = this;
    switch (type) {
      case '__welcome':
        this.#set({ state: 'open', spoke: String(payload.spoke), node: String(payload.node) });
        this.#expires(payload.expiresInMs);
        if (this.#welcomed) this.#call(options.onGap, { reason: 'reconnect' });
        this.#welcomed = true;
        break;
      case '__gap':
        this.#call(options.onGap, {
          reason: String(payload.reason),
          dropped: Number(payload.dropped),
          conflated: Number(payload.conflated),
        });
        break;
      case '__drain':
        this.#drainMs = Number(payload.reconnectAfterMs) || 0;
        break;
      case '__subscribed':
        subscriptions.taken(id);
        break;
      case '__authed': {
        this.#expires(payload.expiresInMs);
        subscriptions.retry();
        const lost = subscriptions.lose((payload.unsubscribed as string[] | undefined) ?? []);
        if (lost.length) this.#tell({ code: 'forbidden', message: 'the fresh token does not allow all topics', topics: lost });
        this.flush();
        break;
      }
      case '__error':
        this.#refused(id, String(payload.code), String(payload.message));
    }
  }

  /** The hub has not taken what had the id. */
  #refused(id: string, code: string, message: string): void {
    const topics = this.subscriptions.refuse(id, message);
    const token = id === AUTH_ID;
    if (token && typeof this.options.token === 'function') this.#renewal.set(RETRY_RENEWAL_MS, () => this.renew());
    if (!topics) this.#tell(token ? { code, message } : { code, message, id });
    else if (topics.length) this.#tell({ code, message, topics });
    this.flush();
  }

  /** Has a fresh token sent when two thirds of the time are over that the one in use has left. */
  #expires(ms: unknown): void {
    this.#renewal.clear();
    if (typeof this.options.token !== 'function' || typeof ms !== 'number') return;
    this.#renewal.set(Math.max((ms * 2) / 3, MIN_RENEWAL_MS), () => this.renew());
  }

  #flush(handOver = HANDED_OVER_BYTES): void {
    const socket = this.#socket;
    if (!this.#openedAt || socket?.readyState !== OPEN) return;
    for (const message of this.subscriptions.messages()) this.#write(message);
    this.#queue.drain((event) => socket.bufferedAmount < handOver && this.#write(event));
    this.#unsent = socket.bufferedAmount;
    if (this.#unsent) this.#poll.set(POLL_MS, () => this.#flush());
  }

  /** Reports false if the connection does not take messages any more. */
  #write(message: string): boolean {
    if (this.#socket?.readyState !== OPEN) return false; // it would be thrown away
    this.#socket.send(message);
    return true;
  }

  /** There is a network again: what was waited for before does not count. A slot that a hub gave does. */
  readonly #online = (): void => {
    if (!this.#pause.pending || this.#drainMs !== undefined) return;
    this.#backoff.reset();
    this.#pause.set(this.#backoff.next(), () => void this.#connect());
  };

  /** The connection is over, or could not be made. */
  #end(code: number, reason: string, error?: HubError): void {
    const opened = this.#openedAt;
    const unsent = this.#unsent;
    this.#leave();
    const connection = this.#connection;
    if (opened) this.#backoff.lasted(Date.now() - opened);
    const final = code === UNAUTHENTICATED && typeof this.options.token !== 'function';
    const retryInMs = this.#drainMs ?? this.#backoff.next();
    if (final) this.#finish(code, reason);
    else this.#set({ state: 'waiting', retryInMs, failures: this.#backoff.failures, code, reason });
    if (unsent) this.#tell({ code: 'unsent', message: `the connection ended, up to ${unsent} bytes may not have left` });
    if (final) this.#tell({ code: 'unauthenticated', message: reason });
    else if (!opened) this.#tell(error ?? { code: 'connect', message: reason || `no connection: ${code}` });
    if (!final && connection === this.#connection) this.#pause.set(retryInMs, () => void this.#connect());
  }

  /** Lets go of the connection, whatever becomes of it. */
  #leave(): void {
    const socket = this.#socket;
    this.#connection++;
    this.#socket = undefined;
    this.#openedAt = this.#unsent = 0;
    for (const timer of [this.#pause, this.#deadline, this.#silence, this.#renewal, this.#poll]) timer.clear();
    socket?.close(NORMAL);
  }

  #set(status: Status): void {
    this.status = status;
    this.#call(this.options.onStatus, status);
  }

  #tell(error: HubError): void {
    this.#call(this.options.onError ?? ((e) => console.warn(`hub: ${e.code}: ${e.message}`)), error);
  }

  /** What a callback throws is its own affair, reported as of any listener. */
  #call<T>(fn: ((value: T) => void) | undefined, value: T): void {
    try {
      fn?.(value);
    } catch (cause) {
      queueMicrotask(() => {
        throw cause;
      });
    }
  }
}
