"""The rate a fit is trained against: estimated bits of weights and embeddings, differentiable."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hnervcodec.fitting.synthesis_network import Quantizers, SynthesisNetwork


def tensor_bits(levels: Tensor) -> Tensor:
    """Estimated bits of range-coded `levels` [tables, n] (unrounded), one table per row.

    The value is the cost of the rounded levels under the two-sided geometric distribution that
    `bitstream.range_coding.Table` codes them with, its two parameters measured on them; the
    gradient is each level's marginal cost, the slope between the integers around it.
    """
    magnitudes = levels.abs()
    with torch.no_grad():
        rounded = magnitudes.round()
        count = rounded.shape[1]
        total = rounded.sum(1)
        nonzero = torch.count_nonzero(rounded, 1).clamp(1, max(count - 1, 1))
        ratio = (1 - nonzero / total.clamp(min=1)).clamp(1 / 32, 1 - 2.0**-12)
        zero_bits = -torch.log2(1 - nonzero / count)
        one_bits = -torch.log2(nonzero / count * (1 - ratio) / 2)
        slope = -torch.log2(ratio)
        bits = zero_bits * (count - nonzero) + one_bits * nonzero
        bits += slope * (total - nonzero).clamp(min=0)
        climb = (one_bits - zero_bits).clamp(min=0)
    gradient = climb * magnitudes.clamp(max=1).sum(1) + slope * F.relu(magnitudes - 1).sum(1)
    return (bits + gradient - gradient.detach()).sum()


def embedding_bits(levels: Tensor) -> Tensor:
    """Estimated bits of temporally predicted embeddings [T, C, h, w], in unrounded levels."""
    bits = tensor_bits(levels[0].reshape(1, -1))
    if len(levels) > 1:
        deltas = levels[1:] - levels[:-1]
        bits = bits + tensor_bits(deltas.transpose(0, 1).flatten(1))
    return bits


def estimated_bits(network: SynthesisNetwork, quantizers: Quantizers, embedding: Tensor) -> Tensor:
    """Bits [] of all weights and embeddings under the present steps; differentiable. Headers,
    tables, biases and checksums are not counted."""
    steps = quantizers.log_steps.exp()
    bits = embedding_bits(embedding / steps[-1])
    for weight, step in zip(network.weights, steps, strict=False):
        bits = bits + tensor_bits((weight / step).view(1, -1))
    return bits


@torch.no_grad()
def scale_steps(
    network: SynthesisNetwork, quantizers: Quantizers, embedding: Tensor, target_bits: float
) -> None:
    """Multiplies all steps by one factor (1/64 .. 64), so that the estimate meets the target."""
    original = quantizers.log_steps.clone()
    low, high = -math.log(64), math.log(64)
    for _ in range(14):
        middle = (low + high) / 2
        quantizers.log_steps.copy_(original + middle)
        if float(estimated_bits(network, quantizers, embedding)) > target_bits:
            low = middle
        else:
            high = middle
    quantizers.log_steps.copy_(original + high)
