"""Sources that are hard to read: what we read of them, beside what ffmpeg does (`tools/sources`).

`KINDS` are also what tests/media/test_reading.py runs.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from hnervcodec.bitstream.ancillary import AUDIO
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.media.frames import frame_format
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import plane_bytes

CLIP = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.96"]
SINE = ["-f", "lavfi", "-i", "sine=440:duration=0.96"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "6"]
SHIFT_JIS = b"title=\x83e\x83X\x83g\x93\xae\x89\xe6"
TOLERANCE = Fraction(11, 10_000)  # seconds: a tick of Matroska, and some rounding


@dataclass(frozen=True)
class Kind:
    """A kind of source: ffmpeg makes `name` with these arguments, and then `edit` may change it."""

    kind: str
    name: str
    arguments: list[str | bytes]
    edit: Callable[[Path], None] | None = None
    note: str = ""  # part of what must be said; "": nothing
    rate: Fraction = Fraction(25)
    options: tuple[str, ...] = ()  # of ffmpeg's own reading


def run_ffmpeg(*arguments: str | bytes | Path) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def with_cover(path: Path) -> None:
    """Puts a cover before the streams of a .wmv, where ffmpeg itself does not write one."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "jpeg")
    picture, data = file.getvalue(), bytearray(path.read_bytes())
    texts = "image/jpeg\0\0".encode("utf-16le")  # and no description
    value = b"\x03" + struct.pack("<I", len(picture)) + texts + picture
    name = "WM/Picture\0".encode("utf-16le")
    body = struct.pack("<HH", 1, len(name)) + name + struct.pack("<HH", 1, len(value)) + value
    guid = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")  # Extended Content Description
    added = guid + struct.pack("<Q", 24 + len(body)) + body
    size, objects = struct.unpack_from("<QI", data, 16)
    struct.pack_into("<QI", data, 16, size + len(added), objects + 1)
    data[30:30] = added
    path.write_bytes(data)


def with_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    with Image.open(path) as image:
        image.save(path, exif=exif)


def spoil(path: Path) -> None:
    """Noise over 200 bytes of a packet."""
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 200] = np.random.default_rng(3).bytes(200)
    path.write_bytes(data)


LATE: list[str | bytes] = ["-output_ts_offset", "3600", "-copyts"]
SOUND: list[str | bytes] = [*SINE, *X264, "-c:a", "aac"]
TWO = ["-filter_complex", "[0:v]scale=32:20,setsar=1[a]", "-map", "[a]", "-map", "0:v"]
TWO += ["-disposition:v:0", "0", "-disposition:v:1", "default"]
ALPHA = "format=yuva420p,geq=lum='p(X,Y)':a='if(gt(N,3),100,255)'"
KINDS = (
    Kind("EXIF, turned", "exif.jpg", ["-frames:v", "1"], with_exif),
    Kind("title in Shift JIS, AVI", "title.avi", [*SOUND, "-bf", "0", "-metadata", SHIFT_JIS]),
    Kind("title in Shift JIS, 3GP", "title.3gp", [*SOUND, "-metadata", SHIFT_JIS]),
    Kind("raw H.264, 60 frames/s", "raw.h264", ["-vf", "setpts=N/60/TB", "-r", "60", *X264],
         rate=Fraction(60)),
    Kind("raw HEVC, 24 frames/s", "raw.hevc",
         ["-r", "24", "-c:v", "libx265", "-x265-params", "log-level=none"], rate=Fraction(24)),
    Kind("cover before the video", "cover.wmv", [*SINE, "-c:v", "wmv2", "-c:a", "wmav2"],
         with_cover),
    Kind("two videos", "two.mkv", [*TWO, *X264], note="stream 1 (h264, 96x64) is coded"),
    Kind("damaged H.264 in MPEG-TS", "bad.ts", SOUND, spoil, note="is damaged"),
    Kind("damaged FFV1 in Matroska", "bad.mkv",
         ["-c:v", "ffv1", "-level", "3", "-slicecrc", "1", "-g", "1"], spoil, note="is damaged"),
    Kind("damaged Motion JPEG in AVI", "bad.avi", ["-c:v", "mjpeg", "-q:v", "2"], spoil,
         note="is damaged"),
    Kind("AVI with empty frames", "gap.avi",
         [*SINE, "-vf", "select='not(between(n,4,7))'", "-fps_mode", "passthrough",
          "-c:v", "libx264", "-bf", "2", "-c:a", "pcm_s16le"]),
    Kind("FLV an hour late", "late.flv", [*SOUND, *LATE]),
    Kind("MPEG-TS an hour late", "late.ts", [*SOUND, *LATE]),
    Kind("HLS", "late.m3u8", [*SOUND, "-f", "hls", "-hls_time", "0.24", "-hls_list_size", "0"]),
    Kind("MPEG-TS after MPEG-TS", "joined.ts", SOUND, twice),
    Kind("4:4:0", "yuv440.mkv", ["-pix_fmt", "yuv440p", "-c:v", "ffv1"],
         note="yuv440p is converted to yuv444p"),
    Kind("transparent from the fifth frame on", "alpha.mkv", ["-vf", ALPHA, "-c:v", "ffv1"],
         note="transparency is not coded"),
    Kind("transparent VP9", "alpha.webm",
         ["-vf", ALPHA, "-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-pix_fmt", "yuva420p"],
         note="transparency is not coded", options=("-c:v", "vp9")),
)  # fmt: skip


def make(kind: Kind, folder: Path) -> Path:
    """The file of a kind of source."""
    path = folder / kind.name
    run_ffmpeg(*CLIP, *kind.arguments, "-bitexact", path)
    if kind.edit:
        kind.edit(path)
    return path


@dataclass(frozen=True)
class Read:
    """What is read of a source: size, the size when it is shown upright, digests and seconds of its
    frames, and the same of its sound. Seconds count from the first frame."""

    size: tuple[int, int]
    upright: tuple[int, int]
    frames: list[str]
    times: list[Fraction]
    sound: list[str]
    sound_times: list[Fraction]


def by_ffmpeg(path: Path, pixel_format: str, options: tuple[str, ...]) -> Read:
    """As ffmpeg reads it, not turned, frames in a pixel format and sound as it is."""
    frames = ("-pix_fmt", pixel_format, "-fps_mode", "passthrough", "-enc_time_base", "demux")
    sound: tuple[str, ...] = ("-c:a", "copy")
    if path.suffix in (".ts", ".m3u8"):  # where its AAC has headers, which are not carried
        sound += ("-bsf:a", "aac_adtstoasc")
    text = run_ffmpeg(
        *options, "-noautorotate", "-i", path, *frames, *sound, "-f", "framemd5", "-"
    ).decode()
    turned = run_ffmpeg(*options, "-i", path, "-frames:v", "1", "-f", "framemd5", "-").decode()
    bases = dict(re.findall(r"#tb (\d+): (\S+)", text))
    rows = [re.split(r",\s*", line) for line in text.splitlines() if not line.startswith("#")]
    # A packet of AVI has no presentation time.
    seconds = [max(int(row[1]), int(row[2])) * Fraction(bases[row[0]]) for row in rows]
    of_video = [(row[5], at) for row, at in zip(rows, seconds, strict=True) if row[0] == "0"]
    of_sound = [(row[5], at) for row, at in zip(rows, seconds, strict=True) if row[0] != "0"]
    zero = of_video[0][1] if of_video else Fraction(0)
    return Read(
        _size(text),
        _size(turned),
        [digest for digest, _ in of_video],
        [at - zero for _, at in of_video],
        [digest for digest, _ in of_sound],
        [at - zero for _, at in of_sound],
    )


def _size(text: str) -> tuple[int, int]:
    """Of the pictures in framemd5's output."""
    found = re.search(r"#dimensions 0: (\d+)x(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def by_us(path: Path) -> tuple[Read, Fraction, str, tuple[str, ...]]:
    """As we read it; with the frame rate, the pixel format and the notes."""
    file_input = FileInput(str(path))
    with VideoSource(path) as video:
        frames = [hashlib.md5(plane_bytes(planes)).hexdigest() for planes in video.frames()]
    scan = file_input.scan(64, 0, lambda frames: None)
    assert scan is not None
    side_data, _ = file_input.side_data(video.header, scan)
    assert side_data is not None
    rate = video.header.frame_rate
    times, at = [], Fraction(scan.times.first_pts if scan.times else 0)
    base = scan.times.time_base if scan.times else 1 / rate
    for duration in scan.times.durations if scan.times else [1] * len(frames):
        times.append(at * base)
        at += duration
    streams, packets = side_data.streams, side_data.packets
    sound = [p for p in packets if streams[p.stream].kind == AUDIO]
    zero = times[0]
    size = video.header.width, video.header.height
    found = Read(
        size,
        size[::-1] if scan.display.rotation % 2 else size,
        frames,
        [at - zero for at in times],
        [hashlib.md5(p.data).hexdigest() for p in sound],
        [p.pts * streams[p.stream].time_base - zero for p in sound],
    )
    return found, rate, frame_format(video.header), scan.notes


def differences(kind: Kind, folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """What is wrong with how we read a kind of source, nothing being right; and our notes."""
    path = make(kind, folder)
    ours, rate, pixel_format, notes = by_us(path)
    theirs = by_ffmpeg(path, pixel_format, kind.options)
    wrong = []
    if rate != kind.rate:
        wrong.append(f"{rate} frames/s of {kind.rate}")
    if kind.note not in "; ".join(notes) or (notes and not kind.note):
        wrong.append(f"notes: {'; '.join(notes) or 'none'}")
    # Versions of ffmpeg differ in what they make of damage, and in how they convert.
    is_other = any("converted" in note or "damaged" in note for note in notes)
    for name in ("size", "upright", "frames", "times", "sound", "sound_times"):
        mine, wanted = getattr(ours, name), getattr(theirs, name)
        if name.endswith("times"):
            near = all(abs(a - b) <= TOLERANCE for a, b in zip(mine, wanted, strict=False))
            is_same = len(mine) == len(wanted) and near
        elif name == "frames" and is_other:
            is_same = len(mine) == len(wanted)
        else:
            is_same = mine == wanted
        if not is_same:
            wrong.append(f"{name}: {str(mine)[:80]}, ffmpeg has {str(wanted)[:80]}")
    return wrong, notes


def table() -> tuple[list[str], bool]:
    """Markdown, and whether all is right."""
    import tempfile

    lines = ["| source | file | what was said | difference |", "|---|---|---|---|"]
    is_right = True
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            wrong, notes = differences(kind, Path(folder))
        is_right = is_right and not wrong
        said = "; ".join(notes) or "-"
        lines.append(f"| {kind.kind} | `{kind.name}` | {said} | {'; '.join(wrong) or 'none'} |")
        print(lines[-1], flush=True)
    return lines, is_right
