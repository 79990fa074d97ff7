"""Fits a network and embeddings to the frames of one segment: a phase in float, then one with
every quantizer in the loop, kept on the disk from time to time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hnervcodec.errors import OutputError
from hnervcodec.fitting import fit_state
from hnervcodec.fitting.float_phase import FloatPhase
from hnervcodec.fitting.progress import Progress
from hnervcodec.fitting.quantization import FittedSegment
from hnervcodec.fitting.quantized_phase import RATE_EVERY, QuantizedPhase
from hnervcodec.fitting.start_weights import StartWeights
from hnervcodec.fitting.training import Batches, FitTask, Schedule

CALIBRATION = 9.0  # seconds of trying the steps, to predict how long they take
LEAST_ERROR = 1e-10  # mean squared error that counts as none


class _Fit:
    """A fit between two of its steps."""

    def __init__(self, task: FitTask):
        self.task, self.schedule = task, Schedule.of(task)
        self.batches = Batches(len(task.frames), self.schedule.batch_frames, task.config.seed)
        self.phase: FloatPhase | QuantizedPhase = FloatPhase(task)
        self.step = 0  # done so far

    def advance(self) -> None:
        """One step, with what is due before and after it."""
        step, phase = self.step, self._phase_of(self.step)
        phase.training.set_learning_rates(step)
        phase.train(self.batches.next().to(self.task.device), step)
        if isinstance(phase, QuantizedPhase):
            phase.follow_up(step)
        self.step = step + 1

    def _phase_of(self, step: int) -> FloatPhase | QuantizedPhase:
        """The phase that `step` belongs to, ready for it."""
        if isinstance(self.phase, FloatPhase):
            if step == self.schedule.prune_at and self.task.config.prune:
                self.phase.prune()
            if step == self.schedule.quantize_at:
                self.phase = self.phase.quantized()
        if isinstance(self.phase, QuantizedPhase) and step == self.schedule.round_at:
            self.phase.round_activations()
        return self.phase

    def progress(self, seconds: float, warning: str) -> Progress:
        """What to report after a step."""
        phase = self.phase
        return Progress(
            phase.name,
            self.step,
            self.schedule.steps,
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
            "phase": str(self.phase.name),
            "training": self.phase.training.state(),
            str(self.phase.name): self.phase.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up the fit where `state` was taken; for one that has not begun."""
        assert isinstance(self.phase, FloatPhase), "restored before its first step"
        self.step = state["step"]
        self.batches.restore(state["batches"])
        own = state[state["phase"]]
        if state["phase"] == QuantizedPhase.name:
            self.phase = QuantizedPhase.from_state(self.phase.training, own)
        else:
            self.phase.restore(own)
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
    return _fitted(task, checkpoint, report).result()


def fit_start(
    task: FitTask,
    *,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> StartWeights:
    """What fits of frames like the task's can begin from: the networks after all steps of its
    configuration in float. The rest is as in `fit`."""
    in_float = replace(task, config=replace(task.config, quantize_from=1.0, prune=0.0))
    phase = _fitted(in_float, checkpoint, report).phase
    assert isinstance(phase, FloatPhase), "no step is left for the other phase"
    return StartWeights.of(phase.training.synthesis, phase.analysis)


def _fitted(task: FitTask, checkpoint: Path | None, report: Callable[[Progress], None]) -> _Fit:
    """The fit after its last step."""
    state, checkpoints = _Fit(task), _Checkpoints(checkpoint)
    begun = time.monotonic() - checkpoints.restore(state)
    with state.phase.training.cores.in_use():
        while state.step < state.schedule.steps:
            state.advance()
            seconds = time.monotonic() - begun
            report(state.progress(seconds, checkpoints.warning))
            checkpoints.keep(state, seconds)
    return state


def predict_seconds(task: FitTask, frames: int) -> float:
    """How long `fit` takes for a segment of so many frames, some of which are those of `task`: from
    about `CALIBRATION` seconds of its steps, or a few where they take long; some of every kind."""
    schedule, whole = Schedule.of(task), Schedule.of(task, frames)
    first = FloatPhase(task)
    index = torch.arange(min(schedule.batch_frames, len(task.frames)), device=task.device)

    def step_seconds(phase: FloatPhase | QuantizedPhase, step: int) -> float:
        """Of one step like that with this number."""
        phase.train(index, step)  # compiles kernels, fills caches
        begun, done = time.monotonic(), 0
        while done < RATE_EVERY or time.monotonic() - begun < CALIBRATION / 3:
            phase.train(index, step + done)
            done += 1
        seconds = (time.monotonic() - begun) / done
        if isinstance(phase, QuantizedPhase):
            begun = time.monotonic()
            phase.measure()
            seconds += (time.monotonic() - begun) / whole.steps_per_epoch
        return seconds

    with first.training.cores.in_use():
        total = step_seconds(first, 0) * whole.quantize_at
        begun = time.monotonic()
        second = first.quantized()
        total += (time.monotonic() - begun) * frames / len(task.frames)
        total += step_seconds(second, schedule.quantize_at) * (whole.round_at - whole.quantize_at)
        begun = time.monotonic()
        second.round_activations()
        total += time.monotonic() - begun
        return total + step_seconds(second, schedule.round_at) * (whole.steps - whole.round_at)
