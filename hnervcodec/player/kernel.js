// Loads kernel.wasm, or kernel_i8.wasm where this engine multiplies bytes right, and lays out in its
// memory what a segment's network needs. Sections are those of spec/bitstream.md.

const GROUP = { 16: 2, 8: 4 }; // inputs in a product, by the bits of its operands
const BLOCK = 8, TILE = 4, FIELDS = 24; // as in kernel.c: enums, and words of Layer before `place`
const PLAIN = 0, FINE = 1, RESIDUAL = 2, HEAD = 3;
const MAX_MEMORY = 2 ** 31;

const roundUp = (n, to) => Math.ceil(n / to) * to;
const clip = (x, low, high) => Math.min(Math.max(x, low), high);

// ---------------------------------------------------------------- memory

// An instance of the kernel, whose memory is given out from the front until `reset`.
export class Kernel {
  // Bytes of {kernel, kernel_i8}.wasm; default: the files beside this one.
  static binaries = null;
  static #module = null; // of a Promise
  static #free = []; // engines have room for few memories

  static async load() {
    Kernel.#module ??= Kernel.#choose();
    const module = await Kernel.#module;
    return Kernel.#free.pop() ?? Kernel.#instance(module);
  }

  release() {
    Kernel.#free.push(this);
  }

  static async #instance(module) {
    return new Kernel((await WebAssembly.instantiate(module, {})).exports);
  }

  // The products of bytes came late, and one engine's first compiler gets them wrong.
  static async #choose() {
    const { kernel, kernel_i8 } = (Kernel.binaries ??= await readBinaries());
    try {
      const module = await WebAssembly.compile(kernel_i8);
      if (multipliesRight(await Kernel.#instance(module))) return module;
    } catch (error) {
      if (!(error instanceof WebAssembly.CompileError)) throw error;
    }
    return WebAssembly.compile(kernel);
  }

  constructor(c) {
    this.c = c;
    this.hasBytes = "run_layer8" in c;
    this.reset();
  }

  reset() {
    this.used = this.c.__heap_base.value;
  }

  // The address of new memory, in multiples of 16. A RangeError where there is no more.
  alloc(bytes) {
    const at = this.used, { memory } = this.c;
    const end = at + roundUp(bytes, 16);
    if (end > MAX_MEMORY) throw new RangeError("the network needs more than 2 GiB");
    if (end > memory.buffer.byteLength) memory.grow(Math.ceil((end - memory.buffer.byteLength) / 65536));
    this.used = end;
    return at;
  }

  bytes(at, size) { return new Uint8Array(this.c.memory.buffer, at, size); }
  int16(at, size) { return new Int16Array(this.c.memory.buffer, at, size); }
  int32(at, size) { return new Int32Array(this.c.memory.buffer, at, size); }

  put(array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    const at = this.alloc(bytes.length);
    this.bytes(at, bytes.length).set(bytes);
    return at;
  }
}

async function readBinaries() {
  const read = async (name) => {
    const url = new URL(name, import.meta.url);
    if (url.protocol === "file:" && globalThis.process?.versions?.node) {
      return (await import("node:fs/promises")).readFile(url);
    }
    return (await fetch(url)).arrayBuffer();
  };
  return { kernel: await read("kernel.wasm"), kernel_i8: await read("kernel_i8.wasm") };
}

// ---------------------------------------------------------------- a known answer

// Whether products of bytes, at the ends of their ranges, are those of plain arithmetic.
function multipliesRight(kernel) {
  const inputs = 8, outputs = 8, width = 8, shift = 9, k = 3;
  kernel.reset();
  let seed = 1;
  const random = (low, high) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    const n = seed >>> 16;
    return n & 3 ? low + (n % (high - low + 1)) : n & 4 ? low : high;
  };
  const weights = Int16Array.from({ length: outputs * inputs * k * k }, () => random(-64, 63));
  const levels = Int8Array.from({ length: (width + k - 1) * k * inputs }, () => random(-128, 127));
  const layer = new Layer(kernel, 8, {
    mode: PLAIN, kernel: k, shuffle: 1, inputs, channels: outputs, height: 1, width, shift, half: 2048,
    weight: kernel.put(weights), bias: kernel.put(new Int16Array(outputs)), biasShift: 0, zeroPoint: 128,
  });
  const out = kernel.alloc(2 * width * outputs);
  const input = kernel.put(new Int8Array(levels.length + TILE * inputs));
  kernel.bytes(input, levels.length).set(new Uint8Array(levels.buffer));
  layer.set({
    in: input, out, bytes: 2, out_row: width * outputs, out_pixel: outputs, index: kernel.alloc(4 * TILE * BLOCK),
    table: kernel.put(Int16Array.from({ length: 4096 }, (_, n) => n - 2048)),
    box: kernel.alloc(4 * (k + 1) * (width + k - 1 + TILE)),
  });
  layer.run();
  const made = kernel.int16(out, width * outputs);
  for (let x = 0; x < width; x++) {
    for (let o = 0; o < outputs; o++) {
      let sum = 1 << (shift - 1);
      for (let i = 0; i < inputs; i++) {
        for (let at = 0; at < k * k; at++) {
          const pixel = Math.floor(at / k) * (width + k - 1) + x + (at % k);
          sum += weights[(o * inputs + i) * k * k + at] * levels[pixel * inputs + i];
        }
      }
      if (made[x * outputs + o] !== clip(sum >> shift, -2048, 2047)) return false;
    }
  }
  return true;
}

// ---------------------------------------------------------------- 9. Synthesis

// 14: table G, GELU's deficit. Its bytes are normative, not this formula: their CRC-32 is compared.
const G_CRC = 0x713491f6;
let G = null;

function geluTable(kernel) {
  const table = Uint8Array.from({ length: 4096 }, (_, m) => {
    const x = m / 1024;
    let term = x, sum = x; // of x^(2 n + 1) / (1 * 3 * ... * (2 n + 1))
    for (let n = 3; term > 1e-18; n += 2) sum += term *= (x * x) / n;
    const above = 0.5 - (Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)) * sum; // 1 - Phi(x)
    return Math.round(m * above);
  });
  if (kernel.c.crc32(kernel.put(table), table.length) >>> 0 !== G_CRC) throw new Error("table G is wrong");
  return table;
}

// 9.2: d of every table index t, -2048..2047
function deficits({ multiplier, gain }) {
  return Array.from({ length: 4096 }, (_, n) => {
    const u = ((n - 2048) * multiplier + 512) >> 10;
    const g = Math.max(u, 0) - G[Math.min(Math.abs(u), 4095)];
    return Math.floor((g * gain + 2048) / 4096); // up to 34 bits before
  });
}

const F = (zeroPoint, d) => clip(16 * zeroPoint + d, 0, 4080);
const level = (fine) => (fine + 8) >> 4;

// 9.3: the sample of every table index t, -8192..8191
function samplesOf({ multiplier }, bitDepth) {
  return Array.from({ length: 16384 }, (_, n) => {
    const sample = ((n - 8192) * multiplier + 2 ** (23 - bitDepth)) >> (24 - bitDepth);
    return clip(sample, 0, 2 ** bitDepth - 1);
  });
}

const NAMES = ["mode", "kernel", "shuffle", "inputs", "channels", "blocks", "height", "width", "shift", "half",
  "offset", "weight", "bias", "table", "in", "out", "bytes", "out_row", "out_pixel", "fine", "index", "box",
  "samples", "wide"];

// A `Layer` of kernel.c.
class Layer {
  // bits: of its operands. Of `facts`, weight and bias are levels as decoded, `inputs` the true number.
  constructor(kernel, bits, { weight, bias, biasShift, zeroPoint, ...facts }) {
    this.kernel = kernel;
    this.bits = bits;
    this.at = kernel.alloc(4 * kernel.c.layer_words());
    kernel.int32(this.at, kernel.c.layer_words()).fill(0);
    this.inputs = roundUp(facts.inputs, GROUP[bits]);
    const blocks = Math.ceil((facts.channels * facts.shuffle ** 2) / BLOCK);
    this.outputs = blocks * BLOCK;
    this.set({
      ...facts, inputs: this.inputs, blocks, bias: kernel.alloc(4 * this.outputs),
      weight: kernel.alloc((this.outputs * facts.kernel ** 2 * this.inputs * bits) / 8),
    });
    kernel.c[`pack${bits}`](this.at, weight, bias, facts.inputs, zeroPoint, biasShift);
  }

  set(fields) {
    const words = this.kernel.int32(this.at, FIELDS);
    for (const [name, value] of Object.entries(fields)) words[NAMES.indexOf(name)] = value;
  }

  run() {
    this.kernel.c[`run_layer${this.bits}`](this.at);
  }
}

// A segment's network. An Error says what is damaged, a RangeError that memory does not suffice.
export class Network {
  // segment: of hnv.js's readSegment. channels: the packed channels, with the planes that they are of.
  // bytes: whether bytes may be multiplied.
  constructor(segment, channels, bitDepth, kernel, bytes) {
    kernel.reset();
    this.kernel = kernel;
    G ??= geluTable(kernel);
    this.#readLevels(segment);
    this.#checkAccumulators(segment);
    const { layers } = segment;
    for (const layer of layers) {
      const extent = kernel.c.extent(layer.weight, layer.weights); // of the weights: low, high << 16
      layer.bits = bytes && kernel.hasBytes && (extent << 16) >> 16 >= -64 && extent >> 16 <= 63 ? 8 : 16;
    }
    this.usesBytes = layers.some(({ bits }) => bits === 8);
    this.#place(segment, channels, bitDepth);
  }

  // 6.1 Order of the coded levels
  #readLevels({ frameCount, layers, embedZeroPoint, embedTables, coded }) {
    const { kernel } = this, { c } = kernel, [stem] = layers;
    const area = stem.height * stem.width, size = stem.inputs * area;
    this.area = area;
    this.embeddingSize = size;
    this.embedding = kernel.alloc(frameCount * size);
    c.start_levels(kernel.put(coded), coded.length / 4);
    const use = ({ maxLevel, zero, decay }) => c.set_table(maxLevel, zero, decay);
    const require = (holds, message) => {
      if (!holds) throw new Error(message);
    };
    const corrupt = "coded_levels are corrupt, or an embedding level is not in 0..255";
    // 1. Embedding of the first frame: level e[0] = Z + decoded value.
    use(embedTables[0]);
    require(c.read_embedding(this.embedding, 1, size, 0, embedZeroPoint), corrupt);
    // 2. If T > 1, for each channel c: e[t][c] = e[t - 1][c] + decoded value.
    for (let n = 1; n < embedTables.length; n++) {
      use(embedTables[n]);
      const channel = this.embedding + size + (n - 1) * area;
      require(c.read_embedding(channel, frameCount - 1, area, size, -1), corrupt);
    }
    // 3. For each layer in order: its weights, then its biases.
    for (const layer of layers) {
      layer.weight = kernel.alloc(2 * layer.weights);
      layer.bias = kernel.alloc(2 * layer.outputs);
      use(layer.weightTable);
      require(c.read_levels(layer.weight, layer.weights), corrupt);
      use(layer.biasTable);
      require(c.read_levels(layer.bias, layer.outputs), corrupt);
    }
    // After the last level the coded data MUST be at its end.
    require(c.levels_end(), "coded_levels are too long");
  }

  // 9.1: the conformance rule; a layer's zeroIn is z, the zero point of its input.
  #checkAccumulators({ layers, embedZeroPoint }) {
    let z = embedZeroPoint;
    for (const layer of layers) {
      const { weight, bias, outputs, shuffle, size, biasShift, shift } = layer;
      if (!this.kernel.c.bounded(weight, bias, outputs, shuffle ** 2, size, z, biasShift, shift)) {
        throw new Error(`the accumulators of a layer (${layer.kind}) have no bound`);
      }
      layer.zeroIn = z;
      z = layer.zeroPoint ?? z;
    }
  }

  // Weights as the kernel wants them, tables, and where every layer reads and writes.
  #place({ layers }, channels, bitDepth) {
    const { kernel } = this, largest = { index: 0, box: 0, fine: 0 };
    this.layers = layers.map((layer, n) => {
      const next = layers[n + 1], { kind, height, width, shuffle: s, kernel: k } = layer;
      const mode = kind === "head" ? HEAD : kind === "residual" ? RESIDUAL : next.kind === "residual" ? FINE : PLAIN;
      // What the next layer takes from each level.
      const offset = !next ? 0 : next.bits === 8 ? 128 : next.zeroIn;
      const placed = new Layer(kernel, layer.bits, {
        mode, kernel: k, shuffle: s, inputs: layer.inputs, channels: layer.outputs, height, width,
        shift: layer.shift, half: mode === HEAD ? 8192 : 2048, offset, weight: layer.weight, bias: layer.bias,
        biasShift: layer.biasShift, zeroPoint: layer.zeroIn,
      });
      const table =
        mode === HEAD ? samplesOf(layer, bitDepth)
        : mode === RESIDUAL ? deficits(layer).map((d) => clip(d, -4080, 4080))
        : deficits(layer).map((d) => F(layer.zeroPoint, d)).map((f) => (mode === FINE ? f : level(f) - offset));
      placed.set({ table: kernel.put(Int16Array.from(table)) });
      largest.index = Math.max(largest.index, 4 * TILE * placed.outputs);
      largest.box = Math.max(largest.box, 4 * ((height + k) * (width + k - 1) + TILE));
      if (mode === FINE) largest.fine = Math.max(largest.fine, 2 * layer.outputs * s * s * height * width);
      return placed;
    });
    const shared = { index: kernel.alloc(largest.index), box: kernel.alloc(largest.box), fine: kernel.alloc(largest.fine) };
    // Inputs of the same form, as between residual layers, share two places by turns.
    const places = new Map();
    layers.forEach((layer, n) => {
      const { inputs, bits } = this.layers[n], { kernel: k, height, width, zeroIn } = layer;
      const form = [layer.inputs, bits, k, height, width, zeroIn].join();
      const both = places.get(form) ?? [];
      places.set(form, both);
      const row = (width + k - 1) * inputs, levels = (height + k - 1) * row;
      if (both.length < 2) {
        const at = kernel.alloc(((levels + TILE * inputs) * bits) / 8);
        kernel.c[`fill${bits}`](at, levels, bits === 8 ? zeroIn - 128 : 0, inputs, layer.inputs);
        both.push(at);
      } else both.push(both.shift());
      const at = both[both.length - 1], inside = (((k - 1) / 2) * (row + inputs) * bits) / 8;
      this.layers[n].set({ ...shared, in: at });
      this.layers[n - 1]?.set({ out: at + inside, bytes: bits / 8, out_row: row, out_pixel: inputs });
      layer.in = at;
    });
    const head = this.layers[this.layers.length - 1], wide = bitDepth > 8 ? 1 : 0;
    const samples = channels.reduce((end, plane) => Math.max(end, plane.at + plane.width * plane.height), 0);
    this.samples = kernel.alloc(samples * (wide + 1));
    head.set({ samples: this.samples, wide });
    const place = channels.flatMap(({ at, width, height, Q, R, r, c }) => [at, width, height, Q, R, r, c]);
    kernel.int32(head.at + 4 * FIELDS, place.length).set(place);
    const [stem] = layers;
    this.embed = (n, p, q) => {
      const e = this.embedding + n * this.embeddingSize;
      const offset = stem.bits === 8 ? 128 : stem.zeroIn;
      kernel.c[`embed${stem.bits}`](
        e, e + this.embeddingSize, p, q, stem.in, stem.inputs, this.area, this.layers[0].inputs, offset,
      );
    };
  }

  // {data: the planes' bytes, in the kernel's memory until the next call, crc: their CRC-32}
  frame(n, p, q, size) {
    this.embed(n, p, q);
    for (const layer of this.layers) layer.run();
    const crc = this.kernel.c.crc32(this.samples, size) >>> 0;
    return { data: this.kernel.bytes(this.samples, size), crc };
  }
}
