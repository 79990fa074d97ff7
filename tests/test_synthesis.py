"""The normative network: every arithmetic path against the reference decoder."""

import numpy as np
import pytest
import refdec
import torch
from conftest import LEVEL, hnv
from vectors import make_video, random_segment

from hnervcodec import segment as segments
from hnervcodec.architecture import ModelConfig, StageConfig
from hnervcodec.errors import FileError
from hnervcodec.requantization import hidden_table
from hnervcodec.segment import QuantizedSegment
from hnervcodec.syntax import VideoHeader
from hnervcodec.synthesis import PATHS, Synthesis, fastest_path


def reference(segment: QuantizedSegment, video: VideoHeader, frame: int) -> np.ndarray:
    """Packed samples [channels, h, w] by the reference decoder."""
    size = video.width, video.height, video.chroma_format, video.bit_depth, 0
    read = refdec.read_segment(
        segments.write(segment), refdec.Video(*size), refdec.LEVELS[LEVEL.number]
    )
    return refdec.synthesize(read, frame, video.bit_depth)


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
