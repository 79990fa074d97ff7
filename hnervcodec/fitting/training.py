"""What the two phases of a fit share: the task, its schedule, its batches, and one update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hnervcodec.bitstream.architecture import ModelConfig
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import HnervError
from hnervcodec.fitting import training_kernel
from hnervcodec.fitting.cores import Cores
from hnervcodec.fitting.first_embeddings import FirstEmbeddings, patches
from hnervcodec.fitting.loss import Loss
from hnervcodec.fitting.muon import Muon
from hnervcodec.fitting.presets import FitConfig
from hnervcodec.fitting.quality_target import QualityTarget
from hnervcodec.fitting.start_weights import StartWeights
from hnervcodec.fitting.synthesis_network import SynthesisNetwork
from hnervcodec.fitting.training_kernel import TrainingKernel
from hnervcodec.planes import packed_size
from hnervcodec.system.devices import bf16_pays

# About how many pixels, and at most how many frames, a fit is shown for every step that its
# configuration asks for. Where they are more than a batch, it makes as many more steps: small
# batches learn more from the same arithmetic.
SHOWN_PIXELS, SHOWN_FRAMES = 400_000, 4
PRUNE_BEFORE_QUANTIZING = 0.8  # share of the float phase after which its networks are pruned
COARSE_WARMUP = 0.1  # share of the steps at a fraction of the size
LEAST_RATE = 1e-3  # of the peak learning rate, at the end of the schedule
MUON_MOMENTUM = 0.95
BF16_MATRIX = 100_000  # weights from which on products of matrices are faster in bfloat16


@dataclass(frozen=True, slots=True)
class FitTask:
    """A segment to be fitted, the network to fit to it, and the bytes it may take.

    frames: [T, channels, H, W] packed samples, uint8 or uint16, padded to the model's stride.
    budget: bytes of the segment's payload, which the result comes close to.
    hidden: bool, the shape of `frames`: samples that the result need not resemble.
    aim: a quality that moves the budget towards what it takes.
    start: what the networks begin from, instead of random weights.
    """

    frames: np.ndarray
    video: VideoHeader
    model: ModelConfig
    config: FitConfig
    budget: int
    device: torch.device
    hidden: np.ndarray | None = None
    aim: QualityTarget | None = None
    start: StartWeights | None = None

    @property
    def pixels(self) -> int:
        """Luma samples of all frames."""
        return len(self.frames) * self.video.width * self.video.height


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a fit does what, in optimizer steps from the first one at the full size."""

    coarse: int  # steps before that, at a fraction of the size
    steps: int  # of the rest
    warmup: int
    prune_at: int
    quantize_at: int  # the float phase ends, the quantized one begins
    round_at: int  # the quantized phase rounds activations from here on
    batch_frames: int
    steps_per_epoch: int  # an epoch shows every frame once

    @classmethod
    def of(cls, task: FitTask, frames: int | None = None) -> Self:
        """As the task's configuration says. frames: for so many instead of the task's own."""
        config, frames = task.config, frames or len(task.frames)
        shown = max(round(SHOWN_PIXELS / (task.video.width * task.video.height)), 1)
        shown = min(shown, SHOWN_FRAMES)
        batch_frames = min(shown, config.batch_frames)
        steps = config.steps(frames, shown / batch_frames)
        quantize_at = round(steps * config.quantize_from)
        # A start has learnt what they would teach; two stages are too few to leave out one.
        is_coarse = task.start is None and len(task.model.stages) > 2
        is_coarse = is_coarse and task.model.stages[-1].stride > 1
        return cls(
            round(steps * config.coarse) if is_coarse else 0,
            steps,
            warmup=max(1, round(steps * config.warmup)),
            prune_at=round(steps * PRUNE_BEFORE_QUANTIZING * config.quantize_from),
            quantize_at=quantize_at,
            round_at=max(quantize_at + 1, round(steps * config.round_activations_from)),
            batch_frames=batch_frames,
            steps_per_epoch=math.ceil(frames / batch_frames),
        )

    def learning_rate(self, step: int) -> float:
        """Share 0..1 of the peak rate: a linear warm-up, then half a cosine to almost zero."""
        if step < self.warmup:
            return max((step + 1) / self.warmup, LEAST_RATE)
        passed = (step - self.warmup) / (self.steps - self.warmup)
        return max(0.5 * (1 + math.cos(math.pi * passed)), LEAST_RATE)

    def coarse_rate(self, step: int) -> float:
        """The same of the steps at a fraction of the size, 0.. `coarse`: a warm-up."""
        return min(1.0, (step + 1) / max(1, COARSE_WARMUP * self.coarse))

    def quantized_share(self, step: int) -> float:
        """How much of the quantized phase has passed before `step`, 0..1."""
        return (step - self.quantize_at) / max(1, self.steps - self.quantize_at)


class Batches:
    """Numbers of the frames to train with next: every epoch all of them, in a new order."""

    def __init__(self, frames: int, batch_frames: int, seed: int):
        self.frames, self.batch_frames = frames, batch_frames
        self.generator = torch.Generator().manual_seed(seed)
        self.left: list[Tensor] = []  # of this epoch

    def next(self) -> Tensor:
        """Int64 [at most batch_frames], on the CPU."""
        if not self.left:
            order = torch.randperm(self.frames, generator=self.generator)
            self.left = list(torch.split(order, self.batch_frames))
        return self.left.pop()

    def state(self) -> dict[str, Any]:
        """All that later batches depend on."""
        return {"left": self.left, "generator": self.generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.left = state["left"]
        self.generator.set_state(state["generator"])


class Training:
    """The synthesis network, the embeddings, the optimizers of both, and the frames they are for.

    Both begin as the task's start says, or at random and from the frames' principal components.
    """

    def __init__(self, task: FitTask):
        self.task, self.schedule = task, Schedule.of(task)
        torch.manual_seed(task.config.seed)
        self.synthesis = synthesis = SynthesisNetwork(task.video.layers(task.model)).to(task.device)
        config, samples = task.config, task.frames
        size = packed_size(task.video.width, task.video.height)
        self.loss = Loss(size, config.plane_balance, config.structure)
        if samples.dtype != np.uint8:
            samples = samples.astype(np.int16)  # torch indexes no uint16
        on_device = torch.from_numpy(samples).to(task.device)
        self.frames = on_device.contiguous(memory_format=torch.channels_last)
        hidden = task.hidden
        self.hidden = None if hidden is None else torch.from_numpy(hidden).to(task.device)
        self.white = float(task.video.max_sample)
        known = patches(self.frames, self.white, task.model.stride)
        first = FirstEmbeddings.of(known, task.model.embed_channels)
        if task.start is not None:
            first = task.start.put_into(synthesis, first)
        self.embedding = nn.Parameter(first(known).to(task.device))  # [T, C, h, w]
        self.bf16 = bf16_pays(task.device)
        self.decoder: Callable[..., Tensor] = synthesis  # or what computes the same, faster
        self.cores = Cores(task.device, min(self.schedule.batch_frames, len(samples)))
        if task.device.type == "cpu" and (lib := training_kernel.library(self.bf16)):
            self.decoder = TrainingKernel(synthesis.specs, self.cores, lib)
        matrices = list(synthesis.weights)[1:-1]
        others = [
            *synthesis.biases,
            synthesis.weights[0],
            synthesis.weights[-1],
        ]
        largest = max((matrix.numel() for matrix in matrices), default=0)
        self.muon = Muon(
            matrices,
            rate=config.matrix_rate,
            decay=config.matrix_decay,
            momentum=MUON_MOMENTUM,
            dtype=torch.bfloat16 if self.bf16 and largest >= BF16_MATRIX else torch.float32,
            map_all=self.cores.map,
        )
        self.adam = torch.optim.Adam(others, lr=config.other_rate, fused=True)
        self.train([self.embedding], config.embedding_rate)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (self.muon, self.adam)
        self.keep: list[Tensor] | None = None  # of each kernel 1, or 0 where it was pruned
        self.errors: list[float] = []  # mean squared errors of the last epoch's worth of batches

    @property
    def distortion(self) -> float:
        """Mean squared error of samples 0..1, over about one epoch; 0 before the first update."""
        return sum(self.errors) / len(self.errors) if self.errors else 0.0

    def autocast(self) -> AbstractContextManager[None]:
        """Networks run in bfloat16 where that is faster. Nothing is cached, as threads would share
        it."""
        kind = self.task.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.bf16, cache_enabled=False)

    def batch(self, index: Tensor) -> Tensor:
        """The frames numbered by `index`: [B, channels, H, W] float32, black 0 .. white 1."""
        return self.frames[index].float().div_(self.white)

    def gradients(
        self,
        index: Tensor,
        decode: Callable[[slice], Tensor],
        by: Sequence[Tensor],
    ) -> tuple[list[Tensor], Tensor]:
        """Of the frames numbered by `index`: (the loss's gradients, mean squared error).

        decode: which of the batch -> the network's output for them. by: the tensors that it
        depends on, for each of which there is a gradient.
        """

        def forward(part: slice) -> tuple[Tensor, Tensor]:
            numbers = index[part]
            target = self.batch(numbers)
            with self.autocast():
                decoded = decode(part)
            hidden = None if self.hidden is None else self.hidden[numbers]
            measured, shown = self.loss.measure(decoded, target, hidden)
            weight = len(numbers) / len(index)
            return measured * weight, shown * weight

        def backward(measured: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(measured, by, slope)

        count = min(self.cores.parts, len(index))
        ends = [len(index) * n // count for n in range(count + 1)]
        parts = [slice(*part) for part in pairwise(ends)]
        measured, shown = zip(*self.cores.map(forward, parts), strict=True)
        total = torch.stack(measured).detach().sum(0).requires_grad_()
        loss, error = self.loss(total, torch.stack(shown).sum(0))
        (slope,) = torch.autograd.grad(loss, total)
        gradients = zip(*self.cores.map(backward, measured), strict=True)
        return [sum(others, first) for first, *others in gradients], error.detach()

    def train(self, parameters: list[nn.Parameter], rate: float) -> None:
        """From now on Adam trains these too, at the peak learning rate `rate`."""
        self.adam.add_param_group({"params": parameters, "lr": rate, "peak": rate})

    @torch.no_grad()
    def begin_from(self, coarser: Training) -> None:
        """Takes over what was learnt from smaller frames: the layers of one name and shape, and the
        embeddings."""
        theirs = coarser.synthesis
        known = {spec.name: n for n, spec in enumerate(theirs.specs)}
        for spec, weight, bias in zip(
            self.synthesis.specs, self.synthesis.weights, self.synthesis.biases, strict=True
        ):
            n = known.get(spec.name)
            if n is not None and theirs.weights[n].shape == weight.shape:
                weight.copy_(theirs.weights[n])
                bias.copy_(theirs.biases[n])
        self.embedding.copy_(coarser.embedding)

    def set_learning_rates(self, factor: float) -> None:
        """As shares of their peaks."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("peak", group["lr"])
                group["lr"] = group["peak"] * factor

    def update(self) -> None:
        """Lets every optimizer make one step, with the gradients that there are, and forgets
        them."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.keep is not None:
            with torch.no_grad():
                for weight, keep in zip(self.synthesis.weights, self.keep, strict=True):
                    weight.mul_(keep)

    def record(self, error: Tensor, step: int) -> None:
        """Counts a batch's mean squared error; HnervError if the fit has diverged."""
        self.errors.append(float(error))
        self.errors = self.errors[-self.schedule.steps_per_epoch :]
        if not math.isfinite(self.distortion):
            raise HnervError(f"the fit diverged at step {step}: try another seed")

    def state(self) -> dict[str, Any]:
        """All that the next update depends on; plain types and tensors."""
        return {
            "synthesis": self.synthesis.state_dict(),
            "embedding": self.embedding.detach(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "plane_errors": self.loss.plane_errors,
            "dissimilarity": self.loss.dissimilarity,
            "keep": self.keep,
            "errors": self.errors,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`, once the optimizers know all that they train."""
        self.synthesis.load_state_dict(state["synthesis"])
        with torch.no_grad():
            self.embedding.copy_(state["embedding"])
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        self.loss.plane_errors = state["plane_errors"]
        self.loss.dissimilarity = state["dissimilarity"]
        self.keep, self.errors = state["keep"], state["errors"]
