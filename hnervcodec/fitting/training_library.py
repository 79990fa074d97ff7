"""The C sources of a fit as libraries: which kernels there are. setup.py builds them, so this loads
no torch."""

from __future__ import annotations

from hnervcodec.system.kernels import ARM, X86, Kernel

_AVX2, _AVX2_FLAGS = frozenset({"avx2", "fma"}), ("-mavx2", "-mfma")
_AVX512, _AVX512_FLAGS = _AVX2 | {"avx512f"}, (*_AVX2_FLAGS, "-mavx512f")
MULTIPLY_BF16 = Kernel(
    "fitting/training_kernel.c",
    "avx512-bf16",
    X86,
    _AVX512 | {"avx512_bf16"},
    (*_AVX512_FLAGS, "-mavx512bf16"),
)
TRAINING = (  # the fastest first
    MULTIPLY_BF16,
    Kernel("fitting/training_kernel.c", "avx512", X86, _AVX512, _AVX512_FLAGS),
    Kernel("fitting/training_kernel.c", "avx2", X86, _AVX2, _AVX2_FLAGS),
    Kernel("fitting/training_kernel.c", "neon", ARM, frozenset(), ()),
)
MS_SSIM = (
    Kernel("fitting/ms_ssim.c", "avx2", X86, _AVX2, _AVX2_FLAGS),
    Kernel("fitting/ms_ssim.c", "neon", ARM, frozenset(), ()),
)
MUON = (
    Kernel("fitting/muon.c", "avx2", X86, _AVX2, _AVX2_FLAGS),
    Kernel("fitting/muon.c", "neon", ARM, frozenset(), ()),
)
KERNELS = (*TRAINING, *MS_SSIM, *MUON)
