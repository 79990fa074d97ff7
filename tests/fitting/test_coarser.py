"""A fit's first steps, at a fraction of the size."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from running import EXCERPT

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.fitting.coarser import coarser
from hnervcodec.fitting.presets import FitConfig
from hnervcodec.fitting.training import FitTask, Schedule, Training
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import pack, packed_channels, unpack

CPU = torch.device("cpu")


def task_of(frames: np.ndarray, video: VideoHeader, last: int = 2) -> FitTask:
    stages = StageConfig(3, 1, 8, 0), StageConfig(2, 3, 8, 1), StageConfig(last, 3, 8, 1)
    model = ModelConfig(4, 8, stages, 1)
    return FitTask(frames, video, model, FitConfig(5), 5000, CPU)


@pytest.mark.parametrize("chroma_format", [0, 1, 2, 3])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("last", [2, 3])
def test_frames_are_means_of_cells(chroma_format: int, depth: int, last: int) -> None:
    video = VideoHeader(70, 45, chroma_format, Fraction(25), bit_depth=depth)
    size = packed_channels(chroma_format), 24 // 2 * last, 36 // 2 * last
    random = np.random.default_rng(0)
    frames = random.integers(0, 1 << depth, (2, *size)).astype(np.uint8 if depth == 8 else "u2")
    task = task_of(frames, video, last)
    small = coarser(task)
    assert small.frames.dtype == frames.dtype and small.frames.shape == (2, size[0], 12, 18)
    assert small.model.embed_size(small.video.width, small.video.height) == task.model.embed_size(
        video.width, video.height
    )
    wide, narrow = (
        unpack(x[1], chroma_format, 2 * x.shape[3], 2 * x.shape[2]) for x in (frames, small.frames)
    )
    for plane, means in zip(wide, narrow, strict=True):
        cells = plane.reshape(means.shape[0], last, means.shape[1], last)
        assert np.abs(cells.mean((1, 3)) - means).max() <= 0.5


def test_what_is_hidden_stays_so() -> None:
    video = VideoHeader(72, 48, 1, Fraction(25))
    frames = np.zeros((1, 6, 24, 36), np.uint8)
    hidden = np.zeros(frames.shape, bool)
    planes = [np.zeros(shape, bool) for shape in ((48, 72), (24, 36), (24, 36))]
    planes[0][5, 7] = planes[1][4, 4] = True
    hidden[0] = pack(tuple(planes), 1, 24, 36)
    task = task_of(frames, video)
    small = coarser(FitTask(frames, video, task.model, task.config, 5000, CPU, hidden)).hidden
    assert small is not None
    luma, cb, cr = unpack(small[0], 1, 36, 24)
    assert luma[2, 3] and cb[2, 2] and luma.sum() + cb.sum() + cr.sum() == 2


def test_the_rest_begins_from_it() -> None:
    with VideoSource(EXCERPT, skip=60, limit=4) as source:
        frames = np.stack([pack(planes, 1, 84, 168) for planes in source.frames()])
    task = task_of(frames, VideoHeader(320, 160, 1, Fraction(25)))
    assert Schedule.of(task).coarse == 20 and Schedule.of(coarser(task)).coarse == 0
    small, whole = Training(coarser(task)), Training(task)
    with torch.no_grad():
        for parameter in (*small.synthesis.parameters(), small.embedding):
            parameter.add_(1)
    before = [weight.clone() for weight in whole.synthesis.weights]
    whole.begin_from(small)
    assert torch.equal(whole.embedding, small.embedding)
    names = {spec.name: n for n, spec in enumerate(small.synthesis.specs)}
    for n, spec in enumerate(whole.synthesis.specs):
        expected = small.synthesis.weights[names[spec.name]] if spec.name in names else before[n]
        assert torch.equal(whole.synthesis.weights[n], expected)
    assert {spec.name for spec in whole.synthesis.specs} - set(names) == {
        "stage2.up",
        "stage2.residual0",
    }
