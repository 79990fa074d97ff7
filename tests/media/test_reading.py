"""What ffmpeg opens is read as ffmpeg reads it: conditions from public bug reports of its users."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import av
import numpy as np
import pytest
import sources
from damaged_sources import outcomes
from PIL import Image
from read_sources import KINDS, Kind, differences, with_cover
from running import ROOT, Args, error_of, hnv

from hnervcodec.bitstream.ancillary import StreamPacket
from hnervcodec.encoding.file_input import FileInput, between
from hnervcodec.encoding.file_input import Scan as FrameScan
from hnervcodec.errors import SourceError, UsageError
from hnervcodec.media.masks import read_masks
from hnervcodec.media.source import VideoSource, _native_format
from hnervcodec.media.timestamps import straighten
from hnervcodec.planes import Planes

Make = Callable[..., Path]
LOST_PACKETS = ROOT / "tests/data/hevc_lost_packets.ts"
SHIFT_JIS = b"\x83e\x83X\x83g\x93\xae\x89\xe6"  # a title


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """24 frames of 96x64 at 25 a second, lossless."""
    path = tmp_path_factory.mktemp("base") / "base.mkv"
    command: Args = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25"]
    subprocess.run([*command, "-frames:v", "24", "-c:v", "ffv1", "-g", "1", path], check=True)
    return path


@pytest.fixture
def make(base: Path, ffmpeg: str, tmp_path: Path) -> Make:
    """Makes a file of the base clip, with these arguments to ffmpeg behind it and before it."""

    def made(name: str, *arguments: object, before: tuple[object, ...] = ()) -> Path:
        path = tmp_path / name
        words = [w if isinstance(w, bytes) else str(w) for w in (*before, "-i", base, *arguments)]
        subprocess.run([ffmpeg, "-v", "error", "-y", *words, path], check=True)
        return path

    return made


SINE = ("-f", "lavfi", "-i", "sine=440:duration=0.96")
X264 = ("-c:v", "libx264", "-preset", "ultrafast")


def truth(ffmpeg: str, path: Path, *options: str) -> list[tuple[int, Fraction]]:
    """Stream and seconds of each frame or packet that ffmpeg gives out."""
    command: Args = [ffmpeg, "-v", "quiet", "-i", path, *options, "-f", "framecrc", "-"]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.decode().splitlines()
    bases = dict(re.findall(r"#tb (\d+): (\S+)", "\n".join(lines)))
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    # A packet of AVI has no presentation time.
    return [(int(r[0]), max(int(r[1]), int(r[2])) * Fraction(bases[r[0]])) for r in rows]


def scanned(source: Path, **options: object) -> tuple[FrameScan, list[Fraction], list[Fraction]]:
    """A look at a file, and the seconds of its frames and of its packets of sound."""
    file_input = FileInput(str(source), **options)  # type: ignore[arg-type]
    scan = file_input.scan(64, 0, lambda frames: None)
    assert scan is not None
    with file_input.open() as video:
        side_data, _ = file_input.side_data(video.header, scan)
        rate = video.header.frame_rate
    assert side_data is not None
    if scan.times is None:
        shown = [n / rate for n in range(sum(scan.lengths))]
    else:
        shown, at = [], scan.times.first_pts
        for duration in scan.times.durations:
            shown.append(at * scan.times.time_base)
            at += duration
    packets: list[StreamPacket] = side_data.packets
    return scan, shown, [p.pts * side_data.streams[p.stream].time_base for p in packets]


def frames_of(source: Path, **options: int) -> tuple[list[Planes], VideoSource]:
    with VideoSource(source, **options) as video:  # type: ignore[arg-type]
        return list(video.frames()), video


def near(one: list[Fraction], other: list[Fraction], tolerance: float = 0.0011) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= tolerance for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_hard_to_read(kind: Kind, tmp_path: Path) -> None:
    """Frames, times, sound and notes are those of ffmpeg's own reading."""
    assert differences(kind, tmp_path)[0] == []


def test_damaged_files_lose_nothing_in_silence() -> None:
    """Each kind of file twice, and always the same damage."""
    found = list(outcomes(26))
    assert [outcome.fault for outcome in found if outcome.fault] == []
    assert sum(outcome.whole - outcome.ours for outcome in found) > 0


# ---------------------------------------------------------------- side data and titles


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_side_data_that_nobody_knows(suffix: str, tmp_path: Path) -> None:
    """EXIF, and beside it the orientation that it holds; in masks and metrics too."""
    path = tmp_path / f"exif.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter clockwise
    Image.new("L", (32, 24), 255).save(path, exif=exif)
    frames, video = frames_of(path)
    assert len(frames) == 1 and video.display.rotation == 3
    assert next(read_masks(path, video.header))[0].all()
    assert sources.hnv("metrics", path, path) == ""  # on stderr


@pytest.mark.parametrize("name", ["t.avi", "t.mkv", "t.3gp"])
def test_titles_that_are_not_utf8(name: str, make: Make) -> None:
    path = make(name, *SINE, *X264, "-c:a", "aac", "-metadata", b"title=" + SHIFT_JIS)
    _, shown, sound = scanned(path)
    assert len(shown) == 24 and len(sound) > 40


def test_comments_of_gifs_that_are_not_utf8(tmp_path: Path) -> None:
    Image.new("P", (8, 6)).save(tmp_path / "x.gif", comment=SHIFT_JIS)
    assert len(frames_of(tmp_path / "x.gif")[0]) == 1


# ---------------------------------------------------------------- frame rates


@pytest.mark.parametrize(
    ("codec", "rate"), [("h264", 60), ("h264", 24), ("hevc", 24), ("hevc", 25), ("m2v", 24)]
)
def test_rates_of_raw_streams(codec: str, rate: int, make: Make) -> None:
    encoder = {"h264": "libx264", "hevc": "libx265", "m2v": "mpeg2video"}[codec]
    options = ("-x265-params", "log-level=none") if codec == "hevc" else ()
    path = make(f"x.{codec}", "-frames:v", 6, "-c:v", encoder, *options, before=("-r", rate))
    _, video = frames_of(path)
    assert video.header.frame_rate == rate and video.notes == []


def test_raw_streams_without_a_rate(make: Make) -> None:
    options = "log-level=none:vui-timing-info=0:vui-hrd-info=0"
    path = make("x.hevc", "-frames:v", 6, "-c:v", "libx265", "-x265-params", options)
    _, video = frames_of(path)
    assert video.header.frame_rate == 25
    assert video.notes == ["the stream does not say its frame rate: 25 frames/s are taken"]


@pytest.mark.parametrize("name", ["k.mkv", "k.flv"])
@pytest.mark.parametrize("count", [3, 24])
def test_a_rate_of_the_time_base_is_none(name: str, count: int, base: Path, tmp_path: Path) -> None:
    path, tick = tmp_path / name, Fraction(1, 1000)
    with av.open(str(base)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=1000, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = tick
        for n, frame in zip(range(count), source.decode(video=0), strict=False):
            frame.pts, frame.time_base, frame.pict_type = round(n * 1000 / 60), tick, 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with av.open(str(path)) as said:
        assert said.streams.video[0].average_rate == 1000
    frames, video = frames_of(path)
    assert len(frames) == count and video.header.frame_rate == 60


# ---------------------------------------------------------------- which stream


def test_a_cover_is_not_the_video(make: Make) -> None:
    path = make("x.wmv", *SINE, "-c:v", "wmv2", "-c:a", "wmav2")
    with_cover(path)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.width == 32
    frames, video = frames_of(path)
    assert len(frames) == 24 and video.header.width == 96 and video.header.frame_rate == 25
    assert frames_of(path, stream=0)[1].header.width == 32


def test_a_cover_alone_is_refused(make: Make) -> None:
    arguments = (*SINE, "-map", "1", "-map", "0", "-frames:v", 1, "-c:v", "png")
    path = make("x.m4a", *arguments, "-disposition:v", "attached_pic", "-c:a", "aac")
    with pytest.raises(SourceError, match="no video but a cover picture"):
        VideoSource(path)


def test_the_stream_that_ffmpeg_would_choose(make: Make, base: Path) -> None:
    graph = ("-filter_complex", "[0:v]scale=32:20,setsar=1[a]", "-map", "[a]", "-map", "0:v")
    path = make("x.mp4", *graph, *X264, "-disposition:v:0", 0, "-disposition:v:1", "default")
    frames, video = frames_of(path)
    assert len(frames) == 24 and video.header.width == 96
    chosen = "stream 1 (h264, 96x64) is coded; choose by number instead: stream 0 (h264, 32x20)"
    assert video.notes == [chosen]
    assert frames_of(path, stream=0)[1].header.width == 32
    with pytest.raises(UsageError, match=r"`stream` 2 of .* is no video: those are 0, 1"):
        VideoSource(path, stream=2)
    skip, _ = between(str(path), Fraction(1, 5), None, 1, stream=0)
    assert skip == 5
    lesser = make("y.mkv", *graph, *X264, "-disposition:v:0", "default", "-disposition:v:1", 0)
    assert frames_of(lesser)[1].header.width == 32  # the default weighs more


def test_animations_of_avif(tmp_path: Path) -> None:
    """The first stream is a still, and two are grey: the transparency."""
    pictures = [Image.new("RGBA", (32, 24), (40 * n, 80, 10, 128 + n)) for n in range(5)]
    path = tmp_path / "x.avif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    frames, video = frames_of(path)
    assert len(frames) == 5 and video.header.chroma_format == 1
    assert "stream 2 (av1, 32x24) is coded" in video.notes[0]
    assert video.notes[1:] == ["transparency is not coded"]


def box(kind: bytes, *parts: bytes, full: int | None = None) -> bytes:
    body = b"".join(parts) if full is None else struct.pack(">I", full) + b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def tiled(tile: bytes) -> bytes:
    """An AVIF of two times the picture of another, side by side (ISO/IEC 23008-12, grid)."""
    at = tile.index(b"av1C") - 4
    av1c = tile[at : at + struct.unpack(">I", tile[at : at + 4])[0]]
    pixels = tile[tile.index(b"mdat") + 4 :]
    items = [pixels, pixels, bytes([0, 0, 0, 1]) + struct.pack(">HH", 128, 64)]

    def meta(offset: int) -> bytes:
        extents = b""
        for n, data in enumerate(items, 1):
            extents += struct.pack(">HHHII", n, 0, 1, offset, len(data))
            offset += len(data)
        kinds = (b"av01", b"av01", b"grid")
        infos = [
            box(b"infe", struct.pack(">HH4s", n, 0, kind) + b"\0", full=2 << 24)
            for n, kind in enumerate(kinds, 1)
        ]
        sizes = [box(b"ispe", struct.pack(">II", width, 64), full=0) for width in (64, 128)]
        uses = struct.pack(">IHBBBHBBBHBB", 3, 1, 2, 0x81, 2, 2, 2, 0x81, 2, 3, 1, 3)
        return box(
            b"meta",
            box(b"hdlr", b"\0\0\0\0pict" + bytes(13), full=0),
            box(b"pitm", struct.pack(">H", 3), full=0),
            box(b"iloc", b"\x44\0" + struct.pack(">H", 3) + extents, full=0),
            box(b"iinf", struct.pack(">H", 3), *infos, full=0),
            box(b"iref", box(b"dimg", struct.pack(">HHHH", 3, 2, 1, 2)), full=0),
            box(b"iprp", box(b"ipco", av1c, *sizes), box(b"ipma", uses, full=0)),
            full=0,
        )

    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *items)


def test_tiles_are_refused_by_name(tmp_path: Path, ffmpeg: str) -> None:
    file, path = io.BytesIO(), tmp_path / "grid.avif"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(file, "avif")
    path.write_bytes(tiled(file.getvalue()))
    command: Args = [ffmpeg, "-v", "error", "-i", path, tmp_path / "whole.png"]
    subprocess.run(command, check=True)  # which puts them together
    assert Image.open(tmp_path / "whole.png").size == (128, 64)
    with pytest.raises(SourceError, match="picture in 2 tiles"):
        VideoSource(path)
    assert frames_of(path, stream=1)[1].header.width == 64


@pytest.mark.parametrize("tag", [b"zzzz", b"aprn"])
def test_codecs_without_a_decoder_are_named(tag: bytes, make: Make) -> None:
    path = make("x.mp4", *X264)
    path.write_bytes(path.read_bytes().replace(b"avc1", tag))
    with pytest.raises(SourceError, match="decoder for zzzz" if tag == b"zzzz" else "prores_raw"):
        VideoSource(path)


# ---------------------------------------------------------------- damage


def with_packet(path: Path, number: int, payload: Callable[[bytes], bytes]) -> Path:
    """A copy with another payload in packet `number`."""
    damaged = path.with_name(f"damaged-{path.name}")
    with av.open(str(path)) as source, av.open(str(damaged), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for n, packet in enumerate(p for p in source.demux(video=0) if p.size):
            copy = av.Packet(payload(bytes(packet)) if n == number else bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            out.mux(copy)
    return damaged


def noise(data: bytes) -> bytes:
    return np.random.default_rng(3).bytes(len(data))


CODECS = {
    "ffv1": ("-c:v", "ffv1", "-level", 3, "-slicecrc", 1, "-g", 1),
    "h264": ("-c:v", "libx264", "-g", 6, "-bf", 0),
    "mjpeg": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
}


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_packets_are_skipped_and_told(codec: str, make: Make, ffmpeg: str) -> None:
    spoil = (lambda data: bytes(len(data))) if codec == "h264" else noise
    path = with_packet(make("x.mkv", *CODECS[codec]), 9, spoil)
    scan, shown, _ = scanned(path)
    assert shown == [at for _, at in truth(ffmpeg, path, "-fps_mode", "passthrough")]
    assert len(shown) == 23 and Fraction(9, 25) not in shown
    assert scan.damage == ("the source is damaged: 1 frame with errors, 1 frame lost",)
    assert scan.damage[0] in scan.notes
    with pytest.raises(SourceError, match="is damaged"), VideoSource(path, strict=True) as video:
        list(video.frames())


def test_damaged_masks_are_refused(make: Make) -> None:
    """One that is lost would shift all others."""
    path = with_packet(make("x.mkv", *CODECS["ffv1"]), 9, noise)
    masks = read_masks(path, frames_of(path)[1].header)
    with pytest.raises(SourceError, match="is damaged"):
        list(masks)


BROADCAST = ("-c:v", "libx264", "-g", 8, "-bf", 3, "-x264-params", "open-gop=1:keyint=8")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open.ts", BROADCAST),
        ("fields.ts", ("-c:v", "libx264", "-flags", "+ildct+ilme", "-x264-params", "tff=1")),
        ("hidden.webm", ("-c:v", "libvpx", "-auto-alt-ref", 1, "-lag-in-frames", 16)),
        ("static.avi", ("-vf", "trim=end_frame=1,loop=23:1", "-c:v", "zmbv")),
    ],
)
def test_what_is_whole_is_not_called_damaged(
    name: str, options: tuple[object, ...], make: Make, ffmpeg: str
) -> None:
    path = make(name, *options)
    if name == "open.ts":  # begins between key frames, as recordings do
        data = path.read_bytes()
        path.write_bytes(data[len(data) // 188 // 3 * 188 :])
    frames, video = frames_of(path)
    assert len(frames) == len(truth(ffmpeg, path, "-fps_mode", "passthrough")) >= 8
    assert video.damage.notes() == []


def test_lost_packets_lose_no_frames(ffmpeg: str) -> None:
    """Of HEVC in MPEG-TS, of which some packets are missing."""
    frames, video = frames_of(LOST_PACKETS)
    with av.open(str(LOST_PACKETS)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == len(frames) == 23
    assert (video.damage.lost, video.damage.marred) == (1, 12)
    with (
        pytest.raises(SourceError, match="the frame at"),
        VideoSource(LOST_PACKETS, strict=True) as v,
    ):
        list(v.frames())


def test_a_lost_packet_of_the_last_frame_is_told(make: Make) -> None:
    """No time of a frame that came tells it, but those at which packets are to be decoded."""
    path = make("x.ts", "-bf", "2", "-g", "24")
    with av.open(str(path)) as container:
        demuxed = [packet for packet in container.demux(video=0) if packet.size]
        packets = [(packet.pts or 0, packet.pos or 0) for packet in demuxed]
    last, begin = max(packets)
    end = min(pos for _, pos in packets if pos > begin)  # it is not decoded last
    assert packets[-1][0] != last
    data = path.read_bytes()
    path.write_bytes(data[:begin] + data[end:])
    frames, video = frames_of(path)
    assert (len(frames), video.damage.lost) == (len(packets) - 1, 1)


def test_damage_is_told_at_the_end(make: Make) -> None:
    path = with_packet(make("x.mkv", "-vf", "scale=32:24", *CODECS["ffv1"]), 9, noise)
    out = path.with_suffix(".hnv")
    words: Args = [
        "encode",
        path,
        "-o",
        out,
        "--bpp",
        "6",
        "--preset",
        "ultrafast",
        "--limit",
        "12",
    ]
    said = sources.hnv(*words).splitlines()
    told = "the source is damaged: 1 frame with errors, 1 frame lost"
    assert f"note: {told}" in said and told in said[said.index(f"note: {told}") + 1 :]
    with pytest.raises(SourceError, match="is damaged"):
        sources.hnv(*words, "--strict", "-y", "-q")
    assert f"note: {path}: {told}" in sources.hnv("metrics", path, path)


# ---------------------------------------------------------------- time


def test_empty_frames_of_avi(make: Make, ffmpeg: str) -> None:
    select = ("-vf", "select='not(between(n,4,7))'", "-fps_mode", "passthrough", "-frames:v", 8)
    path = make("x.avi", *SINE, *select, "-c:v", "libx264", "-bf", 2, "-c:a", "pcm_s16le")
    scan, shown, sound = scanned(path)
    wanted = truth(ffmpeg, path, "-map", "0:v", "-fps_mode", "passthrough")
    assert shown == [at for _, at in wanted]
    assert [at * 25 for at in shown] == [2, 3, 4, 5, 10, 11, 12, 13] and sound[0] == 0
    assert scan.notes == ()


LATE = {
    "x.flv": ("-output_ts_offset", 3600, "-copyts"),
    "x.ts": ("-output_ts_offset", 3600, "-copyts"),
    "x.m3u8": ("-f", "hls", "-hls_time", "0.24", "-hls_list_size", 0, "-g", 6),
}


@pytest.mark.parametrize("name", LATE)
def test_late_starts(name: str, make: Make, ffmpeg: str) -> None:
    path = make(name, *SINE, *X264, "-c:a", "aac", "-shortest", *LATE[name])
    _, shown, sound = scanned(path)
    wanted = truth(ffmpeg, path, "-map", "0:v", "-map", "0:a", "-c", "copy")
    assert near(sorted(shown), sorted(at for n, at in wanted if n == 0))
    assert near(sound, [at for n, at in wanted if n == 1]) and min(shown[0], sound[0]) < 0.1


def test_joined_recordings_go_on(make: Make, ffmpeg: str) -> None:
    """`cat a.ts a.ts`: sound and picture jump back together, and go on together."""
    once = make("x.ts", *SINE, *X264, "-bf", 2, "-c:a", "aac")
    path = once.with_name("joined.ts")
    path.write_bytes(once.read_bytes() * 2)
    scan, shown, sound = scanned(path)
    wanted = truth(ffmpeg, path, "-map", "0:v", "-map", "0:a", "-c", "copy")
    assert near(sorted(shown), sorted(at for n, at in wanted if n == 0)) and len(shown) == 48
    assert near(sound, [at for n, at in wanted if n == 1])
    assert shown == sorted(set(shown)) and sound == sorted(set(sound)) and scan.notes == ()


def test_repeated_timestamps_are_moved_by_a_tick(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(base)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for n, frame in enumerate(source.decode(video=0)):
            frame.pts = n
            for packet in stream.encode(frame):
                packet.pts = packet.dts = 40 * n - 40 * (n == 5)
                packet.time_base = Fraction(1, 1000)
                out.mux(packet)
    _, shown, _ = scanned(path)
    assert [round(1000 * at) for at in shown[3:8]] == [120, 160, 161, 240, 280]


def test_timestamps_too_close_for_the_format(base: Path) -> None:
    """A tick of a nanosecond is nothing in the time base that years need."""
    with VideoSource(base) as video:
        list(video.frames())
        video._stream = SimpleNamespace(time_base=Fraction(1, 10**9))
        year = 10**9 * 365 * 86400
        video._stamps = [(0, 0), (0, 0), (year, 0)]
        assert video.times() is None
    assert video.notes[-1] == "timestamps are too close: frames come out at a constant rate"


def test_timestamps_are_straightened() -> None:
    def made(*points: int | None) -> tuple[list[int], int, int]:
        stamps, missing, moved = straighten([(at, 1) for at in points], Fraction(40))
        return [at for at, _ in stamps], missing, moved

    assert made(0, 40, 80) == ([0, 40, 80], 0, 0)
    assert made(0, 40, 40, 120) == ([0, 40, 41, 120], 0, 1)
    assert made(0, 40, 20, 60) == ([0, 40, 41, 60], 0, 1)
    assert made(0, None, 80, None) == ([0, 40, 80, 120], 2, 0)
    assert made(None, None, 80, 120) == ([0, 40, 80, 120], 2, 0)
    assert made(0, 40, 9000, 120, 160) == ([0, 40, 80, 120, 160], 0, 1)
    assert made(9000, 40, 80, 120) == ([0, 40, 80, 120], 0, 1)
    assert made(7, None) == ([7, 47], 1, 0)
    assert made(0, 0, 0, 1) == ([0, 1, 2, 3], 0, 3)


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("alpha", ["if(gt(N,3),100,255)", "255"])
def test_transparency_that_begins_later(alpha: str, make: Make) -> None:
    graph = f"format=yuva420p,geq=lum='p(X,Y)':a='{alpha}'"
    _, video = frames_of(make("x.mkv", "-vf", graph, "-c:v", "ffv1"))
    assert ("transparency is not coded" in video.notes) is (alpha != "255")


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_of_webm(codec: str, make: Make) -> None:
    graph = "format=yuva420p,colorchannelmixer=aa=0.5"
    options = ("-frames:v", 4, "-c:v", codec, "-auto-alt-ref", 0, "-pix_fmt", "yuva420p")
    _, video = frames_of(make("x.webm", "-vf", graph, *options))
    assert video.notes == ["transparency is not coded"]


@pytest.mark.parametrize(
    ("wanted", "chroma", "depth"),
    [
        ("yuv440p", 3, 8),
        ("yuvj440p", 3, 8),
        ("yuv440p10le", 3, 10),
        ("yuv411p", 2, 8),
        ("yuv410p", 1, 8),
        ("yuv420p16le", 1, 12),
        ("gray16le", 0, 12),
        ("monow", 0, 8),
        ("xyz12le", 3, 12),
        ("gbrapf32le", 3, 12),
        ("nv24", 3, 8),
        ("pal8", 3, 8),
    ],
)
def test_formats_go_where_least_is_lost(
    wanted: str, chroma: int, depth: int, make: Make, ffmpeg: str
) -> None:
    assert _native_format(wanted) == (chroma, depth)
    name, codec = {"yuv440p10le": ("x.mkv", "ffv1"), "yuvj440p": ("x.mkv", "mjpeg")}.get(
        wanted, ("x.nut", "rawvideo")
    )
    path = make(name, "-frames:v", 1, "-pix_fmt", wanted, "-c:v", codec, "-strict", -2)
    (planes,), video = frames_of(path)
    assert (video.header.chroma_format, video.header.bit_depth) == (chroma, depth)
    # ffmpeg's own conversion to that format is the same picture.
    command: Args = [ffmpeg, "-v", "error", "-i", path, "-pix_fmt", video._format]
    if wanted.startswith("yuvj"):
        command += ["-color_range", "pc", "-vf", "scale=out_range=full"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    luma = np.frombuffer(raw, planes[0].dtype)[: planes[0].size].reshape(planes[0].shape)
    assert np.abs(luma.astype(int) - planes[0]).max() <= 2 << (depth - 8)


# ---------------------------------------------------------------- pipes


def test_mp4_on_a_pipe_is_explained(make: Make, tmp_path: Path) -> None:
    path = make("x.mp4", "-vf", "scale=640:480", *X264, "-qp", 1)
    assert path.stat().st_size > 1 << 18
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        with suppress(BrokenPipeError), open(pipe, "wb") as file:
            file.write(path.read_bytes())

    feeder = Thread(target=feed)
    feeder.start()
    with pytest.raises(SourceError, match="not seekable: give the file or, of MP4, use -movflags"):
        VideoSource(pipe)
    feeder.join()
    with open(path, "rb") as file:
        run = hnv("encode", "-", "-o", tmp_path / "x.hnv", "--bpp", 1, stdin=file, check=False)
    assert "standard input is MP4, which is not seekable there" in error_of(run, 6)
