"""The synthesis network's forward and backward pass in C, several times as fast as torch's on a
processor: training_kernel.c.

`SynthesisNetwork` computes the same, to float32's precision, wherever there is no library of it,
and on other devices.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hnervcodec.bitstream.architecture import LayerSpec
from hnervcodec.fitting import training_library
from hnervcodec.fitting.cores import Cores
from hnervcodec.fitting.quantization import level_value
from hnervcodec.fitting.synthesis_network import Quantizers
from hnervcodec.system import kernels

ALL_ARRIVED = 1 << 30  # nobody waits any longer


class _Layer(ctypes.Structure):
    """`Layer` of training_kernel.c, which says what the fields mean."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "in_",
                "out",
                "kernel",
                "shuffle",
                "height",
                "width",
                "is_residual",
                "is_head",
                "rounds",
            )
        ),
        *((name, ctypes.c_float) for name in ("unit", "scale", "low", "high")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "weight",
                "bias",
                "weight_gradient",
                "bias_gradient",
                "packed",
                "flipped",
                "partial",
            )
        ),
        *((name, ctypes.c_int64) for name in ("input", "factor")),
    ]


class _Network(ctypes.Structure):
    """`Network` of training_kernel.c."""

    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        ("count", ctypes.c_int32),
        ("frames", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "embedding",
                "samples",
                "samples_gradient",
                "embedding_gradient",
                "memory",
            )
        ),
        ("frame_floats", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("stream", "slope", "sums", "lines")),
        ("line_floats", ctypes.c_int64),
        ("arrived", ctypes.c_void_p),
    ]


def library(bf16: bool) -> ctypes.CDLL | None:
    """The fastest training_kernel.c for this processor, as far as ATEN_CPU_CAPABILITY lets torch
    use it, which multiplies bfloat16 or float32; None where there is none, or where torch may be
    faster."""
    if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return None
    return _loaded(bf16, torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT"))


@cache
def _loaded(bf16: bool, avx512: bool) -> ctypes.CDLL | None:
    """Of those that may multiply bfloat16 and use AVX-512, as far as they are told to."""
    candidates = (
        kernel
        for kernel in training_library.TRAINING
        if (bf16 or kernel is not training_library.MULTIPLY_BF16)
        and (avx512 or "avx512f" not in kernel.features)
    )
    return next(map(declared, kernels.loadable(candidates)), None)


def declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    """training_kernel.c as a library whose functions' arguments ctypes knows."""
    for function in (lib.hnv_forward, lib.hnv_backward):
        function.argtypes = [ctypes.POINTER(_Network), ctypes.c_int32, ctypes.c_int32]
        function.restype = None
    lib.hnv_lanes.argtypes, lib.hnv_lanes.restype = [], ctypes.c_int32
    return lib


class TrainingKernel:
    """The layers `specs` of a synthesis network. Called like `SynthesisNetwork`, with the same
    operands, and like it differentiable by these and by the embedding.

    cores: run it, a frame's rows shared among them where frames are not.
    """

    def __init__(self, specs: tuple[LayerSpec, ...], cores: Cores, lib: ctypes.CDLL):
        self.specs, self.cores, self.lib = specs, cores, lib
        self.spare: list[_Memory] = []  # kept, as fresh memory has to be mapped first

    def __call__(
        self, x: Tensor, operands: Sequence[Tensor], quantizers: Quantizers | None = None
    ) -> Tensor:
        """Samples [B, channels, H, W] of embeddings `x` [B, C, h, w]."""
        clips = []  # of each hidden layer
        if quantizers is not None and quantizers.round_activations:
            clips = [
                (1 / level_value(gain), -zero, 255 - zero)
                for gain, zero in zip(quantizers.gains, quantizers.zero_points, strict=True)
            ]
        return _Function.apply(self, clips, x.float(), *operands)  # type: ignore[no-untyped-call,no-any-return]

    def run(self, function: Any, memory: _Memory) -> None:
        """One of the library's functions, by all workers at once."""
        workers, arrived = self.cores.workers, ctypes.c_int32(0)
        network = ctypes.pointer(memory.network)
        memory.network.arrived = ctypes.addressof(arrived)

        def give_up() -> None:
            arrived.value = ALL_ARRIVED

        self.cores.together(lambda worker: function(network, worker, workers), give_up)

    def memory(self, frames: int) -> _Memory:
        """For one pass over so many frames and back; to be put into `spare` after it."""
        for n, memory in enumerate(self.spare):
            if memory.frames == frames:
                return self.spare.pop(n)
        return _Memory(self.specs, frames, self.cores.workers, self.lib.hnv_lanes())


class _Memory:
    """What a pass over `frames` frames needs, and what the way back needs of it."""

    def __init__(self, specs: tuple[LayerSpec, ...], frames: int, workers: int, lanes: int):
        self.frames = frames
        self.held: list[Tensor] = []
        self.layers = (_Layer * len(specs))()
        size, largest, line, widest = 0, 0, 0, 0
        for spec, layer in zip(specs, self.layers, strict=True):
            s, border = spec.shuffle, spec.kernel // 2
            layer.in_, layer.out = spec.in_channels, spec.weight_shape[0] // s**2
            layer.kernel, layer.shuffle = spec.kernel, s
            layer.height, layer.width = spec.height, spec.width
            layer.is_residual, layer.is_head = spec.kind == "residual", spec.kind == "head"
            inside, outside = (-(-c // lanes) * lanes for c in (layer.in_, layer.out))
            samples = spec.height * spec.width * s * s * outside
            padded = (spec.height + 2 * border) * (spec.width + 2 * border)
            layer.input, size = size, size + padded * inside
            layer.factor, size = size, size + samples
            largest = max(largest, padded * s * s * outside)
            line = max(line, spec.width * max(inside, s * s * outside))
            pairs = 2 * spec.kernel * (spec.width + 2 * border + 2) * inside
            line = max(line, pairs + (spec.width + 1) * s * s * outside)
            widest = max(widest, samples, spec.height * spec.width * inside)
            packed = (spec.kernel**2 * layer.in_ + 1) * s * s * outside
            layer.packed, layer.flipped = (
                self.floats(packed),
                self.floats(spec.kernel**2 * s * s * outside * inside),
            )
            layer.partial = self.floats(workers * packed)
        self.network = _Network(
            layers=self.layers,
            count=len(specs),
            frames=frames,
            memory=self.floats(frames * size),
            frame_floats=size,
            stream=self.floats(widest),
            slope=self.floats(widest),
            sums=self.floats(largest),
            lines=self.floats(workers * line),
            line_floats=line,
        )

    def floats(self, count: int) -> int:
        """The address of so many zeros."""
        held = torch.zeros(count)
        self.held.append(held)
        return held.data_ptr()


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: TrainingKernel,
        clips: list[tuple[float, float, float]],
        x: Tensor,
        *operands: Tensor,
    ) -> Tensor:
        count = len(kernel.specs)
        memory = kernel.memory(len(x))
        units = torch.stack(operands[2 * count :]).tolist() if clips else [1.0] * count
        x, kept = x.contiguous(), [operand.contiguous() for operand in operands]
        for n, layer in enumerate(memory.layers):
            layer.weight, layer.bias = kept[n].data_ptr(), kept[count + n].data_ptr()
            layer.unit, layer.rounds = units[n], bool(clips)
            is_clipped = clips and n < count - 1
            layer.scale, layer.low, layer.high = clips[n] if is_clipped else (1.0, 0.0, 0.0)
        last = kernel.specs[-1]
        samples = x.new_empty(len(x), last.height, last.width, last.out_channels)
        memory.network.embedding, memory.network.samples = x.data_ptr(), samples.data_ptr()
        kernel.run(kernel.lib.hnv_forward, memory)
        ctx.kernel, ctx.memory, ctx.kept, ctx.units = kernel, memory, kept, units
        return samples.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernel, memory, kept = ctx.kernel, ctx.memory, ctx.kept
        count = len(kernel.specs)
        slope = grads[0].float().permute(0, 2, 3, 1).contiguous()
        first = kernel.specs[0]
        embedding = slope.new_empty(len(slope), first.in_channels, first.height, first.width)
        gradients = [torch.empty_like(operand) for operand in kept[: 2 * count]]
        for n, layer in enumerate(memory.layers):
            layer.weight_gradient = gradients[n].data_ptr()
            layer.bias_gradient = gradients[count + n].data_ptr()
        memory.network.samples_gradient = slope.data_ptr()
        memory.network.embedding_gradient = embedding.data_ptr()
        kernel.run(kernel.lib.hnv_backward, memory)
        kernel.spare.append(memory)
        of_units: list[Tensor | None] = [None] * (len(kept) - 2 * count)
        if ctx.needs_input_grad[-1] and of_units:
            # A unit multiplies a sum that is linear in weights and bias.
            of_units = [
                ((gradients[n] * kept[n]).sum() + (gradients[count + n] * kept[count + n]).sum())
                / unit
                for n, unit in enumerate(ctx.units)
            ]
        return None, None, embedding, *gradients, *of_units
