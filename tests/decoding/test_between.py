"""Frames between frames: the same samples on every path, and the command's ways to ask for them."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import refdec
from running import LEVEL, error_of, hnv
from vectors import make_file, make_video, random_segment

from hnervcodec import Decoder
from hnervcodec.bitstream import segment as segments
from hnervcodec.decoding.selection import retimed
from hnervcodec.errors import UsageError
from hnervcodec.planes import unpack
from hnervcodec.synthesis.network import PATHS, Synthesis


@pytest.mark.parametrize("depth", [8, 12])
def test_all_paths_equal_the_reference(depth: int) -> None:
    video = make_video(depth=depth)
    segment = random_segment(video, 3, seed=depth)
    read = refdec.read_segment(
        segments.write(segment), refdec.Video(22, 14, 1, depth, 0), refdec.LEVELS[LEVEL.number]
    )
    moments = [Fraction(1, 2), Fraction(4, 3), Fraction((1 << 32) - 2, (1 << 32) - 1)]
    expected = np.stack(
        [
            refdec.synthesize(
                read,
                refdec.between(read, int(at), (at - int(at)).numerator, at.denominator),
                depth,
            )
            for at in moments
        ]
    )
    for path in PATHS:
        assert (Synthesis(segment, video, path=path).packed(moments) == expected).all(), path
    coded = Synthesis(segment, video).packed(range(3))
    assert not any((expected[0] == frame).all() for frame in coded)


def test_embedding_lies_between() -> None:
    segment = random_segment(make_video(), 2)
    a, b = segment.embedding.astype(int)
    third = segment.embeddings_at([Fraction(1, 3)])[0]
    assert (third == np.floor((2 * a + b) / 3 + 1 / 3)).all()  # q // 2 / q is 1/3 for q = 3
    assert (segment.embeddings_at([0, 1]) == segment.embedding).all()


def test_between_segments_the_nearer_frame_is_repeated() -> None:
    video = make_video()
    parts = [random_segment(video, 3, seed=1), random_segment(video, 2, seed=2, first_frame=3)]
    with Decoder(make_file(video, parts)) as decoder:
        whole = [planes for _, planes in decoder.frames(range(5))]
        asked = [Fraction(9, 4), Fraction(5, 2), Fraction(19, 4), Fraction(1, 2)]
        found = list(decoder.frames(asked))
        assert [at for at, _ in found] == [2, 3, 4, Fraction(1, 2)]
        for (at, planes), near in zip(found, (2, 3, 4), strict=False):
            assert all((a == b).all() for a, b in zip(planes, whole[near], strict=True)), at
        made = Synthesis(parts[0], video).packed([Fraction(1, 2)])[0]
        expected = unpack(made, 1, 22, 14)
        assert all((a == b).all() for a, b in zip(found[3][1], expected, strict=True))


def test_retimed() -> None:
    video = make_video(frame_count=4)
    rate = video.frame_rate
    assert list(retimed(video, None, Fraction(1))[1]) == [0, 1, 2, 3]
    header, positions = retimed(video, 2 * rate, Fraction(1))
    half = Fraction(1, 2)
    assert list(positions) == [0, half, 1, 1 + half, 2, 2 + half, 3, 3]
    assert (header.frame_rate, header.frame_count) == (2 * rate, 8)
    header, slow = retimed(video, None, Fraction(2))
    assert list(slow) == list(positions) and header.frame_rate == rate
    assert list(retimed(video, rate / 2, Fraction(1))[1]) == [0, 2]
    assert all(type(at) is int for at in retimed(video, rate / 2, Fraction(1))[1])
    for fps, slow_motion in ((rate * 101, 1), (rate / 5, 1), (None, 101), (None, 0)):
        with pytest.raises(UsageError):
            retimed(video, fps, Fraction(slow_motion))
    with pytest.raises(UsageError, match=r"^0 frames per second is out of range"):
        retimed(video, Fraction(0), Fraction(1))


@pytest.mark.slow
def test_command(real_file: Path, tmp_path: Path) -> None:
    lines = hnv("decode", real_file, "--format", "framemd5").stdout.split()
    twice = hnv("decode", real_file, "--format", "framemd5", "--slow-motion", 2).stdout.split()
    assert twice[1::4] == lines[1::2] and len(twice) == 2 * len(lines)
    other = ("--arithmetic", "float64")
    assert (
        hnv("decode", real_file, "--format", "framemd5", "--fps", 50, *other).stdout.split()
        == twice
    )
    y4m = hnv("decode", real_file, "--fps", "60000/1001", "--frames", "0:3").stdout
    assert b" F60000:1001 " in y4m and y4m.count(b"FRAME\n") == 3
    for options in (
        ("--fps", "1e9"),
        ("--fps", 0),
        ("--fps", 3000),
        ("--slow-motion", "1/0"),
        ("--slow-motion", 101),
        ("--fps", 25, "--frames", 20),
    ):
        error_of(hnv("decode", real_file, "-o", tmp_path / "x.y4m", *options, check=False), 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_second_frame(real_source: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.hnv"
    run = hnv(
        "encode",
        real_source,
        "-o",
        output,
        "--every",
        2,
        "--skip",
        1,
        "--limit",
        8,
        "--preset",
        "ultrafast",
        "--bpp",
        1,
    )
    match = re.search(r"made frames: PSNR (\d+\.\d\d) dB", run.stderr.decode())
    assert match and 15 < float(match[1]) < 45
    with Decoder(output) as decoder:
        assert len(decoder) == 8 and decoder.video.frame_rate == Fraction(25, 2)
    y4m = hnv("decode", output, "--fps", 25).stdout
    assert y4m.count(b"FRAME\n") == 16 and b" F25:1 " in y4m


def test_rates_that_would_overflow_and_rates_of_phones() -> None:
    video = make_video(frame_count=4)
    _, positions = retimed(video, Fraction("119.880119"), Fraction("7.654321"))
    assert max(Fraction(at).denominator for at in positions) <= 1 << 16
    phone = replace(video, frame_rate=Fraction(25_000_000, 2_999_949))
    assert list(retimed(phone, None, Fraction(1))[1]) == [0, 1, 2, 3]
    with pytest.raises(UsageError):
        random_segment(video, 4).embeddings_at([Fraction(1, 1 << 32)])


@pytest.mark.slow
def test_every_so_many_that_nothing_lies_between(real_source: Path, tmp_path: Path) -> None:
    for every in (20, 19):
        hnv(
            "encode",
            real_source,
            "-o",
            tmp_path / "x.hnv",
            "--every",
            every,
            "--bpp",
            9,
            "-y",
            "--preset",
            "ultrafast",
        )
