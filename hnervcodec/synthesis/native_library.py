"""native.c as a loaded library: which kernels there are, and which of them are to be tried here."""

from __future__ import annotations

import ctypes
import os

from hnervcodec.errors import UsageError
from hnervcodec.system import kernels
from hnervcodec.system.kernels import ARM, X86, Kernel

KERNEL_VARIABLE = "HNV_KERNEL"  # in the environment: the one kernel to use
_SOURCE = "synthesis/native.c"
KERNELS = (  # the fastest first
    Kernel(
        _SOURCE,
        "avx512-vnni",
        X86,
        frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}),
        ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
    ),
    Kernel(_SOURCE, "avx-vnni", X86, frozenset({"avx2", "avx_vnni"}), ("-mavx2", "-mavxvnni")),
    Kernel(_SOURCE, "avx2", X86, frozenset({"avx2"}), ("-mavx2",)),
    Kernel(_SOURCE, "neon-dotprod", ARM, frozenset({"asimddp"}), ("-march=armv8.2-a+dotprod",)),
    Kernel(_SOURCE, "neon", ARM, frozenset({"asimd"}), ()),
    Kernel(_SOURCE, "portable", (), frozenset(), ()),
)


def candidates() -> list[Kernel]:
    """The kernels for this kind of processor, the fastest first; HNV_KERNEL chooses one of them.

    UsageError if it names one that this processor cannot run.
    """
    known = kernels.for_this_machine(KERNELS)
    wanted = os.environ.get(KERNEL_VARIABLE)
    if not wanted:
        return known
    able = [kernel for kernel in known if not kernels.lacking(kernel)]
    chosen = [kernel for kernel in able if kernel.name == wanted]
    if not chosen:
        names = ", ".join(kernel.name for kernel in able)
        raise UsageError(f"{KERNEL_VARIABLE}={wanted}: choose from {names} on this processor")
    return chosen


def load(kernel: Kernel) -> ctypes.CDLL:
    """The library of one kernel; errors as for `kernels.load`."""
    loaded = kernels.load(kernel)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    loaded.hnv_run.argtypes = [pointer, number, pointer, pointer, number, number, pointer]
    loaded.hnv_run.restype = None
    return loaded
