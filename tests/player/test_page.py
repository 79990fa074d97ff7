"""The player's page in a browser: from a file, and by ranges from the server."""

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from running import ROOT, Args, error_of, hnv
from test_server import ten_segments
from vectors import join, make_file, make_video, random_segment, split

from hnervcodec import Decoder
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.media.streams import read_streams
from hnervcodec.player import page, server

VECTORS = ROOT / "spec/vectors"
REAL = VECTORS / "valid/real-bunny.hnv"
READY = "globalThis.hnvPlayer && (hnvPlayer.failure || hnvPlayer.firstFrame !== undefined)"
PIXELS = """(() => {
  const screen = document.getElementById("screen"), copy = document.createElement("canvas");
  Object.assign(copy, { width: screen.width, height: screen.height });
  const context = copy.getContext("2d");
  context.drawImage(screen, 0, 0);
  return [copy.width, copy.height, [...context.getImageData(0, 0, copy.width, copy.height).data]];
})()"""
VIDEO_FRAME = """(async () => {
  const { HnvDecoder } = await import("/player/hnv.js");
  const decoder = await HnvDecoder.open("/files/ten.hnv");
  const frame = await decoder.videoFrame(3);
  return [frame.codedWidth, frame.codedHeight, frame.timestamp];
})()"""


CLICK = 2.4  # seconds
SCHEDULED = """(() => {
  window.scheduled = [];
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (at, offset) {
    scheduled.push([at - offset, this.buffer]);
    start.call(this, at, offset);
  };
})()"""
# When the first loud sample is to be heard, in the video's seconds; 0 if there is none yet.
CLICKED = """(() => {
  const { zero } = hnvPlayer.sound;
  for (const [begin, buffer] of scheduled) {
    const n = buffer.getChannelData(0).findIndex((sample) => Math.abs(sample) > 0.3);
    if (n >= 0) return zero.media + begin - zero.context + n / buffer.sampleRate;
  }
  return 0;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with Browser(tmp_path_factory.mktemp("profile"), "--enable-unsafe-swiftshader") as opened:
        yield opened


def opened(browser: Browser, folder: Path, name: str, after: str = "") -> None:
    """Opens the page of a vector; `after` its address."""
    path = folder / f"{Path(name).name}.html"
    path.write_text(page.alone((VECTORS / f"{name}.hnv").read_bytes(), name))
    browser.open("about:blank")
    browser.open(f"file://{path}{after}")
    browser.wait(READY)
    if name.startswith("valid"):
        assert not browser.run("hnvPlayer.failure")


def test_export_writes_a_page_of_the_video_and_at_most_60_kb(tmp_path: Path) -> None:
    hnv("export", REAL, "-o", tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    video = REAL.read_bytes()
    assert base64.b64encode(video).decode() in text
    encoded = sum(map(len, re.findall(r'<script type="text/plain"[^>]*>([^<]*)<', text)))
    assert len(text) - encoded + encoded * 3 // 4 - len(video) <= 60_000
    faulty = VECTORS / "faulty/serial.hnv"
    error_of(hnv("export", faulty, "-o", tmp_path / "y.html", check=False), 3)
    error_of(hnv("export", REAL, "-o", tmp_path / "y.html", "--segment", 1, check=False), 2)
    assert not (tmp_path / "y.html").exists()


def test_a_page_plays_to_the_end_and_asks_nobody(browser: Browser, tmp_path: Path) -> None:
    browser.requests.clear()
    opened(browser, tmp_path, "valid/real-bunny")
    browser.press(" ")
    browser.wait("hnvPlayer.ended")
    shown, dropped, verified = browser.run(
        "[hnvPlayer.statistics.shown, hnvPlayer.statistics.dropped,"
        " hnvPlayer.frames.verified.reduce((a, b) => a + b)]"
    )
    assert shown + dropped == 10 and shown > 3 and verified >= shown
    assert browser.errors == []
    assert not [a for a in browser.requests if not a.startswith(("file:", "blob:", "about:"))]


def test_keys_and_addresses(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, "valid/real-bunny", "#f=4")
    steps = {".": 5, "ArrowRight": 6, ",": 5, "ArrowLeft": 4, "End": 9, "Home": 0}
    for key, frame in steps.items():
        browser.press(key)
        browser.wait(f"hnvPlayer.shown === {frame}")
        assert browser.run("document.getElementById('frame').value") == str(frame)
        assert browser.run("location.hash") == f"#f={frame}"
    browser.run("location.hash = 't=0.2'")
    browser.wait("hnvPlayer.shown === 5")
    browser.run("hnvPlayer.set({ speed: 0.25 })")  # three frames between two
    browser.wait("hnvPlayer.shown === 4 * 5")
    browser.press(".")
    browser.wait("hnvPlayer.shown === 4 * 5 + 1")


@pytest.mark.slow
@pytest.mark.parametrize("renderer", ["canvas", "webgl"])
def test_pictures_are_decoder_s(browser: Browser, tmp_path: Path, renderer: str) -> None:
    for name in (
        "beside",
        "described",
        "odd-size-420",
        "yuv422-10bit",
        "yuv444-8bit",
        "yuv400-12bit",
    ):
        opened(browser, tmp_path, f"valid/{name}", f"?renderer={renderer}")
        with Decoder(VECTORS / f"valid/{name}.hnv", dimension_order="NHWC") as decoder:
            right = decoder[0].numpy().astype(int)
            display = decoder.reader.display
        right = np.rot90(right, display.rotation)
        if display.mirrored:
            right = right[:, ::-1]
        width, height, data = browser.run(PIXELS)
        assert (height, width) == right.shape[:2]
        shown = np.array(data).reshape(height, width, 4)[..., :3]
        assert np.abs(shown - right).max() <= 1, name
        assert browser.run("hnvPlayer.screen.name").lower().startswith(renderer)


def test_a_faulty_file_is_refused_and_not_shown(browser: Browser, tmp_path: Path) -> None:
    for name, kind in (
        ("cut-20", "damaged"),
        ("unknown-profile", "unsupported"),
        ("segm1-flipped", "damaged"),
        ("limit-weights", "limit"),
        ("segm-frame_crc", "damaged"),
    ):
        opened(browser, tmp_path, f"faulty/{name}")
        assert browser.wait("hnvPlayer.failure").startswith(f"{kind}: ")
        assert browser.run("document.getElementById('message').textContent").startswith(f"{kind}: ")
        wrong = re.search(r"frame (\d+) fails", browser.run("hnvPlayer.failure"))
        assert browser.run("hnvPlayer.shown ?? -1") < (int(wrong[1]) if wrong else 0)


def test_a_page_says_what_a_browser_lacks(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text(page.alone(REAL.read_bytes(), "x"))
    in_workers = """{
  const Given = Blob;
  Blob = class extends Given {
    constructor(parts, type) { super(type ? ["SCRIPT;", ...parts] : parts, type); }
  };
}"""
    for script, said in (
        ("delete Worker", "it has no Worker"),
        ("delete WebAssembly", "it has no WebAssembly"),
        ("delete DecompressionStream", "too old"),
        (in_workers.replace("SCRIPT", "delete self.WebAssembly"), "WebAssembly is not defined"),
        (
            in_workers.replace(
                "SCRIPT", "WebAssembly.compile = () => Promise.reject(Error('no SIMD'))"
            ),
            "this browser fails: no SIMD",
        ),
    ):
        with browser.before_pages(script):
            browser.open("about:blank")
            browser.open(f"file://{path}")
            text = "document.getElementById('message')?.textContent"
            browser.wait(f"{text} && !{text}.startsWith('Loading')")
            assert said in browser.run(text)
    browser.errors.clear()


def test_a_name_is_text(browser: Browser, tmp_path: Path) -> None:
    name = """</title><img src=x onerror="pwned=1"><script>pwned=2</script>'&amp;{{script}}.hnv"""
    (tmp_path / "x.html").write_text(page.alone(REAL.read_bytes(), name))
    browser.open("about:blank")
    browser.open(f"file://{tmp_path}/x.html")
    browser.wait(READY)
    told = "[document.title, document.querySelector('h1').textContent, typeof pwned]"
    assert browser.run(told) == [name, name, "undefined"]


def test_a_page_says_that_it_leaves_frames_out(browser: Browser, tmp_path: Path) -> None:
    slow = """{
  const Given = Blob;
  const wait = `if (typeof document === "undefined") {
    const send = postMessage.bind(self);
    self.postMessage = (...of) => {
      for (const end = performance.now() + 400; performance.now() < end;);
      send(...of);
    };
  }`;
  Blob = class extends Given {
    constructor(parts, type) { super(type ? [...parts, wait] : parts, type); }
  };
}"""
    video = replace(make_video(), frame_rate=Fraction(25))
    file = make_file(video, [random_segment(video, 75)])
    (tmp_path / "x.html").write_text(page.alone(file, "x"))
    with browser.before_pages(slow):
        browser.open("about:blank")
        browser.open(f"file://{tmp_path}/x.html")
        browser.wait(READY)
        browser.run("hnvPlayer.play()")
        note = "document.getElementById('notes').textContent"
        said = browser.wait(note)
    assert re.fullmatch(r"This machine shows \d+ of 2\d frames/s; the others are left out.", said)
    browser.run("hnvPlayer.pause()")
    assert browser.run(note) == ""


def test_what_is_said_of_a_step_goes_with_it(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, "valid/real-bunny")
    browser.press(".")
    notes = "document.getElementById('notes').textContent"
    assert browser.run(notes) == "Frame 1"
    browser.run("hnvPlayer.set({ speed: 0.25 })")
    browser.run("hnvPlayer.play()")
    assert browser.run(notes) == ""


def test_a_gpu_that_forgets_is_told_again(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, "valid/real-bunny", "?renderer=webgl#f=3")
    before = browser.run(PIXELS)
    browser.run("globalThis.lost = hnvPlayer.screen.gl.getExtension('WEBGL_lose_context')")
    browser.run("lost.loseContext()")
    browser.wait("hnvPlayer.screen.gl.isContextLost()")
    browser.run("lost.restoreContext()")
    browser.wait("!hnvPlayer.screen.gl.isContextLost()")
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run(PIXELS) == before


@pytest.mark.parametrize("renderer", ["canvas", "webgl"])
def test_the_widest_picture_is_right(browser: Browser, tmp_path: Path, renderer: str) -> None:
    video = replace(make_video(), width=65535, height=2)
    file = make_file(video, [random_segment(video, 1)], level=60)
    (tmp_path / "x.hnv").write_bytes(file)
    (tmp_path / "x.html").write_text(page.alone(file, "x"))
    browser.open("about:blank")
    browser.open(f"file://{tmp_path}/x.html?renderer={renderer}")
    browser.wait(READY)
    with Decoder(tmp_path / "x.hnv", dimension_order="NHWC") as decoder:
        right = decoder[0].numpy().astype(int)
    width, height, data = browser.run(PIXELS)
    shown = np.array(data).reshape(height, width, 4)[..., :3]
    assert np.abs(shown - right).max() <= 1


@pytest.mark.slow
def test_a_served_page_reads_what_it_shows(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ten.hnv"
    path.write_bytes(ten_segments())
    sent: list[int] = []
    send = server._Handler._send

    def counted(self: server._Handler, file: object, offset: int, size: int) -> None:
        sent.append(size)
        send(self, file, offset, size)  # type: ignore[arg-type]

    monkeypatch.setattr(server._Handler, "_send", counted)
    with server.PlayerServer(tmp_path) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        browser.requests.clear()
        browser.open(f"{served.address}play/ten.hnv#f=210")
        browser.wait(READY)
        assert browser.run("hnvPlayer.shown") == 210
        assert sum(sent) < 0.2 * path.stat().st_size
        assert all(a.startswith(served.address) for a in browser.requests)
        assert browser.run(VIDEO_FRAME) == [22, 14, 100_100]
        browser.run("hnvPlayer.set({ speed: 4 })")
        for frame in (399, 0, 200, 41, 39, 40, 81, 360):  # of other segments, in a hurry
            browser.run(f"hnvPlayer.seekFrame({frame})")
        browser.run("hnvPlayer.play()")
        browser.wait("hnvPlayer.ended")
        assert browser.run("hnvPlayer.shown") == 399
        browser.open(served.address)
        assert "ten.hnv" in browser.wait("document.querySelector('a')?.textContent")
        served.shutdown()


def clicking(ffmpeg: str, path: Path, codec: str) -> bytes:
    """A file of 75 frames with sound that ffmpeg wrote to `path`: a click of two milliseconds
    when frame 60 begins, what decoders delay included."""
    command: Args = [ffmpeg, "-v", "error", "-f", "lavfi"]
    click = f"if(between(t,{CLICK},{CLICK + 0.002}),sin(12566*t),0)"
    command += ["-i", f"aevalsrc='{click}':s=48000:d=3"]
    subprocess.run([*command, "-c:a", codec, path], check=True)
    streams, packets, _ = read_streams(path, Fraction(0), None, None)
    extras = SideData(75, Fraction(25), streams=streams, packets=packets)
    video = replace(make_video(), frame_rate=Fraction(25))
    prefix, (header, part, *rest) = split(make_file(video, [random_segment(video, 75)]))
    prefix = prefix[:9] + b"\1" + prefix[10:]  # minor version
    return join(prefix, [header, *extras.before_segments(), part, *extras.of_segment(0, 75), *rest])


SOUNDS = ["libopus", "aac", "libmp3lame", "libvorbis", "flac"]
SOUNDS += ["pcm_u8", "pcm_s16le", "pcm_s32le", "pcm_f32le"]


def test_sound_that_is_not_decoded_is_told_of(
    browser: Browser, ffmpeg: str, tmp_path: Path
) -> None:
    file = clicking(ffmpeg, tmp_path / "sound.mkv", "pcm_s24le")  # which Chromium dies of
    (tmp_path / "x.html").write_text(page.alone(file, "x"))
    browser.open("about:blank")
    browser.open(f"file://{tmp_path}/x.html")
    browser.wait(READY)
    said = browser.run("document.getElementById('notes').textContent")
    assert said == "Silent: this browser does not decode the sound (A_PCM/INT/LIT)."


# As another engine: what is decoded has the times of its packets, here whole milliseconds.
ROUNDED = """{
  const Given = AudioDecoder;
  AudioDecoder = class extends Given {
    constructor({ output, error }) {
      super({ error, output: (data) => output({
        numberOfFrames: data.numberOfFrames, numberOfChannels: data.numberOfChannels,
        sampleRate: data.sampleRate, timestamp: 1000 * Math.round(data.timestamp / 1000),
        copyTo: (...of) => data.copyTo(...of), close: () => data.close(),
      }) });
    }
  };
}"""


def test_sound_has_no_gaps(browser: Browser, ffmpeg: str, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text(page.alone(clicking(ffmpeg, tmp_path / "x.mkv", "aac"), "x"))
    with browser.before_pages(ROUNDED):
        browser.open("about:blank")
        browser.open(f"file://{tmp_path}/x.html")
        browser.wait(READY)
        browser.run(SCHEDULED)
        browser.run("hnvPlayer.play()")
        browser.wait("scheduled.length > 20")
        pieces = browser.run("scheduled.map(([begin, { duration }]) => [begin, duration])")
    assert all(
        abs(begin + duration - after) < 1e-6 for (begin, duration), (after, _) in pairwise(pieces)
    )


@pytest.mark.slow
@pytest.mark.parametrize("codec", SOUNDS)
def test_sound_is_in_time(browser: Browser, ffmpeg: str, tmp_path: Path, codec: str) -> None:
    file = clicking(ffmpeg, tmp_path / "sound.mkv", codec)
    (tmp_path / "x.html").write_text(page.alone(file, "x"))
    for frame in (0, 40):  # where it begins, and where decoders begin in the middle
        browser.open("about:blank")
        browser.open(f"file://{tmp_path}/x.html#f={frame}")
        browser.wait(READY)
        browser.run(SCHEDULED)
        browser.run("hnvPlayer.play()")
        assert abs(browser.wait(CLICKED) - CLICK) < 0.002
    assert browser.run("hnvPlayer.times.begin(60)") == pytest.approx(CLICK)
