"""The first phase of a fit: the analysis and the synthesis network are trained together in float,
as HNeRV's encoder and decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hnervcodec.fitting.analysis_network import AnalysisNetwork, embed_all
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
        self.training = Training(task, synthesis, self.analysis)

    def train(self, index: Tensor, step: int) -> None:
        """One update from the frames numbered by `index`."""
        training = self.training
        target = training.batch(index)
        with training.autocast():
            decoded = training.synthesis(self.analysis(target))
        loss, error = training.compare(decoded, target, index)
        training.update(loss)
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
        with training.autocast():
            embedding = embed_all(self.analysis, map(training.batch, chunks))
        spreads = [weight.std() / LEVELS_PER_DEVIATION for weight in training.synthesis.weights]
        spreads.append(embedding.std() / EMBEDDING_LEVELS_PER_DEVIATION)
        steps = torch.stack(spreads).clamp(min=FINEST_STEP)
        following = QuantizedPhase(training, embedding, steps.log())
        following.begin()
        return following

    def state(self) -> dict[str, Any]:
        """What of this phase is not in the state of its training."""
        return {"analysis": self.analysis.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.analysis.load_state_dict(state["analysis"])
