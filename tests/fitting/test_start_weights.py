"""Fits that begin from the networks of a short fit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from running import EXCERPT

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.fitting.first_embeddings import FirstEmbeddings, patches
from hnervcodec.fitting.fit import fit, fit_start
from hnervcodec.fitting.presets import FitConfig
from hnervcodec.fitting.progress import Progress
from hnervcodec.fitting.start_weights import StartWeights
from hnervcodec.fitting.synthesis_network import SynthesisNetwork
from hnervcodec.fitting.training import FitTask
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import pack

VIDEO = VideoHeader(64, 48, 1, Fraction(25))
Networks = tuple[SynthesisNetwork, FirstEmbeddings]
FRAMES = torch.rand(2, 6, 24, 32, generator=torch.Generator().manual_seed(0))


def model(
    early: int, late: int, residuals: int = 1, embed: int = 4, stride: int = 4
) -> ModelConfig:
    stages = StageConfig(stride, 1, early, 0), StageConfig(2, 3, late, residuals)
    return ModelConfig(embed, early, stages, 3)


def networks(config: ModelConfig, seed: int) -> Networks:
    torch.manual_seed(seed)
    whole = FRAMES[..., : 32 // config.stride * config.stride]
    first = FirstEmbeddings.of(patches(whole, 1, config.stride), config.embed_channels)
    return SynthesisNetwork(VIDEO.layers(config)), first


@torch.no_grad()
def decoded(made: Networks) -> torch.Tensor:
    synthesis, first = made
    samples: torch.Tensor = synthesis(first(patches(FRAMES, 1, 8)), synthesis.operands())
    return samples


@pytest.mark.parametrize(
    "wider", [model(12, 8), model(12, 10), model(12, 8, 3), model(16, 9, 2, embed=6)]
)
def test_a_network_with_more_channels_and_layers_begins_with_the_same_function(
    wider: ModelConfig,
) -> None:
    small, (large, own) = networks(model(12, 8), 1), networks(wider, 2)
    start = StartWeights.from_bytes(StartWeights.of(*small).to_bytes())
    torch.testing.assert_close(decoded((large, start.put_into(large, own))), decoded(small))


def test_a_narrower_network_takes_what_fits_and_another_kind_nothing() -> None:
    start = StartWeights.of(*networks(model(12, 8, 2), 1))
    narrow = networks(model(10, 6, 1, embed=2), 2)
    assert len(start.put_into(*narrow).axes) == 2
    kernel = narrow[0].weights[1].view(10, 16, 10, 1, 1)
    assert torch.equal(kernel, start.kernels["stage0.up"][:10, :, :10])
    other, same = (networks(model(12, 8, 2, stride=3), 3) for _ in range(2))
    assert start.put_into(*other) is other[1]
    assert all(map(torch.equal, other[0].parameters(), same[0].parameters()))
    with pytest.raises(ValueError, match="no networks"):
        StartWeights.from_bytes(b"something else")


def test_it_saves_steps() -> None:
    with VideoSource(EXCERPT, skip=60, limit=12) as source:
        cut = [
            (y[40:88, 100:164], cb[20:44, 50:82], cr[20:44, 50:82]) for y, cb, cr in source.frames()
        ]
    frames = np.stack([pack(planes, 1, 24, 32) for planes in cut])
    config = FitConfig(updates_per_frame=5, least_steps=1)
    task = FitTask(frames[6:], VIDEO, model(12, 8), config, 3000, torch.device("cpu"))
    start = fit_start(replace(task, frames=frames[:6]))
    last: list[Progress] = []
    for begun in (None, start):
        last.append(Progress(*[None] * 6))  # type: ignore[arg-type]
        fit(replace(task, start=begun), report=lambda progress: last.__setitem__(-1, progress))
    assert last[1].psnr > last[0].psnr + 1
