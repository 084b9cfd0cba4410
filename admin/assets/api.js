// Requests to the hub that serves this page. Where it wants its admin token the page asks for it, once.

const key = 'hub.admin-token'

// HubError is what the hub has against a request, in its own words.
export class HubError extends Error {
  constructor (status, { code, message }) {
    super(message)
    this.status = status
    this.code = code
  }
}

// request is fetch with the token. It resolves to a good answer, and rejects with a HubError or with what
// has kept the hub from answering.
export async function request (path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(key)
    const response = await fetch(path, {
      ...options,
      cache: 'no-store',
      headers: { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) }
    })
    if (response.ok) return response
    if (response.status !== 401) throw await hubError(response)
    await response.body?.cancel()
    await askForToken(token)
  }
}

async function hubError (response) {
  const text = await response.text()
  try {
    return new HubError(response.status, JSON.parse(text).error)
  } catch { // something in between has answered
    return new HubError(response.status, { message: `${response.status} ${response.statusText}` })
  }
}

let asking = null

// askForToken resolves once there is another token than the one that was refused.
function askForToken (refused) {
  if (sessionStorage.getItem(key) !== refused) return Promise.resolve()
  asking ??= new Promise(resolve => {
    const dialog = document.getElementById('token')
    const input = dialog.querySelector('input')
    if (refused) document.getElementById('token-why').textContent = 'The hub does not take that one.'
    const onClose = () => {
      if (input.value === '') return dialog.showModal() // by Escape: there is nothing to see without
      sessionStorage.setItem(key, input.value)
      input.value = ''
      dialog.removeEventListener('close', onClose)
      asking = null
      resolve()
    }
    dialog.addEventListener('close', onClose)
    dialog.showModal()
  })
  return asking
}
