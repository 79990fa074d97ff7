"""The network that a segment holds: `ModelConfig` -> ordered layers with their tensor shapes.

An HNeRV decoder (arXiv 2304.02633, section 3.2) on packed planes: a 1x1 stem, stages of
convolution -> pixel shuffle -> GELU, each followed by residual 3x3 convolutions
x + GELU(conv(x)), and a head that writes the packed channels. Pure arithmetic: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from hnervcodec.planes import packed_size

RESIDUAL_KERNEL = 3
LayerKind = Literal["stem", "up", "residual", "head"]


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One upsampling stage."""

    stride: int  # upsampling factor of the pixel shuffle, 1..8
    kernel: int  # odd, 1..7
    channels: int  # after the shuffle, 1..1024
    residuals: int  # residual convolutions that follow, 0..15


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Exactly what a segment header says about its network."""

    embed_channels: int  # 1..1024
    stem_channels: int  # 1..1024
    stages: tuple[StageConfig, ...]  # 1..8
    head_kernel: int  # odd, 1..7

    @property
    def stride(self) -> int:
        """Packed samples per embedding position, in each direction."""
        return prod(stage.stride for stage in self.stages)

    def embed_size(self, width: int, height: int) -> tuple[int, int]:
        """(h, w) of the embedding of a `width` x `height` frame: the smallest that covers it."""
        packed_height, packed_width = packed_size(width, height)
        return -(-packed_height // self.stride), -(-packed_width // self.stride)


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One convolution: weight [out_channels * shuffle**2, in_channels, kernel, kernel], bias
    [out_channels] (shared by the shuffle's phases), run at height x width (its input's size)."""

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    kernel: int
    shuffle: int
    height: int
    width: int
    feeds_residual: bool = False  # a residual layer follows, and adds to this one's output

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """[outputs, inputs, kernel, kernel] of its weights, as they are coded."""
        return self.out_channels * self.shuffle**2, self.in_channels, self.kernel, self.kernel

    @property
    def weights(self) -> int:
        """Weights of the layer, zero or not, without biases."""
        return prod(self.weight_shape)

    @property
    def macs(self) -> int:
        """Multiplications per frame."""
        return self.weights * self.height * self.width

    @property
    def features(self) -> int:
        """Values the convolution writes per frame."""
        return self.weight_shape[0] * self.height * self.width


def layers(
    config: ModelConfig, out_channels: int, embed_height: int, embed_width: int
) -> tuple[LayerSpec, ...]:
    """The network's convolutions in coding (and running) order.

    out_channels: of the packed frame that the head writes.
    """
    height, width, channels = embed_height, embed_width, config.stem_channels
    specs = [LayerSpec("stem", "stem", config.embed_channels, channels, 1, 1, height, width)]
    for index, stage in enumerate(config.stages):
        specs.append(
            LayerSpec(
                f"stage{index}.up",
                "up",
                channels,
                stage.channels,
                stage.kernel,
                stage.stride,
                height,
                width,
                feeds_residual=stage.residuals > 0,
            )
        )
        channels, height, width = stage.channels, height * stage.stride, width * stage.stride
        specs += [
            LayerSpec(
                f"stage{index}.residual{n}",
                "residual",
                channels,
                channels,
                RESIDUAL_KERNEL,
                1,
                height,
                width,
                feeds_residual=n + 1 < stage.residuals,
            )
            for n in range(stage.residuals)
        ]
    specs.append(
        LayerSpec("head", "head", channels, out_channels, config.head_kernel, 1, height, width)
    )
    return tuple(specs)


def weight_count(specs: tuple[LayerSpec, ...]) -> int:
    """Weights of the whole network, without biases."""
    return sum(spec.weights for spec in specs)


def macs_per_frame(specs: tuple[LayerSpec, ...]) -> int:
    """Multiplications of the whole network for one frame."""
    return sum(spec.macs for spec in specs)
