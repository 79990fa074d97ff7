// A file's sound beside its frames, through WebCodecs: decoded a little ahead, at normal speed only.

const AHEAD = 1.5; // seconds that are decoded before they are heard
const ROUNDED = 0.005; // seconds between two pieces that belong together
const DRIFT = 0.08; // seconds between sound and frames that make it begin anew

// Matroska's CodecID -> what AudioDecoder takes: [codec, whether codec_private is its description]
const CODECS = {
  "A_OPUS": ["opus", true],
  "A_VORBIS": ["vorbis", true],
  "A_FLAC": ["flac", true],
  "A_MPEG/L3": ["mp3", false],
};

// From an AudioSpecificConfig (ISO/IEC 14496-3), whose first five bits are the type.
const aac = (stream) => [`mp4a.40.${stream.private[0] >> 3 || 2}`, true];

// By a stream's bit_depth. Not 24, of which Chromium's pages die.
const INTEGERS = { 8: "pcm-u8", 16: "pcm-s16", 32: "pcm-s32" };

function codecOf(stream) {
  if (stream.codec === "A_AAC") return aac(stream);
  if (stream.codec === "A_PCM/INT/LIT") return [INTEGERS[stream.bitDepth], false];
  if (stream.codec === "A_PCM/FLOAT/IEEE" && stream.bitDepth === 32) return ["pcm-f32", false];
  return CODECS[stream.codec] ?? [];
}

// An OpusHead that tells of no samples to leave out at the beginning (RFC 7845, pre-skip): packets have
// the times of their own first samples, and decoders begin anywhere.
function descriptionOf({ codec, private: data }) {
  if (codec !== "A_OPUS" || data.length < 12) return data;
  const changed = data.slice();
  changed.fill(0, 10, 12);
  return changed;
}

export class Sound {
  // The first stream of sound that this browser decodes; `note` says what is not heard, and why.
  static async of(reader) {
    const sound = new Sound();
    const streams = await reader.streams();
    const found = streams.map((stream, number) => ({ stream, number })).filter(({ stream }) => stream.kind === "sound");
    if (!found.length) return sound;
    for (const { stream, number } of found) {
      const [codec, described] = codecOf(stream);
      if (!codec || typeof AudioDecoder === "undefined") continue;
      const config = { codec, sampleRate: stream.sampleRate, numberOfChannels: stream.channels };
      if (described && stream.private.length) config.description = descriptionOf(stream);
      const { supported } = await AudioDecoder.isConfigSupported(config).catch(() => ({}));
      if (supported) return Object.assign(sound, { reader, streams, number, config, available: true });
    }
    sound.note = `Silent: this browser does not decode the sound (${found[0].stream.codec}).`;
    return sound;
  }

  available = false;
  note = "";
  muted = false;
  #nodes = new Set();
  #run = 0; // counts the beginnings: what belongs to an older one is dropped

  // Beside frames of which `clock` tells the time.
  async play(clock) {
    this.stop();
    if (!this.available || this.muted) return;
    const run = this.#run;
    this.context ??= new AudioContext();
    // Without a loudspeaker, or where nobody has touched the page, some browsers never answer.
    await Promise.race([this.context.resume(), new Promise((done) => setTimeout(done, 1000))]).catch(() => {});
    if (run !== this.#run) return;
    this.note = this.context.state === "running" ? "" : "Silent: this browser does not let it sound.";
    if (this.note) return;
    const begin = clock();
    this.zero = { context: this.context.currentTime, media: begin };
    const failed = () => {
      this.available = false;
      this.note = "Silent: this browser could not decode the sound.";
    };
    this.decoder = new AudioDecoder({ output: (data) => this.#hear(data, run), error: failed });
    this.decoder.configure(this.config);
    this.#feed(run, begin).catch(failed);
  }

  stop() {
    this.#run++;
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
    this.decoder = null;
    for (const node of this.#nodes) node.stop();
    this.#nodes.clear();
  }

  // Whether what is heard is not what belongs to the time `media`.
  drifted(media) {
    if (!this.decoder || this.context.state !== "running") return false;
    const heard = this.zero.media + this.context.currentTime - this.zero.context;
    return Math.abs(heard - media) > DRIFT;
  }

  async #feed(run, begin) {
    const { reader, streams, number, decoder, zero } = this;
    const times = await reader.times();
    for (let n = reader.segmentOf(times.at(begin)); n < reader.index.length; n++) {
      for (const { pts, duration, data } of await reader.packets(n, number, streams)) {
        if (pts + duration < begin - 0.1) continue;
        // Decoders count on from the first packet's time, which must not be negative. Out of Vorbis' first
        // comes no sound.
        zero.origin ??= this.config.codec === "vorbis" ? pts + duration : pts;
        while (run === this.#run && pts > this.#heard() + AHEAD) await new Promise((done) => setTimeout(done, 100));
        if (run !== this.#run) return;
        decoder.decode(new EncodedAudioChunk({
          type: "key", timestamp: Math.max(0, Math.round((pts - zero.origin) * 1e6)), duration: Math.round(duration * 1e6), data,
        }));
      }
    }
    if (run === this.#run) await decoder.flush();
  }

  #heard() {
    return this.zero.media + this.context.currentTime - this.zero.context;
  }

  #hear(data, run) {
    const { numberOfFrames, numberOfChannels, sampleRate, timestamp } = data;
    if (run !== this.#run) return data.close();
    const buffer = this.context.createBuffer(numberOfChannels, numberOfFrames, sampleRate);
    for (let channel = 0; channel < numberOfChannels; channel++) {
      data.copyTo(buffer.getChannelData(channel), { planeIndex: channel, format: "f32-planar" });
    }
    data.close();
    const { zero } = this;
    let at = zero.context + zero.origin + timestamp / 1e6 - zero.media;
    // Times may be rounded to milliseconds; gaps so short would be heard.
    if (Math.abs(at - zero.end) < ROUNDED) at = zero.end;
    zero.end = at + buffer.duration;
    const late = Math.max(0, this.context.currentTime - at);
    if (late >= buffer.duration) return;
    const node = new AudioBufferSourceNode(this.context, { buffer });
    node.connect(this.context.destination);
    node.onended = () => this.#nodes.delete(node);
    node.start(at + late, late);
    this.#nodes.add(node);
  }
}
