"""What embeddings begin as: the principal components of the patches of the video that they stand
for, by which a linear decoder would tell these best.

HNeRV trains an encoder network for that, which takes longer; short fits end with less by it, and
longer ones with no more that is worth the time (tools/results/rate_distortion.md)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 8  # across a patch, at most: what is finer says little
CHUNK = 1 << 24  # samples that are in floats at a time
RIDGE = 1e-3  # of the mean variance, so that what is rare in known frames changes little
LEAST_VARIANCE = 1e-5  # of the first component's, that another one must have to say anything


@torch.no_grad()
def patches(frames: Tensor, white: float, stride: int) -> Tensor:
    """The patches of packed frames [T, channels, H, W], one for each position of an embedding, by
    the means of their cells, black 0 .. white 1: float32 [T, features, h, w], on the CPU.

    frames: of any type, black 0 .. white `white`. stride: samples of each side of a patch.
    """
    cells = next(n for n in range(CELLS, 0, -1) if stride % n == 0)
    made = []
    for chunk in torch.split(frames, max(1, CHUNK // frames[0].numel())):
        means = F.avg_pool2d(chunk.float().div_(white), stride // cells)
        made.append(F.pixel_unshuffle(means, cells).cpu())
    return torch.cat(made)


def _columns(x: Tensor) -> Tensor:
    """[T, C, h, w] as [C, T * h * w]."""
    return x.transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class FirstEmbeddings:
    """A linear map from patches to embeddings.

    axes: float32 [channels, features]; offset: float32 [channels].
    """

    axes: Tensor
    offset: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, known: Tensor, channels: int) -> FirstEmbeddings:
        """The first components of some patches, each of variance 1; of a video of fewer
        components the last ones are zero."""
        x = _columns(known)
        mean = x.mean(1)
        variances, vectors = torch.linalg.eigh(torch.cov(x, correction=0))
        variances, vectors = variances.flip(0)[:channels], vectors.T.flip(0)[:channels]
        least = max(LEAST_VARIANCE * float(variances[0]), 1e-9)
        axes = vectors / variances.clamp(min=least).sqrt().unsqueeze(1)
        axes = torch.where(variances.unsqueeze(1) > least, axes, 0)
        axes = F.pad(axes, (0, 0, 0, channels - len(axes)))
        return cls(axes, -axes @ mean)

    @classmethod
    @torch.no_grad()
    def like(cls, embedding: Tensor, known: Tensor) -> FirstEmbeddings:
        """The map that comes closest to this `embedding` [T, C, h, w] of those patches."""
        x, y = _columns(known), _columns(embedding.cpu())
        mean = x.mean(1)
        covariance = torch.cov(x, correction=0)
        ridge = RIDGE * covariance.diagonal().mean() + 1e-9
        products = (x - mean.unsqueeze(1)) @ y.T / x.shape[1]
        axes = torch.linalg.solve(covariance + ridge * torch.eye(len(x)), products).T
        return cls(axes, y.mean(1) - axes @ mean)

    def with_first_of(self, other: FirstEmbeddings) -> FirstEmbeddings:
        """This with the other's channels in place of its own first ones."""
        count = min(len(self.axes), len(other.axes))
        axes, offset = self.axes.clone(), self.offset.clone()
        axes[:count], offset[:count] = other.axes[:count], other.offset[:count]
        return FirstEmbeddings(axes, offset)

    @torch.no_grad()
    def __call__(self, known: Tensor) -> Tensor:
        """Embeddings [T, C, h, w] of patches."""
        return F.conv2d(known, self.axes[..., None, None], self.offset)
