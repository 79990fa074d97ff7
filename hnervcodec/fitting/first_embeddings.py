"""What embeddings begin as: the principal components of the patches of the video that they stand
for, by which a linear decoder would tell these best.

HNeRV trains an encoder network for that. It takes longer than the rest of a step, and short and
long fits end with less (tools/results/rate_distortion.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 8  # across a patch, at most: what is finer says little
CHUNK = 16  # frames at a time
RIDGE = 1e-3  # of the mean variance, so that what is rare in known frames changes little
LEAST_VARIANCE = 1e-6  # of the first component's, that another one must have to say anything


def patches(frames: Tensor, stride: int) -> Tensor:
    """The patches [T, features, h, w] of packed frames [T, channels, H, W], a patch for each
    position of an embedding: means of its cells."""
    cells = next(n for n in range(CELLS, 0, -1) if stride % n == 0)
    return F.pixel_unshuffle(F.avg_pool2d(frames, stride // cells), cells)


def _features(frames: Tensor, white: float, stride: int) -> Iterator[Tensor]:
    """The patches of some frames at a time, [features, patches] in float64."""
    for chunk in torch.split(frames, CHUNK):
        x = patches(chunk.float().div_(white), stride)
        yield x.transpose(0, 1).flatten(1).double().cpu()


def _moments(frames: Tensor, white: float, stride: int) -> tuple[Tensor, Tensor]:
    """Means [features] of the frames' patches and their covariances."""
    count, total, products = 0, torch.zeros(1), torch.zeros(1, 1)
    for x in _features(frames, white, stride):
        count, total, products = count + x.shape[1], total + x.sum(1), products + x @ x.T
    mean = total / count
    return mean, products / count - torch.outer(mean, mean)


@dataclass(frozen=True)
class FirstEmbeddings:
    """A linear map from patches to embeddings.

    axes: float32 [channels, features]; offset: float32 [channels].
    stride: samples of packed frames, of each side of a patch.
    """

    axes: Tensor
    offset: Tensor
    stride: int

    @classmethod
    @torch.no_grad()
    def of(cls, frames: Tensor, white: float, stride: int, channels: int) -> FirstEmbeddings:
        """The first components of packed frames' patches, each of variance 1; of a video of fewer
        components the last ones are zero.

        frames: [T, channels, H, W], of any type, black 0 .. white `white`.
        """
        mean, covariance = _moments(frames, white, stride)
        variances, vectors = torch.linalg.eigh(covariance)
        variances, vectors = variances.flip(0)[:channels], vectors.T.flip(0)[:channels]
        least = max(LEAST_VARIANCE * float(variances[0]), 1e-12)
        axes = vectors / variances.clamp(min=least).sqrt().unsqueeze(1)
        axes = torch.where(variances.unsqueeze(1) > least, axes, 0)
        axes = F.pad(axes, (0, 0, 0, channels - len(axes)))
        return cls(axes.float(), (-axes @ mean).float(), stride)

    @classmethod
    @torch.no_grad()
    def like(cls, embedding: Tensor, frames: Tensor, white: float, stride: int) -> FirstEmbeddings:
        """The map that comes closest to giving these packed frames, as above, this `embedding`
        [T, C, h, w]."""
        known = embedding.transpose(0, 1).flatten(1).double().cpu()
        mean, covariance = _moments(frames, white, stride)
        means = known.mean(1)
        products = torch.zeros(len(mean), len(known), dtype=torch.float64)
        for x, y in zip(
            _features(frames, white, stride), torch.split(embedding, CHUNK), strict=True
        ):
            products += (x - mean[:, None]) @ y.transpose(0, 1).flatten(1).double().cpu().T
        ridge = RIDGE * torch.diagonal(covariance).mean() + 1e-12
        covariance = covariance + ridge * torch.eye(len(mean))
        axes = torch.linalg.solve(covariance, products / known.shape[1]).T
        return cls(axes.float(), (means - axes @ mean).float(), stride)

    def with_first_of(self, other: FirstEmbeddings) -> FirstEmbeddings:
        """This with the other's channels in place of its own first ones; both have one stride."""
        count = min(len(self.axes), len(other.axes))
        axes, offset = self.axes.clone(), self.offset.clone()
        axes[:count], offset[:count] = other.axes[:count], other.offset[:count]
        return FirstEmbeddings(axes, offset, self.stride)

    @torch.no_grad()
    def __call__(self, frames: Tensor, white: float) -> Tensor:
        """Embeddings [T, C, h, w] of packed frames as above, on their device."""
        kernel = self.axes[..., None, None].to(frames.device)
        offset = self.offset.to(frames.device)
        return torch.cat(
            [
                F.conv2d(patches(chunk.float().div_(white), self.stride), kernel, offset)
                for chunk in torch.split(frames, CHUNK)
            ]
        )
