"""Numbers as callers bring them: of Python, numpy or torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from operator import index
from typing import Any

from hnervcodec.errors import UsageError


def whole(name: str, value: Any) -> int:
    """`value` as an int; UsageError, which calls it `name`, if it is no whole number."""
    try:
        return index(value)
    except (TypeError, ValueError, RuntimeError):  # a float, or torch's words for it
        number = real(name, value)
    if number not in (math.inf, -math.inf) and number == int(number):
        return int(number)
    raise UsageError(f"`{name}` {_shown(value)} is not a whole number")


def real(name: str, value: Any) -> float:
    """`value` as a float, or as the int that it is; UsageError, which calls it `name`, if it is no
    number, or more than a float holds."""
    number = math.nan
    if not isinstance(value, str | bytes | bytearray):  # which `float` would read
        with suppress(TypeError, ValueError, RuntimeError, OverflowError):
            number = float(value)
    if math.isnan(number):
        raise UsageError(f"`{name}` {_shown(value)} is not a number")
    return value if type(value) is int else number


def exact(name: str, value: Any) -> Fraction:
    """`value` as a Fraction, from a number or from words such as 30000/1001; UsageError, which
    calls it `name`, if it is no finite number."""
    try:
        if isinstance(value, int | float | Fraction | Decimal | str):
            return Fraction(value)
        return Fraction(real(name, value))
    except (ArithmeticError, ValueError) as error:
        raise UsageError(f"`{name}` {_shown(value)} is not a number") from error


def convert(record: object, *, wholes: Iterable[str] = (), reals: Iterable[str] = ()) -> None:
    """For the `__post_init__` of a frozen dataclass: makes Python's numbers of these fields, where
    they are not None. UsageError for what is not such a number."""
    for to_number, names in ((whole, wholes), (real, reals)):
        for name in names:
            value = getattr(record, name)
            if value is not None:
                object.__setattr__(record, name, to_number(name, value))


def _shown(value: object) -> str:
    return " ".join(repr(value).split())[:60]
