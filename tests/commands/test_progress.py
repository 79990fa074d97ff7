"""How long an encode says that it will still take."""

from collections.abc import Iterator

import pytest

from hnervcodec.commands.progress import QUANTIZED_COST, TimeLeft, duration
from hnervcodec.fitting.progress import Phase, Progress

STEPS, STEP = 4000, 0.09  # of a fit of six minutes


def fit(slow: range = range(0), number: int = 0) -> Iterator[tuple[int, Progress, float]]:
    """Reports of a fit whose steps take five times as long within `slow`, and what it really still
    takes after each."""
    lasting = [STEP * (5 if step in slow else 1) for step in range(STEPS)]
    lasting[STEPS // 2 :] = [QUANTIZED_COST * seconds for seconds in lasting[STEPS // 2 :]]
    past, whole = 0.0, sum(lasting)
    for step, seconds in enumerate(lasting, 1):
        past += seconds
        phase = Phase.FLOAT if step <= STEPS // 2 else Phase.QUANTIZED
        yield number, Progress(phase, step, STEPS, past, 30.0, None), whole - past


def test_time_left_of_an_even_fit_is_right() -> None:
    time = TimeLeft({0: 10}, quantized_from=0.5)
    for number, progress, left in fit():
        time.heard(number, progress)
        if 8 < progress.step < STEPS:
            told = time.seconds({0: progress.step / STEPS}, at_work=1)
            assert told == pytest.approx(left, rel=1e-6)


@pytest.mark.parametrize("begin", [60, 400, 2030, 3000])
def test_a_busy_neighbour_does_not_change_the_time_left(begin: int) -> None:
    """A minute or two of slow steps, as long as all before it or less."""
    burst = range(begin, begin + min(begin // 5, 200))
    time, before = TimeLeft({0: 10}, quantized_from=0.5), None
    for number, progress, _ in fit(burst):
        time.heard(number, progress)
        told = time.seconds({0: progress.step / STEPS}, at_work=1)
        if progress.step == burst.start:
            before = told
        elif before and progress.step in burst:
            assert told is not None and told < 1.05 * before
    assert before is not None and before > 60


def test_a_machine_that_stays_slow_is_noticed() -> None:
    time = TimeLeft({0: 10}, quantized_from=0.5)
    for number, progress, left in fit(slow=range(100, STEPS)):
        time.heard(number, progress)
        if progress.step == 1000:
            told = time.seconds({0: progress.step / STEPS}, at_work=1)
            assert told is not None and 0.7 < told / left < 1.1
            return


def test_time_left_of_several_segments() -> None:
    """Segments that have not begun take as long, with their trials; more at a time take less."""
    time = TimeLeft({0: 10, 1: 10, 2: 5}, quantized_from=0.5)
    for step in range(1, 11):
        time.heard(0, Progress(Phase.TRIAL, step, 10, 2.0 * step, 20.0, None))
    assert time.seconds({}, at_work=1) is None
    for number, progress, _ in fit():
        time.heard(number, progress)
    of_one = STEPS * STEP * (1 + QUANTIZED_COST) / 2
    assert time.seconds({0: 1.0}, at_work=1) == pytest.approx(1.5 * (of_one + 18.0))
    assert time.seconds({0: 1.0}, at_work=2) == pytest.approx(0.75 * (of_one + 18.0))
    assert time.seconds_of_one(0, 0.5) == pytest.approx(STEPS / 2 * STEP * QUANTIZED_COST)


def test_durations() -> None:
    assert [duration(s) for s in (3.6, 360, 5430)] == ["4 s", "6:00 min", "1:30 h"]
