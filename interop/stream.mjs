// A spoke on Node's ws that prints each message as it comes, a line each: node stream.mjs URL
import WebSocket from 'ws'

const ws = new WebSocket(process.argv[2], ['hub.v1'])
ws.on('message', data => console.log(data.toString()))
ws.on('error', () => {}) // hubs are killed; what has come counts
