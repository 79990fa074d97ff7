// Decoder of `.hnv` files, laid out as spec/bitstream.md, whose sentences stand as comments. Runs in
// browsers and in Node. What takes time is in kernel.c, which kernel.js loads.
//
//     import { HnvDecoder } from "./hnv.js";
//     const decoder = await HnvDecoder.open(bytes);           // or a Blob, or the address of a file
//     const { planes } = await decoder.planes(10);            // [{data, width, height}, ...]
//     const { data, width, height } = await decoder.rgba(10); // 8 bits, as canvas takes them
//     const frame = await decoder.videoFrame(10);             // for WebCodecs, in browsers

import { Kernel, Network } from "./kernel.js";
import { toRgba } from "./colour.js";

// A file that must be refused (section 11); `kind` is "damaged", "unsupported" or "limit".
export class HnvError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = "HnvError";
    this.kind = kind;
  }
}
const damaged = (message) => new HnvError("damaged", message);
const unsupported = (message) => new HnvError("unsupported", message);

// ---------------------------------------------------------------- 1. Notation

const ceilDiv = (a, b) => Math.floor((a + b - 1) / b);

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

export function crc32(data) {
  let crc = ~0;
  for (let n = 0; n < data.length; n++) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ data[n]) & 255];
  return ~crc >>> 0;
}

// Reads the fields of one structure. All integers are unsigned and little-endian.
class Fields {
  constructor(data, name) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    this.name = name;
    this.position = 0;
  }

  raw(size) {
    if (this.position + size > this.data.length) throw damaged(`${this.name} ends too early`);
    this.position += size;
    return this.data.subarray(this.position - size, this.position);
  }

  number(size, element, low, high) {
    const at = this.position;
    this.raw(size);
    const { view } = this;
    const value =
      size === 1 ? view.getUint8(at)
      : size === 2 ? view.getUint16(at, true)
      : view.getUint32(at, true);
    return this.within(value, element, low, high);
  }

  within(value, element, low, high) {
    if (value < low || value > high) throw damaged(`${this.name}: ${element} ${value} is out of range`);
    return value;
  }

  u8(element, low = 0, high = 255) { return this.number(1, element, low, high); }
  u16(element, low = 0, high = 65535) { return this.number(2, element, low, high); }
  u32(element, low = 0, high = 0xffffffff) { return this.number(4, element, low, high); }

  // Rounded above 2^53, which is beyond the end of any file.
  u64(element) { return this.u32(element) + this.u32(element) * 2 ** 32; }

  // 16: groups of 7 bits, the lowest first, each in a byte whose top bit says that another follows
  uv(element, low = 0n, high = 2n ** 63n - 1n) {
    let value = 0n;
    for (let n = 0; ; n++) {
      if (n === 9) throw damaged(`${this.name}: ${element} is longer than 9 bytes`);
      const byte = this.u8(element);
      value |= BigInt(byte & 127) << BigInt(7 * n);
      if (byte >= 128) continue;
      // the last of several bytes is not 0
      if (n && byte === 0) throw damaged(`${this.name}: ${element} has needless bytes`);
      return this.within(value, element, low, high);
    }
  }

  sv(element) {
    const value = this.uv(element, 0n, 2n ** 54n - 1n);
    return value % 2n ? -((value + 1n) / 2n) : value / 2n;
  }

  // Payloads have no bytes beyond the last element.
  end() {
    const left = this.data.length - this.position;
    if (left) throw damaged(`${this.name} is ${left} bytes too long`);
  }
}

// ---------------------------------------------------------------- 2. Container

const SIGNATURE = [0x89, 0x48, 0x4e, 0x56, 0x0d, 0x0a, 0x1a, 0x0a];
const PREFIX_SIZE = 24, HEADER_SIZE = 16, CHUNK_OVERHEAD = 20, END_SIZE = 32, ENTRY_SIZE = 18;
const ORDER = { VHDR: [""], SEGM: ["VHDR", "SEGM"], INDX: ["SEGM"], HEND: ["INDX"] };
const isCritical = (kind) => kind[0] <= "Z";

// 2.1: returns the level, of at most `maxLevel`
function readPrefix(data, maxLevel) {
  // A decoder MUST check the signature first, then prefix_crc, then major_version, then the rest.
  if (data.length < 8 || SIGNATURE.some((byte, n) => data[n] !== byte)) throw damaged("no .hnv file");
  const r = new Fields(data.subarray(0, PREFIX_SIZE), "prefix");
  r.raw(8);
  const major = r.u8("major_version");
  r.u8("minor_version");
  const profile = r.u8("profile"), level = r.u8("level");
  const incompatible = r.u32("incompatible_flags");
  r.u32("compatible_flags");
  if (r.u32("prefix_crc") !== crc32(data.subarray(0, 20))) throw damaged("prefix_crc");
  if (major !== 1) throw unsupported(`major_version ${major}`);
  if (incompatible) throw unsupported(`incompatible_flags ${incompatible}`);
  if (profile !== 0) throw unsupported(`profile ${profile}`);
  if (!(level in LEVELS)) throw unsupported(`level ${level}`);
  if (level > maxLevel) throw new HnvError("limit", `level ${level} is above ${maxLevel}`);
  return new Level(level);
}

// 2.2: the header of the chunk at `offset`, without a look at its payload
async function readChunkHeader(source, offset) {
  const header = await source.read(offset, Math.min(HEADER_SIZE, Math.max(0, source.size - offset)));
  const r = new Fields(header, `chunk header at byte ${offset}`);
  const letters = r.raw(4), length = r.u32("length"), serial = r.u32("serial");
  // A decoder MUST check header_crc before it uses length.
  if (r.u32("header_crc") !== crc32(header.subarray(0, 12))) throw damaged(`header_crc at byte ${offset}`);
  const kind = String.fromCharCode(...letters);
  if (!/^[A-Za-z]{4}$/.test(kind)) throw damaged(`type of the chunk at byte ${offset}`);
  // An unknown critical chunk: stop, as soon as header_crc holds.
  if (isCritical(kind) && !(kind in ORDER)) throw unsupported(`critical chunk ${kind}`);
  const end = offset + CHUNK_OVERHEAD + length;
  return { kind, offset, length, serial, end };
}

async function readPayload(source, chunk) {
  if (chunk.end > source.size) throw damaged(`${chunk.kind} ends too early`);
  const data = await source.read(chunk.offset + HEADER_SIZE, chunk.length + 4);
  const r = new Fields(data, chunk.kind), payload = r.raw(chunk.length);
  // payload_crc before it uses the payload
  if (r.u32("payload_crc") !== crc32(payload)) {
    throw damaged(`payload_crc of ${chunk.kind} at byte ${chunk.offset}`);
  }
  return payload;
}

// All chunks of a file, each with its checks.
async function readChunks(source) {
  // A file is a prefix followed by chunks without gaps, the last of which ends the file.
  const chunks = [];
  let offset = PREFIX_SIZE, previous = "";
  while (previous !== "HEND") {
    const chunk = await readChunkHeader(source, offset);
    // serial: 0 for the first chunk, then one more for each
    if (chunk.serial !== chunks.length) throw damaged(`serial ${chunk.serial} at byte ${offset}`);
    if (isCritical(chunk.kind)) {
      // VHDR is the first chunk. One or more SEGM follow, then one INDX, then HEND.
      if (!ORDER[chunk.kind].includes(previous)) {
        throw damaged(`${chunk.kind} follows ${previous || "the prefix"}`);
      }
      previous = chunk.kind;
    } else if (!chunks.length) throw damaged("VHDR is not the first chunk");
    chunk.payload = await readPayload(source, chunk);
    chunks.push(chunk);
    offset = chunk.end;
  }
  if (offset !== source.size) throw damaged("bytes follow HEND");
  return chunks;
}

// 2.3: the entries of the index
function readIndex(payload) {
  const r = new Fields(payload, "INDX"), count = r.u32("segment_count", 1, 2 ** 20);
  if (count * ENTRY_SIZE !== payload.length - 4) throw damaged("INDX: segment_count");
  let next = 0;
  return Array.from({ length: count }, () => {
    const entry = {
      offset: r.u64("offset"),
      length: r.u32("length"),
      firstFrame: r.u32("first_frame"),
      frameCount: r.u16("frame_count", 1),
    };
    // 0 for the first entry, else the previous first_frame + frame_count
    if (entry.firstFrame !== next) throw damaged(`INDX: first_frame ${entry.firstFrame}`);
    // at most length / 4, as each frame has a frame_crc
    if (entry.frameCount > entry.length / 4) throw damaged("INDX: frame_count");
    next += entry.frameCount;
    return entry;
  });
}

// 2.4
function readEnd(payload) {
  const r = new Fields(payload, "HEND");
  const indexOffset = r.u64("index_offset"), frameCount = r.u32("frame_count", 1);
  r.end();
  return { indexOffset, frameCount };
}

function checkFrameCounts(index, end, video) {
  const last = index[index.length - 1];
  // equal to the sum over the index
  if (end.frameCount !== last.firstFrame + last.frameCount) throw damaged("HEND: frame_count");
  // VHDR's: 0 if unknown when written, else that of HEND
  if (video.frameCount && video.frameCount !== end.frameCount) throw damaged("VHDR: frame_count");
}

// ---------------------------------------------------------------- 3. Video header

function readVideoHeader(payload, level) {
  const r = new Fields(payload, "VHDR");
  const video = {
    width: r.u16("width", 1),
    height: r.u16("height", 1),
    chromaFormat: r.u8("chroma_format", 0, 3),
    bitDepth: r.u8("bit_depth", 8, 12),
    chromaSiting: r.u8("chroma_siting"),
    fullRange: r.u8("full_range", 0, 1) === 1,
    colourPrimaries: r.u8("colour_primaries"),
    transferCharacteristics: r.u8("transfer_characteristics"),
    matrixCoefficients: r.u8("matrix_coefficients"),
  };
  r.u8("reserved", 0, 0);
  const { chromaSiting } = video;
  if (chromaSiting > 5 && chromaSiting !== 255) throw damaged(`VHDR: chroma_siting ${chromaSiting}`);
  video.sampleAspect = [r.u16("sample_aspect_num"), r.u16("sample_aspect_den")];
  // two numbers >= 1, or 0 and 0: unspecified
  if ((video.sampleAspect[0] === 0) !== (video.sampleAspect[1] === 0)) throw damaged("VHDR: sample_aspect");
  video.frameRate = [r.u32("frame_rate_num", 1), r.u32("frame_rate_den", 1)];
  video.frameCount = r.u32("frame_count");
  r.end();
  level.check("width", video.width, level.side);
  level.check("height", video.height, level.side);
  level.check("luma samples", video.width * video.height, level.lumaSamples);
  return video;
}

// ---------------------------------------------------------------- 4. Packing

// chroma_format -> [R, Q] of each plane: its rows and columns in a 2x2 block of luma samples
const PLANES = [
  [[2, 2]],
  [[2, 2], [1, 1], [1, 1]],
  [[2, 2], [2, 1], [2, 1]],
  [[2, 2], [2, 2], [2, 2]],
];

// The planes of a frame in order: their sizes in samples, where each begins, and R and Q.
export function planesOf(video) {
  let at = 0;
  return PLANES[video.chromaFormat].map(([R, Q]) => {
    const height = ceilDiv(video.height * R, 2), width = ceilDiv(video.width * Q, 2);
    at += width * height;
    return { R, Q, width, height, at: at - width * height };
  });
}

// Channel r * Q + c of a plane's holds in row i and column j the plane's sample in row R * i + r and
// column Q * j + c.
const packedChannels = (video) =>
  planesOf(video).flatMap((plane) =>
    Array.from({ length: plane.R * plane.Q }, (_, n) => ({
      ...plane,
      r: Math.floor(n / plane.Q),
      c: n % plane.Q,
    })),
  );

// ---------------------------------------------------------------- 5. Network

function readKernel(r, element) {
  const kernel = r.u8(element, 1, 7);
  if (kernel % 2 === 0) throw damaged(`${r.name}: ${element} ${kernel}`);
  return kernel;
}

// A layer: {kind, kernel, inputs, outputs, shuffle, height, width (of its input), size (weights of an
// output), weights (of all)}
function readNetwork(r, video) {
  const embedChannels = r.u16("embed_channels", 1, 1024), stemChannels = r.u16("stem_channels", 1, 1024);
  const stages = Array.from({ length: r.u8("stage_count", 1, 8) }, (_, n) => ({
    stride: r.u8(`stage[${n}].stride`, 1, 8),
    kernel: readKernel(r, `stage[${n}].kernel`),
    channels: r.u16(`stage[${n}].channels`, 1, 1024),
    residuals: r.u8(`stage[${n}].residuals`, 0, 15),
  }));
  const headKernel = readKernel(r, "head_kernel");
  const S = stages.reduce((product, stage) => product * stage.stride, 1);
  let height = ceilDiv(ceilDiv(video.height, 2), S), width = ceilDiv(ceilDiv(video.width, 2), S);
  const layers = [];
  const add = (kind, kernel, inputs, outputs, shuffle) => {
    const size = inputs * kernel * kernel, weights = outputs * shuffle * shuffle * size;
    layers.push({ kind, kernel, inputs, outputs, shuffle, height, width, size, weights });
  };
  add("stem", 1, embedChannels, stemChannels, 1);
  let last = stemChannels;
  for (const { stride, kernel, channels, residuals } of stages) {
    add("up", kernel, last, channels, stride);
    last = channels;
    height *= stride;
    width *= stride;
    for (let n = 0; n < residuals; n++) add("residual", 3, last, last, 1);
  }
  add("head", headKernel, last, packedChannels(video).length, 1);
  return layers;
}

// ---------------------------------------------------------------- 6. Segment

function readTable(r, element) {
  return {
    maxLevel: r.u16(`${element}.max_level`, 0, 8191),
    zero: r.u8(`${element}.zero`),
    decay: r.u8(`${element}.decay`, 0, 191),
  };
}

// first_frame and frame_count
function readSegmentStart(payload) {
  const r = new Fields(payload, "SEGM");
  return [r.u32("first_frame"), r.u16("frame_count", 1)];
}

function readSegment(payload, video, level) {
  const r = new Fields(payload, "SEGM");
  const firstFrame = r.u32("first_frame"), frameCount = r.u16("frame_count", 1);
  const layers = readNetwork(r, video), [stem] = layers;
  // A decoder MUST check the network's ranges, then the network, frame_count and the frame size
  // against the limits of section 10, before it allocates memory for what they describe.
  level.checkSegment(layers, frameCount, stem);
  const embedZeroPoint = r.u8("embed_zero_point");
  const embedTables = [readTable(r, "embed_table.first")];
  for (let c = 0; frameCount > 1 && c < stem.inputs; c++) embedTables.push(readTable(r, `embed_table[${c}]`));
  for (const layer of layers) {
    layer.weightTable = readTable(r, "weight_table");
    layer.biasTable = readTable(r, "bias_table");
    layer.biasShift = r.u8("bias_shift", 0, 23);
    layer.shift = r.u8("shift", 0, 23);
    layer.multiplier = r.u16("multiplier", 1);
    if (layer.kind !== "head") layer.gain = r.u16("gain", 1);
    if (layer.kind === "stem" || layer.kind === "up") layer.zeroPoint = r.u8("zero_point");
  }
  const coded = r.raw(4 * r.u32("coded_words"));
  const crcs = new Fields(r.raw(4 * frameCount), "frame_crc");
  r.end(); // which use it up exactly
  return {
    firstFrame, frameCount, layers, embedZeroPoint, embedTables, coded,
    frameCrcs: Array.from({ length: frameCount }, () => crcs.u32("frame_crc")),
  };
}

// One segment, ready to make any of its frames. 6.1, 7, 8 and 9 are in kernel.js and kernel.c.
export class Segment {
  // bytes: whether bytes may be multiplied where the kernel can
  constructor(payload, video, levelNumber, kernel, bytes = true) {
    const segment = readSegment(payload, video, new Level(levelNumber));
    this.firstFrame = segment.firstFrame;
    this.frameCount = segment.frameCount;
    this.frameCrcs = segment.frameCrcs;
    this.video = video;
    try {
      this.network = new Network(segment, packedChannels(video), video.bitDepth, kernel, bytes);
    } catch (error) {
      if (error instanceof RangeError) throw new HnvError("limit", error.message);
      throw error instanceof HnvError ? error : damaged(`SEGM: ${error.message}`);
    }
    this.samples = planesOf(video).reduce((sum, plane) => sum + plane.width * plane.height, 0);
  }

  // 9: the planes of frame n of the segment, one after the other, in bytes as frame_crc sees them; a
  // frame that fails it is "damaged". With 0 < p < q the frame p / q of the way to the next (9.4).
  // The result lies in the kernel's memory until the next call.
  frame(n, p = 0, q = 1) {
    const size = this.samples * (this.video.bitDepth > 8 ? 2 : 1);
    const { data, crc } = this.network.frame(n, p, q, size);
    // none may deliver a frame that fails as if it were sound
    if (!p && crc !== this.frameCrcs[n]) throw damaged(`frame ${this.firstFrame + n} fails its frame_crc`);
    return data;
  }
}

// ---------------------------------------------------------------- 10. Profiles and levels

const LEVELS = { 10: [16, 18], 20: [18, 20], 30: [20, 22], 40: [21, 23], 50: [23, 24], 60: [25, 25] };

class Level {
  constructor(number) {
    this.number = number;
    const [luma, weights] = LEVELS[number];
    this.lumaSamples = 2 ** luma; // N
    this.weights = 2 ** weights;
    this.side = 16 * Math.floor(Math.sqrt(this.lumaSamples));
  }

  check(what, value, limit) {
    if (value > limit) {
      throw new HnvError("limit", `${what} ${value} exceeds ${limit}, the limit of level ${this.number}`);
    }
  }

  // Products beyond 2^53 are rounded, far above any limit.
  checkSegment(layers, frames, stem) {
    const N = this.lumaSamples, sum = (of) => layers.reduce((total, layer) => total + of(layer), 0);
    this.check("frames per segment", frames, 2048);
    this.check("weights", sum((layer) => layer.weights), this.weights);
    const levels = frames * stem.inputs * stem.height * stem.width;
    this.check("embedding levels", levels, Math.min(32 * N, 2 ** 26));
    this.check("multiplications", sum((layer) => layer.weights * layer.height * layer.width), 2 ** 16 * N);
    for (const { outputs, shuffle, height, width } of layers) {
      this.check("values that a layer writes", outputs * shuffle ** 2 * height * width, 16 * N);
    }
  }
}

// ---------------------------------------------------------------- 16. Beside the frames

// dISP and sTRM stand after VHDR and before the first SEGM; tIME and pKTS after the SEGM that they
// belong to.
const PLACES = { dISP: "VHDR", sTRM: "VHDR", tIME: "SEGM", pKTS: "SEGM" };
const MAX_STREAMS = 64;

// 16.1
function readDisplay(payload) {
  const r = new Fields(payload, "dISP");
  const rotation = r.u8("rotation", 0, 3), mirrored = r.u8("mirrored", 0, 1) === 1;
  if (r.u8("mastering_present", 0, 1)) r.raw(8 * 2 + 2 * 4); // of any value
  if (r.u8("content_light_present", 0, 1)) r.raw(2 + 2);
  r.end();
  return { rotation, mirrored };
}

// 16.2: {base: [num, den], first, end: ticks, runs: [[frames, ticks of each], ...]}
function readTimes(payload, frameCount) {
  const r = new Fields(payload, "tIME");
  const base = [r.u32("time_base_num", 1), r.u32("time_base_den", 1)];
  const first = r.sv("first_pts"), runs = [];
  let end = first, left = BigInt(frameCount);
  while (left) { // until the runs add up to the segment's frame_count
    const run = r.uv("run", 1n, left), duration = r.uv("duration", 1n, 2n ** 32n);
    runs.push([Number(run), Number(duration)]);
    end += run * duration;
    left -= run;
  }
  r.end();
  return { base, first, end, runs };
}

// One after each SEGM, or none in the file; the same fraction in all, none before the end of the last.
function checkTimes(times) {
  if (times.some(Boolean) && !times.every(Boolean)) throw damaged("a SEGM without tIME");
  for (let n = 1; n < times.length && times[n]; n++) {
    const [a, b] = [times[n - 1], times[n]];
    const same = BigInt(a.base[0]) * BigInt(b.base[1]) === BigInt(b.base[0]) * BigInt(a.base[1]);
    if (!same || b.first < a.end) throw damaged("tIME does not go on from the one before");
  }
}

// 16.3
function readStream(payload) {
  const r = new Fields(payload, "sTRM"), kind = r.u8("kind", 1, 2);
  const text = (bytes) => {
    if (bytes.some((byte) => byte < 0x21 || byte > 0x7e)) throw damaged("sTRM: codec or language is no text");
    return String.fromCharCode(...bytes);
  };
  const stream = { kind: kind === 1 ? "sound" : "subtitles", codec: text(r.raw(r.u8("codec_size", 1, 64))) };
  stream.base = [r.u32("time_base_num", 1), r.u32("time_base_den", 1)];
  stream.language = text(r.raw(3));
  if (kind === 1) {
    stream.sampleRate = r.u32("sample_rate", 1);
    stream.channels = r.u8("channels", 1);
    stream.bitDepth = r.u8("bit_depth"); // 0: unknown
  }
  stream.delay = Number(r.uv("codec_delay")) / 1e9; // seconds
  r.uv("seek_preroll");
  stream.private = r.raw(r.u32("private_size", 0, 2 ** 20));
  r.end();
  return stream;
}

// 16.4: {stream, packets: [{pts, duration (seconds), data}]}
function readPackets(payload, streams) {
  const r = new Fields(payload, "pKTS");
  const number = r.u8("stream", 0, streams.length - 1);
  // at most a third of the bytes that are left, as each packet takes three
  const count = Number(r.uv("packet_count", 1n, BigInt(Math.floor(payload.length / 3))));
  const [num, den] = streams[number].base, packets = [];
  let pts = 0n;
  for (let n = 0; n < count; n++) {
    pts += r.sv("gap");
    if (pts > 2n ** 53n || pts < -(2n ** 53n)) throw damaged("pKTS: gap");
    const duration = r.uv("duration", 0n, 2n ** 32n), size = Number(r.uv("size"));
    packets.push({ pts: (Number(pts) * num) / den, duration: (Number(duration) * num) / den, size });
    pts += duration;
  }
  // the sizes add up to the bytes that are left
  for (const packet of packets) packet.data = r.raw(packet.size);
  r.end();
  return { stream: number, packets };
}

function checkBeside(chunks) {
  let previous = "", displays = 0, seen = new Set();
  const streams = [], times = [], frameCounts = [];
  for (const { kind, payload } of chunks) {
    if (isCritical(kind)) {
      previous = kind;
      seen = new Set();
      if (kind === "SEGM") {
        times.push(null);
        frameCounts.push(readSegmentStart(payload)[1]);
      }
    } else if (kind in PLACES && previous !== PLACES[kind]) {
      throw damaged(`${kind} after ${previous}`);
    } else if (kind === "dISP") {
      displays++;
      readDisplay(payload);
    } else if (kind === "sTRM") {
      streams.push(readStream(payload));
    } else if (kind === "tIME") {
      const at = times.length - 1;
      if (times[at]) throw damaged("tIME twice");
      times[at] = readTimes(payload, frameCounts[at]);
    } else if (kind === "pKTS") {
      const { stream } = readPackets(payload, streams);
      if (seen.has(stream)) throw damaged("pKTS twice"); // at most one for each stream
      seen.add(stream);
    }
  }
  if (displays > 1 || streams.length > MAX_STREAMS) throw damaged("too many dISP or sTRM");
  checkTimes(times);
}

// ---------------------------------------------------------------- the file

// Where bytes come from: {size, read(offset, length) -> Promise<Uint8Array>}
const bytesSource = (bytes) => ({
  size: bytes.length,
  read: async (offset, length) => bytes.subarray(offset, offset + length),
});

const blobSource = (blob) => ({
  size: blob.size,
  read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
});

// A file over HTTP, read by ranges; whole from servers that know none.
async function httpSource(url) {
  const ask = async (first, last) => {
    const answer = await fetch(url, last === undefined ? {} : { headers: { Range: `bytes=${first}-${last}` } });
    if (answer.status === 416) return [answer, new Uint8Array(0)]; // there are no bytes
    if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
    return [answer, new Uint8Array(await answer.arrayBuffer())];
  };
  // "bytes 0-71/4096" -> [0, 4096]. A server elsewhere does not always let a page see it.
  const extent = ({ headers }) =>
    /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("Content-Range") ?? "")?.slice(1).map(Number);
  const [answer, start] = await ask(0, PREFIX_SIZE + 47); // prefix and VHDR
  if (answer.status !== 206) return bytesSource(start);
  const [begin, size] = extent(answer) ?? [];
  if (begin !== 0) return bytesSource((await ask())[1]);
  return {
    size,
    read: async (offset, length) => {
      if (offset + length <= start.length) return start.subarray(offset, offset + length);
      if (!length) return new Uint8Array(0);
      const [part, data] = await ask(offset, offset + length - 1);
      if (part.status === 200 && data.length === size) return data.subarray(offset, offset + length);
      if (part.status !== 206 || `${extent(part)}` !== `${[offset, size]}`) throw new Error(`${url} has changed`);
      return data;
    },
  };
}

async function sourceOf(from) {
  if (from instanceof Uint8Array) return bytesSource(from);
  if (from instanceof ArrayBuffer) return bytesSource(new Uint8Array(from));
  if (typeof Blob !== "undefined" && from instanceof Blob) return blobSource(from);
  return typeof from === "string" || from instanceof URL ? httpSource(from) : from;
}

// A file by random access: through HEND, INDX and only what is asked for.
export class Reader {
  // from: Uint8Array, ArrayBuffer, Blob, an address, or {size, read}; maxLevel: the highest accepted
  static async open(from, maxLevel = 60) {
    const reader = new Reader(), source = (reader.source = await sourceOf(from));
    const level = readPrefix(await source.read(0, Math.min(PREFIX_SIZE, source.size)), maxLevel);
    reader.level = level.number;
    const header = await readChunkHeader(source, PREFIX_SIZE);
    if (header.kind !== "VHDR" || header.serial) throw damaged("VHDR is not the first chunk");
    reader.video = readVideoHeader(await readPayload(source, header), level);
    reader.body = header.end;
    // As HEND is 32 bytes long with its framing, a reader finds the index from the back of the file.
    const last = await readChunkHeader(source, Math.max(header.end, source.size - END_SIZE));
    if (last.kind !== "HEND" || last.end !== source.size) throw damaged("HEND is missing");
    const end = readEnd(await readPayload(source, last));
    if (end.indexOffset < header.end || end.indexOffset > last.offset) throw damaged("HEND: index_offset");
    const indexChunk = await readChunkHeader(source, end.indexOffset);
    if (indexChunk.kind !== "INDX") throw damaged("HEND: index_offset");
    reader.index = readIndex(await readPayload(source, indexChunk));
    reader.indexOffset = end.indexOffset;
    checkFrameCounts(reader.index, end, reader.video);
    let position = header.end;
    for (const { offset, length, frameCount } of reader.index) {
      level.check("frames per segment", frameCount, 2048);
      if (offset < position || offset + CHUNK_OVERHEAD + length > end.indexOffset) {
        throw damaged("INDX: segments overlap or leave the file");
      }
      position = offset + CHUNK_OVERHEAD + length;
    }
    reader.frameCount = end.frameCount;
    return reader;
  }

  // Reads the whole file and refuses every fault but those of levels and frames.
  async check() {
    const { source } = this, chunks = await readChunks(source), segments = [];
    let next = 0;
    for (const { kind, payload, offset } of chunks) {
      if (kind !== "SEGM") continue;
      const [firstFrame, frameCount] = readSegmentStart(payload);
      if (firstFrame !== next) throw damaged(`SEGM: first_frame ${firstFrame} instead of ${next}`);
      segments.push([offset, payload.length, firstFrame, frameCount].join());
      next += frameCount;
    }
    const listed = this.index.map((e) => [e.offset, e.length, e.firstFrame, e.frameCount].join());
    if (listed.join(" ") !== segments.join(" ")) throw damaged("INDX does not list the segments");
    checkBeside(chunks);
  }

  // The number of the segment that holds a frame.
  segmentOf(frame) {
    let low = 0, high = this.index.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.index[middle].firstFrame <= frame) low = middle;
      else high = middle;
    }
    return low;
  }

  async segmentPayload(number) {
    const { offset, length, firstFrame, frameCount } = this.index[number];
    // The header, the payload and its checksum, in one read.
    const data = await this.source.read(offset, CHUNK_OVERHEAD + length);
    const whole = { size: offset + data.length, read: async (at, size) => data.subarray(at - offset, at - offset + size) };
    const chunk = await readChunkHeader(whole, offset);
    if (chunk.kind !== "SEGM" || chunk.length !== length) throw damaged("INDX: no such SEGM");
    const payload = await readPayload(whole, chunk);
    if (readSegmentStart(payload).join() !== [firstFrame, frameCount].join()) throw damaged("INDX: frames");
    return payload;
  }

  // A reader that knows the index finds the chunks of a segment by walking the chunk headers from the
  // end of its SEGM. Number -1: those before the first.
  async chunksAfter(number) {
    const entry = this.index[number], next = this.index[number + 1];
    const stop = next ? next.offset : this.indexOffset, found = [];
    let offset = entry ? entry.offset + CHUNK_OVERHEAD + entry.length : this.body;
    while (offset < stop) {
      const chunk = await readChunkHeader(this.source, offset);
      if (isCritical(chunk.kind)) break;
      found.push(chunk);
      offset = chunk.end;
    }
    return found;
  }

  async display() {
    const [chunk] = (await this.before()).filter(({ kind }) => kind === "dISP");
    return chunk ? readDisplay(await readPayload(this.source, chunk)) : { rotation: 0, mirrored: false };
  }

  async streams() {
    const found = (await this.before()).filter(({ kind }) => kind === "sTRM").slice(0, MAX_STREAMS);
    return Promise.all(found.map(async (chunk) => readStream(await readPayload(this.source, chunk))));
  }

  before() {
    return (this.beforeSegments ??= this.chunksAfter(-1));
  }

  // When frames are shown.
  async times() {
    const times = [];
    for (let n = 0; n < this.index.length; n++) {
      const [chunk] = (await this.chunksAfter(n)).filter(({ kind }) => kind === "tIME");
      times.push(chunk ? readTimes(await readPayload(this.source, chunk), this.index[n].frameCount) : null);
      if (!times[0]) break; // none in the file
    }
    checkTimes(times);
    return new FrameTimes(this.video, this.frameCount, times[0] ? times : []);
  }

  // A segment's packets of one stream.
  async packets(number, stream, streams) {
    for (const chunk of await this.chunksAfter(number)) {
      if (chunk.kind !== "pKTS") continue;
      const found = readPackets(await readPayload(this.source, chunk), streams);
      if (found.stream === stream) return found.packets;
    }
    return [];
  }
}

// When frames are shown, in seconds: frame n from begin(n) to begin(n + 1).
export class FrameTimes {
  constructor(video, frameCount, times) {
    this.frameCount = frameCount;
    [this.num, this.den] = video.frameRate;
    this.begins = null; // constant rate
    if (!times.length) return;
    const [num, den] = times[0].base;
    this.begins = new Float64Array(frameCount + 1);
    let n = 0;
    for (const { first, runs } of times) {
      let tick = Number(first);
      for (const [run, duration] of runs) {
        for (let end = n + run; n < end; n++, tick += duration) this.begins[n] = (tick * num) / den;
      }
      this.begins[n] = (tick * num) / den;
    }
  }

  begin(n) {
    return this.begins ? this.begins[n] : (n * this.den) / this.num;
  }

  get start() { return this.begin(0); }
  get end() { return this.begin(this.frameCount); }
  get rate() { return this.frameCount / (this.end - this.start); }

  // The frame that is shown at a time, the first or the last one outside of the video.
  at(seconds) {
    let low = 0, high = this.frameCount;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.begin(middle) <= seconds) low = middle;
      else high = middle;
    }
    return low;
  }
}

// ---------------------------------------------------------------- frames

// Any frame of a file; the two segments used last are kept.
export class HnvDecoder {
  // from: as Reader.open's. maxLevel: files of higher levels are refused. check: read the whole file
  // first, and refuse all that does not conform. bytes: multiply bytes where this engine does so right.
  static async open(from, { maxLevel = 60, check = false, bytes = true } = {}) {
    const decoder = new HnvDecoder();
    const source = await sourceOf(from);
    if (check) {
      // In the order of the file, as a fault at its front outranks what the index says.
      const level = readPrefix(await source.read(0, Math.min(PREFIX_SIZE, source.size)), maxLevel);
      const chunks = await readChunks(source);
      readVideoHeader(chunks[0].payload, level);
    }
    decoder.reader = await Reader.open(source, maxLevel);
    if (check) await decoder.reader.check();
    Object.assign(decoder, { bytes, segments: new Map(), fellBack: false });
    ({ video: decoder.video, frameCount: decoder.frameCount } = decoder.reader);
    return decoder;
  }

  get width() { return this.video.width; }
  get height() { return this.video.height; }

  async segment(number) {
    let segment = this.segments.get(number);
    if (!segment) {
      const payload = await this.reader.segmentPayload(number);
      while (this.segments.size > 1) {
        const [oldest] = this.segments.keys();
        this.#drop(oldest);
      }
      const kernel = await Kernel.load();
      try {
        segment = new Segment(payload, this.video, this.reader.level, kernel, this.bytes);
      } catch (error) {
        kernel.release();
        throw error;
      }
    }
    this.segments.delete(number);
    this.segments.set(number, segment); // the newest, last
    return segment;
  }

  #drop(number) {
    this.segments.get(number).network.kernel.release();
    this.segments.delete(number);
  }

  // Gives back the memory of its segments, as soon as the frames asked for are made.
  close() {
    this.#last = this.#last.then(() => {
      for (const number of [...this.segments.keys()]) this.#drop(number);
    });
    return this.#last;
  }

  // The planes of frame n as bytes, or of the frame p / q of the way from it to the next, which has to
  // be of the same segment. An HnvError where its checksum fails.
  frameBytes(n, p = 0, q = 1) {
    const made = this.#last.then(() => this.#frameBytes(n, p, q)); // one after the other
    this.#last = made.catch(() => {});
    return made;
  }

  #last = Promise.resolve();

  async #frameBytes(n, p, q) {
    if (!Number.isInteger(n) || n < 0 || n >= this.frameCount) throw new RangeError(`no frame ${n}`);
    const number = this.reader.segmentOf(n), segment = await this.segment(number);
    const at = n - segment.firstFrame;
    const inside = Number.isInteger(p) && Number.isInteger(q) && 0 < p && p < q && q < 2 ** 32;
    if (p !== 0 && !(inside && at + 1 < segment.frameCount)) {
      throw new RangeError(`nothing is defined ${p}/${q} after frame ${n}`);
    }
    try {
      return segment.frame(at, p, q).slice();
    } catch (error) {
      if (!segment.network.usesBytes) throw error;
      // A checksum that fails: once more, with products of 16 bits.
      this.bytes = false;
      this.fellBack = true;
      this.#drop(number);
      return (await this.segment(number)).frame(at, p, q).slice();
    }
  }

  // {planes: [{data, width, height}]}: Uint8Array, or Uint16Array above 8 bits
  async planes(n, p = 0, q = 1) {
    const bytes = await this.frameBytes(n, p, q);
    const samples = this.video.bitDepth > 8 ? new Uint16Array(bytes.buffer) : bytes;
    const planes = planesOf(this.video).map(({ at, width, height }) => ({
      data: samples.subarray(at, at + width * height), width, height,
    }));
    return { planes };
  }

  // {data: Uint8ClampedArray [height][width][4], width, height}, full range, not rotated
  async rgba(n, p = 0, q = 1) {
    const bytes = await this.frameBytes(n, p, q), { width, height } = this.video;
    const kernel = await Kernel.load(), data = toRgba(kernel, this.video, planesOf(this.video), bytes);
    kernel.release();
    return { data, width, height };
  }

  // A VideoFrame of WebCodecs in RGB, timestamp and duration in microseconds.
  async videoFrame(n) {
    const { data, width, height } = await this.rgba(n);
    this.frameTimes ??= await this.reader.times();
    const timestamp = Math.round(1e6 * this.frameTimes.begin(n));
    const duration = Math.round(1e6 * this.frameTimes.begin(n + 1)) - timestamp;
    return new VideoFrame(data, { format: "RGBA", codedWidth: width, codedHeight: height, timestamp, duration });
  }
}
