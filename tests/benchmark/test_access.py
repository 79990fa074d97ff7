"""`hnv compare --gop`: bytes and times of random access, beside other codecs in short groups."""

import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from running import EXCERPT, error_of, hnv

from hnervcodec.benchmark import access_files, access_report, access_times, other_codecs
from hnervcodec.benchmark.access_files import AccessFile
from hnervcodec.benchmark.access_readers import ways
from hnervcodec.benchmark.access_study import AccessStudy
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding.observer import Observer
from hnervcodec.errors import UsageError
from hnervcodec.media.source import VideoSource


def a_file(codec: str, gop: int, size: int, psnr: float) -> AccessFile:
    name = f"{codec}-{gop}-{size}"
    return AccessFile("", codec, "", gop, "", "", name, 9, 64, 48, size, psnr, 1.0, 0.0)


def test_bytes_at_equal_psnr() -> None:
    line = [a_file("x264", 2, 1000, 30.0), a_file("x264", 2, 4000, 34.0)]
    line.append(a_file("x264", 2, 8000, 36.0))
    assert access_report.bytes_at(line, 34.0) == pytest.approx(4000)
    assert access_report.bytes_at(line[::-1], 32.0) == pytest.approx(2000)  # in the logarithm
    assert 8000 < access_report.bytes_at(line, 36.3) < 9300
    assert 860 < access_report.bytes_at(line, 29.7) < 1000
    for far in (28.0, 38.0):
        assert math.isnan(access_report.bytes_at(line, far))
    worse = [line[0], a_file("x264", 2, 900, 33.0)]  # more quality for fewer bytes
    assert math.isnan(access_report.bytes_at(worse, 31.0))
    assert access_report.bytes_at([a_file("png", 0, 5000, math.inf)], 30.0) == 5000


def test_at_which_group_length_the_other_is_smaller() -> None:
    ours = a_file("hnv", 0, 3000, 32.0)
    files = [ours]
    for gop, size in ((2, 9000), (10, 4000), (30, 2000)):
        files += [a_file("x264", gop, size // 2, 30.0), a_file("x264", gop, size * 2, 34.0)]
    assert access_report.targets(files) == [ours]
    (line,) = access_report.crossings(files, ours)
    assert line == "at 32.00 dB, hnv's 3,000 bytes: x264 becomes smaller between g=10 and g=30"
    for size, words in (
        (100, "larger at every group length up to g=30"),
        (20_000, "smaller from g=2 on, the shortest that was measured"),
    ):
        (line,) = access_report.crossings(files, replace(ours, bytes=size))
        assert line.endswith(words)
    (line,) = access_report.crossings(files, replace(ours, psnr_611=50.0))
    assert line.endswith("not measured at this quality")
    (line,) = access_report.crossings(files, replace(ours, psnr_611=5.0, bytes=10**6))
    assert "is smaller and better: " in line


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_times, "SECONDS", 0.02)
    monkeypatch.setattr(access_times, "LEAST", 2)


def test_key_frames_are_where_they_should_be(tmp_path: Path) -> None:
    with VideoSource(EXCERPT, limit=7) as source:
        header, frames = source.header, list(source.frames())
    for codec, preset in (("x264", "ultrafast"), ("x265", "ultrafast"), ("svtav1", "12")):
        for gop in (1, 3):
            path = tmp_path / f"{codec}.mp4"
            coded = access_files.code_other(path, codec, preset, gop, "40", header, frames)
            with av.open(str(path)) as container:
                packets = [packet for packet in container.demux() if packet.size]
            assert 0 <= coded.bytes - sum(packet.size for packet in packets) < 200
            shown = sorted((packet.pts or 0, packet.is_keyframe) for packet in packets)
            assert [key for _, key in shown] == [n % gop == 0 for n in range(7)], codec
            readers = {name: opener(str(path)) for name, opener in ways(path).items()}
            for reader in readers.values():
                order = [5, 0, 6, 6, 2, 3]
                made = reader.read(order)
                assert made.shape == (6, 3, header.height, header.width)
                for n, frame in zip(order, made, strict=True):
                    assert torch.equal(frame, reader.read([n])[0])
                grey = coded.decoded[5][0].astype(float)
                right, wrong = (abs(made[k].float().mean(0).numpy() - grey).mean() for k in (0, 1))
                assert right < wrong  # the frame asked for, not the first


@pytest.mark.slow
def test_a_study_of_our_own_file(small_file: Path, tmp_path: Path, quick: None) -> None:
    """A file that is there is taken, and measured once."""
    with Decoder(small_file) as decoder:
        header, frames = decoder.video, [planes for _, planes in decoder.frames(range(5))]
    said: list[str] = []
    study = AccessStudy("small", header, frames, tmp_path, said.append)
    case = ("hnv", "fast", 0, "0.5")
    shutil.copy(small_file, study.path_of(case))
    study.code([case], Observer())
    study.time(study.nearest_files())
    (file,), (time,) = study.files, study.times
    assert (file.path, file.bytes) == ("small-fast-0.5.hnv", small_file.stat().st_size)
    assert file.psnr_611 == math.inf and time.reader.startswith("hnv, ")
    assert min(time.cold_ms, time.one_ms, time.six_ms, time.loader_0, time.loader_2) > 0
    again = AccessStudy("small", header, frames, tmp_path, said.append)
    again.code([case], Observer())
    again.time(again.nearest_files())
    assert len(said) == 2 and again.files == study.files and again.times == study.times
    shutil.copy(small_file, study.path_of(("hnv", "fast", 0, "0.6")))
    with pytest.raises(UsageError, match="other frames"):
        AccessStudy("small", header, frames[:4], tmp_path, said.append).code(
            [("hnv", "fast", 0, "0.6")], Observer()
        )


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    command = ("compare", EXCERPT, "--limit", "6", "--codecs", "x264", "-o", tmp_path, "--gop")
    run = hnv(*command, "5")
    table = run.stdout.decode().splitlines()
    assert table[0] == "bunny.mp4: 6 frames of 320x160, any frame at once"
    assert "x264 veryslow g=5" in table[-1]
    rows = list(csv.DictReader((tmp_path / "access_files.csv").open()))
    assert [row["rate"] for row in rows] == list(access_files.OTHERS["x264", "veryslow"])
    assert len(list(tmp_path.glob("*.png"))) == 1
    again = hnv(*command, "5")
    assert again.stdout == run.stdout and not again.stderr
    assert "--gop: 'x' is not a number" in error_of(hnv(*command, "x", check=False), 2)


def test_all_codecs_have_their_options() -> None:
    assert {codec for codec, _ in access_files.OTHERS} == other_codecs.CODECS.keys()
