// Streams of records: JSON, a line each. An EventSource cannot carry a token, fetch can.

import { HubError, request } from './api.js'

const firstPauseMs = 500
const longestPauseMs = 10_000

// follow calls onRecord for every record of a stream, and comes back when it breaks off: after a pause,
// which grows. onTrouble is told why, onOpen when it is there. A hub that says nothing for silenceMs, not
// even that it is alive, counts as gone.
export function follow (path, { onRecord, onOpen, onTrouble, silenceMs }) {
  const stopped = new AbortController()
  run()
  return { stop: () => stopped.abort() }

  async function run () {
    for (let pause = firstPauseMs; !stopped.signal.aborted; pause = Math.min(2 * pause, longestPauseMs)) {
      try {
        await read(path, stopped.signal, silenceMs, onOpen, record => {
          pause = firstPauseMs / 2
          onRecord(record)
        })
      } catch (error) {
        if (stopped.signal.aborted) return
        onTrouble(error)
        if (error instanceof HubError && error.status < 500) return // it would say so again
      }
      await new Promise(resolve => setTimeout(resolve, pause * (0.75 + Math.random() / 2)))
    }
  }
}

// read reads one answer to its end, and throws what that was.
async function read (path, stopped, silenceMs, onOpen, onRecord) {
  const silence = new AbortController()
  let timer = 0
  const alive = () => {
    clearTimeout(timer)
    timer = setTimeout(() => silence.abort(new Error('it has fallen silent')), silenceMs)
  }
  try {
    const response = await reached(request(path, {
      headers: { Accept: 'application/x-ndjson' },
      signal: AbortSignal.any([stopped, silence.signal])
    }))
    onOpen?.()
    let rest = ''
    alive()
    for await (const text of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
      alive()
      const lines = (rest + text).split('\n')
      rest = lines.pop()
      for (const line of lines) {
        if (line === '') continue // a heartbeat
        const record = JSON.parse(line)
        if (record.kind === 'end') throw new Error(endings[record.reason] ?? record.reason)
        try {
          onRecord(record)
        } catch (error) { // ours, and not the hub's
          reportError(error)
        }
      }
    }
    throw new Error('the connection has ended')
  } finally {
    clearTimeout(timer)
  }
}

const endings = {
  shutdown: 'it goes away',
  slow: 'this page was too slow for what came',
  closed: 'an operator has closed the stream'
}

// reached puts what fetch says of a hub that is not there, each browser in its own words, into ours.
const reached = promise => promise.catch(error => {
  throw error instanceof TypeError ? new Error('it cannot be reached') : error
})

// chunks iterates over a stream. Not all browsers do so by themselves.
async function * chunks (stream) {
  const reader = stream.getReader()
  for (;;) {
    const { done, value } = await reached(reader.read())
    if (done) return
    yield value
  }
}
