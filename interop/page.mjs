// Uses the operator's page in headless Chromium as an operator does, and reports what happens, a JSON object a
// line, for page_test.go to judge: node page.mjs ADMIN SPOKES [TOKEN]. With SHOTS it leaves pictures there.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { chromium } from 'playwright-core'
import { WebSocket } from 'ws'

const [admin, spokes, token] = process.argv.slice(2)
const say = (what, value = '') => console.log(JSON.stringify({ what, value }))
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
})
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: 'light' })
context.setDefaultTimeout(30_000)
const page = await context.newPage()
const complaints = []
page.on('console', m => { if (['error', 'warning'].includes(m.type()) && !/getImageData/.test(m.text())) complaints.push(m.text()) }) // drawn does that
page.on('pageerror', e => complaints.push(String(e)))
page.on('request', r => { if (!r.url().startsWith(admin)) complaints.push(`a request to ${r.url()}`) })

const text = selector => page.locator(selector).innerText()
const until = (selector, what) => page.locator(selector).filter({ hasText: what }).waitFor()
const figure = async name => (await page.locator('.figures div', { hasText: name }).locator('dd').innerText())

async function shot (name) {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: true })
}

// accessible has axe-core look at the page. Its script comes from outside the page's policy, by the debugger.
async function accessible (where) {
  await page.evaluate(await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8'))
  const { violations } = await page.evaluate(() => window.axe.run())
  assert.deepEqual(violations.map(v => `${where}: ${v.id}: ${v.nodes.map(n => n.target).join(' ')}`), [])
}

// tabTo presses Tab until the focus is on what a selector selects.
async function tabTo (selector) {
  for (let i = 0; i < 60; i++) {
    if (await page.evaluate(s => document.activeElement.matches(s), selector)) return
    await page.keyboard.press('Tab')
  }
  assert.fail(`no way to ${selector} by Tab`)
}

// drawn counts the pixels of a chart that are neither empty nor grey: those of its lines.
const drawn = n => page.locator('figure canvas').nth(n).evaluate(canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let pixels = 0
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 128 && Math.max(...data.slice(i, i + 3)) - Math.min(...data.slice(i, i + 3)) > 80) pixels++
  }
  return pixels
})

// connect makes a spoke, and returns it once it has been welcomed.
const connect = query => new Promise((resolve, reject) => {
  const ws = new WebSocket(spokes + query, ['hub.v1'])
  ws.once('message', () => resolve(ws))
  ws.once('error', reject)
})

async function chartsGetPoints () {
  await page.goto(admin)
  await until('#state', 'Live')
  await until('#spokes-note', 'Nobody is connected')
  const few = await Promise.all(Array.from({ length: 5 }, (_, i) => connect(`?topic=tick:${i}`)))
  const send = setInterval(() => {
    for (let i = 0; i < 5; i++) post({ type: 'tick', id: `${i}`, payload: { price: i } })
  }, 100)
  await until('.figures', /Spokes\s*5/)
  await page.waitForFunction(() => {
    const legends = [...document.querySelectorAll('figcaption .legend')].map(l => l.textContent)
    return parseFloat(legends[2]) > 0 && legends[2].endsWith('/s') && /p50 [\d.]+ (µs|ms) p99 [\d.]+ (µs|ms)/.test(legends[5])
  })
  const before = await drawn(2)
  await pause(3000) // three more points
  assert.ok(await drawn(2) > before, `the line grows: ${before} pixels, then ${await drawn(2)}`)
  for (const n of [0, 5]) assert.ok(await drawn(n) > 0, `chart ${n} has a line`)
  clearInterval(send)
  assert.equal(await figure('Spokes'), '5')
  assert.equal(await page.title(), `page <b> · ${new URL(admin).host} · 5 spokes · hub`)
  assert.match(await text('h1'), new RegExp(`hub\\s+page <b>\\s+${new URL(admin).host}`))
  const keys = await page.locator('figure', { hasText: 'Events/s' }).locator('.line').evaluateAll(pieces =>
    pieces.map(piece => `${getComputedStyle(piece).borderTopStyle} ${getComputedStyle(piece).borderTopColor}`))
  assert.equal(keys.length, 2)
  assert.match(keys[0], /^solid/)
  assert.match(keys[1], /^dashed/)
  assert.match(await text('tbody'), /127\.0\.0\.1:\d+[\s\S]*tick:0/)
  assert.match(await page.locator('tbody tr').first().innerText(), /[\d.]+ (µs|ms)/)
  return few
}

async function post (event) {
  const { status } = await fetch(`${admin}/v1/events`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(event)
  })
  assert.equal(status, 200)
}

async function publishByKeyboardAlone () {
  await page.reload()
  await until('#state', 'Live')
  await tabTo('#tail [name=topics]')
  await page.keyboard.type('greeting:*')
  await page.keyboard.press('Enter')
  await until('#tail-said', 'Listening to greeting:*')
  await page.keyboard.down('Shift')
  await tabTo('#publish [name=type]')
  await page.keyboard.up('Shift')
  await page.keyboard.type('greeting')
  await page.keyboard.press('Tab')
  await page.keyboard.type('1')
  await page.keyboard.press('Tab')
  await page.keyboard.type('{"text":"é€😀 <b>not bold</b>"}')
  await page.keyboard.press('Control+Enter')
  await until('#publish-said', 'one spoke took it') // the tail
  await until('#tail-log p', 'greeting:1 {"text":"é€😀 <b>not bold</b>"}')
  while (await drawn(5) === 0) await pause(200) // one value among none is seen as well

  await page.fill('#publish [name=type]', '__mine')
  await page.click('#publish button')
  await until('#publish-said.bad', /Not sent: .*reserved/i)
  await page.fill('#publish [name=type]', 'greeting')
  await page.fill('#publish [name=payload]', '{nonsense')
  await page.click('#publish button')
  await until('#publish-said.bad', 'not JSON')
  complaints.splice(0, complaints.length, ...complaints.filter(c => !/status of 422/.test(c))) // the browser's own word on it
  await page.click('#tail [type=submit]')
  await until('#tail-said', 'Stopped')
}

async function disconnect (ws) {
  const { port } = ws._socket.address()
  const closed = new Promise(resolve => ws.once('close', (code, reason) => resolve(`${code} ${reason}`)))
  const name = `Disconnect 127.0.0.1:${port}`
  await page.getByRole('button', { name }).focus()
  await page.keyboard.press('Enter')
  await until('#spokes-said', `Press again to disconnect 127.0.0.1:${port}`)
  await page.keyboard.press('Tab') // thinks better of it
  await page.getByRole('button', { name }).focus()
  await page.keyboard.press('Enter')
  await pause(1500) // a sample comes meanwhile, and changes nothing about what was begun
  assert.equal(ws.readyState, WebSocket.OPEN)
  await page.keyboard.press('Enter')
  assert.equal(await closed, '1000 closed by the operator')
  await page.evaluate(() => document.activeElement.blur())
  await page.mouse.move(0, 0)
  await page.getByRole('button', { name: `127.0.0.1:${port}` }).waitFor({ state: 'detached' })
}

async function everywhere () {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    for (const [width, height] of [[1280, 900], [390, 844], [320, 640]]) {
      await page.setViewportSize({ width, height })
      await pause(100) // charts follow by their observer
      const [inner, needed] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth])
      assert.ok(needed <= inner, `${needed} pixels on a screen of ${inner}`)
      await accessible(`${colorScheme}, ${width}`)
      await shot(`${colorScheme}-${width}`)
    }
  }
}

async function useIt () {
  const few = await chartsGetPoints()
  say('charts')
  await publishByKeyboardAlone()
  say('published')
  await disconnect(few[0])
  say('disconnected')
  await everywhere()
  say('everywhere')
  assert.deepEqual(complaints, [])
  for (const ws of few) ws.close()
  say('gone?') // page_test.go ends the hub
  await until('#trouble', 'does not answer')
  await until('#state', 'Not connected')
  assert.match(await page.title(), /^page <b> · \S+ · not connected · hub$/)
  await accessible('without a hub')
  await shot('gone')
  say('gone')
  await until('#state', 'Live')
  await page.locator('#trouble').waitFor({ state: 'hidden' })
  say('back')
}

async function signIn () {
  await page.goto(admin)
  await page.locator('#token').waitFor()
  await accessible('the token')
  await page.keyboard.type('not it')
  await page.keyboard.press('Enter')
  await until('#token-why', 'does not take that one')
  await page.keyboard.press('Escape')
  await page.locator('#token').waitFor()
  await page.keyboard.type(token)
  await page.keyboard.press('Enter')
  await until('#state', 'Live')
  await page.reload()
  await until('#state', 'Live')
  assert.equal(await page.locator('#token').isVisible(), false, 'asked once')
  assert.deepEqual(complaints.filter(c => !/status of 401/.test(c)), [])
  say('signed in')
}

try {
  await (token ? signIn() : useIt())
} catch (error) {
  await shot('error')
  say('error', `${error.stack}\nthe browser said: ${complaints.join('\n')}`)
}
await browser.close()
process.exit() // whatever spokes there still are
