"""training_kernel.c as a library: which kernels there are. setup.py builds them, so this loads no
torch."""

from __future__ import annotations

import ctypes
import subprocess

from hnervcodec.system import kernels
from hnervcodec.system.kernels import ARM, X86, Kernel

_SOURCE = "fitting/training_kernel.c"
_AVX2, _AVX2_FLAGS = frozenset({"avx2", "fma"}), ("-mavx2", "-mfma")
MULTIPLY_BF16 = Kernel(
    _SOURCE,
    "avx512-bf16",
    X86,
    _AVX2 | {"avx512f", "avx512vl", "avx512_bf16"},
    (*_AVX2_FLAGS, "-mavx512f", "-mavx512vl", "-mavx512bf16"),
)
KERNELS = (  # the fastest first
    MULTIPLY_BF16,
    Kernel(_SOURCE, "avx2", X86, _AVX2, _AVX2_FLAGS),
    Kernel(_SOURCE, "neon", ARM, frozenset(), ()),
)


def load(bf16: bool) -> ctypes.CDLL | None:
    """The fastest for this processor; None where there is none, or no compiler for it. bf16:
    whether it may multiply bfloat16 instead of float32."""
    for kernel in kernels.for_this_machine(KERNELS):
        if kernels.lacking(kernel) or (kernel is MULTIPLY_BF16 and not bf16):
            continue
        try:
            return kernels.load(kernel)
        except (OSError, subprocess.SubprocessError):
            continue
    return None
