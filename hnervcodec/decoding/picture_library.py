"""picture.c as a library: which kernels there are. setup.py builds them, so this loads no numpy."""

from __future__ import annotations

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
