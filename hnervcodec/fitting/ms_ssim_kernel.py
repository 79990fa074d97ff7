"""MS-SSIM and its gradient in C: ms_ssim.c, for losses and for comparisons."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hnervcodec.fitting import training_library
from hnervcodec.metrics import ms_ssim as reference
from hnervcodec.system import kernels


@cache
def library() -> ctypes.CDLL | None:
    """ms_ssim.c for this processor; None where there is none."""
    if (loaded := next(kernels.loadable(training_library.MS_SSIM), None)) is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    loaded.hnv_ms_ssim.argtypes = [*[pointer] * 2, *[number] * 3, *[pointer] * 4]
    loaded.hnv_ms_ssim.restype = ctypes.c_float
    return loaded


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """As `metrics.ms_ssim.ms_ssim`, of float32 [B, 1, H, W], without a gradient by `b`: by the
    kernel where there is one."""
    if a.device.type != "cpu" or library() is None:
        return reference.ms_ssim(a, b)
    return _Function.apply(a, b)  # type: ignore[no-untyped-call,no-any-return]


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        lib = library()
        assert lib is not None
        a, b = a.contiguous(), b.contiguous()
        height, width = a.shape[-2:]
        weights = torch.tensor(reference.scale_weights(height, width))
        window = reference.window()
        memory = torch.empty(6 * height * width + 12 * width + 40)
        gradient = torch.empty_like(a)
        found = [
            lib.hnv_ms_ssim(
                one.data_ptr(),
                other.data_ptr(),
                height,
                width,
                len(weights),
                weights.data_ptr(),
                window.data_ptr(),
                memory.data_ptr(),
                by_one.data_ptr(),
            )
            for one, other, by_one in zip(a, b, gradient, strict=True)
        ]
        ctx.gradient = gradient
        return a.new_tensor(sum(found) / len(found))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return ctx.gradient * (slopes[0] / len(ctx.gradient)), None
