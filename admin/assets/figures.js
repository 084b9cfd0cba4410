// The figures of this moment, in words: what the charts show, for those who do not see them.

import { element, setText } from './dom.js'
import { bytes, count, rate, seconds } from './format.js'

const shown = [
  ['Spokes', (sample) => count(sample.spokes)],
  ['Events/s', (_, point) => rate(point.dispatched)],
  ['Deliveries/s', (_, point) => rate(point.deliveries)],
  ['Queued', (sample) => bytes(sample.queuedBytes)],
  ['Dropped', (sample) => count(sample.dropped)],
  ['Conflated', (sample) => count(sample.conflated)],
  ['Closed as slow', (sample) => count(sample.slowDisconnects)]
]

export function figures (list) {
  const values = shown.map(([name]) => {
    const value = element('dd', {}, '–')
    list.append(element('div', {}, element('dt', {}, name), value))
    return value
  })
  return {
    update (sample, point) {
      shown.forEach(([, text], i) => setText(values[i], text(sample, point)))
    }
  }
}
