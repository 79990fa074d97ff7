// Planes to RGB of 8 bits, as ffmpeg's swscale makes them with the flags accurate_rnd and
// full_chroma_int: chroma enlarged by a bicubic filter from where its samples lie, then a matrix.

// H.273's MatrixCoefficients -> 65536 times what Cr adds to red, Cb to blue, and both take from green
// in full range. Others, and unspecified ones, are taken for BT.601, as ffmpeg takes them.
const BT601 = [104597, 132201, 25675, 53279];
const MATRICES = {
  1: [117489, 138438, 13975, 34925],
  4: [104448, 132798, 24759, 53109],
  5: BT601,
  6: BT601,
  7: [117579, 136230, 16907, 35559],
  9: [110013, 140363, 12277, 42626],
  10: [110013, 140363, 12277, 42626],
};
// H.273's ChromaLocType -> horizontal and vertical position of chroma in 1/256 of a luma sample
const SITES = { 0: [0, 128], 1: [128, 128], 2: [0, 0], 3: [128, 0], 4: [0, 256], 5: [128, 256] };
const CENTRE = 128;
const GBR = 0; // of MatrixCoefficients
const EDGE = 8; // as in kernel.c

export const isRgb = ({ matrixCoefficients, chromaFormat }) => matrixCoefficients === GBR && chromaFormat === 3;

// {offset, y, rv, gu, gv, bu}: R = y (Y - offset) + rv (V - 0.5) and so on, samples and results of 0..1.
export function matrixOf({ matrixCoefficients, fullRange: full, chromaFormat }) {
  const fullRange = full || chromaFormat === 0; // so swscale takes grey
  const [rv, bu, gu, gv] = MATRICES[matrixCoefficients] ?? BT601;
  const chroma = (fullRange ? 224 / 255 : 1) / 65536;
  return {
    offset: fullRange ? 0 : 16 / 256, y: fullRange ? 1 : 255 / 219,
    rv: rv * chroma, gu: -gu * chroma, gv: -gv * chroma, bu: bu * chroma,
  };
}

// Position of the chroma sample [0, 0] among luma samples, in luma samples: [across, down].
export function siteOf({ chromaFormat, chromaSiting }) {
  if (chromaFormat !== 1) return [chromaFormat === 2 ? CENTRE : 0, 0];
  return SITES[chromaSiting] ?? [CENTRE, CENTRE];
}

// Where sample n of `to` lies among `from` subsampled ones: at n * step + shift.
export function placesOf(from, to, site) {
  const step = Math.floor((from * 65536 + (to >> 1)) / to) / 65536;
  return { step, shift: step / 2 - ((site + 128) >> 1) / 256 };
}

// swscale's bicubic filter from `from` samples to `to`: {at: first sample of each, taps, tap: their
// weights, whose sum is `one`}. subsampled: whether there are half as many, from `site` on.
export function filterOf(from, to, subsampled, site, one) {
  if (!subsampled) return { at: Array.from({ length: to }, (_, n) => n), taps: 1, tap: Array(to).fill(one) };
  const { step, shift } = placesOf(from, to, site), size = Math.max(1, Math.min(5, from - 2));
  const weight = (d) =>
    d < 1 ? (8.4 * d - 14.4) * d * d + 6 : d < 2 ? ((-3.6 * d + 18) * d - 28.8) * d + 14.4 : 0;
  const at = [], tap = [];
  for (let n = 0; n < to; n++) {
    const position = n * step + shift, first = Math.trunc(position - (size - 2) / 2);
    const weights = Array.from({ length: size }, (_, j) => weight(Math.abs(first + j - position)));
    const sum = weights.reduce((a, b) => a + b, 0);
    const rounded = weights.map((w) => Math.round((w / sum) * one));
    const most = weights.indexOf(Math.max(...weights));
    rounded[most] += one - rounded.reduce((a, b) => a + b, 0);
    at.push(first);
    tap.push(...rounded);
  }
  return { at, taps: size, tap };
}

const filters = new WeakMap(); // across and down, of a video

// RGBA, [height][width][4], of the planes' bytes.
export function toRgba(kernel, video, planes, bytes) {
  kernel.reset();
  const { width, height, bitDepth: depth, chromaFormat } = video, [luma, cb, cr] = planes;
  const fixed = (x) => Math.max(-32768, Math.min(32767, Math.floor(x * 8192 + 0.5)));
  const { offset, y, rv, gu, gv, bu } = matrixOf(video);
  const source = kernel.put(bytes), size = depth > 8 ? 2 : 1;
  const out = kernel.alloc(4 * width * height);
  const place = (plane) => (plane ? source + plane.at * size : 0);
  const chroma = cb ?? { width: 0, height: 0 };
  if (!filters.has(video)) {
    const [across, down] = siteOf(video), none = { taps: 0, at: [], tap: [] };
    filters.set(video, !cb ? [none, none] : [
      filterOf(chroma.width, width, chromaFormat !== 3, across, 1 << 14),
      filterOf(chroma.height, height, chromaFormat === 1, down, 1 << 12),
    ]);
  }
  const [across, down] = filters.get(video);
  const picture = Int32Array.from([
    width, height, depth, planes.length, chroma.width, chroma.height, place(luma), place(cb), place(cr), out,
    kernel.alloc(4 * chroma.height * width), kernel.alloc(2 * (chroma.width + 2 * EDGE)), kernel.alloc(8 * width),
    across.taps, down.taps,
    ...[across, down].map(({ at }) => kernel.put(Int32Array.from(at))),
    ...[across, down].map(({ tap }) => kernel.put(Int16Array.from(tap))),
    offset * 256 * 512, fixed(y), fixed(rv), fixed(gu), fixed(gv), fixed(bu), isRgb(video) ? 1 : 0,
  ]);
  kernel.c.to_rgba(kernel.put(picture));
  return new Uint8ClampedArray(kernel.bytes(out, 4 * width * height));
}
