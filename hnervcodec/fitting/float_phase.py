"""The first phase of a fit: the analysis and the synthesis network are trained together in float,
as HNeRV's encoder and decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hnervcodec.fitting.analysis_network import AnalysisNetwork
from hnervcodec.fitting.progress import Phase
from hnervcodec.fitting.quantized_phase import QuantizedPhase
from hnervcodec.fitting.synthesis_network import SynthesisNetwork
from hnervcodec.fitting.training import FitTask, Training

LEVELS_PER_DEVIATION = 8  # first steps of a kernel: its standard deviation is so many of them
EMBEDDING_LEVELS_PER_DEVIATION = 12
FINEST_STEP = 1e-6


class FloatPhase:
    """Both networks before anything is rounded."""

    name = Phase.FLOAT

    def __init__(self, task: FitTask):
        torch.manual_seed(task.config.seed)
        synthesis = SynthesisNetwork(task.video.layers(task.model)).to(task.device)
        self.analysis = AnalysisNetwork(task.model, task.video.packed_channels).to(task.device)
        if task.start is not None:
            task.start.put_into(synthesis, self.analysis)
        self.training = Training(task, synthesis, self.analysis)

    def train(self, index: Tensor, step: int) -> None:
        """One update from the frames numbered by `index`."""
        training, analysis = self.training, self.analysis
        operands = training.synthesis.operands()
        trained = [*operands, *analysis.parameters()]
        gradients, error = training.gradients(
            index, lambda target, part: training.decoder(analysis(target), operands), trained
        )
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        training.update()
        training.record(error, step)

    @torch.no_grad()
    def prune(self) -> None:
        """Global unstructured magnitude pruning (HNeRV section 3.4); the rest is retrained."""
        training = self.training
        weights = list(training.synthesis.weights)
        magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
        count = max(1, round(len(magnitudes) * training.task.config.prune))
        cut = magnitudes.kthvalue(count).values
        training.keep = [(weight.abs() > cut).float() for weight in weights]

    @torch.no_grad()
    def quantized(self) -> QuantizedPhase:
        """The phase that follows. The embeddings become parameters of their own, so that the
        analysis network is no longer needed, and every quantizer gets a step to begin with."""
        training = self.training
        everything = torch.arange(len(training.frames), device=training.task.device)
        chunks = torch.split(everything, training.schedule.batch_frames)
        embedding = torch.cat(training.cores.map(self._embedding, chunks))
        spreads = [weight.std() / LEVELS_PER_DEVIATION for weight in training.synthesis.weights]
        spreads.append(embedding.std() / EMBEDDING_LEVELS_PER_DEVIATION)
        steps = torch.stack(spreads).clamp(min=FINEST_STEP)
        following = QuantizedPhase(training, embedding, steps.log())
        following.begin()
        return following

    @torch.no_grad()
    def _embedding(self, index: Tensor) -> Tensor:
        """Float32 [B, C, h, w] of the frames numbered by `index`."""
        with self.training.autocast():
            embedding: Tensor = self.analysis(self.training.batch(index)).float()
        return embedding

    def state(self) -> dict[str, Any]:
        """What of this phase is not in the state of its training."""
        return {"analysis": self.analysis.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.analysis.load_state_dict(state["analysis"])
