"""Video edges: what ffmpeg reads from us, what we read from real encoders."""

import hashlib
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from running import EXCERPT, Args, hnv
from vectors import make_file, make_video, random_segment

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.errors import SourceError
from hnervcodec.media.frames import pixel_format
from hnervcodec.media.sinks import y4m_header
from hnervcodec.media.source import VideoSource
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import pack, packed_channels, packed_size, plane_bytes, unpack


@pytest.mark.parametrize("chroma", range(4))
@pytest.mark.parametrize("size", [(16, 8), (15, 9), (1, 1), (2, 3)])
def test_packing_is_lossless(chroma: int, size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(0)
    half = (-(-height // 2), -(-width // 2))
    shapes = {
        0: [(height, width)],
        1: [(height, width), half, half],
        2: [(height, width), (height, half[1]), (height, half[1])],
        3: [(height, width)] * 3,
    }[chroma]
    planes = tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
    packed_height, packed_width = packed_size(width, height)
    packed = pack(planes, chroma, packed_height + 3, packed_width + 2)
    assert packed.shape == (packed_channels(chroma), packed_height + 3, packed_width + 2)
    back = unpack(packed, chroma, width, height)
    assert all((a == b).all() for a, b in zip(planes, back, strict=True))


def test_packed_channel_order() -> None:
    """Luma phases row by row, then Cb, then Cr: part of the format."""
    luma = np.array([[1, 2], [3, 4]], np.uint8)
    cb, cr = np.array([[5], [6]], np.uint8), np.array([[7], [8]], np.uint8)
    assert pack((luma, cb, cr), 2, 1, 1).ravel().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_y4m_header_is_short() -> None:
    header = VideoHeader(
        65535, 65535, 1, Fraction(4294967295, 4294967294), 12, sample_aspect=(65535, 65534)
    )
    assert len(y4m_header(header)) < 80
    small = VideoHeader(176, 144, 1, Fraction(30000, 1001), sample_aspect=(128, 117))
    assert y4m_header(small) == (
        b"YUV4MPEG2 W176 H144 F30000:1001 Ip A128:117 C420jpeg XCOLORRANGE=LIMITED\n"
    )


@pytest.mark.parametrize("chroma", range(4))
@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("size", [(22, 14), (23, 15)])
def test_ffmpeg_reads_every_format(
    chroma: int, depth: int, size: tuple[int, int], tmp_path: Path, ffmpeg: str
) -> None:
    """Decoded Y4M and FFV1, through a real ffmpeg, are the planes we decoded."""
    video = make_video(*size, chroma, depth)
    path = tmp_path / "x.hnv"
    path.write_bytes(make_file(video, [random_segment(video, 3)]))
    with Decoder(path) as decoder:
        frames = decoder.frames(range(3))
        raw = b"".join(plane_bytes(planes) for _, planes in frames)
    command = [ffmpeg, "-v", "error", "-strict", "-1", "-i", "-", "-f", "rawvideo", "-"]
    y4m = hnv("decode", path, "-o", "-").stdout
    through = subprocess.run(command, input=y4m, capture_output=True, check=True)
    assert hashlib.md5(through.stdout).digest() == hashlib.md5(raw).digest()
    lossless = tmp_path / "x.mkv"
    hnv("decode", path, "-o", lossless)
    with VideoSource(lossless) as source:
        assert source.header.chroma_format == chroma and source.header.bit_depth == depth
        assert b"".join(map(plane_bytes, source.frames())) == raw
    hnv("decode", path, "-o", tmp_path / "x.mp4")
    with VideoSource(tmp_path / "x.mp4") as source:
        assert (source.header.width, source.header.height) == size
        assert sum(1 for _ in source.frames()) == 3


@pytest.mark.parametrize(
    ("wanted", "chroma", "depth"),
    [
        ("yuv420p", 1, 8),
        ("yuvj420p", 1, 8),
        ("yuv422p10le", 2, 10),
        ("yuv444p", 3, 8),
        ("gray", 0, 8),
        ("yuv420p10le", 1, 10),
        ("yuv444p12le", 3, 12),
        ("rgb24", 3, 8),
        ("nv12", 1, 8),
        ("yuv410p", 1, 8),
    ],
)
def test_sources_of_every_format(
    wanted: str, chroma: int, depth: int, tmp_path: Path, ffmpeg: str
) -> None:
    path = tmp_path / "source.nut"
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=33:21", "-frames:v", "2"]
    subprocess.run([*command, "-pix_fmt", wanted, "-c:v", "rawvideo", path], check=True)
    with VideoSource(path) as source:
        header = source.header
        assert (header.chroma_format, header.bit_depth) == (chroma, depth)
        frames = list(source.frames())
    assert len(frames) == 2 and frames[0][0].shape == (21, 33)
    if wanted == pixel_format(chroma, depth):
        command = [ffmpeg, "-v", "error", "-i", path, "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        assert raw == b"".join(map(plane_bytes, frames))


def test_skip_and_limit() -> None:
    with VideoSource(EXCERPT) as source:
        everything = list(source.frames())
    assert len(everything) == 132
    with VideoSource(EXCERPT, skip=130, limit=5) as source:
        last = list(source.frames())
    assert len(last) == 2 and (last[0][0] == everything[130][0]).all()


CODED = {  # encoder options and suffix; whether any frame can be found without all before it
    "h264.mp4": (("-c:v", "libx264", "-g", "15", "-bf", "3"), True),
    "open.mp4": (("-c:v", "libx264", "-g", "15", "-bf", "3", "-x264-params", "open-gop=1"), True),
    "hevc.mkv": (("-c:v", "libx265", "-g", "15", "-x265-params", "log-level=none"), True),
    "h264.ts": (("-c:v", "libx264", "-g", "15", "-bf", "2"), True),
    "refresh.mkv": (("-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=15"), False),
    "ffv1.mkv": (("-c:v", "ffv1"), True),
    "mpeg4.avi": (("-c:v", "mpeg4", "-g", "15"), False),
    "x.gif": ((), False),
    "%02d.png": ((), False),
}


@pytest.mark.parametrize("name", CODED)
def test_a_part_is_found_where_it_is(name: str, tmp_path: Path, ffmpeg: str) -> None:
    """Frames from an entry on are those of a decode from the beginning."""
    options, quick = CODED[name]
    path = tmp_path / name
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=64:48", "-frames:v", "60"]
    subprocess.run([*command, *options, path], check=True)
    entries, digests = [], []
    with VideoSource(path) as source:
        for planes in source.frames():
            entries.append(source.entry(planes))
            digests.append(hashlib.md5(plane_bytes(planes)).digest())
    assert len(entries) == 60
    found = 0
    for n in range(1, 60, 7):
        with VideoSource(path, skip=n, limit=5, entry=entries[n]) as source:
            entry = entries[n]
            assert entry is not None
            found += source._from_entry(entry) is not None
        with VideoSource(path, skip=n, limit=5, entry=entries[n]) as source:
            part = [hashlib.md5(plane_bytes(planes)).digest() for planes in source.frames()]
        assert part == digests[n : n + 5], n
    assert found == 9 or not quick
    wrong = (entries[20][0], entries[21][1])  # type: ignore[index]
    with VideoSource(path) as source:
        assert source._from_entry(wrong) is None
    with VideoSource(path, skip=20, limit=1, entry=wrong) as source:
        assert [hashlib.md5(plane_bytes(p)).digest() for p in source.frames()] == digests[20:21]


def test_repeated_timestamps_are_no_way_to_find_frames(tmp_path: Path, ffmpeg: str) -> None:
    """Two recordings one after the other, both of which begin with black frames."""
    joined = tmp_path / "joined.ts"
    with open(joined, "wb") as file:
        for start in (0, 40):
            part = tmp_path / f"{start}.ts"
            graph = f"[0]trim=start_frame={start},setpts=PTS-STARTPTS,scale=64:48[a];[1][a]concat"
            black = "color=black:size=64x48:rate=25:duration=1,format=yuv420p"
            command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-f", "lavfi", "-i", black]
            options: Args = ["-filter_complex", graph, "-frames:v", "50", "-c:v", "libx264", part]
            subprocess.run([*command, *options], check=True)
            file.write(part.read_bytes())
    for limit, known in ((None, 0), (10, 0)):
        scan = FileInput(str(joined), skip=60, limit=limit).scan(20, 0, lambda frames: None)
        assert scan is not None and len(scan.entries) == known
    scan = FileInput(str(EXCERPT), skip=60).scan(20, 0, lambda frames: None)
    assert scan is not None and len(scan.entries) == len(scan.lengths) > 1


def test_changed_geometry_is_refused(tmp_path: Path, ffmpeg: str) -> None:
    parts = []
    for size in ("64x48", "32x24"):
        part = tmp_path / f"{size}.h264"
        command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-s", size, "-frames:v", "3"]
        subprocess.run([*command, "-c:v", "libx264", part], check=True)
        parts.append(part.read_bytes())
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(parts))
    with VideoSource(joined) as source, pytest.raises(SourceError, match="frame 3 is 32x24"):
        list(source.frames())


def test_psnr_agrees_with_ffmpeg(tmp_path: Path, ffmpeg: str) -> None:
    coarse = tmp_path / "coarse.mkv"
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-c:v", "libx264", "-crf", "40", coarse]
    subprocess.run(command, check=True)
    command = [ffmpeg, "-i", coarse, "-i", EXCERPT, "-lavfi", "psnr", "-f", "null", "-"]
    log = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    line = next(line for line in log.splitlines() if "PSNR y:" in line)
    words = dict(word.split(":") for word in line.partition("PSNR ")[2].split())
    error = PlaneError(255)
    with VideoSource(EXCERPT) as a, VideoSource(coarse) as b:
        for x, y in zip(a.frames(), b.frames(), strict=True):
            error.add(x, y)
    for name, ours in zip("yuv", error.per_plane, strict=True):
        assert ours == pytest.approx(float(words[name]), abs=0.01)
    assert error.average == pytest.approx(float(words["average"]), abs=0.01)


def test_colour_tags_travel(tmp_path: Path) -> None:
    video = replace(
        make_video(),
        full_range=True,
        colour_primaries=1,
        transfer_characteristics=1,
        matrix_coefficients=1,
        sample_aspect=(4, 3),
    )
    path = tmp_path / "x.hnv"
    path.write_bytes(make_file(video, [random_segment(video, 1)]))
    run = hnv("decode", path, "-o", tmp_path / "x.mkv")
    assert run.stderr == b""
    with VideoSource(tmp_path / "x.mkv") as source:
        assert source.header == video
    hnv("decode", path, "-o", tmp_path / "x.mp4")
    with VideoSource(tmp_path / "x.mp4") as source:
        assert source.header.sample_aspect == (4, 3)
    assert b"A4:3 C420jpeg XCOLORRANGE=FULL" in hnv("decode", path, "-o", "-").stdout[:80]
