"""The first phase of a fit: the network and the embeddings are trained in float."""

from __future__ import annotations

import torch
from torch import Tensor

from hnervcodec.fitting.progress import Phase
from hnervcodec.fitting.quantized_phase import QuantizedPhase
from hnervcodec.fitting.training import FitTask, Training

LEVELS_PER_DEVIATION = 8  # first steps of a kernel: its standard deviation is so many of them
EMBEDDING_LEVELS_PER_DEVIATION = 12
FINEST_STEP = 1e-6


class FloatPhase:
    """A fit before anything is rounded, at its own size or before that at a fraction of it."""

    def __init__(self, task: FitTask, name: Phase = Phase.FLOAT):
        self.training, self.name = Training(task), name

    def train(self, index: Tensor, step: int) -> None:
        """One update from the frames numbered by `index`."""
        training, embedding = self.training, self.training.embedding
        operands = training.synthesis.operands()
        used = embedding.detach()[index].requires_grad_()
        (slope, *gradients), error = training.gradients(
            index,
            lambda part: training.decoder(used[part], operands),
            [used, *operands],
        )
        for parameter, gradient in zip(operands, gradients, strict=True):
            parameter.grad = gradient
        embedding.grad = torch.zeros_like(embedding).index_copy_(0, index, slope)
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
        """The phase that follows; every quantizer gets a step to begin with."""
        training = self.training
        spreads = [weight.std() / LEVELS_PER_DEVIATION for weight in training.synthesis.weights]
        spreads.append(training.embedding.std() / EMBEDDING_LEVELS_PER_DEVIATION)
        steps = torch.stack(spreads).clamp(min=FINEST_STEP)
        following = QuantizedPhase(training, steps.log())
        following.begin()
        return following
