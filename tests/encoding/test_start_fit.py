"""The short fit that all segments of a video begin from."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import start_fit
from hnervcodec.encoding.encoder import segment_requests, silent, with_masks
from hnervcodec.encoding.memory_input import MemoryInput
from hnervcodec.encoding.plan import Plan, Settings
from hnervcodec.encoding.segment_encoder import encode_segment
from hnervcodec.errors import HnervError, SourceError
from hnervcodec.fitting.progress import Phase, Progress
from hnervcodec.fitting.quality_target import ConstantPsnr
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import Planes

VIDEO = VideoHeader(63, 47, 1, Fraction(25))


def plan_of(lengths: tuple[int, ...], **others: object) -> Plan:
    rate = {} if others else {"bytes_per_frame": 400.0}
    settings = Settings(preset="ultrafast", lengths=lengths, **rate, **others)  # type: ignore[arg-type]
    return Plan.of(VIDEO, settings)


@pytest.fixture(scope="module")
def frames(real_source: Path) -> list[Planes]:
    with VideoSource(real_source, limit=12) as source:
        return list(source.frames())


@pytest.mark.parametrize("times", [1, 3, 5])
def test_the_start_takes_no_more_steps_than_the_segments_leave(times: int) -> None:
    plan = plan_of((100, 120, 90, 110) * times)
    config, typical = plan.preset.fit, plan.typical_part.frame_count
    assert typical == 110
    steps = sum(plan.started_config.steps(part.frame_count) for part in plan.parts)
    whole = sum(config.steps(part.frame_count) for part in plan.parts)
    start = plan.start_config.steps(typical)
    assert start == pytest.approx((1, 1.5, 2)[times // 2] * config.steps(typical), abs=1)
    assert steps + config.quantize_from * start == pytest.approx(whole, abs=len(plan.parts))


def test_who_shares_a_start() -> None:
    assert plan_of((8, 8)).shares_start and plan_of((8, 8), aim=ConstantPsnr(30)).shares_start
    assert not plan_of((8,)).shares_start and not plan_of((8, 8), denoise=True).shares_start


def test_its_frames_are_from_all_of_the_video(frames: list[Planes]) -> None:
    reports: list[Progress] = []
    plan = plan_of((4, 4, 4))
    source = MemoryInput(VIDEO, frames)
    drawn = start_fit._drawn(plan, source, lambda n, progress: reports.append(progress))
    assert [next(n for n, f in enumerate(frames) if f is one) for one, _ in drawn] == [1, 4, 7, 10]
    assert reports[-1].phase is Phase.READ and reports[-1].step == 11
    with pytest.raises(SourceError, match="shorter"):
        start_fit._drawn(plan, MemoryInput(VIDEO, frames[:9]), silent)


def test_it_is_kept_and_used(frames: list[Planes], tmp_path: Path) -> None:
    plan, source = plan_of((6, 6)), MemoryInput(VIDEO, frames)
    start = start_fit.shared_start(plan, source, tmp_path, silent)
    assert start is not None
    kept = tmp_path / start_fit.FILE_NAME
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    again = start_fit.shared_start(plan, MemoryInput(VIDEO, []), tmp_path, silent)
    assert again is not None and again.to_bytes() == start.to_bytes()
    reports: dict[bool, list[Progress]] = {False: [], True: []}
    for is_started, said in reports.items():
        requests = segment_requests(
            plan,
            with_masks(frames, None),
            None,
            lambda n, progress: said.append(progress),  # noqa: B023, it is called in this turn
            start=start if is_started else None,
        )
        encode_segment(next(requests))
    cold, warm = (said[0] for said in reports.values())
    assert warm.psnr > cold.psnr + 3 and warm.steps < cold.steps
    data = bytearray(kept.read_bytes())
    data[100] ^= 1
    kept.write_bytes(data)
    with pytest.raises(HnervError, match=r"start\.weights is damaged"):
        start_fit.shared_start(plan, source, tmp_path, silent)
