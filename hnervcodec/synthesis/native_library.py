"""native.c as a loaded library: which kernels there are, which of them this processor can run, and
where one comes from: built with the package (`build`, in wheels), else compiled with this machine's
C compiler and kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hnervcodec.errors import UsageError
from hnervcodec.system.cache import cache_folder, is_private

FLAGS = ("-O3", "-shared", "-fPIC")
KERNEL_VARIABLE = "HNV_KERNEL"  # in the environment: the one kernel to use
COMPILE_SECONDS = 60  # that the compiler may take
BUILT = files("hnervcodec.synthesis").joinpath("kernels")  # with the package; none in a source tree
AT_HWCAP, ARM_HWCAPS = 16, {"asimd": 1, "asimddp": 20}  # of Linux: getauxval(3), asm/hwcap.h


class NoCompilerError(OSError):
    """This machine has no C compiler, or not under the name in CC."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compile native.c."""

    name: str
    machines: tuple[str, ...]  # as `platform.machine` calls them; none: all
    features: frozenset[str]  # that the processor must have, by their Linux names
    flags: tuple[str, ...]  # of the compiler


_X86, _ARM = ("x86_64", "AMD64"), ("aarch64", "arm64")
KERNELS = (  # the fastest first
    Kernel(
        "avx512-vnni",
        _X86,
        frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}),
        ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
    ),
    Kernel("avx-vnni", _X86, frozenset({"avx2", "avx_vnni"}), ("-mavx2", "-mavxvnni")),
    Kernel("avx2", _X86, frozenset({"avx2"}), ("-mavx2",)),
    Kernel("neon-dotprod", _ARM, frozenset({"asimddp"}), ("-march=armv8.2-a+dotprod",)),
    Kernel("neon", _ARM, frozenset({"asimd"}), ()),
    Kernel("portable", (), frozenset(), ()),
)


def processor_features() -> frozenset[str]:
    """Instruction sets of this processor by their Linux names, as far as they can be known."""
    if platform.machine() in _ARM:
        if sys.platform == "darwin":
            return frozenset({"asimd", "asimddp"})  # all of Apple's have both
        if sys.platform == "linux":  # /proc/cpuinfo may speak of another processor, under emulation
            bits = ctypes.CDLL(None).getauxval(ctypes.c_ulong(AT_HWCAP))
            return frozenset(name for name, bit in ARM_HWCAPS.items() if bits >> bit & 1)
    try:
        with open("/proc/cpuinfo") as file:
            lines = (line for line in file if line.startswith("flags"))
            return frozenset(next(lines, "").partition(":")[2].split())
    except OSError:
        return frozenset()


def candidates() -> list[Kernel]:
    """The kernels for this kind of processor, the fastest first; HNV_KERNEL chooses one of them.

    UsageError if it names one that this processor cannot run.
    """
    machine = platform.machine()
    known = [kernel for kernel in KERNELS if not kernel.machines or machine in kernel.machines]
    wanted = os.environ.get(KERNEL_VARIABLE)
    if not wanted:
        return known
    able = [kernel for kernel in known if not lacking(kernel)]
    chosen = [kernel for kernel in able if kernel.name == wanted]
    if not chosen:
        names = ", ".join(kernel.name for kernel in able)
        raise UsageError(f"{KERNEL_VARIABLE}={wanted}: choose from {names} on this processor")
    return chosen


def lacking(kernel: Kernel) -> list[str]:
    """The features that the kernel needs and this processor does not have."""
    return sorted(kernel.features - processor_features())


def load(kernel: Kernel) -> ctypes.CDLL:
    """The library of one kernel: as it was built with the package, else compiled here, now or
    before.

    OSError or subprocess.SubprocessError, with the reason, where that cannot be.
    """
    loaded = _built(kernel) or compiled(_source(), kernel.flags)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    loaded.hnv_run.argtypes = [pointer, number, pointer, pointer, number, number, pointer]
    loaded.hnv_run.restype = None
    return loaded


def compiled(source: bytes, flags: tuple[str, ...]) -> ctypes.CDLL:
    """A C source as a library, compiled before if it has not been yet; errors as for `load`."""
    compiler = _compiler()
    key = repr((source, compiler, FLAGS, flags, platform.machine()))
    name = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    return _cached(compiler, [*FLAGS, *flags], source, name)


def build(folder: Path) -> None:
    """Compiles every kernel for this kind of processor into `folder`, from which a package that
    holds it as `BUILT` loads them. What this compiler does not know is left out; NoCompilerError
    if there is none."""
    compiler, machine = _compiler(), platform.machine()
    folder.mkdir(parents=True, exist_ok=True)
    for kernel in KERNELS:
        if not kernel.machines or machine in kernel.machines:
            path = folder / f"{kernel.name}.so"
            with suppress(subprocess.SubprocessError):
                _compile(compiler, [*FLAGS, *kernel.flags], _source(), path)
                path.chmod(0o755)


def _built(kernel: Kernel) -> ctypes.CDLL | None:
    path = BUILT.joinpath(f"{kernel.name}.so")
    with suppress(OSError):  # for another processor or another libc
        return ctypes.CDLL(str(path)) if path.is_file() else None
    return None


def _source() -> bytes:
    return files("hnervcodec.synthesis").joinpath("native.c").read_bytes()


def _compiler() -> str:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompilerError("no C compiler: with one (cc), frames decode several times as fast")
    return compiler


def _cached(compiler: str, flags: list[str], source: bytes, name: str) -> ctypes.CDLL:
    """The library `name` from the user's cache, compiled if it is not there; where there can be no
    safe cache, it is compiled for this process alone. OSError or SubprocessError if that fails."""
    with suppress(OSError, subprocess.SubprocessError):  # no safe cache, or a full one
        path = cache_folder() / name
        with suppress(OSError):  # not there yet, or damaged
            if is_private(path):
                return ctypes.CDLL(str(path))
        _compile(compiler, flags, source, path)
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        _compile(compiler, flags, source, path)
        return ctypes.CDLL(str(path))


def _compile(compiler: str, flags: list[str], source: bytes, path: Path) -> None:
    """Makes `path`, whole or not at all: other processes may look for it meanwhile."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        command = [compiler, *flags, "-x", "c", "-", "-o", str(built)]
        subprocess.run(
            command, input=source, check=True, capture_output=True, timeout=COMPILE_SECONDS
        )
        built.chmod(0o700)
        built.replace(path)
