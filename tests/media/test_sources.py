"""Nothing is lost at the edges: sources of every kind, against what comes back out of them."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import refdec
import sources
from beside import EXTRAS, FAULTS, INFO, SOUND, TIMES, faulty_file, file_with
from running import Args, hnv
from sources import ROWS, Row, facts, make
from vectors import join, split

from hnervcodec.bitstream import joining
from hnervcodec.bitstream.ancillary import (
    SUBTITLES,
    Display,
    PacketTable,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
    read_packets,
    read_times,
    write_packets,
    write_times,
)
from hnervcodec.bitstream.fields import ByteReader
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.bitstream.timing import VariableTimes, times_of
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.decoding.selection import retimed
from hnervcodec.errors import FileError
from hnervcodec.media.matroska import read_header, write_header
from hnervcodec.media.muxer_sink import MuxerSink
from hnervcodec.media.output_codecs import choose
from hnervcodec.media.presentation import constant
from hnervcodec.media.source import VideoSource
from hnervcodec.media.streams import coarsened, read_streams
from hnervcodec.planes import plane_bytes

BY_NAME = {row.name: row for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_source_comes_back(row: Row, tmp_path: Path) -> None:
    said: list[str] = []
    assert sources.check(row, tmp_path, 5, said.append) == []


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source of variable rate with sound, and its `.hnv` of two segments."""
    folder = tmp_path_factory.mktemp("phone")
    source = make(BY_NAME["phone.mp4"], folder, 10)
    sources.hnv(
        "encode",
        source,
        "-o",
        folder / "x.hnv",
        "--size",
        "14k",
        "--preset",
        "ultrafast",
        "--segment",
        5,
        "--threads",
        1,
    )
    return source, folder / "x.hnv"


def test_size_counts_the_sound(phone: tuple[Path, Path]) -> None:
    size = phone[1].stat().st_size
    assert 0.9 * 14000 < size <= 14000
    sound = sum(len(data) for data in facts(phone[0])["sound 0"])
    assert sound > 2000
    run = hnv("encode", phone[0], "-o", phone[1].with_name("y.hnv"), "--size", sound, check=False)
    assert run.returncode == 2 and b"--audio none" in run.stderr


@pytest.mark.slow
def test_shares_with_sound_are_joined(phone: tuple[Path, Path], tmp_path: Path) -> None:
    parts = [tmp_path / f"{n}.hnv" for n in (1, 2)]
    for n, part in enumerate(parts, 1):
        hnv(
            "encode",
            phone[0],
            "-o",
            part,
            "--size",
            "14k",
            "--preset",
            "ultrafast",
            "--segment",
            5,
            "--threads",
            1,
            "--segments",
            f"{n}/2",
        )
    hnv("join", *parts, "-o", tmp_path / "whole.hnv")
    assert (tmp_path / "whole.hnv").read_bytes() == phone[1].read_bytes()
    # A share is a video of its own, from 0 on, with the sound of its time.
    hnv("decode", parts[1], "-o", tmp_path / "2.mkv", "-q")
    share, film = facts(tmp_path / "2.mkv"), facts(phone[0])
    begin = film["times"][5]
    assert share["times"][0] == 0 and len(share["times"]) == 5
    assert set(share["sound 0"]) <= set(film["sound 0"]) and share["sound 0"]
    at = film["sound 0"].index(share["sound 0"][0])
    assert share["sound times 0"][0] == pytest.approx(film["sound times 0"][at] - begin, abs=1e-3)
    # A film after itself: its sound goes on after the picture and begins before it.
    hnv("join", phone[1], phone[1], "-o", tmp_path / "twice.hnv")
    for name in ("twice.mkv", "twice.mp4"):
        hnv("decode", tmp_path / "twice.hnv", "-o", tmp_path / name, "-q")
        twice = facts(tmp_path / name)
        at = twice["sound times 0"]
        assert len(twice["times"]) == 20 and all(a < b for a, b in pairwise(at))
        assert len(film["sound 0"]) < len(at) < 2 * len(film["sound 0"])
    mute = tmp_path / "mute.hnv"
    hnv(
        "encode",
        phone[0],
        "-o",
        mute,
        "--bpp",
        3,
        "--preset",
        "ultrafast",
        "--audio",
        "none",
        "--limit",
        2,
    )
    run = hnv("join", parts[0], mute, "-o", tmp_path / "x.hnv", check=False)
    assert run.returncode == 2 and b"differ in rotation" in run.stderr


@pytest.mark.slow
def test_another_frame_rate_keeps_the_sound(tmp_path: Path) -> None:
    source, coded = make(BY_NAME["two.mkv"], tmp_path, 6), tmp_path / "x.hnv"
    hnv("encode", source, "-o", coded, "--bpp", 2, "--preset", "ultrafast", "--threads", 1)
    hnv("decode", coded, "--fps", 50, "-o", tmp_path / "fast.mkv")
    fast, film = facts(tmp_path / "fast.mkv"), facts(source)
    assert len(fast["times"]) == 12
    for name in ("sound 0", "sound 1"):
        assert fast[name] == film[name]
    run = hnv("decode", coded, "--slow-motion", 2, "-o", tmp_path / "slow.mkv")
    assert b"sound and subtitles are left out" in run.stderr


def test_decoder_honours_times(phone: tuple[Path, Path]) -> None:
    times = facts(phone[0])["times"]
    with Decoder(phone[1]) as decoder:
        batch = decoder.get_all_frames()
        assert batch.pts_seconds.tolist() == [float(at) for at in times]
        gaps = [float(b - a) for a, b in pairwise(times)]
        assert batch.duration_seconds.tolist()[:-1] == pytest.approx(gaps)
        assert decoder.metadata.begin_stream_seconds == float(times[0]) == 0.12
        for n in (0, 3, 4, 9):
            assert decoder.get_frame_played_at(float(times[n])).index == n
        between = float(times[4]) - 0.01  # within the long frame before it
        assert decoder.get_frame_played_at(between).index == 3
        played = decoder.get_frames_played_in_range(float(times[3]), float(times[5]))
        assert played.index.tolist() == [3, 4]
        with pytest.raises(IndexError):
            decoder.get_frame_played_at(0.0)


def test_info_tells(phone: tuple[Path, Path]) -> None:
    said = hnv("info", phone[1]).stdout.decode()
    assert "stream 0: sound, A_AAC, deu, 44100 Hz, 1 channels, " in said
    assert "turned by 90 degrees" in said and "from 0.120 s on" in said and "pKTS" in said
    facts = json.loads(hnv("info", "--json", phone[1]).stdout)
    assert sum(facts["bytes"].values()) == facts["size"] == phone[1].stat().st_size


def test_part_keeps_its_sound(phone: tuple[Path, Path], tmp_path: Path) -> None:
    source = facts(phone[0])
    sources.hnv("decode", phone[1], "--frames", "3-6", "-o", tmp_path / "part.mp4")
    part = facts(tmp_path / "part.mp4")
    begin, end = source["times"][3], source["times"][7]
    assert part["times"] == [at - begin for at in source["times"][3:7]]
    pairs = zip(source["sound 0"], source["sound times 0"], strict=True)
    assert part["sound 0"] == [data for data, at in pairs if begin <= at < end]
    said = sources.hnv("decode", phone[1], "--frames", "6,3", "-o", tmp_path / "two.mp4")
    assert "sound and subtitles are left out" in said
    assert "sound 0" not in facts(tmp_path / "two.mp4")
    said = sources.hnv("decode", phone[1], "--slow-motion", "2", "-o", tmp_path / "slow.mkv")
    assert "sound and subtitles are left out" in said
    slow = facts(tmp_path / "slow.mkv")["times"]
    whole = source["times"][-1] - source["times"][0]
    assert slow[0] == 0 and slow[-1] == pytest.approx(float(2 * whole), rel=0.2)


def test_a_cut_file_keeps_what_is_there(phone: tuple[Path, Path], tmp_path: Path) -> None:
    source, data = facts(phone[0]), phone[1].read_bytes()
    cut, out = tmp_path / "cut.hnv", tmp_path / "out.mp4"
    cut.write_bytes(data[: data.rindex(b"SEGM") + 50])
    assert hnv("decode", cut, "--recover", "-o", out, check=False).returncode == 3
    made = facts(out)
    assert made["times"] == source["times"][:5] and made["rotation"] == 90
    assert 0 < len(made["sound 0"]) < len(source["sound 0"])
    assert made["sound 0"] == source["sound 0"][: len(made["sound 0"])]
    spoilt = bytearray(data)
    spoilt[spoilt.index(b"pKTS") + 40] ^= 1
    cut.write_bytes(spoilt)
    run = hnv("decode", cut, "-o", out, "-y", check=False)
    assert run.returncode == 3 and b"pKTS.payload_crc" in run.stderr and facts(out) == made
    hnv("decode", cut, "--frames", "0-9", "-o", tmp_path / "x.md5")  # frames without their sound
    run = hnv("decode", cut, "--recover", "-o", out, "-y", check=False)
    assert run.returncode == 3 and b"pKTS.payload_crc" in run.stderr
    spared, half = facts(out), len(made["sound 0"])  # all but the sound of the first segment
    assert spared["times"] == source["times"] and spared["rotation"] == 90
    assert spared["sound 0"] == source["sound 0"][half:]


def test_begin_and_end_in_seconds(phone: tuple[Path, Path], tmp_path: Path) -> None:
    source = facts(phone[0])
    begin = source["times"][3] - source["times"][0]
    sources.hnv(
        "encode",
        phone[0],
        "-o",
        tmp_path / "x.hnv",
        "--bpp",
        6,
        "--preset",
        "ultrafast",
        "--ss",
        f"00:00:{float(begin) - 0.001:06.3f}",
        "--to",
        "0.5",
    )
    sources.hnv("decode", tmp_path / "x.hnv", "-o", tmp_path / "x.mp4")
    part = facts(tmp_path / "x.mp4")
    wanted = [at for at in source["times"][3:] if at - source["times"][0] < Fraction(1, 2)]
    assert part["times"] == [at - wanted[0] for at in wanted]
    assert part["sound 0"][0] == next(
        data
        for data, at in zip(source["sound 0"], source["sound times 0"], strict=True)
        if at >= wanted[0]
    )


def encoded(source: Path, *options: object) -> Path:
    coded = source.with_suffix(".hnv")
    sources.hnv(
        "encode", source, "-o", coded, "--bpp", 6, "--preset", "ultrafast", "--threads", 1, *options
    )
    return coded


def test_plain_files_stay_plain(tmp_path: Path) -> None:
    """A constant rate without sound: version 1.0 and none of the new chunks."""
    coded = encoded(make(BY_NAME["plain.mp4"], tmp_path, 5))
    silent = encoded(make(BY_NAME["two.mkv"], tmp_path, 5), "--audio", "none")
    for path in (coded, silent):
        with open(path, "rb") as file:
            reader = Reader(file)
            kinds = [chunk.kind for chunk in reader.check()]
        assert kinds == [b"VHDR", b"SEGM", b"INDX", b"HEND"] and reader.prefix.minor == 0


def test_subtitles_are_carried(tmp_path: Path, ffmpeg: str) -> None:
    plain, text = make(BY_NAME["plain.mp4"], tmp_path, 5), tmp_path / "x.srt"
    text.write_text("1\n00:00:00,040 --> 00:00:00,120\nhello\n\n")
    source = tmp_path / "subtitled.mkv"
    command: Args = [ffmpeg, "-v", "error", "-i", plain, "-i", text, "-map", "0", "-map", "1"]
    subprocess.run([*command, "-c:v", "copy", "-c:s", "srt", source], check=True)
    coded = encoded(source)
    said = sources.hnv("decode", coded, "-o", tmp_path / "x.mp4")
    assert ".mp4 does not hold the subtitles in S_TEXT/UTF8: .mkv does" in said
    sources.hnv("decode", coded, "-o", tmp_path / "x.mkv")
    with av.open(str(tmp_path / "x.mkv")) as made:
        packets = [p for p in made.demux(subtitles=0) if p.size]
        assert [(bytes(p), p.pts, p.duration) for p in packets] == [(b"hello", 40, 80)]


def test_sound_of_mpeg_streams(tmp_path: Path, ffmpeg: str) -> None:
    """Its AAC comes out without ADTS's headers, and decodes to the same samples."""
    phone, source = make(BY_NAME["phone.mp4"], tmp_path, 5), tmp_path / "x.ts"
    command: Args = [ffmpeg, "-v", "error", "-i", phone, "-c", "copy", source]
    subprocess.run(command, check=True)
    made = tmp_path / "x.mp4"
    sources.hnv("decode", encoded(source), "-o", made)
    framed, raw = facts(source)["sound 0"], facts(made)["sound 0"]
    assert [data[7:] for data in framed] == raw

    def samples(path: Path) -> list[bytes]:
        with av.open(str(path)) as opened:
            return [bytes(frame.planes[0]) for frame in opened.decode(audio=0)]

    assert samples(source) == samples(made) != []


@pytest.mark.parametrize(("form", "depth"), [("rgb24", 8), ("bgr0", 8), ("gbrp10le", 10)])
def test_rgb_is_lossless(form: str, depth: int, tmp_path: Path) -> None:
    """Through the reader, .mkv and the reader again, compared with what libav makes of it."""
    rng = np.random.default_rng(1)
    path, again = tmp_path / "x.nut", tmp_path / "y.mkv"
    size = (47, 63, 3)
    noise: np.ndarray = rng.integers(0, 1 << depth, size).astype(
        np.uint8 if depth == 8 else np.uint16
    )
    with av.open(str(path), "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 63, 47, form
        given = av.VideoFrame.from_ndarray(noise, format="rgb24" if depth == 8 else "gbrp10le")
        out.mux(stream.encode(given.reformat(format=form)))
        out.mux(stream.encode())
    with VideoSource(path) as source:
        header, (planes,) = source.header, source.frames()
    assert (header.chroma_format, header.bit_depth, header.matrix_coefficients) == (3, depth, 0)
    for plane, channel in zip(planes, (1, 2, 0), strict=True):
        assert (plane == noise[..., channel]).all()
    sink = MuxerSink(again, header, choose("mkv", header), constant(header.frame_rate, Display()))
    sink.write(0, planes)
    sink.close()
    with VideoSource(again) as source:
        assert plane_bytes(next(source.frames())) == plane_bytes(planes)
        assert source.header == header


# ---------------------------------------------------------------- the chunks themselves


def test_chunks_come_back() -> None:
    data = file_with(EXTRAS)
    reader = Reader(io.BytesIO(data))
    reader.check()
    assert reader.display == EXTRAS.display and reader.streams == [INFO]
    parts = [reader.times(entry) for entry in reader.index]
    assert [part.first_pts for part in parts if part] == [-7, -7 + 6007]
    assert sum((part.durations for part in parts if part), ()) == TIMES.durations
    assert [packet for entry in reader.index for packet in reader.packets(entry)] == SOUND
    assert len(data) - len(file_with(None)) == EXTRAS.size([3, 2])


def test_constant_rates_are_recognized() -> None:
    """Also where the time base can only say them roughly."""
    rate, milliseconds = Fraction(30000, 1001), Fraction(1, 1000)
    rounded = [(round(1000 * n / rate), 33) for n in range(100)]
    assert times_of(milliseconds, rounded, rate) is None
    assert times_of(milliseconds, [*rounded[:-1], (rounded[-1][0], 0)], rate) is None
    held = times_of(milliseconds, [*rounded[:-1], (rounded[-1][0], 500)], rate)
    assert held is not None and held.durations[-1] == 500
    late = times_of(milliseconds, [(pts + 1, 33) for pts, _ in rounded], rate)
    assert late is not None and late.first_pts == 1 and len(late.durations) == 100
    with pytest.raises(ValueError, match="do not increase"):
        times_of(milliseconds, [(0, 33), (33, 33), (33, 33)], rate)


def test_times_beyond_the_format_are_coarsened() -> None:
    """A frame of five seconds in nanoseconds; a last duration below 0 is unknown."""
    nanosecond, second = Fraction(1, 10**9), 10**9
    times = times_of(nanosecond, [(0, 0), (5 * second, 0), (6 * second, -1)], Fraction(1, 2))
    assert times is not None and times.durations[-1] * times.time_base == 2
    assert [length * times.time_base for length in times.durations] == [5, 1, 2]
    assert read_times(ByteReader(write_times(times)), 3) == times
    far = times_of(nanosecond, [(1 << 60, 0), ((1 << 60) + second, second)], Fraction(1, 2))
    assert far is not None and read_times(ByteReader(write_times(far)), 2) == far


def test_packets_beyond_the_format_are_coarsened() -> None:
    second = 10**9
    text = StreamInfo(SUBTITLES, "S_TEXT/UTF8", Fraction(1, second))
    given = [
        StreamPacket(0, 0, 1024, b"a"),
        StreamPacket(1, -second, 0, b"b"),
        StreamPacket(1, second, 7 * second, b"c"),
    ]
    infos, packets = coarsened([INFO, text], given)
    assert infos[0] == INFO and packets[0] == given[0]
    for before, after in zip(given[1:], packets[1:], strict=True):
        assert before.pts == after.pts * infos[1].time_base * second
        assert before.duration == after.duration * infos[1].time_base * second
    table = PacketTable.of(packets[1:])
    assert list(read_packets(ByteReader(write_packets(table)), 2)) == packets[1:]


@pytest.mark.parametrize("language", ["a b", "d\u00e9", "e\nn"])
def test_languages_that_are_none(language: str) -> None:
    data = write_header(replace(INFO, language=language))
    assert read_header(data, INFO.kind, INFO.time_base) == replace(INFO, language="und")


def test_streams_beyond_the_format_are_left_out(tmp_path: Path) -> None:
    for size, kept in ((1 << 20, 1), ((1 << 20) + 1, 0)):
        path = tmp_path / f"{size}.mks"
        text = StreamInfo(SUBTITLES, "S_TEXT/ASS", Fraction(1, 1000), codec_private=b"x" * size)
        path.write_bytes(write_header(text))
        streams, _, notes = read_streams(path, Fraction(0), None, None)
        assert len(streams) == kept
        assert [note[:18] for note in notes] == ["stream 0 (subtitle"] * (1 - kept)


class Counting(io.BytesIO):
    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_random_access_leaves_sound_unread() -> None:
    loud = [StreamPacket(0, 1024 * n, 1024, bytes(100_000)) for n in range(8)]
    extras = SideData(5, Fraction(30000, 1001), times=TIMES, streams=[INFO], packets=loud)
    file = Counting(file_with(extras))
    with Decoder(file) as decoder:
        assert decoder.get_frame_at(4).index == 4
    assert file.read_bytes < 5000


def test_damaged_sound_leaves_frames() -> None:
    data = bytearray(file_with(EXTRAS))
    data[data.index(b"pKTS") + 30] ^= 1
    with Decoder(bytes(data)) as decoder:
        assert decoder.get_frame_at(4).index == 4
        with pytest.raises(FileError, match="pKTS"):
            decoder.reader.check()


def test_recover_loses_only_what_is_damaged() -> None:
    """A flipped bit in the header or the payload of a chunk costs what that chunk says."""
    data = file_with(EXTRAS)
    whole = Reader(io.BytesIO(data))
    for kind in (b"dISP", b"sTRM", b"tIME", b"pKTS"):
        for within in (8, 17):
            spoilt = bytearray(data)
            spoilt[data.index(kind) + within] ^= 1
            reader = Reader(io.BytesIO(bytes(spoilt)), recover=True)
            found = [packet for entry in reader.index for packet in reader.packets(entry)]
            assert reader.damage and len(set(reader.damage)) == len(reader.damage)
            if within == 17:  # a damaged header hides what follows it, too
                assert (reader.display == whole.display) == (kind != b"dISP")
                assert (reader.frame_times == whole.frame_times) == (kind != b"tIME")
                assert (reader.streams == whole.streams) == (kind != b"sTRM")
            if kind == b"pKTS":
                first = len(whole.packets(whole.index[0]))
                assert found == SOUND[first:] and 0 < first < len(SOUND)


def test_times_of_a_cut_file() -> None:
    """Its length is that of the whole video, its times end with the last frame that is there."""
    data = file_with(EXTRAS)
    with Decoder(data[: data.rindex(b"SEGM") + 50], recover=True) as decoder:
        assert len(decoder) == 5
        begin, end = float(decoder.times.begin), float(decoder.times.end)
        last = decoder.times.pts(2)
        assert decoder.get_frame_played_at(float(last)).index == 2
        assert decoder.get_frame_played_at(end - 1e-6, interpolate=True).index == 2
        assert decoder.get_frames_played_in_range(begin, end).index.tolist() == [0, 1, 2]
        assert decoder.metadata.average_fps == pytest.approx(3 / (end - begin))
        assert decoder.is_intact(2) and not decoder.is_intact(3)
        _, positions = retimed(decoder.video, None, Fraction(2), decoder.times)
        assert all(map(decoder.is_intact, positions)) and max(positions) == 2
        with pytest.raises(IndexError):
            decoder.get_frame_played_at(end)


def test_faults_are_refused_without_asserts(tmp_path: Path) -> None:
    beside = [fault[0] for fault in FAULTS if fault[2] in (b"dISP", b"tIME", b"sTRM")]
    for name in beside:
        (tmp_path / name).write_bytes(faulty_file(name))
    program = (
        "import sys\n"
        "from hnervcodec.errors import FileError\n"
        "from hnervcodec.bitstream.reader import Reader\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        Reader(open(name, 'rb')).check()\n"
        "        print(name)\n"
        "    except FileError: pass\n"
    )
    command: Args = [sys.executable, "-O", "-c", program, *(tmp_path / name for name in beside)]
    run = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert run.stdout == b"" and len(beside) > 10


def test_times_of_many_segments_are_added_up_once() -> None:
    class Counted(tuple[int, ...]):
        read = 0

        def __getitem__(self, key: Any) -> Any:
            part = super().__getitem__(key)
            Counted.read += len(part) if isinstance(key, slice) else 1
            return part

    count = 200
    times = SegmentTimes(Fraction(1, 1000), 5, Counted(range(1, count + 1)))
    extras = SideData(count, Fraction(25), times=times)
    assert extras.size([1] * count) > 0
    assert Counted.read == count
    (_, payload), *_ = extras.of_segment(100, 2)
    assert read_times(ByteReader(payload), 2) == SegmentTimes(
        Fraction(1, 1000), 5 + 5050, (101, 102)
    )


def joined(*extras: SideData) -> Reader:
    out = io.BytesIO()
    joining.join([Reader(io.BytesIO(file_with(each))) for each in extras], out)
    reader = Reader(out)
    reader.check()
    list(refdec.decode(out.getvalue()))
    return reader


def test_joined_videos_do_not_overlap() -> None:
    """Times before 0 begin where the video before ends."""
    ticks = joined(EXTRAS, EXTRAS, EXTRAS).frame_times
    assert isinstance(ticks, VariableTimes)
    assert ticks.durations == [*TIMES.durations] * 3
    assert [b - a for a, b in pairwise(ticks.ticks)] == ticks.durations


def test_joined_sound_does_not_overlap() -> None:
    """Neither AAC's priming nor what goes on after the picture."""
    clip = SideData(5, Fraction(30000, 1001), streams=[INFO], packets=SOUND)
    reader = joined(clip, clip)
    length = round(48000 * 5 * Fraction(1001, 30000))
    before = [packet.pts for packet in SOUND if packet.pts < length]
    after = [packet.pts + length for packet in SOUND if packet.pts >= 0]
    found = [packet.pts for entry in reader.index for packet in reader.packets(entry)]
    assert found == before + after and len(before) == 9


def test_reference_decoder_reads_them() -> None:
    frames = list(refdec.decode(file_with(EXTRAS)))
    assert frames == list(refdec.decode(file_with(None))) and len(frames) == 5


@pytest.mark.parametrize("fault", [fault[0] for fault in FAULTS])
def test_faults_are_refused(fault: str) -> None:
    data = faulty_file(fault)
    with pytest.raises(FileError):
        Reader(io.BytesIO(data)).check()
    with pytest.raises(refdec.Damaged):
        list(refdec.decode(data))


@pytest.mark.parametrize(
    ("kind", "at"), [(b"dISP", -1), (b"sTRM", -1), (b"tIME", 1), (b"pKTS", -1)]
)
def test_misplaced_chunks_are_refused(kind: bytes, at: int) -> None:
    prefix, chunks = split(file_with(EXTRAS))
    moved = chunks.pop(next(n for n, chunk in enumerate(chunks) if chunk[0] == kind))
    data = join(prefix, [*chunks[:at], moved, *chunks[at:]])
    with pytest.raises(FileError):
        Reader(io.BytesIO(data)).check()
    with pytest.raises(refdec.Damaged):
        list(refdec.decode(data))
