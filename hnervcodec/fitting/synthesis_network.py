"""The synthesis network in floating point, as the encoder trains it.

The float twin of `hnervcodec.synthesis`: same layers, and with `Quantizers` the same roundings,
passed straight through by the gradient. Nothing here is normative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hnervcodec.bitstream.architecture import LayerSpec
from hnervcodec.fitting.quantization import EMBED_ZERO, MAX_WEIGHT, level_value


class _Clip(torch.autograd.Function):
    """clamp whose gradient is one product with a mask: a tenth less for a whole step on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        clipped = x.clamp(low, high)
        ctx.save_for_backward(x == clipped)
        return clipped

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None


class _Round(torch.autograd.Function):
    """round; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def round_clip(x: Tensor, low: float, high: float) -> Tensor:
    """round, then clip; the gradient passes where nothing was clipped."""
    rounded = _Round.apply(x)  # type: ignore[no-untyped-call]
    return _Clip.apply(rounded, low, high)  # type: ignore[no-untyped-call,no-any-return]


class _QuantizeWeights(torch.autograd.Function):
    """All layers' weights by `round_clip` of their steps, back in their unit or in levels: in one
    call, as autograd takes longer for so many small operations than these do."""

    @staticmethod
    def forward(
        ctx: Any, limits: list[int], in_levels: bool, log_steps: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        steps = log_steps[: len(weights)].exp().tolist()
        scaled = torch._foreach_div(weights, steps)
        rounded = torch._foreach_round(scaled)
        levels = [r.clamp(-limit, limit) for r, limit in zip(rounded, limits, strict=True)]
        ctx.steps, ctx.in_levels, ctx.count = steps, in_levels, len(log_steps)
        ctx.scaled, ctx.levels = scaled, levels
        ctx.inside = [r == level for r, level in zip(rounded, levels, strict=True)]
        return tuple(levels) if in_levels else tuple(torch._foreach_mul(levels, steps))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        passed = [slope * inside for slope, inside in zip(slopes, ctx.inside, strict=True)]
        of_steps = None
        if ctx.needs_input_grad[2]:
            sums = [
                -torch.vdot(slope.view(-1), scaled.view(-1))
                for slope, scaled in zip(passed, ctx.scaled, strict=True)
            ]
            if not ctx.in_levels:
                for n, (slope, level) in enumerate(zip(slopes, ctx.levels, strict=True)):
                    sums[n] = (sums[n] + torch.vdot(slope.view(-1), level.view(-1))) * ctx.steps[n]
            of_steps = slopes[0].new_zeros(ctx.count)
            of_steps[: len(sums)] = torch.stack(sums)
        if ctx.in_levels:
            passed = list(torch._foreach_div(passed, ctx.steps))
        return None, None, of_steps, *passed


class Quantizers(nn.Module):
    """Learned steps of weights and embeddings, fixed scales of the activations.

    log_steps: [layers + 1], natural logarithm of each weight tensor's step, the embeddings' last.
    gains: the integer `gain` of each layer; a level of its output is worth 64 / gain.
    zero_points: the level that means 0 in each layer's output.
    round_activations: whether activations run in levels too.
    """

    def __init__(self, log_steps: Tensor):
        super().__init__()
        self.log_steps = nn.Parameter(log_steps)
        self.gains: list[int] = []
        self.zero_points: list[int] = []
        self.round_activations = False

    def step(self, layer: int) -> Tensor:
        """Of a layer's weights; of the embeddings: -1."""
        return self.log_steps[layer].exp()


class SynthesisNetwork(nn.Module):
    """The decoder network while it is trained: embeddings [B, C, h, w] -> packed samples
    [B, channels, H, W], black 0 .. white 1.

    specs: its layers, in order; the last one is the head.
    """

    def __init__(self, specs: tuple[LayerSpec, ...]):
        super().__init__()
        self.specs = specs
        # Kernels are stored as matrices [out, in * k * k], the shape Muon orthogonalizes.
        self.weights = nn.ParameterList(
            torch.empty(s.weight_shape[0], s.weights // s.weight_shape[0]) for s in specs
        )
        self.biases = nn.ParameterList(torch.zeros(s.out_channels) for s in specs)
        for weight in self.weights:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        nn.init.constant_(self.biases[-1], 0.5)

    def operands(self, quantizers: Quantizers | None = None) -> list[Tensor]:
        """What the layers compute with: their weights, then their biases. With `quantizers` the
        weights are rounded; with their `round_activations` they are in levels, the biases in
        units of the sums, and these units [] follow."""
        if quantizers is None:
            return [*self.weights, *self.biases]
        layers = range(len(self.specs))
        limits = [MAX_WEIGHT[spec.kind] for spec in self.specs]
        in_levels = quantizers.round_activations
        weights: tuple[Tensor, ...] = _QuantizeWeights.apply(  # type: ignore[no-untyped-call]
            limits, in_levels, quantizers.log_steps, *self.weights
        )
        if not in_levels:
            return [*weights, *self.biases]
        steps = [quantizers.step(n) for n in layers]
        # A level of the input is worth what one of the layer before is.
        values = map(level_value, quantizers.gains)
        units = [steps[0] * quantizers.step(-1)]
        units += [step * value for step, value in zip(steps[1:], values, strict=True)]
        biases = [bias / unit for bias, unit in zip(self.biases, units, strict=True)]
        return [*weights, *biases, *units]

    def embedding_levels(self, embedding: Tensor, quantizers: Quantizers) -> Tensor:
        """Embeddings [B, C, h, w] rounded, as the input of the layers: in levels relative to their
        zero point if activations are, else with their values."""
        step = quantizers.step(-1)
        levels = round_clip(embedding / step, -EMBED_ZERO, 255 - EMBED_ZERO)
        return levels if quantizers.round_activations else levels * step

    def forward(
        self, x: Tensor, operands: Sequence[Tensor], quantizers: Quantizers | None = None
    ) -> Tensor:
        """Samples of embeddings `x` by layers that compute with `operands`."""
        count = len(self.specs)
        weights, biases = operands[:count], operands[count : 2 * count]
        if quantizers is not None and quantizers.round_activations:
            return self._run_in_levels(x, weights, biases, operands[2 * count :], quantizers)
        for n, spec in enumerate(self.specs[:-1]):
            y = F.gelu(self.convolve(n, x, weights[n], biases[n]))
            x = x + y if spec.kind == "residual" else y
        return self.convolve(count - 1, x, weights[-1], biases[-1])

    def _run_in_levels(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        units: Sequence[Tensor],
        quantizers: Quantizers,
    ) -> Tensor:
        """With activations in levels relative to their zero point."""
        stream = x  # what residual layers add to: not rounded, unlike the convolutions' inputs
        for n, spec in enumerate(self.specs[:-1]):
            v = self.convolve(n, x, weights[n], biases[n])
            y = F.gelu(v * units[n].to(v.dtype)) / level_value(quantizers.gains[n])
            stream = stream + y if spec.kind == "residual" else y
            zero = quantizers.zero_points[n]
            stream = _Clip.apply(stream, -zero, 255 - zero)  # type: ignore[no-untyped-call]
            x = _Round.apply(stream)  # type: ignore[no-untyped-call]
        v = self.convolve(len(self.specs) - 1, x, weights[-1], biases[-1])
        return v * units[-1].to(v.dtype)

    def convolve(self, layer: int, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolution with one bias per output channel, then the pixel shuffle."""
        spec = self.specs[layer]
        bias = bias.repeat_interleave(spec.shuffle**2)
        v = F.conv2d(x, weight.view(spec.weight_shape), bias, padding=spec.kernel // 2)
        return F.pixel_shuffle(v, spec.shuffle) if spec.shuffle > 1 else v

    @torch.no_grad()
    def activation_ranges(self, x: Tensor) -> list[tuple[float, float]]:
        """(low, high) of each hidden layer's outputs in float, without a thousandth at each end.
        The network learns to live with being clipped there, and its levels are finer."""
        ranges = []
        for n, spec in enumerate(self.specs[:-1]):
            v = self.convolve(n, x, self.weights[n], self.biases[n])
            x = x + F.gelu(v) if spec.kind == "residual" else F.gelu(v)
            values = x.flatten()
            top = max(1, values.numel() // 1_000)
            high = float(values.topk(top).values[-1])
            low = float(values.topk(top, largest=False).values[-1])
            ranges.append((min(low, 0.0), max(high, 0.1)))
        return ranges
