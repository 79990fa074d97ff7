#!/usr/bin/env python3
"""Trains a small denoiser on frames that a DataLoader takes out of .hnv files in random order.

    .venv/bin/python tools/examples/training_loader.py [FILE.hnv ...]

Any frame is one forward pass, so that shuffling costs next to nothing: no file of single pictures
is needed. Without arguments it encodes a few frames of tests/data/bunny.mp4 first.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import nn
from torch.utils.data import DataLoader

from hnervcodec import FrameDataset, encode

EXCERPT = Path(__file__).resolve().parents[2] / "tests/data/bunny.mp4"
NOISE, CROP = 0.1, 128


def batches(files: list[str], epochs: int) -> Iterator[torch.Tensor]:
    """float32 [N, 3, CROP, CROP] of 0..1, from everywhere in all files."""
    # One thread in each worker: more would be in each other's way.
    dataset = FrameDataset(files, threads=1)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
    for _ in range(epochs):
        for frames in loader:
            y, x = (torch.randint(size - CROP + 1, ()) for size in frames.shape[-2:])
            yield frames[..., y : y + CROP, x : x + CROP].float() / 255


def train(files: list[str], epochs: int = 6) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 3, 3, padding=1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    start, seen, losses = time.monotonic(), 0, []
    for clean in batches(files, epochs):
        noisy = clean + NOISE * torch.randn_like(clean)
        loss = nn.functional.mse_loss(noisy - model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen += len(clean)
        losses.append(loss.item())
    rate = seen / (time.monotonic() - start)
    first, last = fmean(losses[:3]), fmean(losses[-3:])
    print(f"{seen} frames, {rate:.0f} frames/s; loss {first:.4f} -> {last:.4f}")


if __name__ == "__main__":  # as DataLoader's workers import this file again on some systems
    if sys.argv[1:]:
        train(sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/bunny.hnv"
            encode(EXCERPT, path, bpp=0.3, preset="ultrafast", limit=12, segment=6)
            train([path])
