"""Fits a network and embeddings to the frames of one segment.

Phase one trains the analysis and synthesis networks together in float. Phase two keeps the
embeddings as free parameters and trains with every quantizer in the loop and the rate in the
loss, holding the estimated size at the budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hnervcodec.bitstream import segment
from hnervcodec.bitstream.architecture import ModelConfig
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import HnervError, OutputError
from hnervcodec.fitting import fit_state
from hnervcodec.fitting.analysis_network import AnalysisNetwork, embed_all
from hnervcodec.fitting.loss import Loss
from hnervcodec.fitting.model_choice import segment_overhead
from hnervcodec.fitting.presets import FitConfig
from hnervcodec.fitting.progress import Phase, Progress
from hnervcodec.fitting.quality_target import QualityTarget
from hnervcodec.fitting.quantization import (
    EMBED_ZERO,
    MAX_WEIGHT,
    FittedSegment,
    level_value,
    quantize,
)
from hnervcodec.fitting.rate_model import estimated_bits, scale_steps
from hnervcodec.fitting.synthesis_network import Quantizers, SynthesisNetwork
from hnervcodec.planes import packed_size
from hnervcodec.system.devices import bf16_pays

# Pixels of a batch: large frames come one by one.
BATCH_PIXELS = 400_000
CALIBRATION = 9.0  # seconds of trying the steps, to predict how long they take
RATE_EVERY = 4  # steps between evaluations of the rate term, which then counts as many times
FIRST_RATE = 0.2  # share of lambda at the first quantized step
EXPECTED_GAIN = 1.0  # dB from the first quantized step to the last
AIM_RANGE = 2.0  # how far constant quality may move the budget that the network was chosen for
STEPS_LEARN_UNTIL = 0.75  # shares of the quantized phase
STEPS_REST_FROM = 0.95


class _Fit:
    """State of one fit; `run` is the only entry."""

    def __init__(
        self,
        frames: np.ndarray,
        hidden: np.ndarray | None,
        video: VideoHeader,
        model: ModelConfig,
        config: FitConfig,
        budget: int,
        aim: QualityTarget | None,
        device: torch.device,
        report: Callable[[Progress], None],
    ):
        torch.manual_seed(config.seed)
        self.config, self.model, self.device, self.report = config, model, device, report
        self.video, self.budget, self.first_budget, self.aim = video, budget, budget, aim
        # Bits of what `estimated_bits` leaves out; measured once the quantizers run.
        self.overhead = 8.0 * segment_overhead(model, video, len(frames))
        size = packed_size(video.width, video.height)
        self.loss = Loss(size, config.plane_balance, config.structure)
        samples = torch.from_numpy(frames if frames.dtype == np.uint8 else frames.astype(np.int16))
        self.frames = samples.to(device).contiguous(memory_format=torch.channels_last)
        self.hidden = None if hidden is None else torch.from_numpy(hidden).to(device)
        self.white = float(video.max_sample)
        self.order = torch.Generator().manual_seed(config.seed)
        specs = video.layers(model)
        self.synthesis = SynthesisNetwork(specs).to(device)
        self.analysis = AnalysisNetwork(model, video.packed_channels).to(device)
        self.quantizers: Quantizers | None = None
        self.embedding: torch.nn.Parameter | None = None
        self.masks: list[Tensor] | None = None
        self.bf16 = bf16_pays(device)
        pixels = video.width * video.height
        self.batch_size = min(max(round(BATCH_PIXELS / pixels), 1), config.batch_frames)
        self.per_epoch = math.ceil(len(frames) / self.batch_size)
        self.steps = max(round(config.updates_per_frame * len(frames)), 20)
        self.quantize_at = round(self.steps * config.quantize_from)
        self.prune_at = round(self.steps * 0.8 * config.quantize_from)
        self.round_at = max(self.quantize_at + 1, round(self.steps * config.round_activations_from))
        matrices = list(self.synthesis.weights)[1:-1]
        others = [
            *self.synthesis.biases,
            self.synthesis.weights[0],
            self.synthesis.weights[-1],
            *self.analysis.parameters(),
        ]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices,
                lr=config.matrix_rate,
                weight_decay=config.matrix_decay,
                momentum=0.95,
                nesterov=True,
                ns_steps=5,
                adjust_lr_fn="original",
            ),
            torch.optim.Adam(others, lr=config.other_rate),
        ]
        # What changes from step to step, beside the networks:
        self.step, self.seconds, self.distortion, self.warning = 0, 0.0, 0.0, ""
        self.queue: list[Tensor] = []  # batches that are left of this epoch
        self.recent: list[float] = []  # distortions
        self.size: float | None = None

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def batch(self, index: Tensor) -> Tensor:
        """[B, channels, H, W] float32 in 0..1."""
        return self.frames[index].float().div_(self.white)

    def run(self, checkpoint: Path | None = None) -> FittedSegment:
        if checkpoint and checkpoint.exists():
            self.restore(fit_state.load(checkpoint))
        begun = time.monotonic()
        start, due = begun - self.seconds, begun + fit_state.INTERVAL
        for step in range(self.step, self.steps):
            if step == self.prune_at and self.config.prune:
                self.begin_pruning()
            if step == self.quantize_at:
                self.begin_quantizing()
            if step == self.round_at:
                self.begin_rounding_activations()
            if not self.queue:
                shuffled = torch.randperm(len(self.frames), generator=self.order)
                self.queue = list(torch.split(shuffled, self.batch_size))
            self.set_rates(step)
            self.recent.append(self.train_step(self.queue.pop().to(self.device), step))
            self.recent = self.recent[-self.per_epoch :]
            self.distortion = sum(self.recent) / len(self.recent)
            if not math.isfinite(self.distortion):
                raise HnervError(f"the fit diverged at step {step}: try another seed")
            if self.quantizers is not None:
                if (step - self.quantize_at) % self.per_epoch == 0:
                    self.measure()
                    self.follow_aim(step)
                if step % RATE_EVERY == 0 or step == self.steps - 1:
                    self.size = (self.estimate() + self.overhead) / 8
            phase = Phase.FLOAT if self.quantizers is None else Phase.QUANTIZED
            psnr = -10 * math.log10(max(self.distortion, 1e-10))
            self.step, self.seconds = step + 1, time.monotonic() - start
            self.report(
                Progress(phase, step + 1, self.steps, self.seconds, psnr, self.size, self.warning)
            )
            if checkpoint and (begun := time.monotonic()) >= due:
                self.save(checkpoint)
                saved = time.monotonic()
                due = saved + max(fit_state.INTERVAL, (saved - begun) / fit_state.SHARE)
        return self.result()

    # Checkpoints

    def save(self, checkpoint: Path) -> None:
        """A full disk is no reason to end the fit, but one to speak."""
        try:
            fit_state.save(checkpoint, self.state())
            self.warning = ""
        except OutputError as error:
            self.warning = f"this fit would be lost: {error}"

    _PLAIN = (
        "step",
        "seconds",
        "distortion",
        "queue",
        "recent",
        "size",
        "overhead",
        "budget",
        "embedding",
        "masks",
    )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on; plain types and tensors."""
        state = {name: getattr(self, name) for name in self._PLAIN}
        state["synthesis"] = self.synthesis.state_dict()
        state["analysis"] = self.analysis.state_dict()
        state["order"] = self.order.get_state()
        state["loss"] = {
            "plane_errors": self.loss.plane_errors,
            "dissimilarity": self.loss.dissimilarity,
        }
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        if self.quantizers is not None:
            state["quantizers"] = {
                "log_steps": self.quantizers.log_steps.detach(),
                "is_learned": self.quantizers.log_steps.requires_grad,
                "gains": self.quantizers.gains,
                "zero_points": self.quantizers.zero_points,
                "round_activations": self.quantizers.round_activations,
            }
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        for name in self._PLAIN:
            setattr(self, name, state[name])
        self.synthesis.load_state_dict(state["synthesis"])
        self.analysis.load_state_dict(state["analysis"])
        self.order.set_state(state["order"])
        self.loss.plane_errors = state["loss"]["plane_errors"]
        self.loss.dissimilarity = state["loss"]["dissimilarity"]
        if "quantizers" in state:
            held = state["quantizers"]
            self.add_quantizers(held["log_steps"], state["embedding"].detach())
            assert self.quantizers is not None
            self.quantizers.gains = held["gains"]
            self.quantizers.zero_points = held["zero_points"]
            self.quantizers.round_activations = held["round_activations"]
            self.quantizers.log_steps.requires_grad_(held["is_learned"])
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)

    def predict(self) -> float:
        """Seconds that `run` would take; uses the fit up. Every kind of step is tried."""
        total = 0.0
        starts = [0, self.quantize_at, self.round_at, self.steps]
        begins = [lambda: None, self.begin_quantizing, self.begin_rounding_activations]
        index = torch.arange(min(self.batch_size, len(self.frames)), device=self.device)
        for begin, start, end in zip(begins, starts[:-1], starts[1:], strict=True):
            begun = time.monotonic()
            begin()
            total += time.monotonic() - begun
            self.distortion = self.train_step(index, start)  # compiles kernels, fills caches
            begun, done = time.monotonic(), 0
            while done < RATE_EVERY or time.monotonic() - begun < CALIBRATION / len(begins):
                self.distortion = self.train_step(index, start + done)
                done += 1
            total += (time.monotonic() - begun) / done * (end - start)
            if self.quantizers is not None:
                begun = time.monotonic()
                self.measure()
                total += (time.monotonic() - begun) * (end - start) / self.per_epoch
        return total

    def set_rates(self, step: int) -> None:
        """Linear warm-up, then half a cosine to zero."""
        warmup = max(1, round(self.steps * self.config.warmup))
        if step < warmup:
            factor = (step + 1) / warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("peak", group["lr"])
                group["lr"] = group["peak"] * max(factor, 1e-3)

    def train_step(self, index: Tensor, step: int) -> float:
        """One update; returns the batch's squared error per sample of 0..1."""
        target = self.batch(index)
        with self.autocast():
            free = self.embedding
            embedding = self.analysis(target) if free is None else free[index]
            decoded = self.synthesis(embedding, self.quantizers)
        hidden = None if self.hidden is None else self.hidden[index]
        loss, distortion = self.loss(decoded, target, hidden)
        if self.quantizers is not None and step % RATE_EVERY == 0:
            loss = loss + self.rate_term(step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        if self.masks is not None:
            with torch.no_grad():
                for weight, mask in zip(self.synthesis.weights, self.masks, strict=True):
                    weight.mul_(mask)
        if self.quantizers is not None:
            self.hold_budget(step)
        return float(distortion.detach())

    # Pruning and quantizers

    @torch.no_grad()
    def begin_pruning(self) -> None:
        """Global unstructured magnitude pruning (HNeRV section 3.4); the rest is retrained."""
        weights = list(self.synthesis.weights)
        magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
        cut = magnitudes.kthvalue(max(1, round(len(magnitudes) * self.config.prune))).values
        self.masks = [(weight.abs() > cut).float() for weight in weights]

    @torch.no_grad()
    def begin_quantizing(self) -> None:
        """Freezes the embeddings into parameters and calibrates every quantizer."""
        everything = torch.arange(len(self.frames), device=self.device)
        chunks = torch.split(everything, self.batch_size)
        with self.autocast():
            embedding = embed_all(self.analysis, map(self.batch, chunks))
        spread = [weight.std() / 8 for weight in self.synthesis.weights]
        steps = torch.stack([*spread, embedding.std() / 12]).clamp(min=1e-6).log()
        self.add_quantizers(steps, embedding)
        assert self.quantizers is not None and self.embedding is not None
        self.calibrate_activations(self.quantizers)
        scale_steps(self.synthesis, self.quantizers, self.embedding, self.target_bits)
        self.keep_levels_in_range()

    def add_quantizers(self, log_steps: Tensor, embedding: Tensor) -> None:
        """From now on both are trained, and the analysis network is not."""
        self.embedding = torch.nn.Parameter(embedding)
        self.quantizers = Quantizers(log_steps).to(self.device)
        adam = self.optimizers[1]
        adam.add_param_group({"params": [self.embedding], "lr": self.config.other_rate})
        adam.add_param_group({"params": [self.quantizers.log_steps], "lr": self.config.step_rate})
        for group in adam.param_groups[1:]:
            group["peak"] = group["lr"]
        for parameter in self.analysis.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def calibrate_activations(self, quantizers: Quantizers) -> None:
        """Fits the activations' scales to the network as it is now."""
        assert self.embedding is not None
        chunks = torch.split(self.embedding, self.batch_size)
        chunks = chunks[:: max(1, len(chunks) // 16)]
        with self.autocast():
            ranges = [self.synthesis.activation_ranges(chunk) for chunk in chunks]
        lows = [min(r[n][0] for r in ranges) for n in range(len(ranges[0]))]
        highs = [max(r[n][1] for r in ranges) for n in range(len(ranges[0]))]
        quantizers.gains, quantizers.zero_points = activation_scales(self.synthesis, lows, highs)

    def begin_rounding_activations(self) -> None:
        """They are cheap to learn to live with, and take long to compute: the last steps do."""
        assert self.quantizers is not None
        self.calibrate_activations(self.quantizers)
        self.quantizers.round_activations = True

    # Rate

    def phase_share(self, step: int) -> float:
        """How much of the quantized phase has passed, 0..1."""
        return (step - self.quantize_at) / max(1, self.steps - self.quantize_at)

    @property
    def target_bits(self) -> float:
        """What `estimated_bits` may reach; a little room is left for the last steps' drift."""
        return max(8 * self.budget * 0.997 - self.overhead, 8.0 * self.budget / 4)

    @torch.no_grad()
    def estimate(self) -> float:
        assert self.quantizers is not None and self.embedding is not None
        return float(estimated_bits(self.synthesis, self.quantizers, self.embedding))

    def measure(self) -> None:
        """Compares the estimate with the bytes that would really be written now."""
        payload = segment.write(quantize(self.result(), self.video, 0))
        self.overhead = 8 * len(payload) - self.estimate()

    def follow_aim(self, step: int) -> None:
        """Towards constant quality the budget itself is steered, by what the rest of the fit is
        expected to make of the present distortion."""
        share = self.phase_share(step)
        if self.aim is None or share > STEPS_REST_FROM:
            return
        pixels = len(self.frames) * self.video.width * self.video.height
        final = self.distortion * 10 ** (-0.1 * EXPECTED_GAIN * (1 - share) ** 2)
        octaves = self.aim.octaves(final, 8 * self.budget / pixels)
        budget = self.budget * 2 ** (octaves * min(1.0, 4 * self.per_epoch / self.steps + 0.1))
        self.budget = round(
            min(max(budget, self.first_budget / AIM_RANGE), self.first_budget * AIM_RANGE)
        )

    def rate_term(self, step: int) -> Tensor:
        """lambda * bits per pixel. lambda = distortion / rate is the slope of a curve along which
        twice the bytes halve the distortion; being scale-free it suits every clip and budget.
        It comes in gradually."""
        assert self.quantizers is not None and self.embedding is not None
        bits = estimated_bits(self.synthesis, self.quantizers, self.embedding)
        slope = self.config.rate_weight * self.distortion / self.target_bits
        ramp = min(1.0, FIRST_RATE + 2 * self.phase_share(step))
        # After the steps have come to rest, only this slope still holds the size.
        excess = float(bits.detach()) / self.target_bits - 1
        correction = math.exp(min(max(100 * excess, -6.0), 3.0))
        return RATE_EVERY * ramp * correction * slope * bits

    @torch.no_grad()
    def hold_budget(self, step: int) -> None:
        """Scales all steps towards the budget. Later in the phase they move little, and in the
        end they rest, so that the weights settle on their levels."""
        assert self.quantizers is not None and self.embedding is not None
        share = self.phase_share(step)
        if share > STEPS_LEARN_UNTIL:
            self.quantizers.log_steps.requires_grad_(False)
            self.quantizers.log_steps.grad = None
        if step % RATE_EVERY or share > STEPS_REST_FROM:
            return
        bits, target = self.estimate(), self.target_bits
        values = self.embedding.numel() + sum(w.numel() for w in self.synthesis.weights)
        # A value costs a bit less when its step doubles.
        change = (bits - target) / values * math.log(2)
        # Short fits have few occasions to move, and take larger steps.
        limit = max(0.02, 2 * RATE_EVERY / (self.steps - self.quantize_at))
        if share > STEPS_LEARN_UNTIL:
            limit /= 10
        self.quantizers.log_steps.add_(min(max(change, -limit), limit))
        self.keep_levels_in_range()

    @torch.no_grad()
    def keep_levels_in_range(self) -> None:
        """A generous budget must not make steps so fine that levels would be clipped."""
        assert self.quantizers is not None and self.embedding is not None
        largest = [weight.abs().max() for weight in self.synthesis.weights]
        limits = [MAX_WEIGHT[spec.kind] for spec in self.synthesis.specs]
        floors = [m / limit for m, limit in zip(largest, limits, strict=True)]
        floors.append(self.embedding.abs().max() / (255 - EMBED_ZERO))
        floor = torch.stack(floors).clamp(min=1e-8).log()
        self.quantizers.log_steps.copy_(torch.maximum(self.quantizers.log_steps, floor))

    @torch.no_grad()
    def result(self) -> FittedSegment:
        assert self.quantizers is not None and self.embedding is not None
        specs, steps = self.synthesis.specs, self.quantizers.log_steps.exp().tolist()
        weights = [
            weight.view(spec.weight_shape).float().cpu().numpy()
            for weight, spec in zip(self.synthesis.weights, specs, strict=True)
        ]
        return FittedSegment(
            self.model,
            weights,
            [bias.float().cpu().numpy() for bias in self.synthesis.biases],
            steps[:-1],
            self.quantizers.gains,
            self.quantizers.zero_points,
            self.embedding.float().cpu().numpy(),
            steps[-1],
        )


def activation_scales(
    network: SynthesisNetwork, lows: list[float], highs: list[float]
) -> tuple[list[int], list[int]]:
    """Gain and zero point of each hidden layer's output; residual layers share their input's."""
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


def fit(
    frames: np.ndarray,
    video: VideoHeader,
    model: ModelConfig,
    config: FitConfig,
    budget: int,
    *,
    hidden: np.ndarray | None = None,
    aim: QualityTarget | None = None,
    device: torch.device,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> FittedSegment:
    """Fits `frames`, packed samples [T, channels, H, W] padded to the model's stride, so that
    the segment's payload takes about `budget` bytes or, with an `aim`, as many as that asks for.
    `hidden`: bool, the shape of `frames`: samples that the result need not resemble.
    Deterministic for a seed on one machine with one number of threads. `checkpoint`: a file that
    this fit is kept in from time to time, and goes on from if it exists."""
    return _Fit(frames, hidden, video, model, config, budget, aim, device, report).run(checkpoint)


def predict_seconds(
    frames: np.ndarray,
    video: VideoHeader,
    model: ModelConfig,
    config: FitConfig,
    budget: int,
    *,
    hidden: np.ndarray | None = None,
    device: torch.device,
) -> float:
    """How long `fit` takes with these arguments, from about `CALIBRATION` seconds of its steps."""
    fit = _Fit(frames, hidden, video, model, config, budget, None, device, lambda progress: None)
    return fit.predict()
