// A worker of the player: makes frames of the segments that it is sent. Messages to it:
//     {binaries}                                       once: the kernels
//     {segment, payload, video, level, drop}           a segment's payload, instead of another's
//     {segment}                                        prepare it
//     {id, segment, n, p, q, form}                     a frame of it, form "rgba" or "planes"
// and for each frame from it {id, data, seconds, kernel, fellBack} or {id, error, kind}.

import { toRgba } from "./colour.js";
import { HnvError, planesOf, Segment } from "./hnv.js";
import { Kernel } from "./kernel.js";

const kept = new Map(); // segments by their numbers
let bytes = true, fellBack = false, painter = null;

async function prepared(number) {
  const entry = kept.get(number);
  if (!entry.segment) {
    entry.kernel ??= await Kernel.load();
    entry.segment = new Segment(entry.payload, entry.video, entry.level, entry.kernel, bytes);
  }
  return entry;
}

async function frame({ segment: number, n, p, q, form }) {
  let entry = await prepared(number), data;
  try {
    data = entry.segment.frame(n, p, q);
  } catch (error) {
    if (!entry.segment.network.usesBytes) throw error;
    // A checksum that fails: from now on with products of 16 bits.
    bytes = false;
    fellBack = true;
    for (const each of kept.values()) each.segment = null;
    entry = await prepared(number);
    data = entry.segment.frame(n, p, q);
  }
  const kernel = entry.segment.network.usesBytes ? "8-bit products" : "16-bit products";
  if (form === "planes") return { data: data.slice().buffer, kernel };
  painter ??= await Kernel.load();
  return { data: toRgba(painter, entry.video, planesOf(entry.video), data).buffer, kernel };
}

async function heed(message) {
  if (message.binaries) {
    Kernel.binaries = message.binaries;
    await Kernel.load().then((kernel) => kernel.release());
    return;
  }
  if (message.payload) {
    const { segment: number, payload, video, level, drop } = message;
    kept.get(drop)?.kernel?.release();
    kept.delete(drop);
    kept.set(number, { payload, video, level, segment: null, kernel: null });
    return;
  }
  if (message.id === undefined) return void (await prepared(message.segment).catch(() => {}));
  const { id } = message, start = performance.now();
  try {
    const made = await frame(message);
    postMessage({ id, ...made, fellBack, seconds: (performance.now() - start) / 1000 }, [made.data]);
  } catch (error) {
    postMessage({ id, error: error.message, kind: error instanceof HnvError ? error.kind : "this browser fails" });
  }
}

if (typeof document === "undefined") {
  let last = Promise.resolve(); // one message after the other
  onmessage = ({ data }) => {
    // What prevents the kernels is said of each frame that is asked for.
    last = last.then(() => heed(data)).catch(() => {});
  };
}
