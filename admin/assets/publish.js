// The form that publishes an event.

import { request } from './api.js'
import { count } from './format.js'

export function publish (form) {
  const said = form.querySelector('.said')
  const { type, id, payload } = form.elements
  form.addEventListener('submit', async event => {
    event.preventDefault()
    const button = form.querySelector('button')
    button.setAttribute('aria-disabled', 'true')
    try {
      const { matched } = await send(type.value, id.value, payload.value)
      said.classList.remove('bad')
      said.textContent = `Sent at ${new Date().toLocaleTimeString('en-GB')}: ${spokes(matched)} on.`
    } catch (error) {
      said.classList.add('bad')
      said.textContent = `Not sent: ${error.message}`
    } finally {
      button.removeAttribute('aria-disabled')
    }
  })
  payload.addEventListener('keydown', event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit()
  })
}

const spokes = n => n === 0 ? 'no spoke took it' : n === 1 ? 'one spoke took it' : `${count(n)} spokes took it`

// send publishes one event. The payload goes as it was written: a number keeps all its digits.
async function send (type, id, payload) {
  const raw = payload.trim() || 'null'
  try {
    JSON.parse(raw)
  } catch (error) {
    throw new Error(`the payload is not JSON: ${error.message}`)
  }
  const response = await request('v1/events', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: `{"type":${JSON.stringify(type)},"id":${JSON.stringify(id)},"payload":${raw}}`
  })
  return response.json()
}
