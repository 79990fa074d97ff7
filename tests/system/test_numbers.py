"""Numbers of all kinds are taken for what they are, and all else is said by name."""

import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hnervcodec import Decoder
from hnervcodec.errors import UsageError
from hnervcodec.system.numbers import exact, real, whole

KINDS: list[Any] = [
    int, float, Fraction, Decimal, np.float16, np.float32, np.float64, np.int64, np.uint8, np.array,
    torch.tensor, lambda n: torch.tensor(float(n)),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_numbers(kind: Any) -> None:
    assert (whole("n", kind(25)), type(whole("n", kind(25)))) == (25, int)
    assert real("n", kind(25)) == 25 and type(real("n", kind(25))) in (int, float)
    assert exact("n", kind(25)) == Fraction(25)


def test_numbers_that_are_not_whole() -> None:
    assert real("n", np.float32(0.5)) == 0.5 and exact("n", torch.tensor(0.5)) == Fraction(1, 2)
    assert exact("n", "30000/1001") == Fraction(30000, 1001)
    assert real("n", 1 << 70) == 1 << 70 and real("n", math.inf) == math.inf
    for wrong in (0.5, np.float32(0.5), math.inf):
        with pytest.raises(UsageError, match=r"`n` .* is not a whole number"):
            whole("n", wrong)


@pytest.mark.parametrize("wrong", [b"2", None, [1], (), {}, 1j, math.nan, np.ones(2),
                                   torch.ones(2), np.float32("nan"), "", print])  # fmt: skip
@pytest.mark.parametrize("function", [whole, real, exact])
def test_no_numbers(function: Any, wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"`n` .* is not a number") as raised:
        function("n", wrong)
    assert len(str(raised.value)) < 100 and "\n" not in str(raised.value)


def test_numbers_that_a_float_does_not_hold() -> None:
    assert whole("n", 10**400) == exact("n", 10**400) == 10**400
    with pytest.raises(UsageError):
        real("n", 10**400)


@pytest.mark.parametrize("kind", KINDS[7:11])
def test_frames_by_numbers_of_all_kinds(kind: Any, small_file: Path) -> None:
    with Decoder(small_file, threads=kind(1), max_level=kind(50)) as decoder:
        expected = decoder[1]
        assert (decoder[kind(1)] == expected).all()
        assert (decoder.get_frame_at(kind(1)).data == expected).all()
        assert (decoder.get_frames_at([kind(1)]).data[0] == expected).all()
        assert (decoder.get_frames_in_range(kind(1), kind(2)).data[0] == expected).all()


@pytest.mark.parametrize("kind", [Fraction, np.float32, np.float64, torch.tensor])
def test_frames_by_times_of_all_kinds(kind: Any, small_file: Path) -> None:
    with Decoder(small_file) as decoder:
        at, end = (
            kind(1.5 / decoder.metadata.average_fps),
            kind(1.75 / decoder.metadata.average_fps),
        )
        expected = decoder[1]
        assert (decoder.get_frame_played_at(at).data == expected).all()
        assert (decoder.get_frames_played_at([at]).data[0] == expected).all()
        assert (decoder.get_frames_played_in_range(at, end).data[0] == expected).all()
