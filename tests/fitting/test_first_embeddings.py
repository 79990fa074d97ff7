"""What a fit's embeddings begin as, on real frames."""

import numpy as np
import pytest
import torch
from running import EXCERPT

from hnervcodec.fitting import first_embeddings
from hnervcodec.fitting.first_embeddings import FirstEmbeddings, patches
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import pack


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    with VideoSource(EXCERPT, skip=60, limit=18) as source:
        packed = [pack(planes, 1, 80, 160) for planes in source.frames()]
    return torch.from_numpy(np.stack(packed))


@pytest.mark.parametrize("stride", [4, 10, 16, 40])
def test_components_are_independent_of_each_other(frames: torch.Tensor, stride: int) -> None:
    known = patches(frames, 255, stride)
    made = FirstEmbeddings.of(known, 16)(known)
    assert made.shape == (18, 16, 80 // stride, 160 // stride)
    values = made.transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(values, correction=0), torch.eye(16), atol=1e-2, rtol=0)
    assert values.mean(1).abs().max() < 1e-2


def test_a_linear_decoder_tells_frames_best_by_them(frames: torch.Tensor) -> None:
    known = patches(frames, 255, 16)
    x = known.transpose(0, 1).flatten(1)
    x = x - x.mean(1, keepdim=True)
    made = FirstEmbeddings.of(known, 8)(known).transpose(0, 1).flatten(1)

    def lost(by: torch.Tensor) -> float:
        decoder = torch.linalg.lstsq(by.T, x.T).solution
        return float((x.T - by.T @ decoder).square().mean())

    chosen = lost(made)
    assert chosen < 0.2 * float(x.square().mean())
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        assert lost(torch.randn(8, len(x), generator=generator) @ x) > chosen


def test_a_video_that_says_little_has_few(frames: torch.Tensor) -> None:
    grey = torch.full((3, 6, 32, 32), 90, dtype=torch.uint8)
    known = patches(grey, 255, 16)
    assert not FirstEmbeddings.of(known, 8)(known).any()
    grey[1] = 200
    known = patches(grey, 255, 16)
    two = FirstEmbeddings.of(known, 8)(known)
    assert two[:, 0].any() and not two[:, 1:].any()
    known = patches(frames[:1, :, :32, :32], 255, 16)
    assert FirstEmbeddings.of(known, 16)(known).isfinite().all()
    known = patches(frames[:, :1], 255, 2)  # of fewer features than channels
    assert FirstEmbeddings.of(known, 16)(known).shape[1] == 16


def test_frames_of_many_samples_are_taken_in_parts(
    frames: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = patches(frames, 255, 16)
    monkeypatch.setattr(first_embeddings, "CHUNK", 5 * frames[0].numel())
    assert torch.equal(patches(frames, 255, 16), whole)


def test_a_map_like_what_is_known(frames: torch.Tensor) -> None:
    known = patches(frames, 255, 16)
    own = FirstEmbeddings.of(known, 8)
    other = FirstEmbeddings.like(own(known[::2]), known[::2])
    expected, found = own(known[1::2]), other(known[1::2])
    assert (expected - found).square().mean() < 0.1 * expected.square().mean()
