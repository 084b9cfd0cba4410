// A spoke on Node's ws: prints what happens as JSON lines, for interop_test.go to judge.
import WebSocket from 'ws'

const say = (what, value) => console.log(JSON.stringify({what, value}))
const ws = new WebSocket(process.argv[2], ['hub.v1'])
ws.on('upgrade', res => say('protocol', res.headers['sec-websocket-protocol']))
ws.on('pong', data => say('pong', data.toString()))
ws.on('ping', () => say('ping', ''))
ws.on('error', err => say('error', err.message))
ws.on('close', (code, reason) => say('close', `${code} ${reason}`))
ws.on('message', (data, isBinary) => {
  const e = JSON.parse(data.toString())
  say(e.type, isBinary ? 'binary' : e.payload)
  if (e.type === '__welcome') {
    ws.send('{"type":"whole","id":"1","payload":"é€😀"}')
    const bytes = Buffer.from('{"type":"fragments","id":"1","payload":"é€😀"}')
    for (let i = 0; i < bytes.length; i++) {
      ws.send(bytes.subarray(i, i + 1), {fin: i === bytes.length - 1, binary: false})
      if (i === 10) ws.ping('between')
    }
    ws.send(Buffer.from('{"type":"binary","id":"1","payload":1.50}'), {binary: true})
  }
  if (e.type === 'bye') ws.close(3001, 'enough')
})
