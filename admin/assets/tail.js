// The pane that tails topics.

import { follow } from './stream.js'
import { element, setText } from './dom.js'
import { clock, count } from './format.js'

const kept = 200 // lines
const longest = 2000 // characters of a payload

export function tail (form, log) {
  const said = form.querySelector('.said')
  const toggle = form.querySelector('[type=submit]')
  const { topics, from } = form.elements
  const lines = new Lines(log)
  let stream = null

  function start () {
    const query = new URLSearchParams({ from: from.value })
    for (const topic of topics.value.split(/[\s,]+/)) {
      if (topic !== '') query.append('topic', topic)
    }
    stream = follow(`v1/events?${query}`, {
      silenceMs: 40_000,
      onRecord: record => lines.add(record),
      onOpen: () => say(`Listening to ${topics.value.trim() || 'everything'}`),
      onTrouble: error => {
        say(`Not listening: ${error.message}`, true)
        if (error.status < 500) stop()
      }
    })
    show(true)
  }

  function stop () {
    stream?.stop()
    stream = null
    show(false)
  }

  function show (on) {
    setText(toggle, on ? 'Stop' : 'Start')
    topics.readOnly = on
    from.disabled = on
  }

  function say (text, bad = false) {
    setText(said, text)
    said.classList.toggle('bad', bad)
  }

  form.addEventListener('submit', event => {
    event.preventDefault()
    if (stream === null) return start()
    stop()
    say('Stopped')
  })
  form.elements.clear.addEventListener('click', () => lines.clear())
}

// Lines is the log: the newest lines, put in once a frame however many come.
class Lines {
  #log
  #waiting = []
  #scheduled = false

  constructor (log) { this.#log = log }

  add (record) {
    const line = describe(record)
    if (line === null) return
    this.#waiting.push([new Date(), ...line])
    if (this.#waiting.length > kept) this.#waiting.shift()
    if (this.#scheduled) return
    this.#scheduled = true
    requestAnimationFrame(() => this.#flush())
  }

  clear () {
    this.#waiting = []
    this.#log.replaceChildren()
  }

  #flush () {
    this.#scheduled = false
    const log = this.#log
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40 // else somebody reads further up
    log.append(...this.#waiting.map(([at, what, text]) =>
      element('p', {}, element('time', {}, clock.format(at)), ' ', element('b', {}, what), ' ', element('span', {}, text))))
    this.#waiting = []
    while (log.children.length > kept) log.firstChild.remove()
    if (atEnd) log.scrollTop = log.scrollHeight
  }
}

// describe returns what a record is about and says; null for what is not shown.
function describe (record) {
  switch (record.kind) {
    case 'event': {
      const { type, id, payload } = record.event
      return [`${type}:${id}`, cut(JSON.stringify(payload))]
    }
    case 'gap':
      return ['…', `${count(record.dropped ?? 0)} more, and ${count(record.conflated ?? 0)} conflated, are not shown`]
    case 'connected':
      return ['connected', record.remote]
    case 'disconnected':
      return ['disconnected', `${record.remote}: ${record.code} ${record.reason ?? ''}`]
  }
  return null
}

const cut = text => text.length > longest ? `${text.slice(0, longest)}…` : text
