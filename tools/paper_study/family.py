"""HNeRV and its forerunners NeRV and E-NeRV, as their papers describe them, in our own words: RGB
of 0..1, GELU, a head at full resolution. What tools/paper and tools/bench_speed compare with.

Each maps moments `t` [B] of 0..1 and, in HNeRV, the frames themselves to frames [B, 3, H, W]. All
start from a map of (H / 80) x (W / 80) positions and upsample by 5, 4, 2 and 2; where that does not
divide, the frames are padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from hnerv_encoder import Encoder
from torch import Tensor, nn

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig

STRIDES = (5, 4, 2, 2)


def positions(size: tuple[int, int], factor: int = 80) -> tuple[int, int]:
    """Of the first map, for frames of `size` (H, W) and strides of that product."""
    return -(-size[0] // factor), -(-size[1] // factor)


def positional(x: Tensor, base: float, levels: int) -> Tensor:
    """[..., 2 * levels]: sines and cosines of x * pi * base^n (NeRV, equation 2)."""
    angles = x[..., None] * math.pi * base ** torch.arange(levels, dtype=x.dtype)
    return torch.cat([angles.sin(), angles.cos()], -1)


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), nn.GELU()]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Convolution, pixel shuffle, GELU: what all three are built of."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs * stride**2, kernel, padding=kernel // 2)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(F.pixel_shuffle(self.convolution(x), self.stride))


class NeRV(nn.Module):
    """arXiv 2110.13903: time alone, through an MLP, to the first map. Channels halve from stage to
    stage, but to no less than a quarter of the first."""

    def __init__(self, width: int, size: tuple[int, int]):
        super().__init__()
        self.size, self.first = size, (width, *positions(size))
        self.stem = mlp(80, 2 * width, math.prod(self.first))
        widths = [max(width >> n, width // 4) for n in range(len(STRIDES) + 1)]
        self.blocks = nn.Sequential(
            *(Block(*sizes, 3) for sizes in zip(widths[:-1], widths[1:], STRIDES, strict=True))
        )
        self.head = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, t: Tensor, frames: Tensor) -> Tensor:
        x = self.stem(positional(t, 1.25, 40)).view(-1, *self.first)
        return torch.sigmoid(self.head(self.blocks(x)))[..., : self.size[0], : self.size[1]]


class ENeRV(nn.Module):
    """arXiv 2207.08132: space and time are encoded apart, positions attend to each other, time
    multiplies them, and scales and shifts every block's normalized features."""

    def __init__(self, width: int, size: tuple[int, int]):
        super().__init__()
        self.size = size
        height, columns = positions(size)
        grid = torch.meshgrid(
            torch.linspace(0, 1, height), torch.linspace(0, 1, columns), indexing="ij"
        )
        self.register_buffer("grid", positional(torch.stack(grid, -1), 1.25, 20).flatten(2))
        self.space, self.time = nn.Linear(80, width), mlp(80, width, width)
        self.attend = nn.TransformerEncoderLayer(
            width, 1, width, dropout=0.0, activation="gelu", batch_first=True
        )
        widths = [max(width >> n, width // 4) for n in range(len(STRIDES) + 1)]
        self.blocks = nn.ModuleList(
            Block(*sizes, 3) for sizes in zip(widths[:-1], widths[1:], STRIDES, strict=True)
        )
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * channels) for channels in widths[:-1])
        self.head = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, t: Tensor, frames: Tensor) -> Tensor:
        time = self.time(positional(t, 1.25, 40))
        grid = self.space(self.grid)
        x = self.attend(grid.flatten(0, 1)[None]) * time[:, None]
        x = x.transpose(1, 2).unflatten(2, grid.shape[:2])
        for block, modulate in zip(self.blocks, self.modulate, strict=True):
            scale, shift = modulate(time)[..., None, None].chunk(2, 1)
            x = block(F.instance_norm(x) * (1 + scale) + shift)
        return torch.sigmoid(self.head(x))[..., : self.size[0], : self.size[1]]


class HNeRVDecoder(nn.Module):
    """Kernels 1 3 5 5 .., channels shrinking by 1.2, a 3x3 head."""

    def __init__(self, width: int, embedding: int = 16, strides: tuple[int, ...] = STRIDES):
        super().__init__()
        layers: list[nn.Module] = [Block(embedding, width, 1, 1)]
        for n, stride in enumerate(strides):
            channels = round(width / 1.2)
            layers.append(Block(width, channels, stride, min(1 + 2 * n, 5)))
            width = channels
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.head(self.blocks(x))) * 0.5 + 0.5


class HNeRV(nn.Module):
    """arXiv 2304.02633: a ConvNeXt encoder makes an embedding of each frame, which is stored with
    the decoder; the encoder is not."""

    def __init__(self, width: int, size: tuple[int, int], strides: tuple[int, ...] = STRIDES):
        super().__init__()
        model = ModelConfig(16, width, tuple(StageConfig(s, 3, width, 0) for s in strides), 3)
        self.encoder = Encoder(model, 3)
        self.decoder = HNeRVDecoder(width, strides=strides)
        self.size, factor = size, math.prod(strides)
        self.first = positions(size, factor)
        self.missing = [factor * n - side for n, side in zip(self.first, size, strict=True)]

    def forward(self, t: Tensor, frames: Tensor) -> Tensor:
        padded = F.pad(frames, (0, self.missing[1], 0, self.missing[0]), mode="replicate")
        made: Tensor = self.decoder(self.encoder(padded))
        return made[..., : self.size[0], : self.size[1]]


MODELS: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    "NeRV": NeRV, "E-NeRV": ENeRV, "HNeRV": HNeRV,
}  # fmt: skip


def stored(model: nn.Module, frames: int, size: tuple[int, int]) -> int:
    """Numbers that a decoder needs: weights and, in HNeRV, the frames' embeddings."""
    if isinstance(model, HNeRV):
        weights = sum(p.numel() for p in model.decoder.parameters())
        return weights + frames * 16 * math.prod(model.first)
    return sum(p.numel() for p in model.parameters())


def build(name: str, parameters: int, frames: int, size: tuple[int, int]) -> nn.Module:
    """The widest model of that family that stores at most `parameters` numbers."""
    width = 8
    while stored(MODELS[name](width + 2, size), frames, size) <= parameters:
        width += 2
    torch.manual_seed(0)
    return MODELS[name](width, size)


def build_hnerv(
    parameters: int, frames: int, size: tuple[int, int], strides: tuple[int, ...]
) -> HNeRV:
    """The widest HNeRV with such strides that stores at most `parameters` numbers."""
    width = 8
    while stored(HNeRV(width + 2, size, strides), frames, size) <= parameters:
        width += 2
    torch.manual_seed(0)
    return HNeRV(width, size, strides)
