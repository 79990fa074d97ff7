"""Sources of every kind, and what of them comes back out (see `sources`).

`ROWS` are also what tests/media/test_sources.py runs. What is hard to read is in `read_sources`,
what is damaged in `damaged_sources`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import av
import damaged_sources
import imageio_ffmpeg
import read_sources

from hnervcodec.cli import cli
from hnervcodec.media.frames import side_data_of

ROOT = Path(__file__).resolve().parent.parent
EXCERPT = ROOT / "tests/data/bunny.mp4"
RESULTS = ROOT / "tools/results/sources.md"
HDR = (
    "log-level=none:colorprim=9:transfer=16:colormatrix=9:range=limited:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)
BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
JITTER = "settb=1/90000,setpts='10800+N*3003+if(mod(N,3),211,0)+if(gt(N,3),27000,0)'"


@dataclass(frozen=True)
class Row:
    """One kind of source: ffmpeg makes `name` from the excerpt with these arguments."""

    kind: str
    name: str
    arguments: list[str]
    size: str = "64x48"
    filters: str = ""  # after scaling
    sound: list[str] = field(default_factory=list)
    rotation: int = 0  # degrees anticlockwise
    mkv: str = "yuv420p"  # pixel format of FFV1
    notes: tuple[str, ...] = ()  # of what `hnv encode` must say


FFV1 = ["-c:v", "ffv1", "-pix_fmt"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast"]
AAC = ["-c:a", "aac", "-b:a", "64k", "-metadata:s:a:0", "language=deu"]
ROWS = (
    Row("8-bit 4:2:0, BT.709", "plain.mp4", X264, filters=BT709),
    Row("10-bit 4:2:0 HEVC, PQ, mastering display", "hdr.mp4",
        ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", HDR, "-pix_fmt", "yuv420p10le"],
        mkv="yuv420p10le"),
    Row("10-bit 4:2:2 ProRes", "prores.mov", ["-c:v", "prores_ks"], filters="format=yuv422p10le",
        mkv="yuv422p10le"),
    Row("8-bit 4:4:4", "yuv444.mkv", [*FFV1, "yuv444p"], mkv="yuv444p"),
    Row("12-bit 4:2:0", "yuv12.mkv", [*FFV1, "yuv420p12le"], mkv="yuv420p12le"),
    Row("8-bit RGB", "rgb.mkv", [*FFV1, "bgr0"], mkv="bgr0"),
    Row("10-bit RGB", "rgb10.mkv", [*FFV1, "gbrp10le"], mkv="gbrp10le"),
    Row("grey", "grey.mkv", [*FFV1, "gray"], mkv="gray"),
    Row("63x47, sample aspect 4:3", "odd.mkv", [*FFV1, "yuv420p"], size="63x47",
        filters="setsar=4/3"),
    Row("chroma at the top left", "site.mp4", [*X264, "-chroma_sample_location", "topleft"]),
    Row("full range, Motion JPEG", "full.avi", ["-c:v", "mjpeg"], filters="format=yuvj420p"),
    Row("phone: variable rate, late start, rotated, AAC", "phone.mp4",
        [*X264, "-fps_mode", "vfr", "-enc_time_base", "1:90000", "-video_track_timescale", "90000"],
        filters=JITTER, sound=AAC, rotation=90),
    Row("Opus, and FLAC beside it, in Matroska", "two.mkv", X264,
        sound=["-map", "1:a", "-c:a:0", "libopus", "-c:a:1", "flac"]),
    Row("interlaced", "field.mp4", [*X264, "-flags", "+ildct+ilme", "-x264-params", "tff=1"],
        filters="setfield=tff", notes=("interlaced",)),
    Row("animated GIF", "loop.gif", [], filters="fps=10", mkv="bgr0"),
    Row("one PNG", "one.png", ["-frames:v", "1"], mkv="bgr0"),
    Row("PNG sequence", "frame%05d.png", ["-start_number", "0"], mkv="bgr0"),
)  # fmt: skip


def make(row: Row, folder: Path, frames: int) -> Path:
    path = folder / row.name
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(EXCERPT)]
    if row.sound:
        command += ["-f", "lavfi", "-i", f"sine=440:duration={(frames + 12) / 25}"]
    width, height = row.size.split("x")
    filters = ",".join(filter(None, [f"scale={width}:{height}:flags=area,setsar=1", row.filters]))
    command += ["-map", "0:v", *(["-map", "1:a"] if row.sound else []), "-vf", filters]
    command += ["-frames:v", str(frames), *row.arguments, *row.sound]
    made = path.with_stem("upright") if row.rotation else path
    subprocess.run([*command, "-bitexact", str(made)], check=True)
    if row.rotation:
        command = [*command[:4], "-display_rotation", str(row.rotation), "-i", str(made)]
        command += ["-map", "0", "-c", "copy", "-video_track_timescale", "90000", str(path)]
        subprocess.run(command, check=True)
    return path


# ---------------------------------------------------------------- what a file says


def facts(path: Path) -> dict[str, Any]:
    """What libav finds in a file, without a line of ours."""
    opened: Any = av.open(str(path))
    with opened as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        first = frames[0]
        level = av.logging.get_level()
        av.logging.set_level(av.logging.VERBOSE)
        av.logging.set_libav_level(av.logging.VERBOSE)
        described = container.dumps_format()
        av.logging.set_libav_level(av.logging.INFO)
        av.logging.set_level(level)
        found: dict[str, Any] = {
            "size": (first.width, first.height),
            "format": first.format.name.replace("yuvj", "yuv"),
            "range": _range(first),
            "colours": (first.color_primaries, first.color_trc),
            "matrix": int(first.colorspace),
            "siting": re.findall(r"\b(?:left|center|topleft)\b", described),
            "aspect": stream.sample_aspect_ratio or Fraction(1),
            "rotation": first.rotation,
            "light": {
                name: numbers(data)
                for name, data in side_data_of(first).items()
                if name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
            },
            "times": [frame.pts * frame.time_base for frame in frames],
        }
    opened = av.open(str(path))
    with opened as container:
        chosen = container.streams.audio
        packets = [p for p in (container.demux(chosen) if chosen else ()) if p.size]
        found["languages"] = [stream.language or "und" for stream in chosen]
        for n, stream in enumerate(chosen):
            mine = [p for p in packets if p.stream.index == stream.index]
            found[f"sound {n}"] = [bytes(p) for p in mine]
            found[f"sound times {n}"] = [p.pts * p.time_base for p in mine]
    return found


def numbers(side_data: bytes) -> list[float]:
    """A struct of libav's: four numbers or fewer, or fractions and two flags."""
    words = struct.unpack(f"<{len(side_data) // 4}i", side_data)
    if len(words) < 22:
        return list(words)
    pairs = zip(words[:20:2], words[1:20:2], strict=True)
    return [round(numerator / denominator, 6) for numerator, denominator in pairs]


def _range(frame: Any) -> int:
    """1 limited, which is what the unspecified is taken for, 2 full."""
    is_full = frame.format.is_rgb or frame.format.name.startswith("yuvj")
    return 2 if is_full else int(frame.color_range) or 1


def milliseconds(seconds: Fraction) -> int:
    return floor(1000 * seconds + Fraction(1, 2))


def differences(row: Row, source: dict[str, Any], made: dict[str, Any], suffix: str) -> list[str]:
    """What of a source should have come back out of .mkv or .mp4 and did not."""
    wanted = dict(source)
    is_rgb = row.mkv in ("bgr0", "gbrp10le")
    wanted["format"], wanted["range"] = row.mkv, source["range"]
    wanted["matrix"] = 0 if is_rgb else 2 if source["matrix"] == 0 else source["matrix"]
    if suffix == ".mp4":
        odd = any(side % 2 for side in source["size"])
        wanted["format"] = "yuv444p" if odd else "yuv420p"
        if is_rgb:
            wanted["matrix"], wanted["range"] = 6, 1
    if not source["siting"]:
        wanted["siting"] = made["siting"]  # unspecified, for which H.264 has no word
    wrong = []
    for name, value in wanted.items():
        if name == "times" and suffix == ".mkv":
            same = list(map(milliseconds, value)) == list(map(milliseconds, made[name]))
        elif name.startswith("sound times"):  # one of the two may be in milliseconds
            pairs = zip(value, made.get(name, ()), strict=False)
            same = all(abs(a - b) <= Fraction(1, 1000) for a, b in pairs)
        else:
            same = value == made.get(name)
        if not same:
            wrong.append(f"{name}: {_short(value)} became {_short(made.get(name))}")
    return wrong


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]} ..."


# ---------------------------------------------------------------- through the codec


def hnv(*arguments: object) -> str:
    """Runs the command in this process; returns what it said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        cli.main([str(argument) for argument in arguments], standalone_mode=False)
    return said.getvalue()


def check(row: Row, folder: Path, frames: int, check_note: Callable[[str], None]) -> list[str]:
    """Makes, encodes, decodes and compares one source; what is wrong, nothing being right.
    `check_note` gets everything that was said."""
    source = make(row, folder, frames)
    coded = folder / "coded.hnv"
    said = hnv(
        "encode",
        source,
        "-o",
        coded,
        "-y",
        "--bpp",
        6,
        "--preset",
        "ultrafast",
        "--segment",
        4,
        "--threads",
        1,
    )
    wrong = [f"no note of {note}" for note in row.notes if note not in said]
    wanted = facts(source)
    for suffix in (".mkv", ".mp4"):
        out = folder / f"decoded{suffix}"
        said += hnv("decode", coded, "-o", out, "-y", "--threads", 1)
        wrong += [f"{suffix} {line}" for line in differences(row, wanted, facts(out), suffix)]
    said += hnv("decode", coded, "-o", folder / "decoded.y4m", "-y", "--threads", 1)
    with av.open(str(folder / "decoded.y4m")) as container:
        count = sum(1 for _ in container.decode(video=0))
    if count != len(wanted["times"]):
        wrong.append(f".y4m has {count} frames of {len(wanted['times'])}")
    check_note(said)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=8, help="of each source")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--damaged", type=int, metavar="N", help="only read N damaged files, and print a table"
    )
    arguments = parser.parse_args()
    if arguments.damaged:
        found = list(damaged_sources.outcomes(arguments.damaged))
        print("\n".join([asked(), "", *damaged_sources.table(found)]))
        sys.exit(any(outcome.fault for outcome in found))
    lines = [
        "# What comes back out",
        "",
        "One source per row, made by ffmpeg from the excerpt of Big Buck Bunny, encoded, and",
        "decoded to `.mkv` and `.mp4`; size, pixel format, colour codes, range, chroma siting,",
        "sample aspect, rotation, light levels, the time of every frame (in `.mkv`, which has no",
        "other, to the millisecond) and every packet of sound are compared with the source's.",
        f"Made by `tools/sources --frames {arguments.frames}`.",
        "",
        "| source | file | what was said | difference |",
        "|---|---|---|---|",
    ]
    failed = False
    for row in ROWS:
        said: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            wrong = check(row, Path(folder), arguments.frames, said.append)
        notes = [line[6:] for line in said[0].splitlines() if line.startswith("note: ")]
        seen = "; ".join(dict.fromkeys(notes)) or "-"
        lines.append(f"| {row.kind} | `{row.name}` | {seen} | {'; '.join(wrong) or 'none'} |")
        print(lines[-1], flush=True)
        failed = failed or bool(wrong)
    lines += [
        "",
        "## What is hard to read",
        "",
        "Read here and by ffmpeg itself: the stream that is chosen, its size, also when turned as",
        "it is to be shown, the samples of every frame (their number, where they are damaged or",
        "converted), the time of every frame, and every packet of sound and its time, both counted",
        "from the first frame's.",
        asked(),
        "",
    ]
    rows, is_right = read_sources.table()
    arguments.output.write_text("\n".join([*lines, *rows]) + "\n")
    sys.exit(failed or not is_right)


def asked() -> str:
    """Which ffmpeg was asked, and which libraries read here."""
    version = imageio_ffmpeg.get_ffmpeg_version()
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"Asked: ffmpeg {version}. Read here with PyAV {av.__version__} (libavcodec {codec})."


if __name__ == "__main__":
    main()
