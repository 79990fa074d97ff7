"""The first phase of a fit: the analysis and the synthesis network are trained together in float,
as HNeRV's encoder and decoder. Soon the embeddings become parameters of their own, as the analysis
network takes more time than it then is worth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

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
        self.embedding: nn.Parameter | None = None  # once the analysis network is done

    def train(self, index: Tensor, step: int) -> None:
        """One update from the frames numbered by `index`."""
        if self.embedding is None:
            self._train_analysis(index, step)
        else:
            self._train_embedding(self.embedding, index, step)

    def _train_analysis(self, index: Tensor, step: int) -> None:
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

    def _train_embedding(self, embedding: nn.Parameter, index: Tensor, step: int) -> None:
        training, operands = self.training, self.training.synthesis.operands()
        used = embedding.detach()[index].requires_grad_()
        (slope, *gradients), error = training.gradients(
            index,
            lambda target, part: training.decoder(used[part], operands),
            [used, *operands],
        )
        for parameter, gradient in zip(operands, gradients, strict=True):
            parameter.grad = gradient
        embedding.grad = torch.zeros_like(embedding).index_copy_(0, index, slope)
        training.update()
        training.record(error, step)

    def free_embedding(self) -> None:
        """From now on the embeddings are trained themselves, from what the analysis network makes
        of the frames."""
        everything = torch.arange(len(self.training.frames), device=self.training.task.device)
        chunks = torch.split(everything, self.training.schedule.batch_frames)
        embedding = torch.cat(self.training.cores.map(self._embedding, chunks))
        self.embedding = self.training.train_embedding(embedding)

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
        """The phase that follows; every quantizer gets a step to begin with."""
        training = self.training
        if self.embedding is None:
            self.free_embedding()
        assert self.embedding is not None
        spreads = [weight.std() / LEVELS_PER_DEVIATION for weight in training.synthesis.weights]
        spreads.append(self.embedding.std() / EMBEDDING_LEVELS_PER_DEVIATION)
        steps = torch.stack(spreads).clamp(min=FINEST_STEP)
        following = QuantizedPhase(training, self.embedding, steps.log())
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
        embedding = None if self.embedding is None else self.embedding.detach()
        return {"analysis": self.analysis.state_dict(), "embedding": embedding}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.analysis.load_state_dict(state["analysis"])
        if state["embedding"] is not None:
            self.embedding = self.training.train_embedding(state["embedding"])
