"""C sources of this package as loaded libraries: built with the package (`build`, in wheels), else
compiled with this machine's C compiler and kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hnervcodec.system.cache import cache_folder, is_private

FLAGS = ("-O3", "-shared", "-fPIC")
COMPILE_SECONDS = 60  # that the compiler may take
SOURCES = BUILT = files("hnervcodec")
X86, ARM = ("x86_64", "AMD64"), ("aarch64", "arm64")
AT_HWCAP, ARM_HWCAPS = 16, {"asimd": 1, "asimddp": 20}  # of Linux: getauxval(3), asm/hwcap.h


class NoCompilerError(OSError):
    """This machine has no C compiler, or not under the name in CC."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compile a source."""

    source: str  # from the package's folder
    name: str
    machines: tuple[str, ...]  # as `platform.machine` calls them; none: all
    features: frozenset[str]  # that the processor must have, by their Linux names
    flags: tuple[str, ...]  # of the compiler

    @property
    def built(self) -> str:
        """Where its library is in a package that has been built, from the package's folder."""
        folder, _, file = self.source.rpartition("/")
        return f"{folder}/kernels/{file.removesuffix('.c')}-{self.name}.so"


def processor_features() -> frozenset[str]:
    """Instruction sets of this processor by their Linux names, as far as they can be known."""
    if platform.machine() in ARM:
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


def for_this_machine(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Those for this kind of processor."""
    machine = platform.machine()
    return [kernel for kernel in kernels if not kernel.machines or machine in kernel.machines]


def lacking(kernel: Kernel) -> list[str]:
    """The features that the kernel needs and this processor does not have."""
    return sorted(kernel.features - processor_features())


def load(kernel: Kernel) -> ctypes.CDLL:
    """Its library: as it was built with the package, else compiled here, now or before.

    OSError or subprocess.SubprocessError, with the reason, where that cannot be.
    """
    return _built(kernel) or _compiled(kernel)


def loadable(candidates: Iterable[Kernel]) -> Iterator[ctypes.CDLL]:
    """The libraries of those that this processor can run and that can be had, one at a time."""
    for kernel in for_this_machine(candidates):
        if not lacking(kernel):
            with suppress(OSError, subprocess.SubprocessError):
                yield load(kernel)


def build(kernels: Iterable[Kernel], folder: Path) -> None:
    """Compiles those for this kind of processor for a package in `folder`. What this compiler does
    not know is left out; NoCompilerError if there is none."""
    compiler = _compiler()
    for kernel in for_this_machine(kernels):
        path = folder / kernel.built
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(subprocess.SubprocessError):
            _compile(compiler, kernel, path)
            path.chmod(0o755)


def _built(kernel: Kernel) -> ctypes.CDLL | None:
    path = BUILT.joinpath(kernel.built)
    with suppress(OSError):  # for another processor or another libc
        return ctypes.CDLL(str(path)) if path.is_file() else None
    return None


def _compiler() -> str:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NoCompilerError("no C compiler: with one (cc), frames decode several times as fast")
    return compiler


def _compiled(kernel: Kernel) -> ctypes.CDLL:
    """From the user's cache, compiled if it is not there; where there can be no safe cache, it is
    compiled for this process alone. Errors as for `load`."""
    compiler = _compiler()
    key = repr((_source(kernel), compiler, FLAGS, kernel.flags, platform.machine()))
    name = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    with suppress(OSError, subprocess.SubprocessError):  # no safe cache, or a full one
        path = cache_folder() / name
        with suppress(OSError):  # not there yet, or damaged
            if is_private(path):
                return ctypes.CDLL(str(path))
        _compile(compiler, kernel, path)
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        _compile(compiler, kernel, path)
        return ctypes.CDLL(str(path))


def _source(kernel: Kernel) -> bytes:
    return SOURCES.joinpath(kernel.source).read_bytes()


def _compile(compiler: str, kernel: Kernel, path: Path) -> None:
    """Makes `path`, whole or not at all: other processes may look for it meanwhile."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        command = [compiler, *FLAGS, *kernel.flags, "-x", "c", "-", "-o", str(built)]
        subprocess.run(
            command,
            input=_source(kernel),
            check=True,
            capture_output=True,
            timeout=COMPILE_SECONDS,
        )
        built.chmod(0o700)
        built.replace(path)
