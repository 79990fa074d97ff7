"""A batch that cores share has the loss and the gradients of the whole."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.fitting import training_kernel
from hnervcodec.fitting.cores import Cores
from hnervcodec.fitting.presets import FitConfig
from hnervcodec.fitting.training import FitTask, Training

CPU = torch.device("cpu")
VIDEO = VideoHeader(60, 44, 1, Fraction(25))
MODEL = ModelConfig(4, 8, (StageConfig(4, 1, 8, 0), StageConfig(2, 3, 8, 1)), 3)


def learned(task: FitTask, parts: int) -> list[torch.Tensor]:
    """The gradients of a batch's loss by all that is trained, then its mean squared error."""
    training = Training(task)
    operands = training.synthesis.operands()
    assert training.decoder is training.synthesis and training.cores.parts == parts
    gradients, error = training.gradients(
        torch.arange(4),
        lambda part: training.decoder(training.embedding[:4][part], operands),
        [*operands, training.embedding],
    )
    return [*gradients, error]


@pytest.mark.parametrize("structure", [0.0, 0.5])
def test_parts_make_up_the_whole(monkeypatch: pytest.MonkeyPatch, structure: float) -> None:
    """With torch's networks, in float32; some samples are hidden, and parts differ in size."""
    monkeypatch.setattr(training_kernel, "library", lambda bf16: None)
    monkeypatch.setattr("hnervcodec.fitting.training.bf16_pays", lambda device: False)
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 24, 32), np.uint8)
    config = FitConfig(1, batch_frames=4, structure=structure)
    task = FitTask(frames, VIDEO, MODEL, config, 5000, CPU, hidden=frames < 50)
    made = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        made.append(learned(task, threads))
    for parts in made[1:]:
        for whole, together in zip(made[0], parts, strict=True):
            assert (whole - together).abs().max() <= 1e-4 * whole.abs().max() + 1e-9


def test_workers_that_cannot_all_begin_do_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    cores = Cores(CPU, 1)
    given_up: list[bool] = []

    def work(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt
        while not given_up:
            pass

    with pytest.raises(KeyboardInterrupt):
        cores.together(work, lambda: given_up.append(True))
