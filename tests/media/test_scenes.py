"""Where segments begin."""

import io
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from running import EXCERPT

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding.encoder import encode
from hnervcodec.encoding.plan import Settings
from hnervcodec.errors import SourceError
from hnervcodec.media import scenes
from hnervcodec.media.filters import SceneDetector
from hnervcodec.media.scenes import MOST_FRAMES, scan
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import Planes

CUT = 10.0


@pytest.fixture(scope="module")
def film() -> tuple[VideoHeader, list[Planes]]:
    """Real frames with one cut, at 30: the excerpt, then its later frames, turned and darkened."""
    with VideoSource(EXCERPT, limit=60) as source:
        header, frames = source.header, list(source.frames())
    turned = [tuple((p[::-1] // 2).astype(np.uint8) for p in planes) for planes in frames[30:]]
    return header, [*frames[:30], *turned]


def test_cuts_and_only_they_are_found(film: tuple[VideoHeader, list[Planes]]) -> None:
    header, frames = film
    score = SceneDetector(header)
    scores = [score(planes) for planes in frames]
    assert [n for n, score in enumerate(scores) if score >= CUT] == [30]


@pytest.mark.parametrize("size", [(2, 2), (17, 16), (63, 47), (250, 9), (321, 180)])
def test_a_still_picture_never_changes(size: tuple[int, int]) -> None:
    """scdet reads beyond the last column, where there is whatever was there before."""
    planes = (np.random.default_rng(0).integers(0, 255, size[::-1]).astype(np.uint8),)
    for _ in range(5):
        score = SceneDetector(VideoHeader(*size, 0, 25))  # type: ignore[arg-type]
        assert {score(planes) for _ in range(50)} == {0.0}


def test_segments_begin_at_cuts_where_that_leaves_none_short(
    film: tuple[VideoHeader, list[Planes]],
) -> None:
    header, frames = film
    assert scan(header, frames, 40, CUT) == [30, 30]
    assert scan(header, frames, 60, CUT) == [30, 30]
    assert scan(header, frames, 62, CUT) == [60]
    assert scan(header, frames[:45], 40, CUT) == [45]  # 15 would be left
    assert scan(header, frames[:50], 40, CUT) == [30, 20]
    assert scan(header, frames, 40, 0) == [60]
    assert scan(header, frames, 39, 0) == [30, 30]
    assert scan(header, frames, 8, CUT) == [10, 10, 10, 10, 10, 10]
    assert scan(header, frames[:1], 8, CUT) == [1]
    assert scan(header, frames[:3], 1, CUT) == [1, 1, 1]
    assert scan(header, [], 8, CUT) == []
    tiny = replace(header, width=2, height=2)
    many = [(np.zeros((2, 2), np.uint8),)] * 2100
    assert scan(tiny, many, 2048, CUT) == [1050, 1050] and MOST_FRAMES == 2048


def test_a_still_camera_has_longer_segments(film: tuple[VideoHeader, list[Planes]]) -> None:
    """Where little moves, one network shows it all; not beyond what memory holds."""
    header, frames = film
    walk = [frames[0]] * 60
    luma = frames[0][0].copy()
    luma[:10, :10] = 255 - luma[:10, :10]
    walk[::2] = [(luma, *frames[0][1:])] * 30
    assert scan(header, walk, 20, CUT, True) == [60] and scan(header, walk, 20, CUT) == [30] * 2
    assert scan(header, frames, 20, CUT, True) == scan(header, frames, 20, CUT)
    large = replace(header, width=header.width << 8, height=header.height << 8)
    with mock.patch.object(scenes, "SceneDetector", lambda video: SceneDetector(header)):
        assert scan(large, walk, 20, CUT, True) == [30] * 2


@pytest.mark.parametrize(
    ("size", "chroma", "depth"), [((1, 1), 0, 8), ((63, 47), 1, 10), ((20_000, 3), 0, 8)]
)
def test_any_geometry(size: tuple[int, int], chroma: int, depth: int) -> None:
    header = replace(VideoHeader(*size, chroma, 25), bit_depth=depth)  # type: ignore[arg-type]
    planes = (np.zeros(size[::-1], np.uint8 if depth == 8 else np.uint16),)
    assert scan(header, [planes] * 5, 2, CUT) == [2, 3]


@pytest.mark.slow
def test_encode_follows_the_scenes(film: tuple[VideoHeader, list[Planes]]) -> None:
    header, frames = film
    small = replace(header, width=64, height=48)
    cropped = [(y[40:88, 100:164], *(c[20:44, 50:82] for c in chroma)) for y, *chroma in frames]
    lengths = scan(small, cropped, 20, CUT)
    assert lengths == [30, 30]
    settings = Settings(bytes_per_frame=300, preset="ultrafast", lengths=tuple(lengths))
    made = encode(small, cropped, io.BytesIO(), settings)
    assert made.segments == 2 and 0.99 <= made.bytes / (300 * 60) <= 1
    with pytest.raises(SourceError, match="shorter"):
        encode(small, cropped[:40], io.BytesIO(), settings)
