"""HNeRV's ConvNeXt encoder, the network that learns which embedding each frame gets. Our own fits
begin with `hnervcodec.fitting.first_embeddings` instead."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hnervcodec.bitstream.architecture import ModelConfig

WIDTH = 64


class _LayerNorm(nn.Module):
    """Over the channels of [B, C, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


class _ConvNeXtBlock(nn.Module):
    """Liu et al., arXiv 2201.03545, figure 4; layer scale 1e-6 is left out, as depth is small."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = _LayerNorm(channels)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.project = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + y


class Encoder(nn.Module):
    """Packed samples [B, channels, H, W] in 0..1 -> embeddings [B, C, h, w].

    H and W are multiples of the model's stride. The strides are those of the decoder, largest
    first, so that the costly blocks run at low resolution.
    """

    def __init__(self, model: ModelConfig, in_channels: int):
        super().__init__()
        stages: list[nn.Module] = []
        channels = in_channels
        for stride in sorted((stage.stride for stage in model.stages), reverse=True):
            stages += [
                nn.Conv2d(channels, WIDTH, stride, stride),
                _LayerNorm(WIDTH),
                _ConvNeXtBlock(WIDTH),
            ]
            channels = WIDTH
        stages.append(nn.Conv2d(channels, model.embed_channels, 1))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Samples to embeddings, as above."""
        y: Tensor = self.stages(x - 0.5)
        return y
