// Opens docs/getting-started.md's page from disk and reports what it shows, a JSON object a line, each time that
// changes: node started.mjs FILE
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
})
const page = await browser.newPage()
await page.exposeFunction('say', (what, value) => console.log(JSON.stringify({ what, value })))
await page.addInitScript(() => {
  let last
  setInterval(() => {
    const state = document.querySelector('#state')?.textContent
    const prices = [...document.querySelectorAll('#prices li')].map(line => line.textContent).join(', ')
    if (state !== last?.state) window.say(state, '')
    if (prices !== last?.prices && prices) window.say('prices', prices)
    last = { state, prices }
  }, 20)
})
await page.goto(pathToFileURL(process.argv[2]).href)
