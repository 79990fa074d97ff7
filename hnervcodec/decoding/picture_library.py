"""picture.c as a library: which kernels there are. setup.py builds them, so this loads no numpy."""

from __future__ import annotations

import ctypes
import subprocess

from hnervcodec.system import kernels
from hnervcodec.system.kernels import ARM, X86, Kernel

_SOURCE = "decoding/picture.c"
KERNELS = (  # the fastest first; without any of them, libav is faster
    Kernel(
        _SOURCE,
        "avx512",
        X86,
        frozenset({"avx512f", "avx512bw", "avx512vl"}),
        ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=256"),
    ),
    Kernel(_SOURCE, "avx2", X86, frozenset({"avx2"}), ("-mavx2",)),
    Kernel(_SOURCE, "neon", ARM, frozenset({"asimd"}), ()),
)


def load(kernel: Kernel) -> ctypes.CDLL | None:
    """The library of one kernel; None where this processor or compiler cannot have it."""
    if kernels.lacking(kernel):
        return None
    try:
        loaded = kernels.load(kernel)
    except (OSError, subprocess.SubprocessError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    loaded.hnv_picture.argtypes = [pointer, pointer, size, size, pointer, pointer, pointer]
    loaded.hnv_picture.restype = None
    return loaded
