"""The normative network in C; no torch.

`native.c` holds one loop for all layers: convolution, table, residual sum and pixel shuffle in one
pass over memory. Of its kernels (`native_library`) the fastest that this machine can have is taken,
once it has proven to be exact. Without a C compiler there is none, and `torch_kernels` computes the
same bits.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod

import numpy as np

from hnervcodec.bitstream.architecture import LayerSpec, ModelConfig, StageConfig, layers
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import Requant
from hnervcodec.bitstream.segment import QuantizedLayer, QuantizedSegment
from hnervcodec.synthesis import native_library
from hnervcodec.synthesis.tables import HEAD_HALF, HIDDEN_HALF, head_fraction, output_table
from hnervcodec.system import kernels

OVERHANG = 32  # bytes beyond a plane that are read, in vain: pixels are computed by vectors
MACS_PER_WORKER = 1_000_000  # for less than a few microseconds a thread is not worth waking

_LEVELS, _FINE, _RESIDUAL, _LAST, _HEAD = range(5)  # modes of native.c


class _Layer(ctypes.Structure):
    """`Layer` of native.c, which says what the fields mean."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "mode",
                "shuffle",
                "channels",
                "outputs",
                "quads",
                "height",
                "width",
                "reach",
                "done",
                "passes",
                "digit_bits",
                "shift",
                "half",
                "multiplier",
                "fraction",
                "largest",
            )
        ),
        ("runs", ctypes.c_void_p),
        ("tap", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("where", ctypes.c_void_p),
        ("in_", ctypes.c_void_p),
        ("in_row", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("out_row", ctypes.c_int64),
        ("out_quad", ctypes.c_int64),
        ("fine", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
    ]


# ---------------------------------------------------------------- the library


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernel in use, and why none that would be faster is."""

    library: ctypes.CDLL | None
    name: str  # "" without one
    passed_over: tuple[str, ...]  # "kernel: reason"

    def __str__(self) -> str:
        """For `hnv --version`: native avx2 (avx-vnni: this processor lacks avx_vnni)."""
        reasons = f" ({'; '.join(self.passed_over)})" if self.passed_over else ""
        return (f"native {self.name}" if self.name else "torch") + reasons


@cache
def choice() -> Choice:
    """The fastest kernel that can be had here and is exact."""
    passed_over, lack = list[str](), ""
    for kernel in native_library.candidates():
        if lacking := kernels.lacking(kernel):
            passed_over.append(f"{kernel.name}: this processor lacks {', '.join(lacking)}")
            continue
        try:
            loaded = native_library.load(kernel)
        except kernels.NoCompilerError as error:
            lack = str(error)  # others may have been built with the package
            continue
        except (OSError, subprocess.SubprocessError) as error:
            passed_over.append(f"{kernel.name}: {error}")
            continue
        if _is_exact(loaded):
            return Choice(loaded, kernel.name, tuple(passed_over))
        passed_over.append(f"{kernel.name}: not exact here, please report it")
    return Choice(None, "", (lack,) if lack else tuple(passed_over))


def library() -> ctypes.CDLL | None:
    """The chosen kernel's functions; None where there is no kernel."""
    return choice().library


# ---------------------------------------------------------------- the network


def _padded(values: np.ndarray, axis: int, multiple: int) -> np.ndarray:
    """With zeros after the last along `axis`, up to a multiple; `np.pad` takes ten times as long,
    which counts in files of thousands of small segments."""
    missing = -values.shape[axis] % multiple
    if not missing:
        return values
    shape = list(values.shape)
    shape[axis] = missing
    return np.concatenate([values, np.zeros(shape, values.dtype)], axis)


def _phases_first(values: np.ndarray, shuffle: int) -> np.ndarray:
    """Output channels [channels * shuffle**2, ...] in the order in which pixels take them, the
    channels of each phase filled up to fours with zeros."""
    phases = values.reshape(-1, shuffle**2, *values.shape[1:]).swapaxes(0, 1)
    return _padded(phases, 1, 4).reshape(-1, *values.shape[1:])


@dataclass(frozen=True, slots=True)
class _PackedWeights:
    """Weights as native.c reads them, which says what the fields mean."""

    taps: list[np.ndarray]  # of each pass: their places among those of `_taps`
    runs: list[list[int]]  # of each pass
    digit_bits: int
    weights: np.ndarray  # int8


def _digits(weight: np.ndarray, partial: int) -> tuple[list[np.ndarray], int]:
    """int8 [passes, O, taps, 4]: the digits of levels [O, taps, 4], the highest first, and their
    bits. 16 bits hold the sums of their products in pairs if `partial` says how far."""
    fits = _fits(weight, partial)
    bits = 8 if fits or not partial else 6  # bytes, unless their sums have too little room
    half, digits = 1 << bits - 1, list[np.ndarray]()
    while not fits:
        low = (weight + half & 2 * half - 1) - half
        digits.insert(0, low)
        weight = weight - low >> bits
        fits = _fits(weight, partial)
    return [digit.astype(np.int8) for digit in (weight, *digits)], bits


def _fits(weight: np.ndarray, partial: int) -> bool:
    """Whether these are bytes, and 16 bits hold the sum of two neighbouring products with any two
    levels."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    if low < -128 or high > 127:
        return False
    if not partial or 2 * max(-low, high) <= partial:
        return True
    return int(_sums_of_a_sign(weight).max(initial=0)) <= partial


def _sums_of_a_sign(weight: np.ndarray) -> np.ndarray:
    """uint16 [2, 2, taps, O]: of two neighbours each of bytes [O, taps, 4], the positive ones and
    the others."""
    weight = np.ascontiguousarray(weight.astype(np.int8).T)
    rising, falling = np.maximum(weight, 0), np.minimum(weight, 0)
    ones = np.stack([rising, np.negative(falling, out=falling)]).view(np.uint8)  # -128: 128
    sums: np.ndarray = np.add(ones[:, ::2], ones[:, 1::2], dtype=np.uint16)
    return sums


def _runs(digit: np.ndarray, partial: int, deepest: int) -> tuple[np.ndarray, list[int]]:
    """An order of the taps of a digit [O, taps, 4], and how many runs of `deepest` taps, ..., of
    one tap come in turn: 16 bits hold the sums of the products of a run."""
    if deepest == 1:
        return np.arange(digit.shape[1]), [digit.shape[1]]
    sums = _sums_of_a_sign(digit)
    left = np.argsort(sums.max((0, 1, 3), initial=0))
    order, counts = list[np.ndarray](), list[int]()
    for depth in range(deepest, 1, -1):
        over, count = len(left) % depth, 0
        if len(left) >= depth:
            runs = left[over:].reshape(depth, -1).copy()
            runs[1::2] = runs[1::2, ::-1]  # large ones with small ones
            fit = (sums[:, :, runs].sum(2) <= partial).all((0, 1, 3))
            order.append(runs[:, fit].T.ravel())
            count = int(np.count_nonzero(fit))
            left = np.concatenate([left[:over], np.sort(runs[:, ~fit].ravel())])
        counts.append(count)
    return np.concatenate([*order, left]), [*counts, len(left)]


def _pack_weights(weight: np.ndarray, lib: ctypes.CDLL) -> _PackedWeights:
    """Of levels [O, I, k, k]."""
    outputs, _, kernel = weight.shape[:3]
    partial = lib.hnv_partial()
    quads = _padded(weight, 1, 4).reshape(outputs, -1, 4, kernel, kernel)
    taps = quads.transpose(0, 3, 1, 4, 2).reshape(outputs, -1, 4)  # as `_taps` says
    digits, bits = _digits(taps, partial)
    used, runs = list[np.ndarray](), list[list[int]]()
    for n, digit in enumerate(digits):
        places = np.flatnonzero(digit.any((0, 2)))  # few, of the highest digits
        order, counts = _runs(digit[:, places], partial, lib.hnv_depth())
        used.append(places[order])
        runs.append(counts)
        digits[n] = digit[:, used[-1]]
    together = lib.hnv_vectors() * lib.hnv_outputs()  # outputs
    packed = [
        digit[n : n + together].swapaxes(0, 1).ravel()
        for n in range(0, outputs, together)
        for digit in digits
    ]
    return _PackedWeights(used, runs, bits, np.concatenate(packed))


@lru_cache
def _taps(kernel: int, quads: int, row: int, quad: int) -> np.ndarray:
    """int32: where the levels of a window lie, in bytes from its first; of four channels each. row,
    quad: bytes of a row and, in it, of four channels."""
    down, fours, across = np.ogrid[:kernel, :quads, :kernel]
    offsets: np.ndarray = row * down + quad * fours + 4 * across
    return offsets.ravel().astype(np.int32)


@lru_cache
def _where(quads: int, shuffle: int, tile: int) -> np.ndarray:
    """int32 [outputs / 4]: the places of outputs, in phases as in `_phases_first`, among the values
    [shuffle, quads, tile * shuffle, 4] of a tile."""
    down, across, fours = np.ogrid[:shuffle, :shuffle, :quads]
    places: np.ndarray = 4 * ((down * quads + fours) * tile * shuffle + across)
    return places.ravel().astype(np.int32)


class _Plane:
    """Levels [height, channels in fours, width, 4] with a border at the zero point, as wide as the
    convolutions that read it need."""

    def __init__(self, height: int, width: int, channels: int, border: int, zero_point: int):
        self.border = border
        quads = -(-channels // 4)
        self.quad = 4 * (width + 2 * border)  # bytes of four channels of a row
        self.row = quads * self.quad
        size = (height + 2 * border) * self.row
        self.levels = np.full(size + OVERHANG, zero_point, np.uint8)

    def at(self, offset: int) -> int:
        """Address of the pixel `offset` rows and columns before the first one inside."""
        inside = self.border - offset
        return self.levels.ctypes.data + inside * (self.row + 4)


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads for all networks of this process, which may be hundreds; they start when needed."""
    return ThreadPoolExecutor(workers)


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


class Network:
    """A segment's layers, packed and ready to run.

    Of several frames each worker computes whole ones, so that nobody waits for anybody; one frame
    is shared by all of them, row by row.
    """

    def __init__(self, lib: ctypes.CDLL, segment: QuantizedSegment, bit_depth: int, workers: int):
        self._lib, self._workers = lib, workers
        self._lock = threading.Lock()  # of what the layers write into
        self._dtype = np.uint8 if bit_depth <= 8 else np.uint16
        specs = segment.specs
        head = specs[-1]
        self._shape = head.out_channels, head.height, head.width
        self._segment = segment
        self._buffers: list[np.ndarray] = []  # what the layers point to, kept alive
        self._operands = (_Layer * len(specs))()
        self._taps: list[np.ndarray] = []  # of each layer: which of `_taps` it reads, by passes
        operands = zip(
            self._operands, specs, segment.layers, segment.input_zero_points(), strict=True
        )
        for to, spec, layer, zero_point in operands:
            self._set_operands(to, spec, layer, zero_point, bit_depth)
        # Numbers that a worker needs.
        self._scratch = 3 * lib.hnv_tile() * max(layer.outputs for layer in self._operands)
        packed = sum(buffer.nbytes for buffer in self._buffers)
        self._together = self._connected(workers)  # for all workers on one frame
        self._alone: list[ctypes.Array[_Layer]] = []  # for each worker on a frame of its own
        levels = sum(buffer.nbytes for buffer in self._buffers) - packed
        self.nbytes = packed + levels * (workers + 1 if workers > 1 else 1)  # at most

    def _set_operands(
        self,
        to: _Layer,
        spec: LayerSpec,
        layer: QuantizedLayer,
        zero_point: int,
        bit_depth: int,
    ) -> None:
        """What the layer computes. zero_point: of its input."""
        to.mode = (
            _HEAD
            if spec.kind == "head"
            else (_RESIDUAL if spec.feeds_residual else _LAST)
            if spec.kind == "residual"
            else (_FINE if spec.feeds_residual else _LEVELS)
        )
        to.shuffle, to.channels, to.quads = (
            spec.shuffle,
            spec.out_channels,
            -(-spec.out_channels // 4),
        )
        to.height, to.width, to.reach = spec.height, spec.width, spec.kernel // 2
        to.shift, to.multiplier = layer.requant.shift, layer.requant.multiplier
        to.fraction, to.largest = head_fraction(bit_depth), (1 << bit_depth) - 1
        to.half = HEAD_HALF if spec.kind == "head" else HIDDEN_HALF
        weight = _phases_first(layer.weight.astype(np.int64), spec.shuffle)
        bias = _phases_first(layer.accumulator_bias(spec), spec.shuffle)
        bias = bias - (zero_point - self._lib.hnv_offset()) * weight.sum((1, 2, 3))
        to.outputs = len(weight)
        packed = _pack_weights(weight, self._lib)
        to.passes, to.digit_bits = len(packed.taps), packed.digit_bits
        to.runs = self._address_of(np.array(packed.runs, np.int32))
        self._taps.append(np.concatenate(packed.taps))
        to.weight = self._address_of(packed.weights)
        to.bias = self._address_of(np.repeat(bias.astype(np.int32), self._lib.hnv_pixels()))
        if spec.kind != "head":
            table = output_table(spec.kind, layer.requant, spec.feeds_residual, bit_depth)
            to.table = self._address_of(table.astype(np.int16))
            where = _where(to.quads, to.shuffle, self._lib.hnv_tile())
            to.where = self._address_of(where)

    def _connected(self, workers: int) -> ctypes.Array[_Layer]:
        """The layers with memory of their own to read and write, for so many workers at once; in
        one stage they read and write two planes by turns."""
        layers = type(self._operands).from_buffer_copy(self._operands)
        specs, planes = self._segment.specs, list[_Plane]()
        scratch = self._address_of(np.empty(workers * self._scratch, np.int32))
        for n, (to, spec) in enumerate(zip(layers, specs, strict=True)):
            to.scratch = scratch
            if n:
                to.in_, to.in_row, quad = (
                    planes[0].at(spec.kernel // 2),
                    planes[0].row,
                    planes[0].quad,
                )
            else:  # of an embedding, which `run` brings
                quad = 4 * spec.width
                to.in_row = -(-spec.in_channels // 4) * quad
            taps = _taps(spec.kernel, -(-spec.in_channels // 4), to.in_row, quad)
            to.tap = self._address_of(taps[self._taps[n]])
            if spec.kind == "head":
                break
            if spec.kind == "residual":
                planes.reverse()
                to.fine = layers[n - 1].fine
            else:
                size = spec.height * spec.shuffle, spec.width * spec.shuffle, spec.out_channels
                border = max(reader.kernel // 2 for reader in _readers(specs, n))
                zero_point = self._segment.layers[n].requant.zero_point
                count = 2 if to.mode == _FINE else 1
                planes = [_Plane(*size, border, zero_point) for _ in range(count)]
                self._buffers += [plane.levels for plane in planes]
                if to.mode == _FINE:
                    to.fine = self._address_of(np.empty((*size[:2], 4 * to.quads), np.int16))
            to.out, to.out_row, to.out_quad = planes[0].at(0), planes[0].row, planes[0].quad
        return layers

    def _address_of(self, array: np.ndarray) -> int:
        self._buffers.append(array)
        return array.ctypes.data

    def run(self, embeddings: np.ndarray) -> np.ndarray:
        """Packed samples [B, channels, h, w], uint8, or uint16 above 8 bits, of embeddings uint8
        [B, C, h, w]."""
        samples = np.empty((len(embeddings), *self._shape), self._dtype)

        def keep(n: int, frame: np.ndarray) -> None:
            samples[n] = frame

        self.each(embeddings, keep)
        return samples

    def each(self, embeddings: np.ndarray, take: Callable[[int, np.ndarray], None]) -> None:
        """Calls take(n, packed samples [channels, h, w]) for each of the embeddings of `run`, in
        any order and from whichever thread made the frame: what else is to be done with it is then
        done by all threads, too."""
        count, channels, height, width = embeddings.shape
        quads = -(-channels // 4)
        size = quads * 4 * height * width
        levels = np.zeros(count * size + OVERHANG, np.uint8)
        filled = _padded(embeddings, 1, 4).reshape(count, quads, 4, height, width)
        fours = levels[: count * size].reshape(count, height, quads, width, 4)
        fours[:] = filled.transpose(0, 3, 1, 4, 2)
        workers = self._workers
        apiece = count // workers * workers if workers > 1 else 0
        alone = iter(range(apiece))  # whoever is free makes the next; the rest is shared
        shared = [np.empty(self._shape, self._dtype) for _ in range(apiece, count)]
        rows = np.zeros((count, len(self._operands), 2), np.int64)  # begun and done

        def make(
            n: int, layers: ctypes.Array[_Layer], frame: np.ndarray, worker: int, workers: int
        ) -> None:
            self._lib.hnv_run(
                ctypes.addressof(layers),
                len(layers),
                fours[n].ctypes.data,
                frame.ctypes.data,
                worker,
                workers,
                rows[n].ctypes.data,
            )

        def work(worker: int) -> None:
            try:
                for n in alone:
                    frame = np.empty(self._shape, self._dtype)
                    make(n, self._alone[worker], frame, 0, 1)
                    take(n, frame)
                for n, frame in enumerate(shared, apiece):
                    make(n, self._together, frame, worker, workers)
                    if worker == 0:
                        take(n, frame)
            finally:
                for _ in alone:  # broken off, if there are any
                    pass

        with self._lock:
            if apiece and not self._alone:
                self._alone = [self._connected(1) for _ in range(workers)]
            others = list[Future[None]]()
            try:
                others += (_pool(workers - 1).submit(work, n) for n in range(1, workers))
                work(0)
            finally:
                # All is done, or broken off. Who has not come yet, need not; the others are waited
                # for, as they read and write what is ours.
                came = [other for other in others if not other.cancel()]
                wait(came)
            for other in came:
                other.result()


def _readers(specs: Sequence[LayerSpec], n: int) -> Sequence[LayerSpec]:
    """The layers that read what layer `n`, the first of a stage, and its residual layers write."""
    last = n
    while specs[last].feeds_residual:
        last += 1
    return specs[n + 1 : last + 2]


def network(segment: QuantizedSegment, bit_depth: int, workers: int) -> Network | None:
    """The segment's network on the chosen kernel; None where there is none.

    bit_depth: of the samples. workers: threads at most.
    """
    lib = library()
    if lib is None:
        return None
    macs = sum(spec.macs for spec in segment.specs)
    return Network(lib, segment, bit_depth, max(1, min(workers, macs // MACS_PER_WORKER)))


# ---------------------------------------------------------------- known-answer test

# Shift, multiplier and gain of each layer, so that its levels use their whole range.
SCALES = (
    (10, 8000, 4000), (11, 8000, 9000), (12, 2500, 9000), (12, 2500, 9000), (10, 8000, 6000),
    (11, 6000, 6000), (9, 3000, 0),
)  # fmt: skip
KNOWN_CRC = 0xCCFBC3B9  # of its samples at 8 and at 12 bits


def known_segment() -> QuantizedSegment:
    """A network that takes every way through native.c, with weights as large as they may be; the
    same on every machine."""
    model = ModelConfig(7, 18, (StageConfig(2, 3, 21, 2), StageConfig(3, 1, 8, 1)), 3)
    specs = layers(model, 6, 5, 14)

    def numbers(stream: int, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        mixed = np.arange(prod(shape), dtype=np.uint64) + np.uint64(stream << 32)
        for _ in range(2):
            mixed *= np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(31)
        return (mixed % np.uint64(high - low + 1)).astype(np.int32).reshape(shape) + low

    quantized = []
    for n, spec in enumerate(specs):
        largest = {"stem": 2047, "head": 300}.get(spec.kind, 127)
        weight = numbers(n, -largest, largest, spec.weight_shape)
        weight[::3] = numbers(50 + n, largest - 3, largest, weight[::3].shape)  # sums of one sign
        weight[1::6] *= -1
        bias = numbers(100 + n, -20_000, 20_000, (spec.out_channels,))
        requant = Requant(0, *SCALES[n], 11 + n)
        quantized.append(QuantizedLayer(weight, bias, requant))
    embedding = numbers(200, 0, 255, (2, 7, 5, 14)).astype(np.uint8)
    return QuantizedSegment(
        0, model, specs, tuple(quantized), embedding, 128, np.zeros(2, np.uint32)
    )


def _is_exact(lib: ctypes.CDLL) -> bool:
    """Whether the library computes what the specification says, by a known-answer test."""
    if lib.hnv_layer_bytes() != ctypes.sizeof(_Layer):
        return False
    segment = known_segment()
    levels = segment.embedding[::-1]
    found = b""
    for depth in (8, 12):
        network = Network(lib, segment, depth, 2)
        found += (samples := network.run(levels)).tobytes()  # a frame for each worker
        if (network.run(levels[:1]) != samples[:1]).any():  # a frame for both
            return False
    return crc32(found) == KNOWN_CRC
