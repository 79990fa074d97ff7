"""See tools/bench_player."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
from browser import CHROMIUM, Browser

from hnervcodec.bitstream import segment
from hnervcodec.bitstream.reader import Reader
from hnervcodec.player import page
from hnervcodec.system.devices import processor_name, processors

Args = list[str | Path]
ROOT = Path(__file__).resolve().parents[1]
PLAYER = ROOT / "hnervcodec/player"
FILES = ROOT / "bench_player"
RESULTS = ROOT / "tools/results"
CLIP = ROOT / "clips/bigbuckbunny.mp4"
# name, filters, options of hnv encode
CASES = (
    ("bunny-320x160", "crop=1280:640,scale=320:160:flags=area", ("--bpp", "0.075")),
    ("bunny-640x360", "scale=640:360:flags=area", ("--bpp", "0.3", "--limit", "50")),
    ("bunny-1280x720", "null", ("--bpp", "0.15", "--limit", "50")),
)
NODE = """
import { readFileSync } from "node:fs";
const { HnvDecoder } = await import(process.argv[1]);
const file = new Uint8Array(readFileSync(process.argv[2]));
const start = performance.now(), decoder = await HnvDecoder.open(file);
await decoder.frameBytes(0);
const first = (performance.now() - start) / 1000;
for (let n = 0; n < 5; n++) await decoder.frameBytes(n % decoder.frameCount); // compiled by then
const count = Math.min(decoder.frameCount, 50), begin = performance.now();
for (let n = 0; n < count; n++) await decoder.frameBytes(n);
console.log(JSON.stringify({ first, rate: (1000 * count) / (performance.now() - begin) }));
"""
LOADED = "globalThis.hnvPlayer && (hnvPlayer.failure || hnvPlayer.firstFrame !== undefined)"
STATISTICS = """(() => {
  const { frames, statistics, firstFrame, screen } = hnvPlayer;
  const verified = frames.verified.reduce((a, b) => a + b);
  return { ...statistics, verified, firstFrame, rate: frames.rate, workers: frames.workers.length,
    kernel: frames.kernel, screen: screen.name };
})()"""


def encoded() -> list[Path]:
    """The three files, made where they are not there."""
    FILES.mkdir(exist_ok=True)
    paths = []
    for name, filters, options in CASES:
        path = FILES / f"{name}.hnv"
        paths.append(path)
        if path.exists():
            continue
        print(f"encoding {name}", file=sys.stderr, flush=True)
        source = FILES / f"{name}.mkv"
        scale: Args = ["-i", CLIP, "-an", "-vf", filters, "-c:v", "ffv1", source]
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *scale], check=True)
        command: Args = [sys.executable, "-m", "hnervcodec", "encode", source, "-o", path, "-q"]
        subprocess.run([*command, "--preset", "ultrafast", *options], check=True)
        source.unlink()
    return paths


def in_node(path: Path) -> dict[str, float]:
    """Seconds to the first frame and frames a second, with one thread."""
    command: Args = ["node", "--input-type=module", "-e", NODE, "--", PLAYER / "hnv.js", path]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(run.stdout)
    return result


def in_browser(path: Path, picture: Path | None) -> dict[str, float | str]:
    """What a page of the file says after it has played to its end; `picture`: of it playing."""
    with tempfile.TemporaryDirectory() as name:
        html = Path(name) / "page.html"
        html.write_text(page.alone(path.read_bytes(), path.name))
        with Browser(Path(name) / "profile") as browser:
            browser.look(900, 610)
            browser.open(f"file://{html}")
            browser.wait(LOADED, 60)
            browser.run("hnvPlayer.play()")
            if picture:
                time.sleep(2)
                picture.write_bytes(browser.picture())
            browser.wait("hnvPlayer.ended || hnvPlayer.failure", 120)
            assert not browser.errors, browser.errors
            requests = [a for a in browser.requests if not a.startswith(("file:", "blob:"))]
            assert not requests, requests
            result: dict[str, float | str] = browser.run(STATISTICS)
            return result


def described(path: Path) -> tuple[str, int]:
    """A file in words, and its number of frames."""
    with open(path, "rb") as file:
        reader = Reader(file)
        part = segment.read(reader.segment_payload(reader.index[0]), reader.video, reader.level)
    video = reader.video
    work = sum(spec.macs for spec in part.specs) / (video.width * video.height) / 1000
    size = f"{video.width}x{video.height}, {path.stat().st_size:,} bytes"
    return f"{size}, {work:.1f} kMAC per pixel", video.frame_count


def main() -> None:
    for program, found in (("node", shutil.which("node")), ("chromium", CHROMIUM)):
        if not found:
            sys.exit(f"bench_player: {program} is not installed: apt-get install nodejs chromium")
    paths = [Path(name).resolve() for name in sys.argv[1:]] or encoded()
    version = subprocess.run(
        [str(CHROMIUM), "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    rows = []
    said = ""
    for number, path in enumerate(paths):
        words, count = described(path)
        print(words, file=sys.stderr, flush=True)
        one = in_node(path)
        two = in_browser(path, None if number else RESULTS / "player.jpg")
        said = f"{two['workers']} workers, {two['kernel']}, {two['screen']}"
        rows.append(
            f"| {words} | {one['rate']:.1f} | {two['rate']:.1f} | {two['firstFrame']:.2f} s | "
            f"{two['shown']} of {count} | {two['dropped']} | {two['verified']} |"
        )
    text = "\n".join(
        [
            "# The player, measured",
            "",
            f"Made by `tools/bench_player` on {processors()} cores of {processor_name()}: Node "
            f"{node.strip()} with one",
            f"thread, and {version} without a GPU ({said}).",
            "The picture, [player.jpg](player.jpg), is of the first file. A page takes "
            f"{len(page.alone(b'', '').encode()):,} bytes and its video's in base64.",
            "",
            "| file | Node, frames/s | Chromium, frames/s at most | first frame | shown | left out "
            "| checksums right |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    print(text)
    (RESULTS / "player.md").write_text(text)


if __name__ == "__main__":
    main()
