"""The second phase of a fit: every quantizer is in the loop and the rate in the loss, which holds
the estimated size at the budget. The embeddings are parameters of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hnervcodec.bitstream import segment
from hnervcodec.fitting.model_choice import segment_overhead
from hnervcodec.fitting.progress import Phase
from hnervcodec.fitting.quantization import (
    EMBED_ZERO,
    MAX_WEIGHT,
    FittedSegment,
    level_value,
    quantize,
)
from hnervcodec.fitting.rate_model import estimated_bits, scale_steps
from hnervcodec.fitting.synthesis_network import Quantizers, SynthesisNetwork
from hnervcodec.fitting.training import Training

RATE_EVERY = 4  # steps between evaluations of the rate term, which then counts as many times
FIRST_RATE = 0.2  # share of lambda at the first quantized step
RATE_RAMP = 2.0  # how fast that share grows to 1, per phase
EXPECTED_GAIN = 1.0  # dB from the first quantized step to the last
AIM_RANGE = 2.0  # how far constant quality may move the budget that the network was chosen for
STEPS_LEARN_UNTIL = 0.75  # shares of this phase
STEPS_REST_FROM = 0.95
FILLED = 0.997  # of the budget: a little room is left for the last steps' drift
LEAST_FILLED = 0.25  # of the budget, however much of it the overhead takes
CALIBRATION_BATCHES = 16  # that the activations' ranges are measured on


class QuantizedPhase:
    """The network with its quantizers, and the control of its size.

    log_steps: [layers + 1], as in `Quantizers`.
    """

    name = Phase.QUANTIZED

    def __init__(self, training: Training, log_steps: Tensor):
        task = training.task
        self.training, self.synthesis, self.schedule = (
            training,
            training.synthesis,
            training.schedule,
        )
        self.embedding = training.embedding
        self.quantizers = Quantizers(log_steps).to(task.device)
        training.train([self.quantizers.log_steps], task.config.step_rate)
        self.budget = task.budget  # bytes; an aim moves it
        # Bits of what `estimated_bits` leaves out: by rule of thumb, until they are measured.
        self.overhead = 8.0 * segment_overhead(task.model, task.video, len(task.frames))
        self.bits = self.target_bits  # as last estimated
        self.predicted_bytes: float | None = None  # of the payload, from that

    @torch.no_grad()
    def begin(self) -> None:
        """Fits every quantizer to the network that the float phase ended with."""
        self._calibrate_activations()
        scale_steps(self.synthesis, self.quantizers, self.embedding, self.target_bits)
        self._keep_levels_in_range()

    @torch.no_grad()
    def _calibrate_activations(self) -> None:
        """Fits the activations' scales to the network as it is now."""
        chunks = torch.split(self.embedding, self.schedule.batch_frames)
        chunks = chunks[:: max(1, len(chunks) // CALIBRATION_BATCHES)]
        with self.training.autocast():
            ranges = [self.synthesis.activation_ranges(chunk) for chunk in chunks]
        lows = [min(r[n][0] for r in ranges) for n in range(len(ranges[0]))]
        highs = [max(r[n][1] for r in ranges) for n in range(len(ranges[0]))]
        scales = activation_scales(self.synthesis, lows, highs)
        self.quantizers.gains, self.quantizers.zero_points = scales

    def round_activations(self) -> None:
        """From now on activations are levels too: they are cheap to learn to live with, and take
        long to compute, so that only the last steps have them."""
        self._calibrate_activations()
        self.quantizers.round_activations = True

    def train(self, index: Tensor, step: int) -> None:
        """One update from the frames numbered by `index`."""
        training, synthesis, quantizers = self.training, self.synthesis, self.quantizers
        levels = synthesis.embedding_levels(self.embedding[index], quantizers)
        rounded = [levels, *synthesis.operands(quantizers)]
        used = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in rounded]
        gradients, error = training.gradients(
            index,
            lambda part: training.decoder(used[0][part], used[1:], quantizers),
            [tensor for tensor in used if tensor.requires_grad],
        )
        trained = [tensor for tensor in rounded if tensor.requires_grad]
        torch.autograd.backward(trained, gradients)
        if step % RATE_EVERY == 0:
            self._rate_term(step).backward()  # type: ignore[no-untyped-call]
        training.update()
        self._hold_budget(step)
        training.record(error, step)

    def follow_up(self, step: int) -> None:
        """After an update: once an epoch what is written is measured and the budget follows the
        aim; the predicted size is kept up to date."""
        if (step - self.schedule.quantize_at) % self.schedule.steps_per_epoch == 0:
            self.measure()
            self._follow_aim(step)
        if step == self.schedule.steps - 1:
            self.bits = self._estimate()
        self.predicted_bytes = (self.bits + self.overhead) / 8

    # The size

    @property
    def target_bits(self) -> float:
        """What `estimated_bits` may reach."""
        return max(8 * self.budget * FILLED - self.overhead, 8.0 * self.budget * LEAST_FILLED)

    @torch.no_grad()
    def _estimate(self) -> float:
        return float(estimated_bits(self.synthesis, self.quantizers, self.embedding))

    def measure(self) -> None:
        """Compares the estimate with the bytes that would really be written now."""
        payload = segment.write(quantize(self.result(), self.training.task.video, 0))
        self.overhead = 8 * len(payload) - self._estimate()

    def _follow_aim(self, step: int) -> None:
        """Towards constant quality the budget itself is steered, by what the rest of the fit is
        expected to make of the present distortion."""
        task, share = self.training.task, self.schedule.quantized_share(step)
        if task.aim is None or share > STEPS_REST_FROM:
            return
        final = self.training.distortion * 10 ** (-0.1 * EXPECTED_GAIN * (1 - share) ** 2)
        octaves = task.aim.octaves(final, 8 * self.budget / task.pixels)
        pace = min(1.0, 4 * self.schedule.steps_per_epoch / self.schedule.steps + 0.1)
        budget = self.budget * 2 ** (octaves * pace)
        self.budget = round(min(max(budget, task.budget / AIM_RANGE), task.budget * AIM_RANGE))

    def _rate_term(self, step: int) -> Tensor:
        """lambda * bits per pixel. lambda = distortion / rate is the slope of a curve along which
        twice the bytes halve the distortion; being scale-free it suits every clip and budget.
        It comes in gradually."""
        bits = estimated_bits(self.synthesis, self.quantizers, self.embedding)
        config, target = self.training.task.config, self.target_bits
        slope = config.rate_weight * self.training.distortion / target
        ramp = min(1.0, FIRST_RATE + RATE_RAMP * self.schedule.quantized_share(step))
        # After the steps have come to rest, only this slope still holds the size.
        self.bits = float(bits.detach())
        excess = self.bits / target - 1
        correction = math.exp(min(max(100 * excess, -6.0), 3.0))
        return RATE_EVERY * ramp * correction * slope * bits

    @torch.no_grad()
    def _hold_budget(self, step: int) -> None:
        """Scales all steps towards the budget. Later in the phase they move little, and in the
        end they rest, so that the weights settle on their levels."""
        share, log_steps = self.schedule.quantized_share(step), self.quantizers.log_steps
        if share > STEPS_LEARN_UNTIL:
            log_steps.requires_grad_(False)
            log_steps.grad = None
        if step % RATE_EVERY or share > STEPS_REST_FROM:
            return
        values = self.embedding.numel() + sum(w.numel() for w in self.synthesis.weights)
        # A value costs a bit less when its step doubles.
        change = (self.bits - self.target_bits) / values * math.log(2)
        # Short fits have few occasions to move, and take larger steps.
        limit = max(0.02, 2 * RATE_EVERY / (self.schedule.steps - self.schedule.quantize_at))
        if share > STEPS_LEARN_UNTIL:
            limit /= 10
        log_steps.add_(min(max(change, -limit), limit))
        self._keep_levels_in_range()

    @torch.no_grad()
    def _keep_levels_in_range(self) -> None:
        """A generous budget must not make steps so fine that levels would be clipped."""
        largest = [weight.abs().max() for weight in self.synthesis.weights]
        limits = [MAX_WEIGHT[spec.kind] for spec in self.synthesis.specs]
        floors = [m / limit for m, limit in zip(largest, limits, strict=True)]
        floors.append(self.embedding.abs().max() / (255 - EMBED_ZERO))
        floor = torch.stack(floors).clamp(min=1e-8).log()
        self.quantizers.log_steps.copy_(torch.maximum(self.quantizers.log_steps, floor))

    @torch.no_grad()
    def result(self) -> FittedSegment:
        """The segment as it is now, in floats and steps."""
        specs, steps = self.synthesis.specs, self.quantizers.log_steps.exp().tolist()
        weights = [
            weight.view(spec.weight_shape).float().cpu().numpy()
            for weight, spec in zip(self.synthesis.weights, specs, strict=True)
        ]
        return FittedSegment(
            self.training.task.model,
            weights,
            [bias.float().cpu().numpy() for bias in self.synthesis.biases],
            steps[:-1],
            self.quantizers.gains,
            self.quantizers.zero_points,
            self.embedding.float().cpu().numpy(),
            steps[-1],
        )

    # Checkpoints

    def state(self) -> dict[str, Any]:
        """What of this phase is not in the state of its training."""
        quantizers = self.quantizers
        return {
            "log_steps": quantizers.log_steps.detach(),
            "steps_learn": quantizers.log_steps.requires_grad,
            "gains": quantizers.gains,
            "zero_points": quantizers.zero_points,
            "round_activations": quantizers.round_activations,
            "budget": self.budget,
            "overhead": self.overhead,
            "bits": self.bits,
            "predicted_bytes": self.predicted_bytes,
        }

    @classmethod
    def from_state(cls, training: Training, state: dict[str, Any]) -> QuantizedPhase:
        """Inverse of `state`."""
        phase = cls(training, state["log_steps"])
        phase.quantizers.log_steps.requires_grad_(state["steps_learn"])
        phase.quantizers.gains = state["gains"]
        phase.quantizers.zero_points = state["zero_points"]
        phase.quantizers.round_activations = state["round_activations"]
        phase.budget, phase.overhead = state["budget"], state["overhead"]
        phase.bits = state["bits"]
        phase.predicted_bytes = state["predicted_bytes"]
        return phase


def activation_scales(
    network: SynthesisNetwork, lows: list[float], highs: list[float]
) -> tuple[list[int], list[int]]:
    """(gains, zero points) of the hidden layers' outputs from the lowest and highest value of
    each; residual layers share their input's."""
    gains: list[int] = []
    zero_points: list[int] = []
    for n, spec in enumerate(network.specs[:-1]):
        if spec.kind == "residual":
            gains.append(gains[-1])
            zero_points.append(zero_points[-1])
            continue
        stop = n + 1
        while network.specs[stop - 1].feeds_residual:
            stop += 1
        low, high = min(lows[n:stop]), max(highs[n:stop])
        gain = int(level_value(1) * 255 / (high - low))
        gain = min(max(gain, 1), 65535)
        gains.append(gain)
        zero_points.append(min(max(round(-low / level_value(gain)), 0), 255))
    return gains, zero_points
