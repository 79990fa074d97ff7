"""See tools/fuzz."""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter

import atheris

sys.path.insert(0, "spec")
with atheris.instrument_imports(include=["hnervcodec", "refdec"]):
    from fuzzing import check, report
    from vectors import join, repair, split

    from hnervcodec.errors import HnervError

outcomes: Counter[str] = Counter()


def run(data: bytes) -> None:
    outcomes[check(data)] += 1
    if sum(outcomes.values()) % 10_000 == 0:
        print(f"{dict(outcomes)}; {report()}", flush=True)
        gc.freeze()  # what Atheris keeps (see tools/fuzz): else each collection searches all of it


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutates one chunk's payload and puts the file together again, or any bytes of it."""
    rng = random.Random(seed)
    try:
        prefix, chunks = split(data)
    except HnervError:
        chunks = []
    if chunks and rng.random() < 0.8:
        n = rng.randrange(len(chunks))
        kind, payload = chunks[n]
        chunks[n] = kind, atheris.Mutate(payload, max(len(payload), 1) + rng.randrange(8))
        return join(prefix, chunks, relocate=rng.random() < 0.8)[:max_size]
    return repair(atheris.Mutate(data, max_size))[:max_size]


atheris.Setup(sys.argv, run, custom_mutator=mutate)
atheris.Fuzz()
