"""The normative network in C, for processors that multiply bytes; no torch.

`native.c` holds one loop for all layers: convolution, table, residual sum and pixel shuffle in one
pass over memory. It is compiled with this machine's C compiler when first needed and kept in the
user's cache. Without a compiler or such a processor there is no `library`, and `torch_kernels`
computes the same bits.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path

import numpy as np

from hnervcodec.bitstream.architecture import LayerSpec, ModelConfig, StageConfig, layers
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import Requant
from hnervcodec.bitstream.segment import QuantizedLayer, QuantizedSegment
from hnervcodec.synthesis.tables import HEAD_HALF, HIDDEN_HALF, output_table
from hnervcodec.system.cache import cache_folder, is_private

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
BYTE_PRODUCTS = {"avx512_vnni", "avx_vnni"}  # as /proc/cpuinfo calls them
MACS_PER_WORKER = 1_000_000  # for less than a few microseconds a thread is not worth waking
LARGEST_WEIGHT = 127 * 256  # of what two passes over bytes can hold

_LEVELS, _FINE, _RESIDUAL, _HEAD = range(4)  # modes of native.c


class _Layer(ctypes.Structure):
    """`Layer` of native.c, which says what the fields mean."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "mode",
                "kernel",
                "shuffle",
                "quads",
                "channels",
                "blocks",
                "height",
                "width",
                "passes",
                "shift",
                "half",
                "wide",
            )
        ),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("in_", ctypes.c_void_p),
        ("in_row", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("out_row", ctypes.c_int64),
        ("out_pixel", ctypes.c_int64),
        ("fine", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
    ]


# ---------------------------------------------------------------- the library


@cache
def library() -> ctypes.CDLL | None:
    """native.c, compiled for this processor; None where that cannot be."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    flags = processor_flags()
    if compiler is None or not BYTE_PRODUCTS & set(flags):
        return None
    source = files("hnervcodec.synthesis").joinpath("native.c").read_bytes()
    key = repr((source, compiler, FLAGS, flags, platform.machine()))
    name = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        loaded = _load(compiler, source, name)
    except (OSError, subprocess.SubprocessError):
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    loaded.hnv_run.argtypes = [pointer, number, pointer, pointer, number, number, pointer]
    loaded.hnv_run.restype = None
    return loaded if _is_exact(loaded) else None


def processor_flags() -> list[str]:
    """Instruction sets by their Linux names; none known elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = (line for line in file if line.startswith("flags"))
            return sorted(next(lines, "").split())
    except OSError:
        return []


def _load(compiler: str, source: bytes, name: str) -> ctypes.CDLL:
    """The library `name` from the user's cache, compiled if it is not there; where there can be no
    safe cache, it is compiled for this process alone. OSError or SubprocessError if that fails."""
    with suppress(OSError, subprocess.SubprocessError):  # no safe cache, or a full one
        path = cache_folder() / name
        with suppress(OSError):  # not there yet, or damaged
            if is_private(path):
                return ctypes.CDLL(str(path))
        _compile(compiler, source, path)
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        _compile(compiler, source, path)
        return ctypes.CDLL(str(path))


def _compile(compiler: str, source: bytes, path: Path) -> None:
    """Makes `path`, whole or not at all: other processes may look for it meanwhile."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        command = [compiler, *FLAGS, "-x", "c", "-", "-o", str(built)]
        subprocess.run(command, input=source, check=True, capture_output=True, timeout=60)
        built.chmod(0o700)
        built.replace(path)


# ---------------------------------------------------------------- the network


def _phases_first(values: np.ndarray, shuffle: int) -> np.ndarray:
    """Output channels [channels * shuffle**2, ...] in the order in which pixels take them."""
    phases = values.reshape(-1, shuffle**2, *values.shape[1:]).swapaxes(0, 1)
    return phases.reshape(values.shape)


def _in_blocks(outputs: np.ndarray, lanes: int) -> np.ndarray:
    """[O, ...] -> [blocks, lanes, ...]; a last block that is at most half full holds its outputs
    twice."""
    rest = len(outputs) % lanes
    width = lanes if not rest or rest > lanes // 2 else lanes // 2
    filling = [(0, -len(outputs) % width), *[(0, 0)] * (outputs.ndim - 1)]
    outputs = np.pad(outputs, filling)
    if width < lanes:
        outputs = np.concatenate([outputs, outputs[-width:]])
    return outputs.reshape(-1, lanes, *outputs.shape[1:])


def _pack_weights(weight: np.ndarray, lanes: int) -> tuple[int, np.ndarray]:
    """(passes, int8 in the order in which native.c reads it) of levels [O, I, k, k]."""
    low = (weight + 128 & 255) - 128
    sets = [low] if np.array_equal(low, weight) else [weight - low >> 8, low]
    inputs, kernel = weight.shape[1:3]
    bytes_ = np.stack([_in_blocks(values, lanes) for values in sets]).astype(np.int8)
    bytes_ = np.pad(bytes_, [(0, 0)] * 3 + [(0, -inputs % 4), (0, 0), (0, 0)])
    blocks = bytes_.reshape(len(sets), -1, lanes, -(-inputs // 4), 4, kernel, kernel)
    blocks = blocks.transpose(1, 0, 5, 6, 3, 2, 4)  # [blocks, passes, k, k, quads, lanes, 4]
    pairs = [np.moveaxis(blocks[n : n + 2], 0, 4) for n in range(0, len(blocks), 2)]
    return len(sets), np.concatenate([np.ascontiguousarray(pair).ravel() for pair in pairs])


class _Plane:
    """Levels [height, width, channels in fours] with a border at the zero point, as wide as the
    convolutions that read it need."""

    def __init__(self, height: int, width: int, channels: int, border: int, zero_point: int):
        self.border = border
        shape = height + 2 * border, width + 2 * border, channels + -channels % 4
        self.levels = np.full(shape, zero_point, np.uint8)
        self.row, self.pixel = self.levels.strides[:2]

    def at(self, offset: int) -> int:
        """Address of the pixel `offset` rows and columns before the first one inside."""
        inside = self.border - offset
        return self.levels.ctypes.data + inside * (self.row + self.pixel)


class Network:
    """A segment's layers, packed and ready to run."""

    def __init__(self, lib: ctypes.CDLL, segment: QuantizedSegment, bit_depth: int, workers: int):
        self._lib, self._workers = lib, workers
        self._pool = ThreadPoolExecutor(max(workers - 1, 1))  # its threads start when needed
        self._lock = threading.Lock()  # of what the layers write into
        self._dtype = np.uint8 if bit_depth <= 8 else np.uint16
        specs, lanes = segment.specs, lib.hnv_lanes()
        head = specs[-1]
        self._shape = head.out_channels, head.height, head.width
        self._layers = (_Layer * len(specs))()
        self._buffers: list[np.ndarray] = []  # what the layers point to, kept alive
        blocks = max(-(-spec.weight_shape[0] // lanes) for spec in specs)
        scratch = self._address_of(
            np.empty(workers * 2 * lib.hnv_tile() * blocks * lanes, np.int32)
        )
        operands = zip(
            self._layers, specs, segment.layers, segment.input_zero_points(), strict=True
        )
        for to, spec, layer, zero_point in operands:
            self._set_operands(to, spec, layer, zero_point, bit_depth)
            to.scratch = scratch
        self._connect(segment)

    def _set_operands(
        self,
        to: _Layer,
        spec: LayerSpec,
        layer: QuantizedLayer,
        zero_point: int,
        bit_depth: int,
    ) -> None:
        """What the layer computes. zero_point: of its input."""
        lanes = self._lib.hnv_lanes()
        to.mode = (
            _HEAD
            if spec.kind == "head"
            else _RESIDUAL
            if spec.kind == "residual"
            else _FINE
            if spec.feeds_residual
            else _LEVELS
        )
        to.kernel, to.shuffle, to.channels = spec.kernel, spec.shuffle, spec.out_channels
        to.quads, to.blocks = -(-spec.in_channels // 4), -(-spec.weight_shape[0] // lanes)
        to.height, to.width, to.wide = spec.height, spec.width, bit_depth > 8
        to.shift = layer.requant.shift
        to.half = HEAD_HALF if spec.kind == "head" else HIDDEN_HALF
        weight = _phases_first(layer.weight.astype(np.int64), spec.shuffle)
        bias = _phases_first(layer.accumulator_bias(spec), spec.shuffle)
        bias = bias - zero_point * weight.sum((1, 2, 3))
        to.passes, packed = _pack_weights(weight, lanes)
        to.weight = self._address_of(packed)
        to.bias = self._address_of(_in_blocks(bias, lanes).astype(np.int32))
        table = output_table(spec.kind, layer.requant, spec.feeds_residual, bit_depth)
        to.table = self._address_of(table.astype(np.int16))

    def _connect(self, segment: QuantizedSegment) -> None:
        """Where the layers read and write: within a stage by turns in two planes."""
        specs, planes = segment.specs, list[_Plane]()
        for n, (to, spec) in enumerate(zip(self._layers, specs, strict=True)):
            if n:
                to.in_, to.in_row = planes[0].at(spec.kernel // 2), planes[0].row
            else:
                to.in_row = 4 * to.quads * spec.width  # of an embedding, which `run` brings
            if spec.kind == "head":
                return
            if spec.kind == "residual":
                planes.reverse()
                to.fine = self._layers[n - 1].fine
            else:
                size = spec.height * spec.shuffle, spec.width * spec.shuffle, spec.out_channels
                border = max(reader.kernel // 2 for reader in _readers(specs, n))
                zero_point = segment.layers[n].requant.zero_point
                count = 2 if to.mode == _FINE else 1
                planes = [_Plane(*size, border, zero_point) for _ in range(count)]
                self._buffers += [plane.levels for plane in planes]
                if to.mode == _FINE:
                    to.fine = self._address_of(np.empty(size, np.int16))
            to.out, to.out_row, to.out_pixel = planes[0].at(0), planes[0].row, planes[0].pixel

    def _address_of(self, array: np.ndarray) -> int:
        self._buffers.append(array)
        return array.ctypes.data

    def run(self, embeddings: np.ndarray) -> np.ndarray:
        """Packed samples [B, channels, h, w], uint8, or uint16 above 8 bits, of embeddings uint8
        [B, C, h, w]."""
        embeddings = embeddings.transpose(0, 2, 3, 1)
        filling = (0, 0), (0, 0), (0, 0), (0, -embeddings.shape[3] % 4)
        embeddings = np.ascontiguousarray(np.pad(embeddings, filling))
        samples = np.empty((len(embeddings), *self._shape), self._dtype)
        arrived = np.zeros(len(embeddings), np.int32)

        def work(worker: int) -> None:
            try:
                for n, (levels, out) in enumerate(zip(embeddings, samples, strict=True)):
                    self._lib.hnv_run(
                        ctypes.addressof(self._layers),
                        len(self._layers),
                        levels.ctypes.data,
                        out.ctypes.data,
                        worker,
                        self._workers,
                        arrived[n:].ctypes.data,
                    )
            finally:
                arrived.fill(1 << 30)  # finished or broken off: nobody has to wait for anybody

        with self._lock:
            try:
                others = [self._pool.submit(work, n) for n in range(1, self._workers)]
                work(0)
            finally:
                arrived.fill(1 << 30)
            for other in others:
                other.result()
        return samples


def _readers(specs: Sequence[LayerSpec], n: int) -> Sequence[LayerSpec]:
    """The layers that read what layer `n`, the first of a stage, and its residual layers write."""
    last = n
    while specs[last].feeds_residual:
        last += 1
    return specs[n + 1 : last + 2]


def network(segment: QuantizedSegment, bit_depth: int, workers: int) -> Network | None:
    """The segment's network in C; None where there is no library, or where weights are too large.

    bit_depth: of the samples. workers: threads at most.
    """
    lib = library()
    if lib is None or any(np.abs(layer.weight).max() > LARGEST_WEIGHT for layer in segment.layers):
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
    found = [Network(lib, segment, depth, 2).run(levels).tobytes() for depth in (8, 12)]
    return crc32(b"".join(found)) == KNOWN_CRC
