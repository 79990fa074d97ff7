"""See tools/quality."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont
from reference import CLIPS, ROOT, Filters, compare, read_clip, write_y4m

from hnervcodec import Decoder, VideoHeader
from hnervcodec.benchmark.other_codecs import write_libav
from hnervcodec.encoding.defaults import QUALITY
from hnervcodec.fitting.quality_target import SLOPE_BITS
from hnervcodec.media.frames import to_frame
from hnervcodec.planes import Planes
from hnervcodec.system.devices import processor_name

FOLDER, RESULTS = ROOT / "clips/quality", ROOT / "tools/results"
PRESET, QUALITIES = "fast", ("32", "35", "38", "41")
CELL = 240  # pixels of a crop in the picture
_CAMERA: Filters = (("scale", "320:240:flags=lanczos"),)


@dataclass(frozen=True)
class Piece:
    """Some frames of a real clip, and the square of a frame that is shown."""

    file: str
    filters: Filters
    frames: range  # of the clip
    crop: tuple[int, int, int]  # left, top, side; luma samples


PIECES = {
    "carphone": Piece(*CLIPS["carphone"], range(60), (30, 0, 120)),
    "bunny320": Piece(*CLIPS["bunny320"], range(66, 132), (40, 0, 120)),
    "bikes320": Piece(*CLIPS["bikes320"], range(50), (120, 4, 120)),
    "vtest320": Piece("vtest.avi", _CAMERA, range(50), (100, 40, 120)),
    "box320": Piece("box.mp4", _CAMERA, range(90, 140), (100, 80, 120)),
    "bunny640": Piece(*CLIPS["bunny640"], range(96, 120), (80, 0, 240)),
}


@dataclass(frozen=True)
class Coded:
    """What one way to encode a piece gave."""

    label: str
    frames: list[Planes]
    bytes: int


def read_piece(piece: Piece) -> tuple[VideoHeader, list[Planes]]:
    header, frames = read_clip(ROOT / "clips" / piece.file, piece.filters, piece.frames.stop)
    return header, frames[piece.frames.start :]


def y4m_of(name: str, header: VideoHeader, frames: list[Planes]) -> Path:
    path = FOLDER / f"{name}.y4m"
    if not path.exists():
        write_y4m(path, header, frames)
    return path


def path_of(name: str, quality: str) -> Path:
    return FOLDER / f"{name}-{PRESET}-{quality}.hnv"


def encode(name: str, quality: str) -> None:
    path = path_of(name, quality)
    if path.exists():
        return
    header, frames = read_piece(PIECES[name])
    command = [sys.executable, "-m", "hnervcodec", "encode"]
    command += [str(y4m_of(name, header, frames)), "-o", str(path)]
    command += ["--quality", quality, "--preset", PRESET, "--threads", "1"]
    print("hnv", *command[3:], file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


def ours(name: str, quality: str) -> Coded:
    with Decoder(path_of(name, quality)) as decoder:
        frames = [planes for _, planes in decoder.frames(range(len(decoder)))]
    return Coded(f"--quality {quality}, {PRESET}", frames, path_of(name, quality).stat().st_size)


def x265(name: str, header: VideoHeader, frames: list[Planes]) -> Coded:
    """By libx265 at its default crf of 28 and preset medium; bytes of its packets."""
    path = FOLDER / f"{name}-x265.mkv"
    write_libav(path, header, frames, "libx265", {"x265-params": "log-level=error"}, "matroska")
    with av.open(str(path)) as container:
        size = sum(packet.size for packet in container.demux(video=0))
    return Coded("x265, crf 28", read_clip(path)[1], size)


def cell(header: VideoHeader, planes: Planes, crop: tuple[int, int, int]) -> Image.Image:
    left, top, side = crop
    whole: Image.Image = to_frame(header, planes).to_image()  # type: ignore[no-untyped-call]
    part = whole.crop((left, top, left + side, top + side))
    return part.resize((CELL, CELL), Image.Resampling.BICUBIC)


def report(names: list[str], qualities: list[str]) -> None:
    """quality.jpg and quality.md in tools/results."""
    line, gap = 18, 4
    font = ImageFont.load_default(13)
    columns = len(qualities) + 2
    size = (columns * (CELL + gap) + gap, len(names) * (CELL + 2 * line + gap) + gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    rows = []
    for row, name in enumerate(names):
        piece = PIECES[name]
        header, frames = read_piece(piece)
        pixels = header.width * header.height * len(frames)
        made = {
            column: ours(name, quality)
            for column, quality in enumerate(qualities, 1)
            if path_of(name, quality).exists()
        }
        made[len(qualities) + 1] = x265(name, header, frames)
        shown = len(frames) // 2
        y = gap + row * (CELL + 2 * line + gap)
        draw.text((gap, y), name, "black", font)
        draw.text((gap, y + line), "source", "black", font)
        sheet.paste(cell(header, frames[shown], piece.crop), (gap, y + 2 * line))
        for column, coded in made.items():
            psnr = compare(header, frames, coded.frames).average
            bpp = 8 * coded.bytes / pixels
            quality = psnr + 10 * math.log10(bpp / SLOPE_BITS)
            x = gap + column * (CELL + gap)
            draw.text((x, y), coded.label, "black", font)
            draw.text((x, y + line), f"{coded.bytes:,} bytes, {psnr:.1f} dB", "black", font)
            sheet.paste(cell(header, coded.frames[shown], piece.crop), (x, y + 2 * line))
            rows.append(
                f"| {name} | {len(frames)} | {coded.label} | {coded.bytes:,} "
                f"| {bpp:.3f} | {psnr:.2f} | {quality:.1f} |"
            )
    sheet.save(RESULTS / "quality.jpg", quality=88)
    lines = [
        "# What constant qualities look like",
        "",
        f"Written by `tools/quality`. {processor_name()}, one thread. The default is {QUALITY:g}.",
        "",
        "* reached: the quality that bytes and PSNR come to, PSNR + 10 log10(bpp / 0.05).",
        "* x265, crf 28: libx265 at its own defaults, on the same scale.",
        "* Clips and qualities that are missing here were not encoded.",
        "",
        "| clip | frames | | bytes | bpp | PSNR, dB | reached |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "![crops of a frame of each](quality.jpg)",
    ]
    (RESULTS / "quality.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", default=",".join(PIECES))
    parser.add_argument("--qualities", default=",".join(QUALITIES))
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    names, qualities = given.clips.split(","), given.qualities.split(",")
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not given.report:
        for quality in qualities:
            for name in names:
                encode(name, quality)
    report(names, qualities)


if __name__ == "__main__":
    main()
