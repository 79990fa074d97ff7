"""What 8-bit activations cost: a segment decoded in integers and in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hnervcodec import Decoder
from hnervcodec.metrics import PlaneError
from hnervcodec.planes import Planes, unpack
from hnervcodec.segment import QuantizedSegment, read


def float_decode(segment: QuantizedSegment, frame: int, bit_depth: int) -> torch.Tensor:
    """Packed samples [channels, h, w], float64: the same weight and embedding levels and the same
    activation ranges, but real-valued activations: no rounding and an exact GELU between the
    layers. (The ranges belong to the fitted network: it was trained to be clipped there.)"""
    x = torch.from_numpy(segment.embedding[frame : frame + 1]).double()
    x = x - segment.embed_zero_point
    zero = segment.embed_zero_point
    value = 1.0  # of one input level; the embedding's step is part of the stem's multiplier
    for spec, layer in zip(segment.specs, segment.layers, strict=True):
        r = layer.requant
        unit = r.multiplier / 2 ** (24 - bit_depth if spec.kind == "head" else 20) / 2**r.shift
        bias = torch.from_numpy(layer.bias << r.bias_shift).double()
        bias = bias.repeat_interleave(spec.shuffle**2)
        weight = torch.from_numpy(layer.weight).double()
        v = F.conv2d(x / value, weight, bias, padding=spec.kernel // 2) * unit
        v = F.pixel_shuffle(v, spec.shuffle)
        if spec.kind == "head":
            return v[0]
        value = 64 / r.gain
        if spec.kind != "residual":
            zero = r.zero_point
        x = x + F.gelu(v) if spec.kind == "residual" else F.gelu(v)
        x = x.clamp(-zero * value, (255 - zero) * value)
    raise AssertionError("a network ends with its head")


def measure(path: Path, source: list[Planes]) -> tuple[PlaneError, PlaneError]:
    """Errors of the integer decode and of the float decode of the file against its source."""
    with Decoder(path) as decoder:
        video = decoder.video
        integer, real = PlaneError(video.max_sample), PlaneError(video.max_sample)
        for entry in decoder.reader.index:
            segment = read(decoder.reader.segment_payload(entry), video, decoder.reader.level)
            for index, planes in decoder.frames(entry.frames):
                samples = float_decode(segment, index - entry.first_frame, video.bit_depth).numpy()
                samples = np.clip(np.rint(samples), 0, video.max_sample).astype(planes[0].dtype)
                integer.add(source[index], planes)
                real.add(
                    source[index], unpack(samples, video.chroma_format, video.width, video.height)
                )
    return integer, real
