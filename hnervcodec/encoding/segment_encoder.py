"""Encodes one segment: from its frames to the payload that the file holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hnervcodec.bitstream import levels, segment
from hnervcodec.bitstream.architecture import ModelConfig, macs_per_frame, weight_count
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.encoding import job_folder
from hnervcodec.encoding.plan import Part, Plan, highest_budget
from hnervcodec.encoding.shared_start import SharedStart
from hnervcodec.errors import HnervError
from hnervcodec.fitting.final_rounding import FinalRounding
from hnervcodec.fitting.fit import fit
from hnervcodec.fitting.model_choice import choose_model, smallest_budget
from hnervcodec.fitting.presets import FitConfig
from hnervcodec.fitting.progress import Phase, Progress
from hnervcodec.fitting.quality_target import ConstantPsnr, QualityTarget
from hnervcodec.fitting.training import FitTask
from hnervcodec.media.masks import fill
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes, pack, packed_channels, plane_bytes, unpack
from hnervcodec.synthesis.network import Synthesis


@dataclass(frozen=True)
class SegmentRequest:
    """A segment to be fitted, wherever that happens.

    masks: for each frame which of its samples the result need not resemble, if any (see `masks`);
    they count neither for the fit nor for the PSNR.
    folder: the job folder, where unfinished work is kept and taken up again.
    start: what the fit begins from, if the segments share that.
    """

    plan: Plan
    part: Part
    frames: list[Planes]
    masks: list[Planes] | None
    report: Callable[[Progress], None]
    folder: Path | None = None
    start: SharedStart | None = None

    @property
    def pixels(self) -> int:
        """Luma samples of all frames."""
        return len(self.frames) * self.plan.video.width * self.plan.video.height

    def model(self, budget: int) -> ModelConfig:
        """The network for a payload of `budget` bytes; LimitError if the level forbids it."""
        plan, count = self.plan, len(self.frames)
        model = choose_model(plan.video, count, budget, plan.preset.limits, plan.level)
        levels.check_segment(plan.level, plan.video.layers(model), count)
        return model

    def fit_task(
        self,
        budget: int,
        config: FitConfig,
        aim: QualityTarget | None = None,
        limit: int | None = None,
    ) -> FitTask:
        """The fit of a network that `budget` bytes afford. limit: with so many of the frames at
        most, to see how long its steps take."""
        model, frames = self.model(budget), self.frames[:limit]
        masks = self.masks[:limit] if self.masks else None
        if masks:
            frames = fill(frames, masks, (self.plan.video.max_sample + 1) // 2)
        return FitTask(
            self._packed(frames, model),
            self.plan.video,
            model,
            config,
            budget,
            self.plan.device,
            hidden=self._packed(masks, model) if masks else None,
            aim=aim,
        )

    def _packed(self, frames: list[Planes], model: ModelConfig) -> np.ndarray:
        """[T, channels, H, W], padded to whole embedding positions; channels last in memory, as
        the fit wants them, so that there is one copy of them only."""
        video = self.plan.video
        height, width = (n * model.stride for n in model.embed_size(video.width, video.height))
        channels = packed_channels(video.chroma_format)
        packed = np.empty((len(frames), height, width, channels), frames[0][0].dtype)
        packed = packed.transpose(0, 3, 1, 2)
        for n, planes in enumerate(frames):
            packed[n] = pack(planes, video.chroma_format, height, width)
        return packed


@dataclass(frozen=True)
class EncodedSegment:
    """A segment as the file holds it, and how far it is from its frames."""

    payload: bytes
    frame_count: int
    error: PlaneError
    weights: int
    macs_per_pixel: float

    @property
    def progress(self) -> Progress:
        """The report of a segment that is done."""
        return Progress(Phase.DONE, 1, 1, 0.0, self.error.average, len(self.payload))

    def to_bytes(self) -> bytes:
        """As the job folder keeps it and a cluster sends it: a line of JSON, then the payload."""
        facts = {name: value for name, value in asdict(self).items() if name != "payload"}
        return json.dumps(facts).encode() + b"\n" + self.payload

    @classmethod
    def from_bytes(cls, data: bytes, part: Part) -> EncodedSegment:
        """What `to_bytes` made of the segment `part`; ValueError or another if it is not that."""
        facts, _, payload = data.partition(b"\n")
        made = json.loads(facts)
        encoded = cls(payload, **made | {"error": PlaneError(**made["error"])})
        if encoded.frame_count != part.frame_count:
            raise ValueError("this is another segment")
        return encoded


TRIAL_UPDATES = 2.0  # per frame: how long the trials for a constant quality fit
TRIAL_STEPS = 120  # at least: of a blur no quality can be foretold
GAIN_PER_DOUBLING = 0.6  # dB that twice the updates are expected to bring
TRIAL_BITS_PER_PIXEL = 0.05
HELD_OUT = 0.03  # share of the samples that a denoising fit is judged by


def encode_segment(request: SegmentRequest) -> EncodedSegment:
    """Fits the segment as its plan says, or takes what its job folder holds of it already."""
    encoded = job_folder.read_or_make(
        request.folder,
        request.part.file_name,
        lambda: _encoded(request),
        lambda data: EncodedSegment.from_bytes(data, request.part),
    )
    request.report(encoded.progress)
    return encoded


@dataclass(frozen=True)
class _Coded:
    """A payload, what a decoder reads from it, and the distortion of its frames."""

    payload: bytes
    quantized: QuantizedSegment
    error: PlaneError


def _encoded(request: SegmentRequest) -> bytes:
    settings, budget = request.plan.settings, request.plan.budget(request.part)
    if budget is not None:
        made = fit_to_budget(request, budget, None)
    elif settings.denoise:
        made = fit_denoised(request)
    else:
        assert settings.aim is not None  # as `Settings` has checked
        made = fit_to_budget(request, budget_for_quality(request, settings.aim), settings.aim)
    specs = made.quantized.specs
    return EncodedSegment(
        made.payload,
        len(request.frames),
        made.error,
        weight_count(specs),
        macs_per_frame(specs) / (request.plan.video.width * request.plan.video.height),
    ).to_bytes()


def starting_budget(request: SegmentRequest) -> int:
    """Bytes of a payload at which the search for a quality begins."""
    least = smallest_budget(request.plan.video, len(request.frames), request.plan.preset.limits)
    bits = request.start.bits_per_pixel if request.start else TRIAL_BITS_PER_PIXEL
    return max(least, round(bits * request.pixels / 8))


def trial_config(config: FitConfig) -> FitConfig:
    """Of the short fits that find out what a quality takes."""
    return replace(
        config,
        updates_per_frame=min(TRIAL_UPDATES, config.updates_per_frame),
        least_steps=min(TRIAL_STEPS, config.least_steps),
    )


def budget_for_quality(request: SegmentRequest, aim: QualityTarget) -> int:
    """Bytes of a payload that `aim` is expected to take, from up to three short trial fits."""
    video, config, limits = request.plan.video, request.plan.preset.fit, request.plan.preset.limits
    least = smallest_budget(video, len(request.frames), limits)
    most = highest_budget(video, len(request.frames), limits)
    budget = starting_budget(request)
    trial = trial_config(config)
    frames = len(request.frames)
    gain = GAIN_PER_DOUBLING * math.log2(config.steps(frames) / trial.steps(frames))
    for _ in range(3):
        reached = [0.0]

        def report(progress: Progress, reached: list[float] = reached) -> None:
            reached[0] = progress.psnr
            request.report(replace(progress, phase=Phase.TRIAL))

        fit(request.fit_task(budget, trial), report=report)
        octaves = aim.octaves(10 ** (-0.1 * (reached[0] + gain)), 8 * budget / request.pixels)
        tried = budget
        budget = min(max(round(budget * 2 ** min(max(octaves, -3), 3)), least), most)
        if abs(octaves) < 1 or budget == tried:
            break
    return budget


def fit_to_budget(request: SegmentRequest, budget: int, aim: QualityTarget | None) -> _Coded:
    """A SEGM payload of at most `budget` bytes or, with an `aim`, of as many as that takes."""
    name = f"{request.part.first_frame}-{budget}"
    is_kept = request.folder is not None and request.folder.is_dir()
    checkpoint = request.folder / f"{name}.fit" if request.folder and is_kept else None
    # What the file says is what counts: decode the bytes themselves, in normative arithmetic.
    quantized = job_folder.read_or_make(
        request.folder,
        f"{name}.segm",
        lambda: fitted_payload(request, budget, aim, checkpoint),
        lambda payload: _read_payload(payload, request),
    )
    synthesis = Synthesis(quantized, request.plan.video, threads=torch.get_num_threads())
    proof = Synthesis(quantized, request.plan.video, path="float64").packed([0])
    if (proof != synthesis.packed([0])).any():
        raise HnervError("this machine's fast arithmetic is not exact: please report it")
    crcs, error = decode(synthesis, request)
    quantized = replace(quantized, frame_crcs=np.array(crcs, np.uint32))
    return _Coded(segment.write(quantized), quantized, error)


def _read_payload(payload: bytes, request: SegmentRequest) -> QuantizedSegment:
    quantized = segment.read(payload, request.plan.video, request.plan.level)
    if (quantized.first_frame, len(quantized.embedding)) != (
        request.part.first_frame,
        request.part.frame_count,
    ):
        raise ValueError("this is another segment")
    return quantized


def fitted_payload(
    request: SegmentRequest, budget: int, aim: QualityTarget | None, checkpoint: Path | None
) -> bytes:
    """A payload as `fit_to_budget` wants it, but for the frames' checksums."""
    video = request.plan.video
    if request.start:
        fit_task = request.fit_task(budget, request.plan.started_config, aim)
        fit_task = replace(fit_task, start=request.start.weights)
    else:
        fit_task = request.fit_task(budget, request.plan.preset.fit, aim)
    fitted = fit(fit_task, checkpoint=checkpoint, report=request.report)

    def quality(quantized: QuantizedSegment) -> float:
        synthesis = Synthesis(quantized, video, threads=torch.get_num_threads())
        return decode(synthesis, request)[1].average

    rounding = FinalRounding(fitted, video, request.part.first_frame, quality)
    if aim is None:
        return rounding.to_budget(budget)
    if isinstance(aim, ConstantPsnr):
        return rounding.to_psnr(aim.psnr)
    return rounding.payload({})


def fit_denoised(request: SegmentRequest) -> _Coded:
    """Of fits with ever twice as many bytes, the one that best predicts samples it was not shown.
    Noise that differs from sample to sample cannot be predicted: once more bytes go into noise,
    these predictions get worse (the argument of Noise2Self, arXiv 1901.11365)."""
    video, preset = request.plan.video, request.plan.preset
    random = np.random.default_rng(preset.fit.seed)
    held = [tuple(random.random(p.shape) < HELD_OUT for p in planes) for planes in request.frames]
    masks = request.masks or [
        tuple(np.zeros(p.shape, bool) for p in planes) for planes in request.frames
    ]
    hidden = [_each(np.logical_or, h, m) for h, m in zip(held, masks, strict=True)]
    seen = [_each(lambda h, m: ~h | m, h, m) for h, m in zip(held, masks, strict=True)]
    best: tuple[float, _Coded] | None = None  # PSNR of what was held out
    budget, tried = starting_budget(request), 0
    most = max(4 * budget, highest_budget(video, len(request.frames), preset.limits))
    while budget <= most:
        tried += 1

        def report(progress: Progress, number: int = tried) -> None:
            request.report(replace(progress, attempt=number))

        made = fit_to_budget(replace(request, masks=hidden, report=report), budget, None)
        synthesis = Synthesis(made.quantized, video, threads=torch.get_num_threads())
        judged = decode(synthesis, replace(request, masks=seen))[1]
        if best and judged.average <= best[0]:
            break
        best = judged.average, made
        budget *= 2
    assert best is not None  # as the first budget is one of them
    made = best[1]
    synthesis = Synthesis(made.quantized, video, threads=torch.get_num_threads())
    return replace(made, error=decode(synthesis, request)[1])  # over all samples that count


def _each(function: Callable[..., np.ndarray], *planes: Planes) -> Planes:
    return tuple(function(*same) for same in zip(*planes, strict=True))


def decode(synthesis: Synthesis, request: SegmentRequest) -> tuple[list[int], PlaneError]:
    """CRC-32s of the segment's decoded frames, and their distortion."""
    crcs: list[int] = []
    video = request.plan.video
    error = PlaneError(video.max_sample)
    for batch in synthesis.batches(range(len(request.frames))):
        for samples in batch:
            decoded = unpack(samples, video.chroma_format, video.width, video.height)
            mask = request.masks[len(crcs)] if request.masks else None
            error.add(request.frames[len(crcs)], decoded, mask)
            crcs.append(crc32(plane_bytes(decoded)))
    return crcs, error
