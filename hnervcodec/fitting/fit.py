"""Fits a network and embeddings to the frames of one segment: a phase in float, then one with
every quantizer in the loop, kept on the disk from time to time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from hnervcodec.errors import OutputError
from hnervcodec.fitting import fit_state
from hnervcodec.fitting.coarser import coarser
from hnervcodec.fitting.first_embeddings import FirstEmbeddings, patches
from hnervcodec.fitting.float_phase import FloatPhase
from hnervcodec.fitting.progress import Phase, Progress
from hnervcodec.fitting.quantization import FittedSegment
from hnervcodec.fitting.quantized_phase import RATE_EVERY, QuantizedPhase
from hnervcodec.fitting.start_weights import StartWeights
from hnervcodec.fitting.training import Batches, FitTask, Schedule

LEAST_ERROR = 1e-10  # mean squared error that counts as none
T = TypeVar("T")


class _Fit:
    """A fit between two of its steps."""

    def __init__(self, task: FitTask):
        self.task, self.schedule = task, Schedule.of(task)
        self.batches = Batches(len(task.frames), self.schedule.batch_frames, task.config.seed)
        self.phase: FloatPhase | QuantizedPhase
        if self.schedule.coarse:
            self.phase = FloatPhase(coarser(task), Phase.COARSE)
        else:
            self.phase = FloatPhase(task)
        self.step = -self.schedule.coarse  # the next one

    def advance(self) -> None:
        """One step, with what is due before and after it."""
        step, phase, schedule = self.step, self._phase_of(self.step), self.schedule
        if step < 0:
            rate = schedule.coarse_rate(step + schedule.coarse)
        else:
            rate = schedule.learning_rate(step)
        phase.training.set_learning_rates(rate)
        phase.train(self.batches.next().to(self.task.device), step)
        if isinstance(phase, QuantizedPhase):
            phase.follow_up(step)
        self.step = step + 1

    def _phase_of(self, step: int) -> FloatPhase | QuantizedPhase:
        """The phase that `step` belongs to, ready for it."""
        if isinstance(self.phase, FloatPhase):
            if step == 0 and self.schedule.coarse:
                sketch = self.phase.training
                self.phase = FloatPhase(self.task)
                self.phase.training.begin_from(sketch)
            if step == self.schedule.prune_at and self.task.config.prune:
                self.phase.prune()
            if step == self.schedule.quantize_at:
                self.phase = self.phase.quantized()
        if isinstance(self.phase, QuantizedPhase) and step == self.schedule.round_at:
            self.phase.round_activations()
        return self.phase

    def progress(self, seconds: float, warning: str) -> Progress:
        """What to report after a step."""
        phase, schedule = self.phase, self.schedule
        is_coarse = phase.name is Phase.COARSE
        return Progress(
            phase.name,
            self.step + (schedule.coarse if is_coarse else 0),
            schedule.coarse if is_coarse else schedule.steps,
            seconds,
            -10 * math.log10(max(phase.training.distortion, LEAST_ERROR)),
            phase.predicted_bytes if isinstance(phase, QuantizedPhase) else None,
            warning,
        )

    def result(self) -> FittedSegment:
        """What all steps have led to."""
        assert isinstance(self.phase, QuantizedPhase), "the schedule ends in this phase"
        return self.phase.result()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on; plain types and tensors."""
        return {
            "step": self.step,
            "batches": self.batches.state(),
            "training": self.phase.training.state(),
            "quantizers": self.phase.state() if isinstance(self.phase, QuantizedPhase) else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up the fit where `state` was taken; for one that has not begun."""
        assert isinstance(self.phase, FloatPhase), "restored before its first step"
        self.step = state["step"]
        if self.step > 0 and self.phase.name is Phase.COARSE:
            self.phase = FloatPhase(self.task)
        self.batches.restore(state["batches"])
        if state["quantizers"] is not None:
            self.phase = QuantizedPhase.from_state(self.phase.training, state["quantizers"])
        self.phase.training.restore(state["training"])


class _Checkpoints:
    """Keeps a fit on the disk from time to time, so that a power cut costs seconds of it."""

    def __init__(self, path: Path | None):
        self.path = path
        self.due = time.monotonic() + fit_state.INTERVAL
        self.warning = ""  # what the user should know about it

    def restore(self, fit: _Fit) -> float:
        """Takes up a fit that was kept, if there is one; returns the seconds it had taken."""
        if self.path is None or not self.path.exists():
            return 0.0
        with fit_state.opened(self.path) as state:
            fit.restore(state["fit"])
            return float(state["seconds"])

    def keep(self, fit: _Fit, seconds: float) -> None:
        """Keeps `fit` if it is time to. A full disk is no reason to end it, but one to speak."""
        begun = time.monotonic()
        if self.path is None or begun < self.due:
            return
        try:
            fit_state.save(self.path, {"fit": fit.state(), "seconds": seconds})
            self.warning = ""
        except OutputError as error:
            self.warning = f"this fit would be lost: {error}"
        saved = time.monotonic()
        self.due = saved + max(fit_state.INTERVAL, (saved - begun) / fit_state.SHARE)


def fit(
    task: FitTask,
    *,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> FittedSegment:
    """Trains a network and embeddings that decode to the task's frames, so that the segment's
    payload takes about `task.budget` bytes or, with an aim, as many as that asks for.

    Deterministic for a seed on one machine with one number of threads. `checkpoint`: a file that
    this fit is kept in from time to time, and goes on from if it exists. `report` is called after
    every step. HnervError if the fit diverges or the checkpoint is damaged.
    """
    return _fitted(task, checkpoint, report, Schedule.of(task).steps).result()


def fit_start(
    task: FitTask,
    *,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> StartWeights:
    """What fits of frames like the task's can begin from: the network after the float phase, where
    the learning rate is still high. Networks that have come to rest help less. The rest is as in
    `fit`, but that nothing is pruned."""
    task = replace(task, config=replace(task.config, prune=0.0))
    steps = Schedule.of(task).quantize_at

    coarse, before = Schedule.of(task).coarse, 0.0

    def hear(one: Progress) -> None:
        """Coarse and other steps together."""
        nonlocal before
        if one.phase is Phase.COARSE:
            before = one.seconds
            report(replace(one, steps=coarse + steps))
        else:
            seconds = before + one.seconds
            report(replace(one, step=coarse + one.step, steps=coarse + steps, seconds=seconds))

    made = _fitted(task, checkpoint, hear, steps)
    training = made.phase.training
    known = patches(training.frames, training.white, task.model.stride)
    return StartWeights.of(training.synthesis, FirstEmbeddings.like(training.embedding, known))


def _fitted(
    task: FitTask, checkpoint: Path | None, report: Callable[[Progress], None], steps: int
) -> _Fit:
    """The fit after so many of its steps."""
    state, checkpoints = _Fit(task), _Checkpoints(checkpoint)
    begun = time.monotonic() - checkpoints.restore(state)
    with state.phase.training.cores.in_use():
        while state.step < steps:
            if state.step == 0:  # coarse steps have had seconds of their own
                begun = time.monotonic()
            state.advance()
            seconds = time.monotonic() - begun
            report(state.progress(seconds, checkpoints.warning))
            checkpoints.keep(state, seconds)
    return state


@dataclass(frozen=True, slots=True)
class FitSeconds:
    """How long the steps of fits of some network take on this machine: a step of each kind, and
    what is done once per epoch (`measuring`) and once per fit (`rounding`)."""

    coarse: float
    in_float: float
    quantized: float
    rounded: float
    measuring: float
    rounding: float

    def of_fit(self, task: FitTask, frames: int) -> float:
        """Of a fit of so many frames, with the task's configuration."""
        schedule = Schedule.of(task, frames)
        in_quantized = schedule.steps - schedule.quantize_at
        return (
            self.of_start(task, frames)
            + self.quantized * (schedule.round_at - schedule.quantize_at)
            + self.rounding
            + self.rounded * (schedule.steps - schedule.round_at)
            + self.measuring * in_quantized / schedule.steps_per_epoch
        )

    def of_start(self, task: FitTask, frames: int) -> float:
        """Of a `fit_start` to so many frames, with the task's configuration."""
        schedule = Schedule.of(task, frames)
        return self.coarse * schedule.coarse + self.in_float * schedule.quantize_at


def measure_seconds(task: FitTask, calibration: float) -> FitSeconds:
    """Tries the steps of a fit like that of `task` for about `calibration` seconds, or a few of
    every kind where they take long."""
    schedule = Schedule.of(task)
    first = FloatPhase(task)
    index = torch.arange(min(schedule.batch_frames, len(task.frames)), device=task.device)

    def step_seconds(phase: FloatPhase | QuantizedPhase, step: int) -> float:
        """Of one step like that with this number."""
        least = RATE_EVERY if isinstance(phase, QuantizedPhase) else 2
        phase.train(index, step)  # compiles kernels, fills caches
        begun, done = time.monotonic(), 0
        while done < least or time.monotonic() - begun < calibration / 5:
            phase.train(index, step + done)
            done += 1
        return (time.monotonic() - begun) / done

    def seconds(function: Callable[[], T]) -> tuple[float, T]:
        begun = time.monotonic()
        made = function()
        return time.monotonic() - begun, made

    with first.training.cores.in_use():
        coarse = step_seconds(FloatPhase(coarser(task)), 0) if schedule.coarse else 0.0
        in_float = step_seconds(first, 0)
        _, second = seconds(first.quantized)
        quantized = step_seconds(second, schedule.quantize_at)
        measuring, _ = seconds(second.measure)
        rounding, _ = seconds(second.round_activations)
        rounded = step_seconds(second, schedule.round_at)
    return FitSeconds(coarse, in_float, quantized, rounded, measuring, rounding)
