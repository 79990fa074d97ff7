"""Muon: momentum, made orthogonal (Jordan et al., https://kellerjordan.github.io/posts/muon).

torch's own does all products in bfloat16, which takes far longer than float32 where it is emulated;
so here the number format is the caller's to choose. In bfloat16 the updates are torch's, bit for
bit.
"""

from __future__ import annotations

import math
from collections import defaultdict
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
            alike: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in cast(list[nn.Parameter], group["params"]):
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for (rows, columns), matrices in alike.items():
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                updates: Iterable[Tensor] = self._momentum(matrices, group)
                if self._dtype == torch.float32 and len(matrices) > 1:
                    updates = orthogonalized(cast(Tensor, updates), self._dtype)
                else:  # torch has no fast batches of products in bfloat16
                    updates = [orthogonalized(update, self._dtype) for update in updates]
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-rate)

    def _momentum(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> Tensor:
        """Nesterov's, of matrices of one shape: [count, rows, columns]."""
        gradients = torch.stack([cast(Tensor, matrix.grad) for matrix in matrices])
        state = self.state[matrices[0]]  # of all of them
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradients)
        mean = state["momentum_buffer"].lerp_(gradients, 1 - group["momentum"])
        return gradients.lerp_(mean, group["momentum"])


def orthogonalized(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """About the nearest matrix with orthonormal rows or columns to each of [..., rows, columns],
    in `dtype`: singular values come to 0.5 .. 1.5 by five Newton-Schulz iterations, which is near
    enough."""
    a, b, c = COEFFICIENTS
    add_product = torch.addmm if matrices.dim() == 2 else torch.baddbmm
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if is_tall else matrices).to(dtype, copy=True)
    x.div_(torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALLEST_NORM))
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = add_product(x, add_product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
