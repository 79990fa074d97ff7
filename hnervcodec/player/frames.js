// Frames made by workers, ahead of when they are shown, and kept while there is room.
//
// A position v counts frames and, with q > 1, those between them: v = n * q + p is the frame p / q of
// the way from frame n to the next (section 9.4 of the specification).

const ROOM = 128 * 2 ** 20; // bytes of frames that are kept
const MAX_WORKERS = 8;
const KEPT = 2; // segments in a worker

// When each position is shown.
export class Timeline {
  constructor(reader, times, q) {
    Object.assign(this, { reader, times, q, count: reader.frameCount * q });
  }

  // {n, p} of a position; between two segments nothing is defined, so that the frame before stays.
  frame(v) {
    const n = Math.floor(v / this.q), p = v % this.q;
    if (!p) return { n, p };
    const { firstFrame, frameCount } = this.reader.index[this.reader.segmentOf(n)];
    return { n, p: n + 1 < firstFrame + frameCount ? p : 0 };
  }

  time(v) {
    const n = Math.floor(v / this.q), begin = this.times.begin(n);
    return begin + ((v % this.q) / this.q) * (this.times.begin(n + 1) - begin);
  }

  at(seconds) {
    const n = this.times.at(seconds), begin = this.times.begin(n);
    const part = (seconds - begin) / (this.times.begin(n + 1) - begin);
    // A rounding less than the position's own time must not lead to the one before.
    return n * this.q + Math.max(0, Math.min(this.q - 1, Math.floor(part * this.q + 1e-6) || 0)); // part is NaN where times are too large to differ
  }
}

export class Frames {
  // start: makes a Worker. form: of the frames' data. onframe(v) tells of a new one, onerror of a fault.
  constructor(reader, start, binaries, form, { onframe, onerror }) {
    const count = Math.max(1, Math.min(MAX_WORKERS, navigator.hardwareConcurrency ?? 2));
    const { width, height, bitDepth } = reader.video;
    this.size = width * height * (form === "rgba" ? 4 : bitDepth > 8 ? 6 : 3); // at most
    Object.assign(this, { reader, form, onframe, onerror });
    this.made = new Map(); // data by positions, the newest last
    this.asked = new Set();
    this.payloads = new Map();
    this.verified = new Uint8Array(reader.frameCount);
    this.decoded = this.seconds = this.largestDelay = 0;
    this.generation = 0; // of the timeline
    this.eager = false; // whether the next segment will be needed
    this.workers = Array.from({ length: count }, () => {
      const worker = { thread: start(), segments: [], job: null };
      worker.thread.onmessage = ({ data }) => this.#take(worker, data);
      worker.thread.onerror = (event) => onerror(`a worker failed: ${event.message ?? "it did not start"}`);
      if (binaries) worker.thread.postMessage({ binaries });
      return worker;
    });
  }

  set timeline(timeline) {
    this.generation++;
    this.line = timeline;
    this.made.clear();
    this.asked.clear();
  }

  get room() {
    return Math.max(4, Math.floor(ROOM / this.size));
  }

  // Seconds from asking for a frame to having it, and frames a second of all workers together.
  get delay() { return this.decoded ? this.seconds / this.decoded : 0; }
  get rate() { return this.decoded ? this.workers.length / this.delay : 0; }

  // Asks for the first of `positions` that are neither there nor on their way, one for each idle worker.
  want(positions) {
    for (const worker of this.workers) {
      if (worker.job) continue;
      const v = positions.find((at) => !this.made.has(at) && !this.asked.has(at));
      if (v === undefined) return;
      this.#ask(worker, v);
    }
  }

  async #ask(worker, v) {
    const { n, p } = this.line.frame(v), { q } = this.line;
    const segment = this.reader.segmentOf(n), { firstFrame, frameCount } = this.reader.index[segment];
    worker.job = { v, generation: this.generation, n, p };
    this.asked.add(v);
    try {
      await this.#send(worker, segment);
      worker.thread.postMessage({ id: v, segment, n: n - firstFrame, p, q, form: this.form });
      if (segment + 1 < this.reader.index.length) {
        // While it plays, read the next segment now, and have it prepared when it is near.
        const near = firstFrame + frameCount - n < Math.max(8, 2 * this.workers.length);
        if (this.eager || near) this.#payload(segment + 1).catch(() => {});
        if (near && !worker.segments.includes(segment + 1)) {
          await this.#send(worker, segment + 1);
          worker.thread.postMessage({ segment: segment + 1 });
        }
      }
    } catch (error) {
      this.#take(worker, { id: v, error: error.message, kind: error.kind ?? "failed" });
    }
  }

  #payload(segment) {
    let payload = this.payloads.get(segment);
    if (!payload) {
      payload = this.reader.segmentPayload(segment);
      payload.catch(() => this.payloads.delete(segment));
      this.payloads.set(segment, payload);
      for (const old of this.payloads.keys()) if (this.payloads.size > 3 && old !== segment) this.payloads.delete(old);
    }
    return payload;
  }

  // Sees to it that a worker has a segment, in place of the one used longest ago.
  async #send(worker, segment) {
    const { segments } = worker, at = segments.indexOf(segment);
    if (at >= 0) segments.push(...segments.splice(at, 1));
    else {
      const payload = await this.#payload(segment);
      if (segments.includes(segment)) return; // by now
      const drop = segments.length === KEPT ? segments.shift() : undefined;
      segments.push(segment);
      const { video, level } = this.reader;
      worker.thread.postMessage({ segment, payload, video, level, drop });
    }
  }

  #take(worker, { id, data, error, kind, seconds, kernel, fellBack }) {
    const { generation, n, p } = worker.job;
    worker.job = null;
    if (error !== undefined) { // and stays asked for: it would fail again
      this.onerror(`${kind}: ${error}`, id);
      return;
    }
    if (generation === this.generation) this.asked.delete(id);
    this.decoded++;
    // The last ones count most: a moving average.
    this.seconds = this.decoded === 1 ? seconds : (this.delay * 0.9 + seconds * 0.1) * this.decoded;
    if (!p) this.verified[n] = 1;
    Object.assign(this, { kernel, fellBack: this.fellBack || fellBack });
    if (generation === this.generation) {
      this.made.set(id, data);
      this.#forget(id);
    }
    this.onframe(id);
  }

  // Those farthest from what was made last go first.
  #forget(near) {
    while (this.made.size > this.room) {
      let farthest = near;
      for (const v of this.made.keys()) if (Math.abs(v - near) > Math.abs(farthest - near)) farthest = v;
      this.made.delete(farthest);
    }
  }
}
