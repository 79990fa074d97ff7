"""Sound and subtitles of every codec that ffmpeg's `-c copy` carries come back the same packets at
the same times, and a file that cannot hold them says so before anything is decoded."""

import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from running import Args, hnv

from hnervcodec.bitstream.ancillary import (
    SUBTITLES,
    Display,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
)
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.media import presentation
from hnervcodec.media.muxer_sink import MuxerSink
from hnervcodec.media.output_codecs import choose
from hnervcodec.media.streams import read_streams

CARRIERS = ("mkv", "mp4", "mov")
VIDEO = VideoHeader(16, 16, 1, Fraction(25), frame_count=3)
PLANES = tuple(np.full((side, side), 128, np.uint8) for side in (16, 8, 8))
SOUND = StreamInfo(1, "A_AAC", Fraction(1, 48000), "und", 48000, 2, 0, 0, 0, b"\x11\x90")
# codec, source's container, ffmpeg's options for it, which of CARRIERS hold it
TABLE = (
    ("pcm_mulaw", "mkv", "", "mkv mov"),
    ("pcm_mulaw", "mov", "", "mkv mov"),
    ("pcm_mulaw", "flv", "-ar 8000 -ac 1", "mkv mov"),
    ("pcm_alaw", "avi", "", "mkv mov"),
    ("pcm_u8", "avi", "", "mkv mov"),
    ("pcm_s8", "mov", "", "mov"),
    ("pcm_s16be", "mov", "", "mkv mp4 mov"),
    ("pcm_s16le", "avi", "", "mkv mp4 mov"),
    ("pcm_s24le", "mkv", "", "mkv mp4 mov"),
    ("pcm_f32le", "mkv", "", "mkv mp4 mov"),
    ("pcm_f32be", "mov", "", "mp4 mov"),
    ("pcm_f64be", "mp4", "", "mp4 mov"),
    ("pcm_s64le", "nut", "", "mkv"),
    ("adpcm_ms", "avi", "", "mkv"),
    ("adpcm_ima_wav", "mov", "", "mkv"),
    ("adpcm_ima_qt", "mov", "", "mov"),
    ("adpcm_swf", "flv", "", "mkv"),
    ("adpcm_yamaha", "mkv", "", "mkv"),
    ("g722", "mkv", "-ar 16000 -ac 1", "mkv"),
    ("g726", "avi", "-ar 8000 -ac 1 -b:a 32k", "mkv"),
    ("g723_1", "mov", "-ar 8000 -ac 1 -b:a 6300", "mkv"),
    ("libopencore_amrnb", "mov", "-ar 8000 -ac 1", "mkv mov"),
    ("nellymoser", "flv", "-ar 22050 -ac 1", "mov"),
    ("wmav1", "asf", "", "mkv"),
    ("wmav2", "asf", "", "mkv"),
    ("wmav2", "mkv", "", "mkv"),
    ("aac", "mp4", "", "mkv mp4 mov"),
    ("aac", "flv", "", "mkv mp4 mov"),
    ("ac3", "avi", "", "mkv mp4 mov"),
    ("eac3", "mkv", "", "mkv mp4 mov"),
    ("dca", "mkv", "-strict -2", "mkv mp4 mov"),
    ("truehd", "mkv", "-strict -2", "mkv"),
    ("mlp", "mkv", "-strict -2", "mkv"),
    ("alac", "mov", "", "mkv mp4 mov"),
    ("flac", "mkv", "", "mkv mp4"),
    ("libmp3lame", "avi", "", "mkv mp4 mov"),
    ("mp2", "asf", "", "mkv mp4 mov"),
    ("libopus", "mkv", "-ar 48000", "mkv mp4"),
    ("libvorbis", "mkv", "", "mkv mp4"),
    ("tta", "mkv", "", "mkv"),
    ("wavpack", "mkv", "", "mkv"),
    ("real_144", "mkv", "-ar 8000 -ac 1", "mkv"),
)


def packets_of(path: Path, kind: str) -> tuple[str, list[tuple[bytes, Fraction]]]:
    """libav's name of the codec of a file's first stream of sound or subtitles, and its packets."""
    with av.open(str(path)) as container:
        stream: Any = next((s for s in container.streams if s.type == kind), None)
        if stream is None:
            return "", []
        found = [
            (bytes(packet), (packet.pts or 0) * packet.time_base)
            for packet in container.demux(stream)
            if packet.size
        ]
        return stream.codec_context.name, found


def samples_of(path: Path) -> bytes:
    """What a decoder makes of a file's first stream of sound, in 16 bits."""
    resampler = av.AudioResampler("s16", "mono")
    with av.open(str(path)) as container:
        frames = [made for frame in container.decode(audio=0) for made in resampler.resample(frame)]
    return b"".join(frame.to_ndarray().tobytes() for frame in frames)


def make_source(ffmpeg: str, path: Path, codec: str, options: str) -> None:
    video = "flv" if path.suffix == ".flv" else "mpeg4"
    command: Args = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=16x16:r=25:d=0.2"]
    command += ["-f", "lavfi", "-i", "sine=d=0.3:r=44100", "-c:v", video, "-c:a", codec]
    command += ["-ac", "2", *options.split(), path]
    subprocess.run(command, check=True)


def write(path: Path, streams: list[StreamInfo], packets: list[StreamPacket]) -> list[str]:
    """Three grey frames and what goes with them; returns the notes."""
    name = path.suffix[1:]
    shown = presentation.whole(SideData(3, Fraction(25), streams=streams, packets=packets))
    sink = MuxerSink(path, VIDEO, choose(name, VIDEO, ["-c:v", "mpeg4"]), shown)
    for index in range(3):
        sink.write(index, PLANES)
    sink.close()
    return list(sink.notes)


@pytest.mark.parametrize(("codec", "container", "options", "held_by"), TABLE)
def test_packets_come_back(
    codec: str, container: str, options: str, held_by: str, ffmpeg: str, tmp_path: Path
) -> None:
    source = tmp_path / f"x.{container}"
    make_source(ffmpeg, source, codec, options)
    name, wanted = packets_of(source, "audio")
    streams, packets, notes = read_streams(source, Fraction(0), None, None)
    assert notes == [] and len(streams) == 1 and wanted
    for carrier in CARRIERS:
        notes = write(tmp_path / f"y.{carrier}", streams, packets)
        came, found = packets_of(tmp_path / f"y.{carrier}", "audio")
        if carrier not in held_by.split():
            assert found == [] and len(notes) == 1
            others = " and ".join(f".{other}" for other in held_by.split())
            assert notes[0].startswith(f".{carrier} does not hold the sound in ")
            assert f": {others} do" in notes[0]
            continue
        assert notes == []
        # MP4 has no other word for MP2 than one that it shares with MP3.
        assert came == name or (codec, carrier) == ("mp2", "mp4")
        assert b"".join(data for data, _ in found) == b"".join(data for data, _ in wanted)
        if streams[0].codec in ("A_MS/ACM", "A_QUICKTIME"):  # it knows how to decode them
            samples = samples_of(source)
            apart = len(samples) // 8 & ~7  # from the padding at both ends
            assert samples[apart:-apart] in samples_of(tmp_path / f"y.{carrier}")
        if codec.startswith("pcm") and carrier != "mkv":
            continue  # whose packets are cut anew by every reader
        assert [data for data, _ in found] == [data for data, _ in wanted]
        for (_, at), (_, meant) in zip(found, wanted, strict=True):
            assert abs(at - meant) <= Fraction(1, 1000)


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_mov_text(container: str, ffmpeg: str, tmp_path: Path) -> None:
    text, source = tmp_path / "x.srt", tmp_path / f"x.{container}"
    text.write_text("1\n00:00:00,040 --> 00:00:00,120\nhello\n\n")
    command: Args = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=16x16:r=25:d=0.2"]
    command += ["-i", text, "-c:v", "mpeg4", "-c:s", "mov_text", source]
    subprocess.run(command, check=True)
    name, wanted = packets_of(source, "subtitle")
    streams, packets, notes = read_streams(source, Fraction(0), None, None)
    assert notes == [] and streams[0].codec == "S_QUICKTIME" and name == "mov_text"
    for carrier in ("mp4", "mov"):
        assert write(tmp_path / f"y.{carrier}", streams, packets) == []
        assert packets_of(tmp_path / f"y.{carrier}", "subtitle") == (name, wanted)
    assert streams[0].time_base == Fraction(1, 1_000_000)  # a long pause is 31 bits of these
    late = [replace(packet, pts=packet.pts + 3000 * 1_000_000) for packet in packets]
    assert write(tmp_path / "z.mp4", streams, [*packets, *late]) == []
    _, found = packets_of(tmp_path / "z.mp4", "subtitle")
    assert found[-1][0] == wanted[-1][0] and found[-1][1] == wanted[-1][1] + 3000
    said = write(tmp_path / "y.mkv", streams, packets)
    assert said == [".mkv does not hold the subtitles in mov_text: .mp4 and .mov do"]


def test_through_the_commands(ffmpeg: str, tmp_path: Path) -> None:
    source, coded = tmp_path / "x.mkv", tmp_path / "x.hnv"
    make_source(ffmpeg, source, "pcm_mulaw", "")
    run = hnv("encode", source, "-o", coded, "--bpp", 8, "--preset", "ultrafast", "--limit", 3)
    assert b"lost" not in run.stderr
    assert hnv("decode", coded, "-o", tmp_path / "y.mkv").stderr == b""
    _, wanted = packets_of(source, "audio")
    _, found = packets_of(tmp_path / "y.mkv", "audio")
    assert len(found) > 0 and found == wanted[: len(found)]
    assert b"A_MS/ACM" in hnv("info", coded).stdout
    run = hnv("decode", coded, "-o", tmp_path / "y.mp4", "-q", "--", "-preset", "ultrafast")
    assert run.stderr == b""
    run = hnv("decode", coded, "-o", tmp_path / "z.mp4", "--", "-preset", "ultrafast")
    assert b"note: .mp4 does not hold the sound in pcm_mulaw: .mkv and .mov do" in run.stderr


@pytest.mark.slow
def test_inpaint_tells_it_before_it_begins(ffmpeg: str, tmp_path: Path) -> None:
    source, boxes = tmp_path / "x.mkv", tmp_path / "boxes.json"
    make_source(ffmpeg, source, "pcm_mulaw", "")
    boxes.write_text('[{"x": 2, "y": 2, "width": 4, "height": 4}]')
    options = ("--mask", boxes, "--bpp", 8, "--preset", "ultrafast", "--threads", 1)
    said = hnv("inpaint", source, "-o", tmp_path / "y.mp4", *options).stderr.decode()
    note = "note: .mp4 does not hold the sound in pcm_mulaw: .mkv and .mov do"
    assert note in said and said.index(note) < said.index("segment 1/1")


def test_what_nothing_holds_is_told(ffmpeg: str, tmp_path: Path) -> None:
    source = tmp_path / "x.mpg"
    command: Args = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=16x16:r=25:d=0.2"]
    command += ["-f", "lavfi", "-i", "sine=d=0.2:r=48000", "-c:v", "mpeg1video"]
    subprocess.run([*command, "-c:a", "pcm_dvd", "-ac", "2", source], check=True)
    streams, packets, notes = read_streams(source, Fraction(0), None, None)
    assert not streams and not packets and len(notes) == 1
    assert "(audio, pcm_dvd) is lost: neither Matroska nor MP4 nor MOV holds it" in notes[0]
    assert "-c:a flac" in notes[0]


def test_times_that_do_not_increase(tmp_path: Path) -> None:
    """MP4 wants each packet after the one before."""
    times = [0, 1024, 1024, 1000, 4096]
    packets = [StreamPacket(0, at, 0, bytes([n] * 9)) for n, at in enumerate(times)]
    assert write(tmp_path / "x.mp4", [SOUND], packets) == []
    _, found = packets_of(tmp_path / "x.mp4", "audio")
    assert [data[0] for data, _ in found] == [0, 3, 1, 2, 4]  # by their times
    assert [at * 48000 for _, at in found] == [0, 1000, 1024, 1025, 4096]


@pytest.mark.parametrize("carrier", ["mkv", "mp4"])
def test_a_first_frame_before_0(carrier: str, tmp_path: Path) -> None:
    """All comes later by as much, sound too; MP4 would not show that frame."""
    times = SegmentTimes(Fraction(1, 1000), -500, (40, 40, 40))
    packets = [StreamPacket(0, at, 1024, bytes([9] * 9)) for at in (-24000, -22976)]
    side_data = SideData(3, Fraction(25), times=times, streams=[SOUND], packets=packets)
    path = tmp_path / f"x.{carrier}"
    sink = MuxerSink(
        path, VIDEO, choose(carrier, VIDEO, ["-c:v", "mpeg4"]), presentation.whole(side_data)
    )
    for index in range(3):
        sink.write(index, PLANES)
    sink.close()
    assert sink.notes == [f".{carrier} begins with its first frame: all comes 0.5 s later"]
    _, found = packets_of(path, "video")
    assert [at for _, at in found] == [0, Fraction(1, 25), Fraction(2, 25)]
    _, found = packets_of(path, "audio")
    assert found[0][1] == 0 and abs(found[1][1] - Fraction(1024, 48000)) < Fraction(1, 1000)


def test_extreme_streams_are_left_out_or_told(tmp_path: Path) -> None:
    packet = StreamPacket(0, 0, 1024, b"x" * 9)
    last = (1 << 32) - 1
    for fields in (
        {"time_base": Fraction(1, last)},
        {"time_base": Fraction(last)},
        {"sample_rate": last},
        {"sample_rate": 1 << 31},
        {"channels": 255},
        {"codec": "A_NOTHING"},
        {"codec": "A_MS/ACM"},
        {"codec": "A_QUICKTIME"},
        {"codec": "A_QUICKTIME", "codec_private": b"\0\0\0\x08none"},
        {"codec": "A_MS/ACM", "codec_private": b"\x07\0" * 9},
        {"codec_delay": (1 << 63) - 1},
        {"kind": SUBTITLES, "codec": "S_QUICKTIME", "codec_private": b"\0\0\0\x04text"},
    ):
        info = replace(SOUND, **fields)
        for carrier in CARRIERS:
            notes = write(tmp_path / f"x.{carrier}", [info], [packet])
            _, found = packets_of(tmp_path / f"x.{carrier}", "audio")
            assert found or notes, (fields, carrier)
            assert all("does not hold the" in note for note in notes)


def test_display_is_amended_beside_sound(tmp_path: Path) -> None:
    """A track that is renamed and one that gets a shape, in one file."""
    source = replace(VIDEO, sample_aspect=(4, 3))
    private = bytes.fromhex("0700010044ac000044ac0000010008000000")  # mu-law
    info = StreamInfo(1, "A_MS/ACM", Fraction(1, 44100), "deu", 44100, 1, codec_private=private)
    packets = [StreamPacket(0, 0, 1000, bytes(1000))]
    shown = replace(
        presentation.constant(VIDEO.frame_rate, Display()), streams=[info], packets=packets
    )
    sink = MuxerSink(tmp_path / "x.mkv", source, choose("mkv", source), shown)
    sink.write(0, PLANES)
    sink.close()
    with av.open(str(tmp_path / "x.mkv")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert container.streams.audio[0].metadata["language"] == "deu"
        assert "title" not in container.streams.audio[0].metadata
    assert packets_of(tmp_path / "x.mkv", "audio") == ("pcm_mulaw", [(bytes(1000), Fraction(0))])
