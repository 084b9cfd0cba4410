// How figures are shown. What is not known is a dash.

const dash = '–'
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })
const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

const threeDigits = n => Number(n.toPrecision(3))

function scaled (n, step, units) {
  let i = 0
  while (Math.abs(n) >= step && i < units.length - 1) {
    n /= step
    i++
  }
  return `${threeDigits(n)} ${units[i]}`
}

const known = fn => n => n === null || n === undefined ? dash : fn(n)

export const count = known(n => n < 100_000 ? plain.format(n) : compact.format(n))
export const rate = known(n => n < 1000 ? `${threeDigits(n)}` : compact.format(n))
export const bytes = known(n => scaled(n, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']))
export const seconds = known(s => s < 1 ? scaled(s * 1e6, 1000, ['µs', 'ms', 's']) : `${threeDigits(s)} s`)
export const nanos = known(n => n === 0 ? '0' : seconds(n / 1e9))
export const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
