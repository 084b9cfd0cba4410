export { createWebSocketClientEventTarget } from './target.js';
export type { SocketEvent, WebSocketConstructor, WebSocketLike } from './socket.js';
export type {
  AnyEvents,
  ClientOptions,
  DetailKind,
  DetailOf,
  Envelope,
  EventName,
  Gap,
  HubError,
  HubEventTarget,
  Listener,
  ListenerObject,
  ListenOptions,
  NameOf,
  Status,
  Topic,
} from './types.js';
