// The slowest spokes, each with a button that disconnects it.

import { request } from './api.js'
import { element, setText } from './dom.js'
import { bytes, count, nanos } from './format.js'

const columns = [
  ['Address', s => s.sub ? `${s.remote} (${s.sub})` : s.remote],
  ['Topics', s => s.everything ? 'everything' : topics(s)],
  ['Queued', s => bytes(s.queuedBytes)],
  ['In flight', s => bytes(s.inFlightBytes)],
  ['Age', s => nanos(s.ageNanos)],
  ['Dropped', s => count(s.dropped)],
  ['Conflated', s => count(s.conflated)],
  ['RTT', s => nanos(s.kernel?.rttNanos)],
  ['Resent', s => count(s.kernel?.retransmits)],
  ['Unsent', s => bytes(s.kernel?.unsentBytes)]
]

function topics (spoke) {
  const more = spoke.topicCount - spoke.topics.length
  return more > 0 ? `${spoke.topics.join(' ')} and ${more} more` : spoke.topics.join(' ') || 'none'
}

export function spokes (section) {
  const table = section.querySelector('table')
  const body = section.querySelector('tbody')
  const note = section.querySelector('.note')
  const said = section.querySelector('.said')
  const head = section.querySelector('thead tr')
  for (const name of [...columns.map(([name]) => name), '']) {
    head.append(element('th', { role: 'columnheader', scope: 'col' }, name || element('span', { className: 'hidden' }, 'Action')))
  }
  const rows = new Map() // by id

  // While somebody is in the table no row moves: what is under a finger stays there.
  const held = () => body.matches(':hover') || body.contains(document.activeElement)

  return {
    update (sample) {
      if (sample.stuck) return
      const listed = new Map(sample.slowest.map(spoke => [spoke.id, spoke]))
      for (const [id, row] of rows) {
        if (!listed.has(id) && !held()) {
          row.element.remove()
          rows.delete(id)
        } else {
          row.show(listed.get(id))
        }
      }
      for (const [id, spoke] of listed) {
        if (!rows.has(id)) {
          const row = new Row(spoke, said)
          rows.set(id, row)
          body.append(row.element)
        }
      }
      if (!held()) arrange(body, [...listed.keys()].map(id => rows.get(id).element))
      table.hidden = rows.size === 0
      setText(note, summary(sample))
    }
  }
}

function summary (sample) {
  if (sample.spokes === 0) return 'Nobody is connected.'
  if (sample.queuedSpokes === 0) return `Of ${count(sample.spokes)} connected none has anything waiting.`
  return `Of ${count(sample.spokes)} connected ${count(sample.queuedSpokes)} have something waiting.`
}

// arrange puts the children of body in order, and moves no more of them than it has to.
function arrange (body, order) {
  order.forEach((row, i) => {
    if (body.children[i] !== row) body.insertBefore(row, body.children[i])
  })
}

class Row {
  #id
  #remote
  #cells
  #button
  #said
  #closing = false

  constructor (spoke, said) {
    this.#id = spoke.id
    this.#remote = spoke.remote
    this.#said = said
    this.#cells = columns.map(([name]) => element('td', { role: 'cell', 'data-label': name }))
    this.#button = element('button', { type: 'button', className: 'danger' })
    this.#disarm()
    this.#button.addEventListener('click', () => this.#onClick())
    this.#button.addEventListener('blur', () => this.#disarm())
    this.#button.addEventListener('keydown', event => { if (event.key === 'Escape') this.#disarm() })
    this.element = element('tr', { role: 'row' }, ...this.#cells, element('td', { role: 'cell', className: 'action' }, this.#button))
    this.show(spoke)
  }

  // show writes what is known of the spoke, undefined if it is not among the slowest any more.
  show (spoke) {
    this.element.classList.toggle('gone', !spoke)
    if (spoke) columns.forEach(([, text], i) => setText(this.#cells[i], text(spoke)))
  }

  #disarm () {
    if (this.#closing) return
    this.#button.classList.remove('armed')
    setText(this.#button, 'Disconnect')
    this.#button.setAttribute('aria-label', `Disconnect ${this.#remote}`)
  }

  // The first click asks, the second does it: there is no way back.
  async #onClick () {
    if (this.#closing) return
    if (!this.#button.classList.contains('armed')) {
      this.#button.classList.add('armed')
      setText(this.#button, 'Really?')
      this.#button.setAttribute('aria-label', `Really disconnect ${this.#remote}?`)
      setText(this.#said, `Press again to disconnect ${this.#remote}.`)
      return
    }
    this.#closing = true
    setText(this.#button, 'Closing…')
    this.#button.setAttribute('aria-disabled', 'true')
    try {
      await request(`v1/spokes/${this.#id}`, { method: 'DELETE' })
      setText(this.#said, `${this.#remote} is being disconnected.`)
    } catch (error) {
      this.#closing = false
      this.#button.removeAttribute('aria-disabled')
      this.#disarm()
      setText(this.#said, `${this.#remote} is not disconnected: ${error.message}.`)
    }
  }
}
