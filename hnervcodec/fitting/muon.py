"""Muon: momentum, made orthogonal (Jordan et al., https://kellerjordan.github.io/posts/muon).

torch's own does all products in bfloat16, which takes far longer than float32 where it is emulated;
so here the number format is the caller's to choose. In bfloat16 the updates are torch's, bit for
bit; in float32 small matrices have a kernel, muon.c, as torch's operations take longer to begin
than to do.
"""

from __future__ import annotations

import ctypes
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from hnervcodec.fitting import training_library
from hnervcodec.system import kernels

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, as published
ITERATIONS = 5
SMALLEST_NORM = 1e-7
SMALL = 40_000  # values of a matrix, up to which the kernel is faster


@cache
def library() -> ctypes.CDLL | None:
    """muon.c for this processor; None where there is none."""
    if (loaded := next(kernels.loadable(training_library.MUON), None)) is None:
        return None
    pointer, number, real = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float
    loaded.hnv_muon_memory.argtypes = [number, number]
    loaded.hnv_muon_memory.restype = ctypes.c_int64
    loaded.hnv_muon.argtypes = [*[pointer] * 3, *[number] * 2, *[real] * 3, pointer]
    loaded.hnv_muon.restype = None
    return loaded


class Muon(torch.optim.Optimizer):
    """Trains matrices [rows, columns].

    rate: of learning; a matrix of more rows than columns gets sqrt(rows / columns) times as much.
    decay: of the weights, in units of that rate. momentum: 0..1, by Nesterov.
    dtype: of the products: torch.bfloat16 or torch.float32.
    map_all: calls a function with each of some items; the kernel's, as `Cores` share them.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        rate: float,
        decay: float,
        momentum: float,
        dtype: torch.dtype,
        map_all: Callable[[Callable[[nn.Parameter], None], list[nn.Parameter]], Any] = map,
    ):
        super().__init__(matrices, {"lr": rate, "decay": decay, "momentum": momentum})
        self._dtype, self._map = dtype, map_all

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            matrices = [m for m in cast(list[nn.Parameter], group["params"]) if m.grad is not None]
            for matrix in matrices:
                if not self.state[matrix]:
                    self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
            lib = library() if any(map(self._is_small, matrices)) else None
            if lib is not None:
                small = sorted(filter(self._is_small, matrices), key=lambda m: -m.numel())
                list(self._map(partial(self._update_small, lib, group), small))
                matrices = [matrix for matrix in matrices if not self._is_small(matrix)]
            alike: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in matrices:
                alike[matrix.shape].append(matrix)
            for matrices in alike.values():
                self._update(group, matrices)

    def _is_small(self, matrix: Tensor) -> bool:
        """Whether muon.c is for one of this kind and size."""
        is_plain = matrix.dtype == self._dtype == torch.float32 and matrix.is_contiguous()
        return is_plain and matrix.device.type == "cpu" and matrix.numel() <= SMALL

    def _update_small(self, lib: ctypes.CDLL, group: dict[str, Any], matrix: nn.Parameter) -> None:
        """One update by the kernel."""
        rows, columns = matrix.shape
        gradient = cast(Tensor, matrix.grad).contiguous()
        memory = torch.empty(lib.hnv_muon_memory(rows, columns))
        lib.hnv_muon(
            matrix.data_ptr(),
            gradient.data_ptr(),
            self.state[matrix]["momentum_buffer"].data_ptr(),
            rows,
            columns,
            group["momentum"],
            1 - group["lr"] * group["decay"],
            _rate(group, matrix),
            memory.data_ptr(),
        )

    def _update(self, group: dict[str, Any], matrices: list[nn.Parameter]) -> None:
        """One update of matrices of one shape, by torch."""
        gradients = torch.stack([cast(Tensor, matrix.grad) for matrix in matrices])
        for matrix, gradient in zip(matrices, gradients, strict=True):
            mean = self.state[matrix]["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            gradient.lerp_(mean, group["momentum"])  # Nesterov's
        if self._dtype == torch.float32 and len(matrices) > 1:
            updates: Iterable[Tensor] = orthogonalized(gradients, self._dtype)
        else:  # torch has no fast batches of products in bfloat16
            updates = [orthogonalized(gradient, self._dtype) for gradient in gradients]
        for matrix, update in zip(matrices, updates, strict=True):
            shrunk = matrix.mul_(1 - group["lr"] * group["decay"])
            shrunk.add_(update, alpha=-_rate(group, matrix))


def _rate(group: dict[str, Any], matrix: Tensor) -> float:
    rows, columns = matrix.shape
    return float(group["lr"] * math.sqrt(max(1, rows / columns)))


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
