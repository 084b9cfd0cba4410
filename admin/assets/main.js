// The operator's page: what the hub says once a second goes to the figures, the charts and the spokes.

import { follow } from './stream.js'
import { Rates } from './rates.js'
import { charts } from './charts.js'
import { figures } from './figures.js'
import { spokes } from './spokes.js'
import { publish } from './publish.js'
import { tail } from './tail.js'
import { count } from './format.js'

const state = document.getElementById('state')
const trouble = document.getElementById('trouble')
const node = document.getElementById('node')
const version = document.getElementById('version')
document.getElementById('address').textContent = location.host

const rates = new Rates()
const parts = [figures(document.getElementById('figures')), charts(document.getElementById('charts')), spokes(document.getElementById('spokes'))]
publish(document.getElementById('publish'))
tail(document.getElementById('tail'), document.getElementById('tail-log'))

// say changes a live region only if there is news: it is read out each time.
function say (element, text) {
  if (element.textContent !== text) element.textContent = text
}

function onSample (sample) {
  if (sample.kind !== 'stats') return
  const point = rates.next(sample)
  for (const part of parts) part.update(sample, point)
  say(node, sample.node)
  say(version, sample.version)
  title(sample.spokes === 1 ? '1 spoke' : `${count(sample.spokes)} spokes`)
  say(state, sample.ready ? 'Live' : 'Live. New connections are not welcome.')
  problem(sample.stuck ? 'A shard of the hub does not answer in time.' : '')
}

// title begins with what tells the tabs of several hubs apart: hubs on one machine have its name in common, and
// those behind tunnels the address.
function title (what) {
  document.title = [node.textContent, location.host, what, 'hub'].filter(part => part !== '').join(' · ')
}

function problem (text) {
  say(trouble, text)
  trouble.hidden = text === ''
}

function onTrouble (error) {
  rates.reset()
  for (const part of parts) part.pause?.()
  say(state, 'Not connected')
  title('not connected')
  problem(`The hub does not answer: ${error.message}. Trying again, what you see is from before.`)
}

// A page that nobody sees costs the hub nothing, and leaves the few connections that a browser opens to one
// address to the others.
let stats = null
function look () {
  if (document.hidden) {
    stats?.stop()
    stats = null
    rates.reset()
    for (const part of parts) part.pause?.()
  } else {
    stats ??= follow('v1/stats', { onRecord: onSample, onTrouble, silenceMs: 10_000 })
  }
}
title('')
document.addEventListener('visibilitychange', look)
look()
