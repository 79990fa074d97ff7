"""Muon: momentum, made orthogonal (Jordan et al., https://kellerjordan.github.io/posts/muon).

torch's own does all products in bfloat16, which takes far longer than float32 where it is emulated;
so here the number format is the caller's to choose. In bfloat16 the updates are torch's, bit for
bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, as published
ITERATIONS = 5
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Trains matrices [rows, columns].

    rate: of learning; a matrix of more rows than columns gets sqrt(rows / columns) times as much.
    decay: of the weights, in units of that rate. momentum: 0..1, by Nesterov.
    dtype: of the products: torch.bfloat16 or torch.float32.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        rate: float,
        decay: float,
        momentum: float,
        dtype: torch.dtype,
    ):
        super().__init__(matrices, {"lr": rate, "decay": decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            for matrix in cast(list[nn.Parameter], group["params"]):
                gradient = matrix.grad
                if gradient is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
                update = orthogonalized(gradient.lerp(mean, group["momentum"]), self._dtype)
                rows, columns = matrix.shape
                matrix.mul_(1 - group["lr"] * group["decay"])
                matrix.add_(update, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def orthogonalized(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """About the nearest matrix with orthonormal rows or columns, in `dtype`: its singular values
    come to 0.5 .. 1.5 by five Newton-Schulz iterations, which is near enough."""
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(dtype, copy=True)
    if is_tall:
        x = x.T
    x.div_(x.norm().clamp(min=SMALLEST_NORM))
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
