"""What the codec has to know of this machine's processors and accelerators.

torch is imported only inside the functions that need it: counting processors does not.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hnervcodec.errors import UsageError

if TYPE_CHECKING:
    import torch


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The name of this machine's processor, with what tells its generation where that is known:
    virtual machines hide its number."""
    names = {"model name": "", "cpu family": ""}
    with suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in names:
                names[key.strip()] = names[key.strip()] or value.strip()
    name = names["model name"] or platform.processor() or platform.machine()
    return f"{name}, family {names['cpu family']}" if names["cpu family"] else name


def resolve_device(name: str) -> torch.device:
    """The torch device called `name`; "auto" takes CUDA, then Apple's GPU, then the CPU.

    UsageError if it is not available here.
    """
    import torch

    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} is not available here") from error
    return device


def use_threads(count: int) -> None:
    """Lets torch compute with `count` threads of the processor, in the whole process."""
    import torch

    torch.set_num_threads(count)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Lets torch compute with `count` threads within the block, and with as many as before after
    it; in the whole process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bf16_pays(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware (elsewhere it is emulated), as far as
    ATEN_CPU_CAPABILITY lets torch use it."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT") and any(
        getattr(torch.cpu, name, lambda: False)() for name in names
    )
