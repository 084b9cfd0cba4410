import type { WebSocketConstructor } from './socket.js';

/** One event, as it goes over the wire. Its topic is `type:id`, or `type` alone if the id is empty. */
export interface Envelope<Type extends string = string, Payload = unknown> {
  readonly type: Type;
  readonly id: string;
  readonly payload: Payload;
}

/** Payloads by event type, for those who do not say. */
export type AnyEvents = Record<string, unknown>;

/** The types of the events in a map of payloads by type. */
export type EventName<Events extends object> = keyof Events & string;

/**
 * What can be listened to: `tick:42` one topic, `tick` the events of the type without an id, `tick:` or `tick:*` every
 * event of the type, `*` everything.
 */
export type Topic<Events extends object> = EventName<Events> | `${EventName<Events>}:${string}` | '*';

/** The types of the events that a topic can stand for. */
export type NameOf<Events extends object, T extends string> = T extends '*'
  ? EventName<Events>
  : T extends `${infer Name}:${string}`
    ? Name & EventName<Events>
    : T & EventName<Events>;

/** What an event's `detail` is: the whole envelope, or the payload alone as in `createPubSub` of graphql-yoga. */
export type DetailKind = 'envelope' | 'payload';

/** The `detail` of events of the types `Name`. */
export type DetailOf<Events extends object, Name extends EventName<Events>, Kind extends DetailKind> = {
  [N in Name]: Kind extends 'payload' ? Events[N] : Envelope<N, Events[N]>;
}[Name];

/** An object that listens. */
export interface ListenerObject<E> {
  handleEvent(event: E): void;
}

/**
 * A listener: a function, or an object with `handleEvent`. The function has the type of a method, whose parameters
 * may be narrower, as those of the platform's listeners; graphql-yoga's types need that.
 */
export type Listener<E> = ListenerObject<E>['handleEvent'] | ListenerObject<E>;

/** As of the platform's `addEventListener`. */
export interface ListenOptions {
  readonly capture?: boolean | undefined;
  readonly once?: boolean | undefined;
  readonly passive?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What became of the connection. */
export type Status =
  | { readonly state: 'connecting'; readonly failures: number }
  | { readonly state: 'open'; readonly spoke: string; readonly node: string }
  /** There is no connection: the latest ended with `code` and `reason`, the next is tried in `retryInMs`. */
  | { readonly state: 'waiting'; readonly retryInMs: number; readonly failures: number; readonly code: number; readonly reason: string }
  /** The end: there will be no further connection. */
  | { readonly state: 'closed'; readonly code: number; readonly reason: string };

/** Events are missing: at this place in the stream (what the hub says), or since the connection before. */
export interface Gap {
  /** What the hub says, or `reconnect`. */
  readonly reason: string;
  /** How many were not sent; not known after a reconnect. */
  readonly dropped?: number;
  /** How many gave way to a newer one of their topic; not known after a reconnect. */
  readonly conflated?: number;
}

/**
 * What went wrong. Codes of the hub: `bad_envelope`, `bad_topic`, `too_many_topics`, `topic_memory`, `forbidden`,
 * `unauthenticated`, `unavailable`, `rate_limited`, `overloaded`, `too_large`. Of the client: `connect` (an attempt
 * failed), `token` (the token function did), `queue_full` and `closed` (an event was not taken), `unsent` (the
 * connection ended before all had left), `bad_message` (what came is no envelope).
 */
export interface HubError {
  readonly code: string;
  readonly message: string;
  /** The id of the event that the hub did not take, if it has one. */
  readonly id?: string;
  /** The topics that are not subscribed to, although somebody listens. */
  readonly topics?: readonly string[];
  /** What was thrown. */
  readonly cause?: unknown;
}

export interface ClientOptions {
  /** `ws://` or `wss://` with host and path. */
  readonly url: string | URL;
  /** Subprotocols to offer beside the hub's own. */
  readonly protocols?: readonly string[] | undefined;
  /** A token, or a function that gives a fresh one: for every connection, and before the one in use expires. */
  readonly token?: string | (() => string | PromiseLike<string>) | undefined;
  /** The constructor, where there is none in the global scope. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  /** The first wait is random up to this; the bound doubles with every failure. Default: 500. */
  readonly backoffMinMs?: number | undefined;
  /** The largest bound. A connection that lasted for so long begins anew. Default: 30,000. */
  readonly backoffMaxMs?: number | undefined;
  /** How long connecting, or an answer to a ping, may take. Default: 10,000. */
  readonly timeoutMs?: number | undefined;
  /** Silence after which the hub is asked whether it is there. Default: 30,000. */
  readonly pingMs?: number | undefined;
  /** Bytes that may wait for the connection to take them. Default: 1 MiB. */
  readonly maxQueueBytes?: number | undefined;
  /** The hub's `--max-message`: a larger event is refused here, by a RangeError. Default: 64 KiB. */
  readonly maxMessageBytes?: number | undefined;
  /** Is told of every connection made and lost, and of the end. */
  readonly onStatus?: ((status: Status) => void) | undefined;
  /** Is told where events are missing. */
  readonly onGap?: ((gap: Gap) => void) | undefined;
  /** Is told what went wrong. Default: `console.warn`. */
  readonly onError?: ((error: HubError) => void) | undefined;
}

/** A hub as an event target. */
export interface HubEventTarget<Events extends object, Kind extends DetailKind = 'envelope'> extends EventTarget {
  /** Listens to a topic, which the event's `type` is then. The first listener of a topic subscribes to it at the hub. */
  addEventListener<T extends Topic<Events>>(
    topic: T,
    listener: Listener<CustomEvent<DetailOf<Events, NameOf<Events, T>, Kind>>> | null,
    options?: ListenOptions | boolean,
  ): void;
  /** Ends listening. The last listener of a topic unsubscribes from it at the hub. */
  removeEventListener<T extends Topic<Events>>(
    topic: T,
    listener: Listener<CustomEvent<DetailOf<Events, NameOf<Events, T>, Kind>>> | null,
    options?: { readonly capture?: boolean | undefined } | boolean,
  ): void;
  /**
   * Sends an event to the hub, now or once there is a connection; listeners here do not get it. Returns false, and
   * tells `onError`, if the queue is full or the target closed. Throws on what is no event.
   */
  dispatchEvent(event: CustomEvent<DetailOf<Events, EventName<Events>, Kind>>): boolean;
  /** The latest status. */
  readonly status: Status;
  /** Sends the hub a fresh token now. */
  renew(): void;
  /** Ends the connection for good. What was dispatched before still goes out, if there is a connection. */
  close(): void;
}
