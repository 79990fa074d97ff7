"""The normative network in torch, for every processor and device that torch runs on.

Every convolution is computed by the fastest kernel that proves itself exact on this machine:

    int8      oneDNN's u8 x s8 convolution (VNNI, AMX), for weights of at most 127
    float32   exact, because the conformance bound keeps every partial sum below 2^24
    float64   exact everywhere; the reference for the others

All of them give the same bits. A kernel is chosen per layer at load, by a known-answer test with
the layer's own channels and kernel size and the largest operands it can meet, because what
saturates or rounds depends on processor, environment and library (u8 x s8 without VNNI, TF32,
Winograd ...). The last word has the checksum of every decoded frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Barrier, RLock

import numpy as np
import torch
import torch.nn.functional as F

from hnervcodec.bitstream.architecture import LayerSpec
from hnervcodec.bitstream.headers import Requant
from hnervcodec.bitstream.segment import ACCUMULATOR_LIMIT, QuantizedSegment
from hnervcodec.errors import UsageError
from hnervcodec.synthesis.tables import (
    FINE_MAX,
    HEAD_HALF,
    HIDDEN_HALF,
    output_table,
    to_levels,
)
from hnervcodec.system.devices import resolve_device

PATHS = ("int8", "float32", "float64")
_EXACT_MODE = RLock()

# uint8 levels [B, C, h, w] (channels last) -> exact accumulators [B, O, h, w], floating point
Convolution = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Operands:
    """What a convolution kernel is built from."""

    weight: torch.Tensor  # int32 [O, I, k, k]
    bias: torch.Tensor  # int64 [O]
    zero_point: int  # of the input levels

    @property
    def padding(self) -> int:
        return self.weight.shape[-1] // 2


def _float_kernel(operands: _Operands, dtype: torch.dtype) -> Convolution:
    weight = operands.weight.to(dtype).contiguous(memory_format=torch.channels_last)
    bias = operands.bias.to(dtype)

    def convolve(levels: torch.Tensor) -> torch.Tensor:
        centred = levels.to(dtype).sub_(operands.zero_point)
        return F.conv2d(centred, weight, bias, padding=operands.padding)

    return convolve


def _int8_kernel(operands: _Operands) -> Convolution:
    outputs = len(operands.weight)
    scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    weight, bias = operands.weight.to(torch.int8), operands.bias.float()
    ones, padding = [1, 1], [operands.padding] * 2
    packed = torch.ops.onednn.qconv_prepack(
        weight, scales, 1.0, operands.zero_point, ones, padding, ones, 1, None
    )

    def convolve(levels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            levels,
            1.0,
            operands.zero_point,
            packed,
            scales,
            zeros,
            bias,
            ones,
            padding,
            ones,
            1,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return out

    return convolve


def _kernel(path: str, operands: _Operands) -> Convolution:
    if path == "int8":
        return _int8_kernel(operands)
    return _float_kernel(operands, torch.float32 if path == "float32" else torch.float64)


def _is_exact(path: str, operands: _Operands, size: tuple[int, int]) -> bool:
    """Known-answer test: the largest weights, levels and biases the conformance bound allows."""
    device, shape = operands.weight.device, operands.weight.shape
    if path == "float64":
        return device.type != "mps"  # which has none
    largest = int(operands.weight.abs().max())
    if path == "int8" and (device.type != "cpu" or largest > 127):
        return False
    generator = torch.Generator().manual_seed(0)
    largest = max(largest, 127)
    reach = max(operands.zero_point, 255 - operands.zero_point)
    # Runs of neighbouring input channels: where kernels add pairs in 16 bits, these saturate.
    taps = shape[1] * shape[2] * shape[3]
    run = min(taps, (ACCUMULATOR_LIMIT - 1) // (largest * reach))
    start = torch.randint(0, taps - run + 1, (shape[0], 1), generator=generator)
    position = torch.arange(taps)
    inside = (position >= start) & (position < start + run)
    values = largest - torch.randint(0, 4, (shape[0], taps), generator=generator)
    signs = torch.randint(0, 2, (shape[0], taps), generator=generator) * 2 - 1
    signs[::2] = 1
    weight = values * signs * inside
    headroom = ACCUMULATOR_LIMIT - 1 - reach * weight.abs().sum(1)
    headroom[1::2].neg_()
    weight = weight.reshape(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2).int()
    levels = torch.randint(0, 256, (2, shape[1], *size), generator=generator, dtype=torch.uint8)
    levels[0] = 255
    levels = levels.contiguous(memory_format=torch.channels_last)
    reference = _Operands(weight, headroom, operands.zero_point)
    exact = _kernel("float64", reference)(levels)
    test = _Operands(weight.to(device), headroom.to(device), operands.zero_point)
    try:
        found = _kernel(path, test)(levels.to(device)).cpu().double()
    except (RuntimeError, AttributeError, NotImplementedError):  # not built, or no such operator
        return False
    return bool((found == exact).all())


def _fastest_exact(candidates: Sequence[str], operands: _Operands, size: tuple[int, int]) -> str:
    for path in candidates:
        if _is_exact(path, operands, size):
            return path
    raise UsageError(f"device {operands.weight.device} has no exact arithmetic: use the CPU")


class _Layer:
    """One convolution with its table and, for "up" layers, its pixel shuffle."""

    def __init__(
        self,
        spec: LayerSpec,
        operands: _Operands,
        requant: Requant,
        path: str,
        bit_depth: int,
    ):
        self.spec = spec
        self.path = path
        self._half = HEAD_HALF if spec.kind == "head" else HIDDEN_HALF
        self._scale = 2.0**-requant.shift
        # Fine levels where a residual layer adds or will add to them, else levels at once.
        self._is_fine = spec.feeds_residual or spec.kind == "residual"
        table = output_table(spec.kind, requant, spec.feeds_residual, bit_depth)
        deep = self._is_fine or (spec.kind == "head" and bit_depth > 8)
        dtype = torch.int16 if deep else torch.uint8
        self._table = torch.from_numpy(table).to(dtype).to(operands.weight.device)
        # The shuffle's phases become the slow output channels, so that it is a plain copy.
        self._convolve = _kernel(path, self._phases_first(operands))

    def _phases_first(self, operands: _Operands) -> _Operands:
        shuffle = self.spec.shuffle
        if shuffle == 1:
            return operands
        order = torch.arange(len(operands.weight)).view(-1, shuffle**2).t().reshape(-1)
        return _Operands(operands.weight[order], operands.bias[order], operands.zero_point)

    def __call__(
        self, levels: torch.Tensor, fine: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Levels [B, I, h, w] -> [B, O, h * shuffle, w * shuffle], channels last, and the
        fine levels [B, h, w, channels] int16 within a stage."""
        accumulators = self._convolve(levels).permute(0, 2, 3, 1).contiguous()
        index = accumulators.mul_(self._scale).floor_().clamp_(-self._half, self._half - 1)
        index = index.to(torch.int32).add_(self._half)
        out = self._table.index_select(0, index.view(-1)).view(index.shape)
        if self.spec.kind == "residual":
            assert fine is not None
            out = out.add_(fine).clamp_(0, FINE_MAX)
        elif self.spec.kind == "up":
            batch, height, width, _ = out.shape
            s, channels = self.spec.shuffle, self.spec.out_channels
            out = out.view(batch, height, width, s, s, channels).transpose(2, 3)
            out = out.reshape(batch, height * s, width * s, channels)
        if not self._is_fine:
            return out.permute(0, 3, 1, 2), None
        return to_levels(out).to(torch.uint8).permute(0, 3, 1, 2), out


class Network:
    """A segment's layers, ready to run. `path` is "auto" or one of `PATHS`, from which a layer that
    cannot use it exactly falls back to the next.

    On the processor each of torch's threads computes whole frames of several: inside operators as
    small as these, threads wait for each other.
    """

    def __init__(self, segment: QuantizedSegment, bit_depth: int, path: str, device: str):
        self.device = resolve_device(device)
        candidates = PATHS if path == "auto" else PATHS[PATHS.index(path) :]
        self._bit_depth = bit_depth
        self._pool: ThreadPoolExecutor | None = None
        self._layers = []
        zero_points = segment.input_zero_points()
        with _exact_mode():
            for spec, layer, zero in zip(segment.specs, segment.layers, zero_points, strict=True):
                operands = _Operands(
                    torch.from_numpy(layer.weight).to(self.device),
                    torch.from_numpy(layer.accumulator_bias(spec)).to(self.device),
                    zero,
                )
                size = min(spec.height, 16), min(spec.width, 64)
                exact = _fastest_exact(candidates, operands, size)
                self._layers.append(_Layer(spec, operands, layer.requant, exact, bit_depth))

    @property
    def paths(self) -> dict[str, str]:
        """The arithmetic path each layer uses."""
        return {layer.spec.name: layer.path for layer in self._layers}

    def run(self, embeddings: np.ndarray) -> np.ndarray:
        """Packed samples [B, channels, h, w], uint8, or uint16 above 8 bits, of embeddings uint8
        [B, C, h, w]."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        workers = min(len(embeddings), threads)
        with _exact_mode():
            if workers < 2:
                return self._computed(embeddings)
            if self._pool is None:
                self._pool = _single_threads(threads)
            parts = np.array_split(embeddings, workers)
            return np.concatenate(list(self._pool.map(self._computed, parts)))

    @torch.inference_mode()
    def _computed(self, embeddings: np.ndarray) -> np.ndarray:
        levels = torch.from_numpy(embeddings).to(self.device)
        levels = levels.contiguous(memory_format=torch.channels_last)
        fine: torch.Tensor | None = None
        for layer in self._layers:
            levels, fine = layer(levels, fine)
        samples = levels.contiguous().cpu().numpy()
        return samples if self._bit_depth <= 8 else samples.astype(np.uint16)


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Threads whose operators use no others."""
    everybody = torch.get_num_threads()
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count)
    for _ in range(count):
        pool.submit(begin)
    ready.wait()
    torch.set_num_threads(everybody)  # the setting of threads to come; those here keep theirs
    return pool


@contextmanager
def _exact_mode() -> Iterator[None]:
    """Turns off what trades exactness for speed: TF32 and bfloat16 products, and every library that
    may choose Winograd's or Fourier's convolution by the sizes it meets, so that a known answer
    would not tell of other sizes: cuDNN and NNPACK. On GPUs convolutions are then products of
    matrices. These are settings of the whole process: one thread at a time."""
    with (
        _EXACT_MODE,
        torch.backends.cudnn.flags(
            enabled=False, benchmark=False, deterministic=True, allow_tf32=False
        ),
        torch.backends.nnpack.flags(enabled=False),
    ):
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
