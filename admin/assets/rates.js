// Rates turns the counters of samples into what happened per second.
export class Rates {
  #before = null

  // next returns the point of a sample. A rate is null where there is nothing to compare with.
  next (sample) {
    const before = this.#before
    this.#before = sample
    const seconds = before && (sample.atMs - before.atMs) / 1000
    const perSecond = name => {
      const n = before ? sample[name] - before[name] : -1
      return n >= 0 && seconds > 0 ? n / seconds : null // less than before: the hub has been started anew
    }
    return {
      at: sample.atMs / 1000,
      spokes: sample.spokes,
      queued: sample.queuedBytes,
      deliveries: perSecond('deliveries'),
      dispatched: perSecond('dispatched'),
      received: perSecond('received'),
      dropped: perSecond('dropped'),
      conflated: perSecond('conflated'),
      p50: sample.latency ? sample.latency.p50Nanos / 1e9 : null,
      p99: sample.latency ? sample.latency.p99Nanos / 1e9 : null
    }
  }

  reset () { this.#before = null }
}
