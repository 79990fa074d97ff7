"""The normative network: every arithmetic path against the reference decoder."""

import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import refdec
import torch
from running import LEVEL, hnv
from vectors import make_video, random_segment

from hnervcodec.bitstream import segment as segments
from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.errors import FileError, UsageError
from hnervcodec.synthesis import native, native_library, torch_kernels
from hnervcodec.synthesis.network import PATHS, Synthesis
from hnervcodec.synthesis.tables import hidden_table
from hnervcodec.system import kernels


def reference(segment: QuantizedSegment, video: VideoHeader, frame: int) -> np.ndarray:
    """Packed samples [channels, h, w] by the reference decoder."""
    size = video.width, video.height, video.chroma_format, video.bit_depth, 0
    read = refdec.read_segment(
        segments.write(segment), refdec.Video(*size), refdec.LEVELS[LEVEL.number]
    )
    return refdec.synthesize(read, read.embedding[frame], video.bit_depth)


def fastest_torch_path() -> str:
    """The fastest exact arithmetic of torch on this processor, for a typical layer."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (32, 32, 3, 3), generator=generator, dtype=torch.int32)
    operands = torch_kernels._Operands(weight, torch.zeros(32, dtype=torch.int64), 8)
    return torch_kernels._fastest_exact(torch_kernels.PATHS, operands, (16, 16))


@pytest.mark.parametrize("chroma", [0, 1, 2, 3])
@pytest.mark.parametrize("depth", [8, 10, 12])
def test_all_paths_equal_the_reference(chroma: int, depth: int) -> None:
    video = make_video(chroma=chroma, depth=depth)
    segment = random_segment(video, 3, seed=chroma * 100 + depth)
    expected = np.stack([reference(segment, video, n) for n in range(3)])
    assert len(np.unique(expected)) > 20  # not all clipped
    for path in PATHS:
        synthesis = Synthesis(segment, video, path=path)
        if PATHS.index(path) >= PATHS.index("native" if native.library() else fastest_torch_path()):
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
        assert fastest_torch_path() == "int8"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_matter(threads: int) -> None:
    video = make_video(96, 64)
    segment = random_segment(video, 4, seed=9)
    expected = Synthesis(segment, video, path="float64").packed(range(4))
    before = torch.get_num_threads()
    try:
        for path in ("auto", "int8"):
            decoder = Synthesis(segment, video, path=path, threads=threads)
            for count in (4, 3, 1):
                assert (decoder.packed(range(count)) == expected[:count]).all()
            assert torch.get_num_threads() in (before, threads)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_bits() -> None:
    video = make_video(96, 64)
    segment = random_segment(video, 4, seed=9)
    expected = Synthesis(segment, video, path="float64").packed(range(4))
    for path in ("float32", "float64"):
        decoded = Synthesis(segment, video, path=path, device="cuda").packed(range(4))
        assert (decoded == expected).all()


@pytest.mark.slow
def test_every_instruction_set_gives_the_same_md5(real_file) -> None:  # type: ignore[no-untyped-def]
    """One real file through environments that change what oneDNN runs."""
    outputs = {
        hnv("decode", real_file, "--format", "framemd5", *options, env=environment).stdout
        for options, environment in (
            ((), {}),
            (("--threads", 1), {}),
            (("--arithmetic", "float32"), {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
            (("--arithmetic", "int8"), {}),
            (("--arithmetic", "int8"), {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
            ((), {"CC": "/nowhere"}),
            (
                ("--arithmetic", "int8"),
                {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
            ),
            (("--arithmetic", "float64"), {}),
        )
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == 20


def test_known_segment_is_what_the_specification_makes_of_it() -> None:
    """What the native code is tested with at load, by the reference arithmetic."""
    segment = native.known_segment()
    segments.check_accumulators(segment)
    found = b"".join(
        torch_kernels.Network(segment, depth, "float64", "cpu")
        .run(segment.embedding[::-1].copy())
        .tobytes()
        for depth in (8, 12)
    )
    assert crc32(found) == native.KNOWN_CRC


KERNELS_HERE = [k.name for k in native_library.candidates() if not kernels.lacking(k)]


def with_few_large_weights(segment: QuantizedSegment) -> QuantizedSegment:
    """A head as fitted ones are: a few weights are larger than bytes, and many are zero."""
    head = segment.layers[-1]
    weight = np.clip(head.weight, -60, 60)
    weight[:, 1::2] = 0
    weight[0, 0, 0, 0], weight[-1, -1, 0, 0] = 300, -129
    return replace(segment, layers=(*segment.layers[:-1], replace(head, weight=weight)))


@pytest.mark.parametrize("kernel", KERNELS_HERE)
def test_every_kernel_is_exact(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its known-answer test: ordinary and extreme weights, one frame and several, alone and
    by two workers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HNV_KERNEL", kernel)
    chosen = native.choice.__wrapped__()
    assert (chosen.name, chosen.passed_over) == (kernel, ())
    assert chosen.library is not None
    for width, height, seed in ((96, 64, 1), (63, 47, 2), (34, 30, 3)):
        video = make_video(width, height)
        segment = with_few_large_weights(random_segment(video, 5, seed=seed))
        expected = Synthesis(segment, video, path="float64").packed(range(5))
        for workers in (1, 2, 3):
            network = native.Network(chosen.library, segment, 8, workers)
            assert (network.run(segment.embedding) == expected).all()
            assert (network.run(segment.embedding[2:3]) == expected[2]).all()


def test_layers_that_take_turns_in_bands_of_rows() -> None:
    """As soon as a band of rows of a wide frame is there, the next layers compute theirs: residual
    layers write over rows that have been read."""
    video = make_video(1600, 100)
    stages = StageConfig(2, 5, 16, 3), StageConfig(2, 7, 24, 4)
    segment = random_segment(video, 1, model=ModelConfig(8, 12, stages, 5))
    expected = Synthesis(segment, video, path="float32").packed([0])
    library = native.library()
    assert library is not None
    network = native.Network(library, segment, 8, 1)
    assert 4 * (1 << 16) // network._together[-1].in_row < expected.shape[2]
    for _ in range(2):
        assert (network.run(segment.embedding) == expected).all()


@pytest.mark.parametrize("partial", [0, 127, 128])
def test_weights_of_any_size_become_digits_whose_products_fit(partial: int) -> None:
    """What is read by the kernels adds up to the weights, and its products to 16 bits."""
    random = np.random.default_rng(5)
    for largest in (1, 40, 64, 127, 128, 2047, 32767):
        weight = random.integers(-largest, largest + 1, (9, 3, 18, 4))
        weight[0], weight[1, ..., :2] = largest, -largest
        digits, bits = native._digits(weight, partial)
        found = np.zeros_like(weight)
        for digit in digits:
            found = (found << bits) + digit
            pairs = digit.astype(int).reshape(-1, 2)
            if partial:
                assert np.maximum(pairs, 0).sum(1).max() <= partial
                assert np.maximum(-pairs, 0).sum(1).max() <= partial
        assert (found == weight).all()


@pytest.mark.parametrize("partial", [127, 128])
def test_sums_of_runs_of_taps_fit(partial: int) -> None:
    """Every tap is in one run, and the sums of the products of a run in 16 bits."""
    weight = np.random.default_rng(6).laplace(scale=9, size=(24, 75, 4)).round().clip(-60, 60)
    order, counts = native._runs(weight.astype(np.int8), partial, 4)
    assert sorted(order) == list(range(75))
    assert counts[0] > 12
    assert sum(depth * count for depth, count in zip((4, 3, 2, 1), counts, strict=True)) == 75
    runs = np.repeat((4, 3, 2, 1), counts)
    for taps in np.split(weight[:, order], np.cumsum(runs)[:-1], axis=1):
        for ones in (np.maximum(taps, 0), np.maximum(-taps, 0)):
            assert ones.reshape(24, -1, 2, 2).sum((1, 3)).max() <= partial


def test_a_kernel_that_this_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HNV_KERNEL", "mmx")
    with pytest.raises(UsageError, match=r"HNV_KERNEL=mmx: choose from .*portable"):
        native_library.candidates()


def test_native_code_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.choice.__wrapped__().library is not None
    (made,) = (tmp_path / "hnervcodec").iterdir()
    before = made.stat().st_mtime_ns
    assert native.choice.__wrapped__().library is not None
    assert made.stat().st_mtime_ns == before
    made.unlink()  # it is in use and must not change
    made.write_bytes(b"no library")
    assert native.choice.__wrapped__().library is not None
    made.chmod(0o722)  # others may have changed it
    before = made.stat().st_mtime_ns
    assert native.choice.__wrapped__().library is not None
    assert made.stat().st_mtime_ns != before and made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "hnervcodec").chmod(0o777)
    made.unlink()
    assert native.choice.__wrapped__().library is not None  # compiled for this process alone
    assert not made.exists()


def test_without_a_compiler_there_is_no_kernel_and_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "/nowhere")
    chosen = native.choice.__wrapped__()
    assert chosen.library is None
    assert (
        str(chosen) == "torch (no C compiler: with one (cc), frames decode several times as fast)"
    )


def test_kernels_built_with_the_package_need_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As setup.py builds them into a wheel."""
    monkeypatch.setattr(native_library, "KERNELS", native_library.KERNELS[-1:])
    kernels.build(native_library.KERNELS, tmp_path / "here")
    monkeypatch.setattr(kernels, "BUILT", tmp_path / "here")
    monkeypatch.setenv("CC", "/nowhere")
    assert str(native.choice.__wrapped__()) == "native portable"
    elsewhere = tmp_path / native_library.KERNELS[0].built
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"for another processor")
    monkeypatch.setattr(kernels, "BUILT", tmp_path)
    assert "no C compiler" in str(native.choice.__wrapped__())


def test_why_no_faster_kernel_is_in_use_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "processor_features", frozenset)
    said = str(native.choice.__wrapped__())
    assert said.startswith("native portable (")
    if platform.machine() == "x86_64":
        assert "avx2: this processor lacks avx2" in said


def test_native_code_that_is_not_exact_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "KNOWN_CRC", native.KNOWN_CRC ^ 1)
    chosen = native.choice.__wrapped__()
    assert chosen.library is None
    reasons = [reason for reason in chosen.passed_over if "lacks" not in reason]
    assert reasons == [f"{name}: not exact here, please report it" for name in KERNELS_HERE]


@pytest.mark.parametrize("flags", [("-O0",), ("-fsanitize=undefined", "-fno-sanitize-recover")])
@pytest.mark.parametrize("kernel", KERNELS_HERE)
@pytest.mark.slow
def test_native_code_however_compiled(
    kernel: str, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own known-answer test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HNV_KERNEL", kernel)
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, *flags))
    assert native.choice.__wrapped__().library is not None


def test_native_work_that_is_broken_off_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a worker that never came."""
    video = make_video(96, 64)
    lib = native.library()
    assert lib is not None
    segment = random_segment(video, 4)
    network = native.Network(lib, segment, 8, 2)

    class Broken:
        def hnv_run(self, *arguments: object) -> None:
            if arguments[4:6] == (0, 2):  # of a frame for both
                raise KeyboardInterrupt
            assert lib is not None
            lib.hnv_run(*arguments)

    monkeypatch.setattr(network, "_lib", Broken())
    with pytest.raises(KeyboardInterrupt):
        network.run(segment.embedding[:3])
    monkeypatch.undo()
    expected = Synthesis(random_segment(video, 4), video, path="float64").packed(range(4))
    with ThreadPoolExecutor(3) as pool:  # the network is whole, for several threads too
        for found in pool.map(network.run, [segment.embedding] * 6):
            assert (found == expected).all()


def test_nobody_waits_for_a_thread_that_has_no_time() -> None:
    """As on a machine that does something else, too."""
    video = make_video(96, 64)
    lib = native.library()
    assert lib is not None
    segment = random_segment(video, 4)
    expected = native.Network(lib, segment, 8, 1).run(segment.embedding)
    network, may_go_on = native.Network(lib, segment, 8, 2), threading.Event()
    with ThreadPoolExecutor(1) as others:
        try:
            native._pool(1).submit(may_go_on.wait)
            for count in (1, 3, 4):
                made = others.submit(network.run, segment.embedding[:count])
                assert (made.result(timeout=60) == expected[:count]).all()
        finally:
            may_go_on.set()


def test_a_kernel_that_is_not_exact_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_kernels._kernel

    def rounding(path: str, operands: torch_kernels._Operands) -> torch_kernels.Convolution:
        kernel = honest(path, operands)
        if path == "float64":
            return kernel
        return lambda levels: kernel(levels).bfloat16().float()

    monkeypatch.setattr(torch_kernels, "_kernel", rounding)
    video = make_video()
    decoder = Synthesis(random_segment(video, 1), video, path="int8")
    assert set(decoder.paths.values()) == {"float64"}


def tf32(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: int) -> torch.Tensor:
    """What a GPU's products in TF32 make of it: ten bits behind the first."""
    x, weight = ((y.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32) for y in (x, weight))
    return torch.conv2d(x, weight, bias, padding=padding)


def winograd(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: int
) -> torch.Tensor:
    """Winograd's F(2x2, 3x3), the least inexact of those that cuDNN has."""
    g = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    b = torch.tensor([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    a = torch.tensor([[1.0, 1, 1, 0], [0, 1, -1, -1]])
    tiles = torch.nn.functional.pad(x, [padding] * 4).unfold(2, 4, 2).unfold(3, 4, 2)
    products = torch.einsum("oikl,nihwkl->nohwkl", g @ weight @ g.T, b @ tiles @ b.T)
    made = (a @ products @ a.T).permute(0, 1, 2, 4, 3, 5)
    return made.reshape(len(x), len(weight), *x.shape[2:]) + bias[:, None, None]


@pytest.mark.parametrize("fast", [tf32, winograd])
def test_what_a_gpu_may_choose_is_refused(
    fast: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right for small sums, and so found out by the largest only."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-8191, 8192, (8, 8, 3, 3), generator=generator, dtype=torch.int32)
    operands = torch_kernels._Operands(weight, torch.zeros(8, dtype=torch.int64), 8)
    assert torch_kernels._is_exact("float32", operands, (16, 16))
    small = torch.ones(1, 8, 16, 16), torch.ones(8, 8, 3, 3), torch.zeros(8)
    assert (fast(*small, padding=1) - torch.conv2d(*small, padding=1)).abs().max() < 1e-4
    exact: Callable[..., torch.Tensor] = torch.conv2d

    def convolve(x: torch.Tensor, *rest: torch.Tensor, padding: int) -> torch.Tensor:
        return (exact if x.dtype == torch.float64 else fast)(x, *rest, padding=padding)

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)
    assert not torch_kernels._is_exact("float32", operands, (16, 16))
    assert torch_kernels._is_exact("float64", operands, (16, 16))


def test_exact_mode_overrules_the_program() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with torch_kernels._exact_mode():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.enabled and not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


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
    from hnervcodec.bitstream.headers import Requant

    step = 6 / 2047  # pre-activation per table index
    requant = Requant(0, 0, round(step * 2**20), 2000)
    x = torch.arange(-2048, 2048) * step
    ideal = torch.nn.functional.gelu(x) * 2000 / 64
    assert (torch.from_numpy(hidden_table(requant)) / 16 - ideal).abs().max() < 0.1
