import { Client } from './client.js';
import { Subscriptions } from './subscriptions.js';
import { byteLength, check, patternOf, splitTopic, topicsOf } from './topics.js';
import type {
  AnyEvents,
  ClientOptions,
  DetailKind,
  Envelope,
  HubEventTarget,
  Listener,
  ListenOptions,
  Status,
} from './types.js';

type AnyListener = Listener<Event>;

/** A topic that nobody publishes to. */
const NO_TOPIC = 'none:none';

class Target extends EventTarget {
  readonly #kind: DetailKind;
  readonly #maxMessageBytes: number;
  readonly #subscriptions: Subscriptions;
  readonly #client: Client;
  /** What stands in for each listener, by topic and phase as the platform tells them apart. */
  readonly #listeners = new Map<string, Map<AnyListener, (event: Event) => void>>();

  constructor(options: ClientOptions, kind: DetailKind) {
    super();
    this.#kind = kind;
    this.#maxMessageBytes = options.maxMessageBytes ?? 1 << 16;
    this.#subscriptions = new Subscriptions(options.token === undefined ? NO_TOPIC : undefined);
    this.#client = new Client(options, this.#subscriptions, (event) => this.#deliver(event));
  }

  get status(): Status {
    return this.#client.status;
  }

  override addEventListener(topic: string, listener: AnyListener | null, options: ListenOptions | boolean = {}): void {
    const { capture = false, once, passive = false, signal } = typeof options === 'boolean' ? { capture: options } : options;
    const pattern = patternOf(topic);
    if (!listener || signal?.aborted) return;
    const key = keyOf(topic, capture);
    const known = this.#listeners.get(key) ?? new Map<AnyListener, (event: Event) => void>();
    if (known.has(listener)) return;
    const remove = (): void => this.removeEventListener(topic, listener, capture);
    const standIn = (event: Event): void => {
      if (once) remove();
      if (typeof listener === 'function') listener.call(this, event);
      else listener.handleEvent(event);
    };
    this.#listeners.set(key, known.set(listener, standIn));
    signal?.addEventListener('abort', remove, { once: true });
    super.addEventListener(topic, standIn, { capture, passive });
    this.#subscriptions.listen(pattern, 1);
    this.#client.flush();
  }

  override removeEventListener(
    topic: string,
    listener: AnyListener | null,
    options: { readonly capture?: boolean | undefined } | boolean = {},
  ): void {
    const capture = typeof options === 'boolean' ? options : (options.capture ?? false);
    const key = keyOf(topic, capture);
    const known = this.#listeners.get(key);
    const standIn = listener && known?.get(listener);
    if (!standIn) return;
    known?.delete(listener);
    if (!known?.size) this.#listeners.delete(key);
    super.removeEventListener(topic, standIn, capture);
    this.#subscriptions.listen(patternOf(topic), -1);
    this.#client.flush();
  }

  override dispatchEvent(event: Event): boolean {
    const text = JSON.stringify(this.#envelope(event.type, (event as CustomEvent<unknown>).detail));
    const bytes = byteLength(text);
    if (bytes > this.#maxMessageBytes) {
      throw new RangeError(`hub: an event of ${bytes} bytes, the hub takes ${this.#maxMessageBytes} (maxMessageBytes)`);
    }
    return this.#client.send(text);
  }

  renew(): void {
    this.#client.renew();
  }

  close(): void {
    this.#client.close();
  }

  #envelope(topic: string, detail: unknown): Envelope {
    const [type, id] = splitTopic(topic);
    if (this.#kind === 'payload') return { type, id, payload: detail };
    const envelope = detail as Envelope | null | undefined;
    check(envelope?.type, envelope?.id);
    if (envelope?.type !== type || envelope.id !== id) {
      throw new TypeError(`hub: an event for ${JSON.stringify(topic)} carries the envelope of another topic`);
    }
    return { type, id, payload: envelope.payload };
  }

  #deliver(event: Envelope): void {
    const detail = this.#kind === 'payload' ? event.payload : event;
    for (const topic of topicsOf(event)) {
      if (this.#listeners.has(keyOf(topic, false)) || this.#listeners.has(keyOf(topic, true))) {
        super.dispatchEvent(new CustomEvent(topic, { detail }));
      }
    }
  }
}

const keyOf = (topic: string, capture: boolean): string => (capture ? '>' : '=') + topic;

/**
 * Connects to a hub, again whenever the connection is lost, and returns it as an event target: listeners get the
 * hub's events of their topic, and what is dispatched goes to the hub. `detail` says what an event carries.
 */
export function createWebSocketClientEventTarget<Events extends object = AnyEvents>(
  options: ClientOptions & { readonly detail: 'payload' },
): HubEventTarget<Events, 'payload'>;
export function createWebSocketClientEventTarget<Events extends object = AnyEvents>(
  options: ClientOptions & { readonly detail?: 'envelope' | undefined },
): HubEventTarget<Events>;
export function createWebSocketClientEventTarget(options: ClientOptions & { readonly detail?: DetailKind | undefined }): unknown {
  return new Target(options, options.detail ?? 'envelope');
}
