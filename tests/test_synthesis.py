"""The normative network: every arithmetic path against a plain numpy transcription of the spec."""

import numpy as np
import pytest
import torch
from conftest import LEVEL, ROOT, hnv, make_video, random_segment

from hnervcodec import segment as segments
from hnervcodec.architecture import ModelConfig, StageConfig
from hnervcodec.errors import FileError
from hnervcodec.requantization import hidden_table
from hnervcodec.segment import QuantizedSegment
from hnervcodec.syntax import VideoHeader
from hnervcodec.synthesis import PATHS, Synthesis, fastest_path

GELU = (ROOT / "spec/tables/gelu.bin").read_bytes()


def reference(segment: QuantizedSegment, video: VideoHeader, frame: int) -> np.ndarray:
    """Packed samples [channels, h, w] in Python and numpy integers, sample by sample rules."""
    levels = segment.embedding[frame].astype(np.int64)
    fine, zero = levels, segment.embed_zero_point
    for spec, layer in zip(segment.specs, segment.layers, strict=True):
        r, pad = layer.requant, spec.kernel // 2
        centred = np.pad(levels - zero, ((0, 0), (pad, pad), (pad, pad)))
        height, width = levels.shape[1:]
        acc = np.zeros((spec.weight_shape[0], height, width), np.int64)
        for i in range(spec.kernel):
            for j in range(spec.kernel):
                window = centred[:, i : i + height, j : j + width]
                acc += np.einsum("oc,chw->ohw", layer.weight[:, :, i, j].astype(np.int64), window)
        s = spec.shuffle
        acc = acc.reshape(spec.out_channels, s, s, height, width)
        acc += layer.bias.astype(np.int64).reshape(-1, 1, 1, 1, 1) << r.bias_shift
        acc = acc.transpose(0, 3, 1, 4, 2).reshape(spec.out_channels, height * s, width * s)
        t = (acc + ((1 << r.shift) >> 1)) >> r.shift
        if spec.kind == "head":
            t = t.clip(-8192, 8191)
            f = 24 - video.bit_depth
            return ((t * r.multiplier + (1 << (f - 1))) >> f).clip(0, video.max_sample)
        t = t.clip(-2048, 2047)
        u = (t * r.multiplier + 512) >> 10
        deficit = np.frombuffer(GELU, np.uint8).astype(np.int64)[np.minimum(np.abs(u), 4095)]
        offset = ((np.maximum(u, 0) - deficit) * r.gain + 2048) >> 12
        if spec.kind == "residual":
            fine = (fine + offset).clip(0, 4080)
        else:
            zero = r.zero_point
            fine = (16 * zero + offset).clip(0, 4080)
        levels = (fine + 8) >> 4
    raise AssertionError


@pytest.mark.parametrize("chroma", [0, 1, 2, 3])
@pytest.mark.parametrize("depth", [8, 10, 12])
def test_all_paths_equal_the_reference(chroma: int, depth: int) -> None:
    video = make_video(chroma=chroma, depth=depth)
    segment = random_segment(video, 3, seed=chroma * 100 + depth)
    expected = np.stack([reference(segment, video, n) for n in range(3)])
    assert len(np.unique(expected)) > 20  # not all clipped
    for path in PATHS:
        synthesis = Synthesis(segment, video, path=path)
        if path != "int8" or fastest_path() == "int8":
            assert set(synthesis.paths.values()) == {path}
        assert (synthesis.packed(range(3)) == expected).all(), path
        alone = np.concatenate([synthesis.packed([n]) for n in (2, 0, 1)])
        assert (alone[[1, 2, 0]] == expected).all(), path


def test_wide_network_with_weights_at_the_limit() -> None:
    """Long sums of large products: what saturates in 16 bits or rounds in a short mantissa."""
    video = make_video(40, 24)
    model = ModelConfig(24, 40, (StageConfig(2, 3, 33, 0), StageConfig(2, 3, 17, 3)), 3)
    segment = random_segment(video, 2, model=model, weight=127)
    expected = np.stack([reference(segment, video, n) for n in range(2)])
    for path in PATHS:
        assert (Synthesis(segment, video, path=path).packed(range(2)) == expected).all()


def test_vnni_means_int8() -> None:
    """Should a new torch change the operator, this says so instead of a slower program."""
    if getattr(torch.cpu, "_is_vnni_supported", lambda: False)():
        assert fastest_path() == "int8"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_matter(threads: int) -> None:
    video = make_video(96, 64)
    segment = random_segment(video, 4, seed=9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        decoded = Synthesis(segment, video).packed(range(4))
    finally:
        torch.set_num_threads(before)
    assert (decoded == Synthesis(segment, video, path="float64").packed(range(4))).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_bits() -> None:
    video = make_video(96, 64)
    segment = random_segment(video, 4, seed=9)
    expected = Synthesis(segment, video, path="float64").packed(range(4))
    for path in ("float32", "float64"):
        decoded = Synthesis(segment, video, path=path, device="cuda").packed(range(4))
        assert (decoded == expected).all()


def test_every_instruction_set_gives_the_same_md5(real_file) -> None:  # type: ignore[no-untyped-def]
    """One real file through environments that change what oneDNN runs."""
    outputs = {
        hnv("decode", real_file, "--format", "framemd5", *options, env=environment).stdout
        for options, environment in (
            ((), {}),
            (("--threads", 1), {}),
            (("--arithmetic", "float32"), {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
            ((), {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
            ((), {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}),
            (("--arithmetic", "float64"), {}),
        )
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == 20


def test_a_kernel_that_is_not_exact_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from hnervcodec import synthesis

    honest = synthesis._kernel

    def rounding(path: str, operands: synthesis._Operands) -> synthesis.Convolution:
        kernel = honest(path, operands)
        if path == "float64":
            return kernel
        return lambda levels: kernel(levels).bfloat16().float()

    monkeypatch.setattr(synthesis, "_kernel", rounding)
    video = make_video()
    assert set(Synthesis(random_segment(video, 1), video).paths.values()) == {"float64"}


def test_accumulator_bound_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_video()
    segment = random_segment(video, 1)
    layer = segment.layers[2]
    largest = int(segments.accumulator_bound(layer, segment.specs[2], 60))
    assert largest < segments.ACCUMULATOR_LIMIT
    layer.weight[0] = 8191
    with pytest.raises(FileError, match=r"accumulator bound .*stage1.up"):
        segments.write(segment)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "check_accumulators", lambda segment: None)
        payload = segments.write(segment)
    with pytest.raises(FileError, match=r"accumulator bound .*stage1.up"):
        segments.read(payload, video, LEVEL)


def test_hidden_table_follows_gelu() -> None:
    """The integers approximate what the encoder trains with: GELU in steps of 64 / gain."""
    from hnervcodec.syntax import Requant

    step = 6 / 2047  # pre-activation per table index
    requant = Requant(0, 0, round(step * 2**20), 2000)
    x = torch.arange(-2048, 2048) * step
    ideal = torch.nn.functional.gelu(x) * 2000 / 64
    assert (torch.from_numpy(hidden_table(requant)) / 16 - ideal).abs().max() < 0.1
