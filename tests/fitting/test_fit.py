"""The encoder's half: it learns, it hits its budget, it repeats itself."""

import copy
import io
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from running import EXCERPT, LEVEL

from hnervcodec import Decoder
from hnervcodec.bitstream import segment
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.levels import LEVELS
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.encoding.encoder import EncodeResult, encode
from hnervcodec.encoding.plan import Settings, divide_evenly
from hnervcodec.errors import LimitError, UsageError
from hnervcodec.fitting import ms_ssim_kernel
from hnervcodec.fitting.final_rounding import FinalRounding
from hnervcodec.fitting.fit import _Fit, fit
from hnervcodec.fitting.loss import Loss
from hnervcodec.fitting.model_choice import LATE_CHANNELS, choose_model
from hnervcodec.fitting.presets import PRESETS, FitConfig
from hnervcodec.fitting.progress import Progress
from hnervcodec.fitting.quality_target import ConstantPsnr, ConstantQuality, QualityTarget
from hnervcodec.fitting.quantization import FittedSegment, quantize
from hnervcodec.fitting.rate_model import embedding_bits, tensor_bits
from hnervcodec.fitting.training import FitTask, Schedule
from hnervcodec.media.source import VideoSource
from hnervcodec.metrics.ms_ssim import ms_ssim
from hnervcodec.metrics.psnr import PlaneError, psnr
from hnervcodec.planes import Planes, pack, unpack
from hnervcodec.synthesis.network import Synthesis

CPU = torch.device("cpu")
VIDEO = VideoHeader(64, 48, 1, Fraction(25))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """[12, 6, 24, 32]: a 64x48 window of the real excerpt, packed."""
    with VideoSource(EXCERPT, skip=60, limit=12) as source:
        cut = [
            (y[40:88, 100:164], cb[20:44, 50:82], cr[20:44, 50:82]) for y, cb, cr in source.frames()
        ]
    return np.stack([pack(planes, 1, 24, 32) for planes in cut])


def small_fit(
    frames: np.ndarray, budget: int = 5000, **changes: object
) -> tuple[FittedSegment, list[Progress]]:
    model = choose_model(VIDEO, len(frames), budget, PRESETS["ultrafast"].limits, LEVEL)
    config = replace(FitConfig(7.5), **changes)  # type: ignore[arg-type]
    reports: list[Progress] = []
    task = FitTask(frames, VIDEO, model, config, budget, CPU)
    fitted = fit(task, report=reports.append)
    return fitted, reports


def quality(fitted: FittedSegment, frames: np.ndarray) -> float:
    quantized = quantize(fitted, VIDEO, 0)
    decoded = Synthesis(quantized, VIDEO).packed(range(len(frames)))[..., :24, :32]
    return psnr(float(np.square(decoded.astype(float) - frames).mean()), 255)


def test_a_fit_learns_and_meets_its_budget(frames: np.ndarray) -> None:
    fitted, reports = small_fit(frames)
    payload = segment.write(quantize(fitted, VIDEO, 0))
    assert 0.93 * 5000 < len(payload) <= 1.02 * 5000
    flat = psnr(float(np.square(frames - frames.mean((0, 2, 3), keepdims=True)).mean()), 255)
    assert quality(fitted, frames) > flat + 6
    assert {r.phase for r in reports} == {"sketch", "fit", "quantize"}
    stages = [sum(r.phase == "sketch" for r in reports), reports[-1].steps]
    assert reports[-1].step == reports[-1].steps and len(reports) == sum(stages)
    assert [r.step for r in reports] == [n for count in stages for n in range(1, count + 1)]
    assert reports[-1].bytes == pytest.approx(len(payload), rel=0.03)
    # what training believed is what the integer machine does
    assert quality(fitted, frames) == pytest.approx(reports[-1].psnr, abs=0.5)


@pytest.mark.parametrize("depth", [10, 12])
def test_deep_video_fits_as_well(frames: np.ndarray, depth: int) -> None:
    """The integer head reaches every sample of 10 and 12 bits: biases, contrast and rounding."""
    video = replace(VIDEO, bit_depth=depth)
    deep = frames.astype(np.uint16) << depth - 8
    model = choose_model(video, len(frames), 5000, PRESETS["ultrafast"].limits, LEVEL)
    fitted = fit(FitTask(deep, video, model, FitConfig(5), 5000, CPU))
    decoded = Synthesis(quantize(fitted, video, 0), video).packed(range(len(frames)))
    error = np.square(decoded[..., :24, :32] / 2.0 ** (depth - 8) - frames).mean()
    shallow = quality(small_fit(frames, updates_per_frame=5)[0], frames)
    assert psnr(float(error), 255) == pytest.approx(shallow, abs=1.5)


def test_short_clips_get_steps_enough_for_a_picture(frames: np.ndarray) -> None:
    """Three steps per frame would leave a blur of two frames."""
    config = PRESETS["ultrafast"].fit
    model = choose_model(VIDEO, 2, 5000, PRESETS["ultrafast"].limits, LEVEL)
    reports: list[Progress] = []
    fit(FitTask(frames[:2], VIDEO, model, config, 5000, CPU), report=reports.append)
    assert len(reports) == reports[-1].steps == 120
    assert reports[-1].psnr > reports[5].psnr + 5


def test_small_frames_are_shown_in_more_and_smaller_batches() -> None:
    """Every step that the configuration asks for shows about as many pixels."""

    def schedule(width: int, height: int, **changes: Any) -> tuple[int, int]:
        video = replace(VIDEO, width=width, height=height)
        model = choose_model(video, 100, 100_000, PRESETS["ultrafast"].limits, LEVEL)
        frames = np.zeros((100, 6, 1, 1), np.uint8)
        made = Schedule.of(FitTask(frames, video, model, FitConfig(3, **changes), 100_000, CPU))
        return made.steps, made.batch_frames

    assert schedule(320, 160) == (600, 2)
    assert schedule(320, 160, batch_frames=4) == (300, 4)
    assert schedule(480, 270) == (450, 2)
    assert schedule(640, 360) == (300, 2)
    assert schedule(1280, 720) == (300, 1)


def test_the_same_seed_gives_the_same_bytes(frames: np.ndarray) -> None:
    first, second, other = (
        segment.write(quantize(small_fit(frames, updates_per_frame=1, seed=seed)[0], VIDEO, 0))
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_a_fit_goes_on_from_any_step(frames: np.ndarray) -> None:
    """At a fraction of the size, at the end of that and after it, just before and after the
    quantizers come, and with rounded activations."""
    model = choose_model(VIDEO, len(frames), 5000, PRESETS["ultrafast"].limits, LEVEL)
    task = FitTask(frames, VIDEO, model, FitConfig(7), 5000, CPU)
    whole, kept = _Fit(task), []
    schedule = whole.schedule
    assert schedule.coarse > 5
    quantize_at = schedule.quantize_at
    for stop in (-5, 0, 5, quantize_at, quantize_at + 2, schedule.round_at + 2):
        while whole.step < stop:
            whole.advance()
        kept.append(copy.deepcopy(whole.state()))
    results = []
    for state in kept:
        again = _Fit(task)
        again.restore(state)
        while again.step < schedule.round_at + 2:
            again.advance()
        results.append(again.phase.training.embedding)
    assert all(torch.equal(result, results[-1]) for result in results)


def plane_psnrs(frames: np.ndarray, updates: int = 4, **changes: Any) -> list[float]:
    fitted, _ = small_fit(frames, updates_per_frame=updates, **changes)
    decoded = Synthesis(quantize(fitted, VIDEO, 0), VIDEO).packed(range(len(frames)))
    squared = np.square(decoded[..., :24, :32].astype(float) - frames).mean((0, 2, 3))
    return [psnr(float(plane.mean()), 255) for plane in (squared[:4], squared[4], squared[5])]


def test_plane_balance_moves_quality_to_chroma(frames: np.ndarray) -> None:
    plain, balanced = (plane_psnrs(frames, plane_balance=balance) for balance in (0.0, 1.0))
    assert balanced[1] > plain[1] + 0.5 and balanced[2] > plain[2] + 0.5
    assert balanced[0] < plain[0]


def test_ms_ssim_of_real_frames() -> None:
    with VideoSource(EXCERPT, skip=60, limit=2) as source:
        a, b = (torch.from_numpy(planes[0].astype(np.float32) / 255) for planes in source.frames())
    a, b = a[None, None], b[None, None]
    assert float(ms_ssim(a, a)) == pytest.approx(1)
    darker, noisy = a * 0.9, a + 0.05 * torch.randn(a.shape, generator=torch.Generator())
    assert 1 > float(ms_ssim(a, b)) > float(ms_ssim(a, noisy))
    assert float(ms_ssim(a, darker)) > float(ms_ssim(a, noisy))
    a, b = (x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (a, b))
    assert float(ms_ssim(a, b)) == pytest.approx(0.990194, abs=1e-5)  # by pytorch-msssim 1.0.0


def test_structure_of_frames_smaller_than_its_window(
    frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch, which refuses them; the kernel finds nothing in them."""
    monkeypatch.setattr(ms_ssim_kernel, "library", lambda: None)
    packed = torch.from_numpy(frames[:, :, :5, :4] / np.float32(255))
    measured, _ = Loss((5, 4), 0.5, structure=0.7).measure(packed, packed.flip(0))
    assert measured[:-1].min() > 0 and measured[-1] == 0


@pytest.mark.slow
def test_tuning_for_structure_raises_it(frames: np.ndarray) -> None:
    def structure(**changes: Any) -> float:
        fitted, _ = small_fit(frames, **changes)
        decoded = Synthesis(quantize(fitted, VIDEO, 0), VIDEO).packed(range(len(frames)))
        luma = (torch.from_numpy(x[:, :4].astype(np.float32)) / 255 for x in (decoded, frames))
        return float(ms_ssim(*(torch.pixel_shuffle(x[..., :24, :32], 2) for x in luma)))

    assert structure(structure=0.7) > structure() + 0.003


@pytest.mark.slow
def test_tuning_for_structure_leaves_chroma_alone(frames: np.ndarray) -> None:
    gains = []
    for seed in (0, 1, 2):  # which move the planes' PSNR by a decibel; luma's falls by 2.5
        plain, tuned = (
            plane_psnrs(frames, structure=share, seed=seed, updates=20) for share in (0.0, 0.7)
        )
        gains.append(np.subtract(tuned, plain))
    assert np.mean(gains, axis=0)[1:].min() > -1


def coded(planes: list[Planes], aim: QualityTarget) -> EncodeResult:
    return encode(VIDEO, planes, io.BytesIO(), Settings(aim=aim, preset="faster"))


@pytest.mark.slow
def test_constant_quality(frames: np.ndarray) -> None:
    planes = [unpack(packed, 1, 64, 48) for packed in frames]
    low, high = (coded(planes, ConstantPsnr(target)) for target in (31.0, 33.0))
    assert low.error.average == pytest.approx(31, abs=0.5)
    assert high.error.average == pytest.approx(33, abs=0.5)
    assert low.bytes < high.bytes
    worse, better = (coded(planes, ConstantQuality(quality)) for quality in (36, 42))
    assert worse.bytes < better.bytes and worse.error.average < better.error.average
    # Of one quality, easier content looks better and takes fewer bytes than harder.
    with VideoSource(EXCERPT, every=10, limit=12) as source:
        moving: list[Planes] = [
            (y[40:88, 100:164], cb[20:44, 50:82], cr[20:44, 50:82]) for y, cb, cr in source.frames()
        ]
    easy, hard = (coded(p, ConstantQuality(40)) for p in ([planes[0]] * len(planes), moving))
    assert easy.bytes < hard.bytes and easy.error.average > hard.error.average
    with pytest.raises(UsageError, match="either a rate or a quality"):
        encode(VIDEO, planes, io.BytesIO(), Settings(preset="ultrafast"))


@pytest.mark.slow
def test_denoising_comes_nearer_to_what_it_never_saw(frames: np.ndarray) -> None:
    clean = [unpack(packed, 1, 64, 48) for packed in frames]
    random = np.random.default_rng(0)
    noisy: list[Planes] = [
        tuple(
            np.clip(p + random.normal(0, 25, p.shape), 0, 255).round().astype(np.uint8)
            for p in planes
        )
        for planes in clean
    ]
    file, phases, before, after = io.BytesIO(), set(), PlaneError(255), PlaneError(255)

    def report(number: int, progress: Progress) -> None:
        phases.add((progress.phase, progress.attempt))

    encode(VIDEO, noisy, file, Settings(denoise=True, preset="faster"), report=report)
    assert {("fit", 1), ("quantize", 1), ("fit", 2)} <= phases  # at least two sizes are compared
    with Decoder(file.getvalue()) as decoder:
        for n, planes in decoder.frames(range(len(decoder))):
            before.add(clean[n], noisy[n])
            after.add(clean[n], planes)
    assert after.average > before.average + 2


def test_pruned_weights_stay_zero(frames: np.ndarray) -> None:
    shares = []
    for prune in (0.0, 0.5):
        fitted, _ = small_fit(frames, updates_per_frame=2.5, prune=prune)
        levels = np.concatenate(
            [layer.weight.ravel() for layer in quantize(fitted, VIDEO, 0).layers]
        )
        shares.append(float((levels == 0).mean()))
    assert shares[1] >= 0.5 > shares[0]


def test_final_rounding_fills_the_budget_and_costs_little(frames: np.ndarray) -> None:
    fitted, _ = small_fit(frames)

    def measured(quantized: QuantizedSegment) -> float:
        decoded = Synthesis(quantized, VIDEO).packed(range(len(frames)))[..., :24, :32]
        return psnr(float(np.square(decoded.astype(float) - frames).mean()), 255)

    rounding = FinalRounding(fitted, VIDEO, 0, measured)
    whole = len(rounding.payload({}))
    for share in (1.03, 1.0, 0.97, 0.5):
        budget = round(whole * share)
        payload = rounding.to_budget(budget)
        assert 0.98 * budget < len(payload) <= budget
        if share > 0.9:
            reached = measured(segment.read(payload, VIDEO, LEVEL))
            assert reached > measured(rounding.quantized({})) - 0.5
    # A network that cannot use the bytes is not made to.
    assert rounding.to_budget(100_000) == rounding.payload({})
    with pytest.raises(UsageError, match="too few"):
        rounding.to_budget(60)
    top = measured(rounding.quantized({}))
    for target in (top + 3, top):
        assert rounding.to_psnr(target) == rounding.payload({})
    lower = measured(segment.read(rounding.to_psnr(top - 2), VIDEO, LEVEL))
    assert top - 2 <= lower < top - 1


def test_estimated_bits_match_the_range_coder() -> None:
    from hnervcodec.bitstream import range_coding

    rng = np.random.default_rng(1)
    for scale in (0.2, 1, 5, 30):
        levels = rng.laplace(0, scale, 5000)
        estimate = float(tensor_bits(torch.tensor(levels).view(1, -1)))
        rounded = np.rint(levels).astype(np.int32)
        table = range_coding.fit_table(rounded)
        actual = 8 * len(range_coding.encode([(table, rounded)]))
        assert estimate == pytest.approx(actual, rel=0.01, abs=64)


def test_rate_gradient_pulls_towards_zero_and_towards_the_past() -> None:
    levels = torch.tensor([[3.2, -2.7, 0.4, 0.0, 1.0]], requires_grad=True)
    tensor_bits(levels).backward()
    assert levels.grad is not None
    assert levels.grad[0, 0] > 0 > levels.grad[0, 1]
    still = torch.zeros(5, 1, 2, 2)
    moving = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 2, 2) ** 2 * 3
    assert embedding_bits(still) < embedding_bits(moving)


def test_choose_model_spends_the_budget_within_the_limits() -> None:
    video = VideoHeader(320, 160, 1, Fraction(25))
    sizes = []
    for budget in (15_000, 30_000, 60_000, 120_000):
        limits = PRESETS["slow"].limits
        model = choose_model(video, 132, budget, limits, LEVELS[10])
        specs = video.layers(model)
        assert model.stages[-1].channels in LATE_CHANNELS
        weights = sum(spec.weights for spec in specs)
        assert sum(spec.macs for spec in specs) <= limits.macs_per_pixel * 320 * 160
        assert weights * 4 / 8 < budget
        sizes.append(weights)
    assert sizes == sorted(sizes)
    with pytest.raises(UsageError, match="smallest network needs about") as refused:
        choose_model(video, 132, 900, limits, LEVELS[10])
    need = int(str(refused.value).split("about ")[1].split()[0])
    choose_model(video, 132, need, limits, LEVELS[10])
    with pytest.raises(UsageError):
        choose_model(video, 132, need - 10, limits, LEVELS[10])
    with pytest.raises(UsageError, match=r"12 frames of 3x5 are too little .* they take 324$"):
        choose_model(VideoHeader(3, 5, 1, Fraction(25)), 12, 100, limits, LEVELS[10])


def test_embeddings_grow_with_the_budget_unless_bytes_would_lie_idle() -> None:
    def positions_and_weights(size: tuple[int, int], bits_per_pixel: float) -> tuple[int, int]:
        video = VideoHeader(*size, 1, Fraction(25))
        budget = round(bits_per_pixel * size[0] * size[1] * 132 / 8)
        model = choose_model(video, 132, budget, PRESETS["faster"].limits, LEVELS[60])
        height, width = model.embed_size(*size)
        return height * width, sum(spec.weights for spec in video.layers(model))

    assert positions_and_weights((320, 160), 0.02)[0] == 8
    assert positions_and_weights((1280, 640), 0.02)[0] == 32
    few, weights = positions_and_weights((1280, 640), 0.2)
    assert few == 8 and weights > 2_500_000  # more positions would leave room for fewer weights


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (17, 3), (63, 47), (1280, 720), (4096, 2160)])
def test_every_frame_size_has_a_network(size: tuple[int, int]) -> None:
    from hnervcodec.bitstream.levels import check_segment, lowest_level

    video = VideoHeader(*size, 1, Fraction(25))
    level = lowest_level(*size)
    budget = max(6000, size[0] * size[1])
    model = choose_model(video, 8, budget, PRESETS["ultrafast"].limits, level)
    specs = video.layers(model)
    check_segment(level, specs, 8)
    assert specs[-1].height * 2 >= size[1] and specs[-1].width * 2 >= size[0]


def test_split_leaves_no_short_rest() -> None:
    def lengths(count: int) -> list[int]:
        return [len(group) for _, group in divide_evenly([()] * count, 10)]

    assert lengths(9) == [9]
    assert lengths(14) == [14]
    assert lengths(15) == [10, 5]
    assert lengths(34) == [10, 10, 14]
    assert lengths(35) == [10, 10, 10, 5]
    assert lengths(0) == []


def test_levels_limit_the_encoder_too() -> None:
    from hnervcodec.bitstream.levels import lowest_level

    with pytest.raises(LimitError):
        lowest_level(60_000, 60_000)
    assert max(LEVELS) == 60
