// Puts frames on a canvas: planes by WebGL2, where a GPU does it, else RGBA that workers made.

import { isRgb, matrixOf, placesOf, siteOf } from "./colour.js";
import { planesOf } from "./hnv.js";

const VERTEX = `#version 300 es
void main() { // one triangle that covers the canvas
  gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1);
}`;

// The same filter and matrix as in colour.js, in float: within a level of it.
const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D luma, cb, cr;
uniform ivec2 size;         // of the frame, before it is turned
uniform int turns;          // quarter turns anticlockwise
uniform bool mirrored, grey, direct;
uniform vec2 halved, pace, shift; // 1 where chroma is subsampled, and the places of its samples
uniform float unit;         // of a sample, in 1/256
uniform float offset, y, rv, gu, gv, bu;
out vec4 colour;

float weight(float d) {
  return d < 1.0 ? (8.4 * d - 14.4) * d * d + 6.0 : d < 2.0 ? ((-3.6 * d + 18.0) * d - 28.8) * d + 14.4 : 0.0;
}
float fetch(usampler2D plane, ivec2 at) {
  return float(texelFetch(plane, clamp(at, ivec2(0), textureSize(plane, 0) - 1), 0).r) * unit;
}
float chroma(usampler2D plane, ivec2 at) {
  if (halved == vec2(0)) return fetch(plane, at);
  vec2 place = mix(vec2(at), pace * vec2(at) + shift, halved);
  ivec2 first = ivec2(mix(vec2(at - 1), place - 1.5, halved)); // towards 0, as swscale rounds
  float sum = 0.0, total = 0.0;
  for (int j = 0; j < 5; j++) for (int i = 0; i < 5; i++) {
    vec2 d = abs(vec2(first + ivec2(i, j)) - place);
    float w = (halved.x > 0.0 ? weight(d.x) : float(i == 1)) * (halved.y > 0.0 ? weight(d.y) : float(j == 1));
    sum += w * fetch(plane, first + ivec2(i, j));
    total += w;
  }
  return sum / total;
}
void main() {
  ivec2 seen = turns % 2 == 1 ? size.yx : size;
  ivec2 at = ivec2(gl_FragCoord.x, float(seen.y) - gl_FragCoord.y);
  if (mirrored) at.x = seen.x - 1 - at.x;
  if (turns == 1) at = ivec2(size.x - 1 - at.y, at.x);
  else if (turns == 2) at = size - 1 - at;
  else if (turns == 3) at = ivec2(at.y, size.y - 1 - at.x);
  float l = fetch(luma, at), u = grey ? 128.0 : chroma(cb, at), v = grey ? 128.0 : chroma(cr, at);
  vec3 rgb = direct ? vec3(v, l, u)
    : y * (l - 256.0 * offset) + vec3(rv * (v - 128.0), gu * (u - 128.0) + gv * (v - 128.0), bu * (u - 128.0));
  colour = vec4(rgb / 255.0, 1);
}`;

// How a frame is seen: turned, and with samples that are not square.
export function seenSize({ width, height, sampleAspect: [num, den] }, { rotation }) {
  const size = rotation % 2 ? [height, width] : [width, height];
  const aspect = (num ? (width * num) / den : width) / height;
  return { size, aspect: rotation % 2 ? 1 / aspect : aspect };
}

// Renderers without a GPU, whose time the decoder needs.
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

class GpuRenderer {
  name = "WebGL2";
  form = "planes";

  constructor(canvas, video, display, software) {
    const gl = canvas.getContext("webgl2", {
      alpha: false, antialias: false, preserveDrawingBuffer: true, failIfMajorPerformanceCaveat: !software,
    });
    if (!gl) throw new Error("no WebGL2");
    const names = gl.getExtension("WEBGL_debug_renderer_info");
    const name = names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "";
    if (!software && SOFTWARE.test(name)) throw new Error(`WebGL2 by ${name}`);
    const { size } = seenSize(video, display);
    if (Math.max(...size) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("WebGL2 of smaller pictures");
    [canvas.width, canvas.height] = size;
    Object.assign(this, { gl, video, display, planes: planesOf(video) });
    this.#prepare();
    // A GPU that is reset, or was asleep, forgets everything.
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#prepare();
      if (this.last) this.draw(this.last);
    });
  }

  #prepare() {
    const { gl, video, display } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("WebGL2 without this shader");
    gl.useProgram(program);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const uniform = (kind, name, ...values) => gl[`uniform${kind}`](gl.getUniformLocation(program, name), ...values);
    ["luma", "cb", "cr"].forEach((name, n) => {
      uniform("1i", name, n);
      gl.activeTexture(gl.TEXTURE0 + n);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
        gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
      }
      this.#fill(n, new Uint8Array(1), 1, 1, gl.R8UI, gl.UNSIGNED_BYTE);
    });
    const { width, height, chromaFormat } = video, matrix = matrixOf(video);
    uniform("2i", "size", width, height);
    uniform("1i", "turns", display.rotation);
    uniform("1i", "mirrored", display.mirrored ? 1 : 0);
    uniform("1i", "grey", chromaFormat === 0 ? 1 : 0);
    uniform("1i", "direct", isRgb(video) ? 1 : 0);
    uniform("2f", "halved", chromaFormat === 1 || chromaFormat === 2 ? 1 : 0, chromaFormat === 1 ? 1 : 0);
    const [across, down] = siteOf(video), chroma = this.planes[1] ?? this.planes[0];
    const [i, j] = [placesOf(chroma.width, width, across), placesOf(chroma.height, height, down)];
    uniform("2f", "pace", i.step, j.step);
    uniform("2f", "shift", i.shift, j.shift);
    uniform("1f", "unit", 2 ** (8 - video.bitDepth));
    for (const [name, value] of Object.entries(matrix)) uniform("1f", name, value);
    gl.viewport(0, 0, gl.canvas.width, gl.canvas.height);
  }

  #fill(n, data, width, height, internal, type) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + n);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, gl.RED_INTEGER, type, data);
  }

  // data: an ArrayBuffer of all planes
  draw(data) {
    const { gl } = this, wide = this.video.bitDepth > 8;
    this.last = data;
    const samples = wide ? new Uint16Array(data) : new Uint8Array(data);
    this.planes.forEach(({ at, width, height }, n) => {
      const plane = samples.subarray(at, at + width * height);
      this.#fill(n, plane, width, height, wide ? gl.R16UI : gl.R8UI, wide ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE);
    });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

// Where there is no GPU, or none that is quick, canvases stay with the processor.
const IN_MEMORY = { alpha: false, willReadFrequently: true };

// Whether a canvas keeps what is drawn: one that is too large stays empty, or throws something nameless.
function holds(context) {
  try {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data[0] === 255;
  } catch {
    return false;
  }
}

class CanvasRenderer {
  name = "canvas";
  form = "rgba";

  constructor(canvas, video, display) {
    this.video = video;
    [canvas.width, canvas.height] = seenSize(video, display).size;
    this.context = canvas.getContext("2d", IN_MEMORY);
    const { width, height } = video;
    if (!holds(this.context)) throw new Error(`This browser shows no pictures of ${width} × ${height}`);
    if (!display.rotation && !display.mirrored) return;
    this.upright = Object.assign(document.createElement("canvas"), { width, height });
    this.turned = this.upright.getContext("2d", IN_MEMORY);
    this.context.translate(canvas.width / 2, canvas.height / 2);
    if (display.mirrored) this.context.scale(-1, 1);
    this.context.rotate((-display.rotation * Math.PI) / 2);
    this.context.translate(-width / 2, -height / 2);
  }

  // data: an ArrayBuffer of RGBA
  draw(data) {
    const { width, height } = this.video;
    const image = new ImageData(new Uint8ClampedArray(data), width, height);
    (this.turned ?? this.context).putImageData(image, 0, 0);
    if (this.upright) this.context.drawImage(this.upright, 0, 0);
  }
}

// wanted: "canvas", "webgl" (also without a GPU), or what is best here
export function rendererFor(canvas, video, display, wanted) {
  if (wanted !== "canvas") {
    try {
      return new GpuRenderer(canvas, video, display, wanted === "webgl");
    } catch {
      // A canvas that once had another context has to be a new one.
      const fresh = canvas.cloneNode();
      canvas.replaceWith(fresh);
      canvas = fresh;
    }
  }
  return new CanvasRenderer(canvas, video, display);
}
