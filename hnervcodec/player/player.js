// The player's page: controls, the clock, and which frames are shown when. player.html has the elements.

import { Frames, Timeline } from "./frames.js";
import { HnvError, Reader } from "./hnv.js";
import { rendererFor, seenSize } from "./renderer.js";
import { Sound } from "./sound.js";

const AHEAD = 0.75; // seconds that are decoded before they are shown
const CHROMA = ["4:0:0", "4:2:0", "4:2:2", "4:4:4"];

const element = (id) => document.getElementById(id);

// 1 -> "1 frame", 1500 -> "1,500 frames"
const counted = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

// 83.456 -> 1:23.45
function clockText(seconds) {
  const hundredths = Math.floor(Math.max(0, seconds) * 100 + 1e-6);
  const rest = String(hundredths % 6000).padStart(4, "0");
  return `${Math.floor(hundredths / 6000)}:${rest.slice(0, 2)}.${rest.slice(2)}`;
}

class Player {
  shown = -1; // position on the screen
  position = 0; // wanted there
  playing = false;
  speed = 1;
  loop = false;
  between = true;
  statistics = { shown: 0, dropped: 0 };

  constructor(reader, times, display, sound, { startWorker, binaries, wanted }) {
    Object.assign(this, { reader, times, sound, size: reader.source.size, opened: performance.now() });
    this.screen = rendererFor(element("screen"), reader.video, display, wanted);
    const { aspect } = seenSize(reader.video, display);
    element("player").style.setProperty("--aspect", aspect);
    this.frames = new Frames(reader, startWorker, binaries, this.screen.form, {
      onframe: () => this.#arrived(),
      onerror: (message) => this.#fail(message),
    });
    this.#setTimeline();
  }

  // ------------------------------------------------------------ what is shown

  #setTimeline() {
    const q = this.between && this.speed < 1 ? Math.round(1 / this.speed) : 1;
    if (q === this.line?.q) return;
    this.position = this.line ? Math.floor(this.position / this.line.q) * q : 0;
    this.shown = -1;
    this.line = new Timeline(this.reader, this.times, q);
    this.frames.timeline = this.line;
  }

  get frame() {
    return Math.floor(this.position / this.line.q);
  }

  #draw(v) {
    this.screen.draw(this.frames.made.get(v));
    this.shown = v;
    this.statistics.shown++;
    if (this.firstFrame === undefined) {
      this.firstFrame = (performance.now() - this.opened) / 1000;
      message("");
      this.#update();
    }
  }

  // Frames that are worth making now, the most urgent first.
  #wanted() {
    const { line, speed } = this, { count } = line, list = [];
    let first = this.position;
    if (this.playing && this.started) {
      // The first that can still be in time.
      first = Math.max(this.shown + 1, line.at(this.#now() + this.frames.delay * speed));
    }
    const ahead = Math.ceil(AHEAD * this.times.rate * line.q * speed);
    const many = Math.min(Math.max(ahead, 8), Math.floor(this.frames.room / 2));
    for (let n = 0; n < many; n++) {
      const v = first + n;
      if (v < count) list.push(v);
      else if (this.loop) list.push(v % count);
    }
    if (!this.playing) for (const v of [first - 1, first - 2]) if (v >= 0) list.push(v);
    return list;
  }

  #arrived() {
    if (this.failure) return;
    if (!this.playing && this.shown !== this.position && this.frames.made.has(this.position)) {
      this.#draw(this.position);
    }
    this.frames.want(this.#wanted());
  }

  // A file with a fault is shown no further.
  #fail(text) {
    this.pause();
    this.failure = text;
    message(text);
    this.#update();
  }

  // ------------------------------------------------------------ the clock

  #now() {
    return this.started.media + ((performance.now() - this.started.at) / 1000) * this.speed;
  }

  #startClock(media) {
    this.started = { media, at: performance.now() };
    if (this.speed === 1) this.sound.play(() => this.#now());
  }

  #tick() {
    if (!this.playing) return;
    requestAnimationFrame(() => this.#tick());
    const { line, frames } = this;
    if (!this.started) {
      // Begin when the first frames are there.
      const few = Math.min(this.position + frames.workers.length, line.count - 1);
      frames.want(this.#wanted());
      if (!frames.made.has(this.position) || !frames.made.has(few)) return;
      if (this.shown !== this.position) this.#draw(this.position);
      this.#startClock(line.time(this.position));
      this.recent ??= this.#count();
    }
    const now = this.#now(), ended = now >= this.times.end, v = ended ? line.count - 1 : line.at(now);
    let best = v;
    while (best > this.shown && !frames.made.has(best)) best--;
    if (best > this.shown) {
      this.statistics.dropped += best - this.shown - 1;
      this.#draw(best);
    }
    this.position = v;
    this.#update();
    if (ended) this.#end();
    else {
      frames.want(this.#wanted());
      if (this.sound.drifted(now)) this.sound.play(() => this.#now());
      this.#judge();
    }
  }

  #end() {
    this.statistics.dropped += this.line.count - 1 - this.shown;
    this.ended = true;
    if (!this.loop) return this.pause();
    this.position = 0;
    this.shown = -1;
    this.started = null;
    this.sound.stop();
  }

  // Frames until now, with those left out since the last one shown.
  #count() {
    const { shown, dropped } = this.statistics;
    return { at: performance.now(), shown, dropped: dropped + Math.max(0, this.position - this.shown) };
  }

  // Says once a second whether the machine keeps up.
  #judge() {
    const { recent } = this, now = this.#count(), seconds = (now.at - recent.at) / 1000;
    if (seconds < 1) return;
    const shown = now.shown - recent.shown, dropped = Math.max(0, now.dropped - recent.dropped);
    this.recent = now;
    const slow = dropped > 0.05 * (shown + dropped);
    note("slow", slow
      ? `This machine shows ${Math.round(shown / seconds)} of ${Math.round((shown + dropped) / seconds)} frames/s; the others are left out.`
      : "");
  }

  // ------------------------------------------------------------ what people do

  play() {
    if (this.playing || this.failure) return;
    if (this.position >= this.line.count - 1) this.seek(0);
    Object.assign(this, { playing: true, started: null, ended: false, recent: null });
    note("step", "");
    this.frames.eager = true;
    this.#tick();
    this.#update();
  }

  pause() {
    if (!this.playing) return;
    this.playing = this.frames.eager = false;
    this.sound.stop();
    if (this.shown >= 0) this.position = this.shown;
    note("slow", "");
    this.#update();
    this.#remember();
  }

  // Shows a position, from a frame's number by `seekFrame`.
  seek(v) {
    this.position = Math.max(0, Math.min(this.line.count - 1, v));
    note("step", "");
    if (this.playing) Object.assign(this, { started: null, shown: -1 });
    this.sound.stop();
    if (!this.playing) this.#arrived();
    this.#update();
    this.#remember();
  }

  seekFrame(n) {
    this.seek(n * this.line.q);
  }

  step(positions) {
    this.pause();
    this.seek(this.position + positions);
    const { n, p } = this.line.frame(this.position);
    note("step", `Frame ${n}${p ? ` and ${p}/${this.line.q}` : ""}`);
  }

  seconds(by) {
    this.seek(this.line.at(this.line.time(this.position) + by));
  }

  set(settings) {
    const playing = this.playing;
    this.pause();
    Object.assign(this, settings);
    this.#setTimeline();
    this.#arrived();
    if (playing) this.play();
    this.#update();
  }

  // #f=120 or #t=1.5, seconds from the beginning.
  heedAddress() {
    const words = new URLSearchParams(location.hash.slice(1)), [f, t] = [words.get("f"), words.get("t")];
    if (f !== null && Number(f) >= 0) this.seekFrame(Math.min(Math.floor(Number(f)), this.reader.frameCount - 1));
    else if (t !== null && Number(t) >= 0) this.seek(this.line.at(this.times.start + Number(t)));
  }

  #remember() {
    try {
      history.replaceState(null, "", `#f=${this.frame}`);
    } catch {
      // Some browsers do not let local files have addresses of their own.
    }
  }

  // ------------------------------------------------------------ the page

  #update() {
    const { frame, line, times, sound } = this, last = this.reader.frameCount - 1;
    const text = clockText(line.time(this.position) - times.start);
    const play = element("play"), scrubber = element("scrubber");
    element("player").classList.toggle("playing", this.playing);
    play.ariaLabel = this.playing ? "Pause" : "Play";
    play.title = `${play.ariaLabel} (space)`;
    element("start").hidden = this.playing || this.position > 0 || this.firstFrame === undefined || Boolean(this.failure);
    element("time").textContent = text;
    if (document.activeElement !== element("frame")) element("frame").value = frame;
    scrubber.value = frame;
    scrubber.ariaValueText = `frame ${frame} of ${last}, ${text}`;
    element("loop").ariaPressed = this.loop;
    element("between").ariaPressed = this.between;
    element("mute").ariaPressed = this.sound.muted;
    element("mute").hidden = !this.sound.available;
    element("speed").value = this.speed;
    note("sound", sound.note || (sound.available && this.speed !== 1 ? "Sound is for normal speed." : ""));
    if (!element("facts").hidden) this.#tell();
  }

  facts() {
    const { reader, frames, times, statistics, size } = this, { video, frameCount } = reader;
    const seconds = times.end - times.start, verified = frames.verified.reduce((a, b) => a + b, 0);
    return {
      File: `${counted(size, "byte")}, ${counted(reader.index.length, "segment")}, level ${reader.level}`,
      Video: `${video.width} × ${video.height}, ${CHROMA[video.chromaFormat]}, ${video.bitDepth} bits, ${counted(frameCount, "frame")}, ` +
        `${+times.rate.toFixed(3)} frames/s${times.begins ? " on average" : ""}`,
      Rate: `${((8 * size) / (video.width * video.height * frameCount)).toFixed(4)} bits per pixel, ${((8 * size) / seconds / 1000).toFixed(1)} kbit/s`,
      Decoder: `${counted(frames.workers.length, "worker")}, ${frames.kernel ?? "not asked yet"}` +
        `${frames.fellBack ? " after a checksum failed with those of 8 bits" : ""}, ${this.screen.name}`,
      Speed: frames.decoded ? `up to ${frames.rate.toFixed(0)} frames/s decoded, first frame after ${this.firstFrame?.toFixed(2)} s` : "–",
      Checksums: `${verified} of ${counted(frameCount, "frame")} verified, ${this.failure ? this.failure : "none wrong"}`,
      Shown: `${counted(statistics.shown, "frame")}, ${statistics.dropped} left out`,
      Keys: "space plays; ← → or , . go a frame, j a second back, J L ten seconds back and on, Home End to the ends; < > speed; " +
        "l loop; b between; m mute; c link; i this; f full screen",
    };
  }

  #tell() {
    if (performance.now() - (this.told ?? 0) < 250 && this.playing) return;
    this.told = performance.now();
    element("facts").replaceChildren(
      ...Object.entries(this.facts()).flatMap(([name, text]) => [
        Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: text }),
      ]),
    );
  }

  wire() {
    const player = this, main = element("player");
    const on = (id, event, act) => element(id).addEventListener(event, act);
    const toggle = () => (player.playing ? player.pause() : player.play());
    const speeds = [...element("speed").options].map(({ value }) => Number(value));
    const faster = (by) => {
      const at = speeds.indexOf(player.speed) + by;
      if (at in speeds) player.set({ speed: speeds[at] });
    };
    const mute = () => {
      player.sound.muted = !player.sound.muted;
      if (player.sound.muted) player.sound.stop();
      else if (player.playing && player.speed === 1 && player.started) player.sound.play(() => player.#now());
      player.#update();
    };
    const full = () => (document.fullscreenElement ? document.exitFullscreen() : main.requestFullscreen?.());
    const info = () => {
      const facts = element("facts");
      facts.hidden = !facts.hidden;
      element("info").ariaExpanded = !facts.hidden;
      player.#update();
    };
    const share = async () => {
      const link = `${location.href.split("#")[0]}#f=${player.frame}`;
      await navigator.clipboard.writeText(link).then(() => note("step", "Link copied."), () => note("step", link));
    };
    const acts = {
      play: toggle, start: toggle, screen: toggle, back: () => player.step(-1), forward: () => player.step(1),
      loop: () => player.set({ loop: !player.loop }), between: () => player.set({ between: !player.between }),
      mute, share, info, full,
    };
    for (const [id, act] of Object.entries(acts)) on(id, "click", act);
    on("speed", "change", ({ target }) => player.set({ speed: Number(target.value) }));
    on("scrubber", "input", ({ target }) => player.seekFrame(Number(target.value)));
    on("frame", "change", ({ target }) => {
      player.pause();
      player.seekFrame(Math.floor(Number(target.value) || 0));
      target.value = player.frame;
    });
    const keys = {
      " ": toggle, k: toggle, ",": acts.back, ".": acts.forward, ArrowLeft: acts.back, ArrowRight: acts.forward,
      j: () => player.seconds(-1), J: () => player.seconds(-10), L: () => player.seconds(10),
      Home: () => player.seekFrame(0), End: () => player.seekFrame(player.reader.frameCount - 1),
      "<": () => faster(-1), ">": () => faster(1), l: acts.loop, b: acts.between, m: mute, c: share, i: info, f: full,
    };
    addEventListener("keydown", (event) => {
      const { key, target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || !(key in keys)) return;
      const typing = target.matches("#frame, select") || (target.matches("button") && key === " ");
      if (typing) return;
      event.preventDefault();
      keys[key]();
    });
    addEventListener("hashchange", () => player.heedAddress());
    let away = false;
    addEventListener("visibilitychange", () => {
      if (document.hidden && player.playing) {
        away = true;
        player.pause();
      } else if (!document.hidden && away) {
        away = false;
        player.play();
      }
    });
    const last = player.reader.frameCount - 1;
    for (const id of ["scrubber", "frame"]) element(id).max = last;
    element("count").textContent = last;
    element("length").textContent = clockText(player.times.end - player.times.start);
    for (const each of main.querySelectorAll(":disabled")) each.disabled = false;
    player.#update();
  }
}

function message(text) {
  element("message").textContent = text;
}

// What is said below the controls, by what it is about.
const notes = new Map();
function note(about, text) {
  if ((notes.get(about) ?? "") === text) return;
  notes.set(about, text);
  element("notes").textContent = [...notes.values()].filter(Boolean).join(" ");
}

// file: what Reader.open takes. startWorker: makes a Worker that runs worker.js. binaries: of the
// kernels, or nothing where workers find them. `hnvPlayer` is for whoever looks on from outside.
export async function startPlayer({ file, startWorker, binaries }) {
  try {
    for (const name of ["Worker", "WebAssembly"]) {
      if (!(name in globalThis)) throw new Error(`This browser cannot play it: it has no ${name}`);
    }
    const reader = await Reader.open(file);
    const [times, display] = await Promise.all([reader.times(), reader.display()]);
    const sound = await Sound.of(reader).catch(({ message }) => Object.assign(new Sound(), { note: `Silent: ${message}.` }));
    const wanted = new URLSearchParams(location.search).get("renderer");
    const player = new Player(reader, times, display, sound, { startWorker, binaries, wanted });
    globalThis.hnvPlayer = player;
    player.wire();
    player.heedAddress();
    if (player.position === 0) player.seek(0);
  } catch (error) {
    message(error instanceof HnvError ? `${error.kind}: ${error.message}` : String(error.message || error));
    globalThis.hnvPlayer = { failure: element("message").textContent };
  }
}
