// The live charts: five minutes, drawn by uPlot, whose script has defined the global of that name.

/* global uPlot */
import { element, setText } from './dom.js'
import { bytes, clock, count, rate, seconds } from './format.js'

const points = 300 // one a second
const fewest = 60 // seconds that a chart is wide at first
const height = 150

// The steps that an axis may be divided by: there is no half of a spoke, and a KiB is 1024.
const whole = Array.from({ length: 12 }, (_, i) => [1, 2, 5].map(n => n * 10 ** i)).flat()
const binary = Array.from({ length: 50 }, (_, i) => 2 ** i)

const shown = [
  { title: 'Spokes', lines: [{ of: 'spokes' }], text: count, steps: whole },
  { title: 'Events/s', lines: [{ of: 'dispatched', name: 'to spokes' }, { of: 'received', name: 'from spokes' }], text: rate, unit: '/s' },
  { title: 'Deliveries/s', lines: [{ of: 'deliveries' }], text: rate, unit: '/s' },
  { title: 'Queued bytes', lines: [{ of: 'queued' }], text: bytes, steps: binary },
  { title: 'Drops/s', lines: [{ of: 'dropped', name: 'dropped' }, { of: 'conflated', name: 'conflated' }], text: rate, unit: '/s' },
  { title: 'Latency until written', lines: [{ of: 'p50', name: 'p50' }, { of: 'p99', name: 'p99' }], text: seconds, logarithmic: true }
]

// decades leaves of the splits of a logarithmic scale those at powers of ten.
const decades = (_, splits) => splits.map(v => Number.isInteger(Math.round(1e6 * Math.log10(v)) / 1e6) ? v : null)

const colours = ['--line-1', '--line-2']
const dashes = [[], [5, 4]] // not by colour alone

// colour reads a custom property when a chart is drawn, so that it follows the theme.
const colour = name => () => getComputedStyle(document.documentElement).getPropertyValue(name)

// alone returns the indices of values that have none beside them, so that no line goes there: they get a point.
function alone (values) {
  const found = []
  values.forEach((v, i) => { if (v !== null && values[i - 1] == null && values[i + 1] == null) found.push(i) })
  return found
}

export function charts (place) {
  const all = shown.map(what => new Chart(place, what))
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => all.forEach(chart => chart.redraw()))
  return {
    update: (_, point) => all.forEach(chart => chart.add(point)),
    pause: () => all.forEach(chart => chart.interrupt())
  }
}

// legend returns, for each line, a piece of it where there are several, its name and its value.
function legend (lines, values) {
  return element('span', { className: 'legend' }, ...lines.map((line, i) =>
    element('span', {}, ...(line.name ? [element('i', { className: `line line-${i + 1}` }), ` ${line.name} `] : []), values[i])))
}

class Chart {
  #lines
  #text
  #unit
  #values
  #plot
  #data

  constructor (place, { title, lines, text, unit = '', steps, logarithmic }) {
    this.#lines = lines
    this.#text = text
    this.#data = [[], ...lines.map(() => [])]
    this.#unit = unit
    this.#values = lines.map(() => element('span', { className: 'value' }))
    const canvas = element('div', { role: 'img', 'aria-label': `${title}, the last five minutes` })
    const figure = element('figure', {}, element('figcaption', {}, `${title} `, legend(lines, this.#values)), canvas)
    place.append(figure)
    this.#plot = new uPlot(this.#options(canvas.clientWidth, steps, logarithmic), this.#data, canvas)
    new ResizeObserver(() => this.#plot.setSize({ width: canvas.clientWidth, height })).observe(canvas)
  }

  add (point) {
    this.#append(point.at, this.#lines.map(line => point[line.of]))
    this.#plot.setData(this.#data)
    this.#tell(this.#plot.cursor.idx ?? this.#data[0].length - 1)
  }

  // interrupt leaves a gap up to the next point.
  interrupt () {
    const times = this.#data[0]
    if (times.length > 0) this.#append(times.at(-1) + 0.001, this.#lines.map(() => null))
  }

  redraw () { this.#plot.redraw() }

  #append (at, values) {
    const row = [at, ...values]
    this.#data.forEach((column, i) => {
      column.push(row[i])
      if (column.length > points) column.shift()
    })
  }

  // #tell writes the values at an index into the legend.
  #tell (i) {
    this.#values.forEach((value, n) => {
      const v = this.#data[n + 1][i]
      setText(value, this.#text(v) + (v == null ? '' : this.#unit))
    })
  }

  #options (width, steps, logarithmic) {
    const axis = { stroke: colour('--muted'), grid: { stroke: colour('--grid'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' }
    return {
      width: Math.max(width, 100),
      height,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'hub' } },
      hooks: { setCursor: [plot => { if (this.#data[0].length > 0) this.#tell(plot.cursor.idx ?? this.#data[0].length - 1) }] },
      scales: {
        x: { range: (_, min, max) => max === null ? [0, fewest] : [Math.min(max - fewest, Math.max(min, max - points)), max] },
        y: logarithmic
          ? { distr: 3, range: (_, min, max) => min === null ? [1e-4, 1] : uPlot.rangeLog(min, max, 10, true) }
          : { range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1] }
      },
      axes: [
        { ...axis, space: 70, size: 28, values: (_, times) => times.map(t => clock.format(t * 1000)) },
        { ...axis, grid: { ...axis.grid, ...(logarithmic && { filter: decades }) }, ...(steps && { incrs: steps }), size: 62, space: 34, values: (_, values) => values.map(v => v === null ? '' : this.#text(v)) }
      ],
      series: [{}, ...this.#lines.map((_, i) => ({
        stroke: colour(colours[i]), width: 2, dash: dashes[i], spanGaps: false,
        points: { show: false, size: 5, fill: colour(colours[i]), filter: plot => alone(plot.data[i + 1]) }
      }))]
    }
  }
}
