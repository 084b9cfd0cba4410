// Every WebSocket that there is fits the option.
import { WebSocket as Ws } from 'ws';
import { createWebSocketClientEventTarget } from '@alkdev/hub-client';

createWebSocketClientEventTarget({ url: 'ws://x', WebSocket: Ws });
createWebSocketClientEventTarget({ url: 'ws://x', WebSocket });
createWebSocketClientEventTarget({ url: 'ws://x', WebSocket: class extends Ws {} });
