"""A segment's network as an ONNX graph, embeddings in, planes out: for NPUs, phones and web pages.

Every number in the graph is an integer that float32 holds exactly (the conformance rule of spec
section 9.1), so a runtime that computes float32 or integers honestly gives the bytes of
`hnv decode`. The convolutions are float32 by default, which all runtimes have and most compute
fastest, or `ConvInteger` where the weights fit into bytes; re-quantization is a table either way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from hnervcodec.bitstream.architecture import LayerSpec
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.segment import QuantizedLayer, QuantizedSegment
from hnervcodec.planes import PHASES, plane_shapes
from hnervcodec.synthesis.tables import FINE_MAX, HEAD_HALF, HIDDEN_HALF, output_table

OPSET, IR_VERSION = 17, 8
PLANE_NAMES = ("y", "cb", "cr")


class _Graph:
    """Nodes in the order they are added; constants get names of their own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: type) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def cast(self, value: str, to: int, output: str = "") -> str:
        return self.add("Cast", value, to=to, output=output)

    def reshape(self, value: str, *shape: int) -> str:
        """A dimension of 0 stays as it is."""
        return self.add("Reshape", value, self.constant(shape, np.int64))

    def shuffle(
        self, value: str, channels: int, rows: int, columns: int, size: tuple[int, int]
    ) -> str:
        """[B, channels * rows * columns, h, w] -> [B, channels, h * rows, w * columns]."""
        if rows == columns == 1:
            return value
        height, width = size
        value = self.reshape(value, 0, channels, rows, columns, height, width)
        value = self.add("Transpose", value, perm=[0, 1, 4, 2, 5, 3])
        return self.reshape(value, 0, channels, height * rows, width * columns)

    def convolve(
        self, levels: str, zero_point: int, spec: LayerSpec, layer: QuantizedLayer, integers: bool
    ) -> str:
        """int32 or uint8 levels -> float32 accumulators, rounding offset included."""
        pads = [spec.kernel // 2] * 4
        bias = layer.accumulator_bias(spec)
        if integers and np.abs(layer.weight).max() <= 127:
            levels = self.cast(levels, TensorProto.UINT8)
            weight = self.constant(layer.weight, np.int8)
            zero = self.constant(zero_point, np.uint8)
            sums = self.add("ConvInteger", levels, weight, zero, pads=pads)
            sums = self.add("Add", sums, self.constant(bias[:, None, None], np.int32))
            return self.cast(sums, TensorProto.FLOAT)
        levels = self.cast(levels, TensorProto.FLOAT)
        levels = self.add("Sub", levels, self.constant(zero_point, np.float32))
        weight, offset = self.constant(layer.weight, np.float32), self.constant(bias, np.float32)
        return self.add("Conv", levels, weight, offset, pads=pads)

    def look_up(self, sums: str, table: np.ndarray, half: int, shift: int) -> str:
        """Accumulators -> int32 table entries."""
        index = self.add("Mul", sums, self.constant(2.0**-shift, np.float32))
        index = self.add("Floor", index)
        low, high = self.constant(-half, np.float32), self.constant(half - 1, np.float32)
        index = self.add("Add", self.add("Clip", index, low, high), self.constant(half, np.float32))
        index = self.cast(index, TensorProto.INT32)
        return self.add("Gather", self.constant(table, np.int32), index)


def to_onnx(segment: QuantizedSegment, video: VideoHeader, integers: bool = False) -> ModelProto:
    """The segment's network for any number of frames.

    Input `embedding`: uint8 [B, C, h, w]. Outputs `y`, `cb`, `cr` (or `y`): [B, H, W], uint8, or
    uint16 above 8 bits. integers: convolutions by `ConvInteger`, where weights fit into bytes.
    """
    graph = _Graph()
    levels, fine = "embedding", ""
    for spec, layer, zero_point in zip(
        segment.specs, segment.layers, segment.input_zero_points(), strict=True
    ):
        sums = graph.convolve(levels, zero_point, spec, layer, integers)
        is_fine = spec.feeds_residual
        table = output_table(spec.kind, layer.requant, is_fine, video.bit_depth)
        half = HEAD_HALF if spec.kind == "head" else HIDDEN_HALF
        out = graph.look_up(sums, table, half, layer.requant.shift)
        if spec.kind == "residual":
            out = graph.add("Add", out, fine)
            low, high = graph.constant(0, np.int32), graph.constant(FINE_MAX, np.int32)
            out = graph.add("Clip", out, low, high)
        elif spec.kind == "up":
            size = spec.height, spec.width
            out = graph.shuffle(out, spec.out_channels, spec.shuffle, spec.shuffle, size)
        levels = fine = out
        if is_fine or spec.kind == "residual":
            rounded = graph.add("Add", out, graph.constant(8, np.int32))
            levels = graph.add("Div", rounded, graph.constant(16, np.int32))
    outputs = _planes(graph, levels, (segment.specs[-1].height, segment.specs[-1].width), video)
    stem = segment.specs[0]
    shape: list[str | int] = ["frames", stem.in_channels, stem.height, stem.width]
    inputs = [helper.make_tensor_value_info("embedding", TensorProto.UINT8, shape)]
    described = helper.make_graph(graph.nodes, "hnv", inputs, outputs, graph.constants)
    model = helper.make_model(
        described,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="hnervcodec",
    )
    checker.check_model(model)
    return model


def _planes(graph: _Graph, samples: str, size: tuple[int, int], video: VideoHeader) -> list[Any]:
    """Unpacks the frame; describes the outputs."""
    deep = video.bit_depth > 8
    dtype = TensorProto.UINT16 if deep else TensorProto.UINT8
    shapes = plane_shapes(video.width, video.height, video.chroma_format)
    described, channel = [], 0
    for name, (height, width), (rows, columns) in zip(
        PLANE_NAMES, shapes, PHASES[video.chroma_format], strict=False
    ):
        bounds = (
            graph.constant(values, np.int64)
            for values in ([channel], [channel + rows * columns], [1])
        )
        part = graph.add("Slice", samples, *bounds)
        channel += rows * columns
        plane = graph.shuffle(part, 1, rows, columns, size)
        crop = (graph.constant(v, np.int64) for v in ([0, 0], [height, width], [2, 3]))
        plane = graph.add("Slice", plane, *crop)
        plane = graph.add("Squeeze", plane, graph.constant([1], np.int64))
        graph.cast(plane, dtype, output=name)
        shape: list[str | int] = ["frames", height, width]
        described.append(helper.make_tensor_value_info(name, dtype, shape))
    return described
