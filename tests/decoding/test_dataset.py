"""Frames of many files for training: memory, open files, workers, order, LeRobot's words."""

import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from vectors import make_file, make_video, random_segment

from hnervcodec import Decoder, FrameDataset, SegmentSampler
from hnervcodec.decoding import dataset as datasets
from hnervcodec.decoding import decode_video_frames
from hnervcodec.decoding.segment_cache import CACHE_BYTES, SEGMENTS
from hnervcodec.errors import UsageError


@pytest.fixture(scope="module")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """2,000 files of two frames each."""
    folder, video = tmp_path_factory.mktemp("many"), make_video()
    content = make_file(video, [random_segment(video, 2, seed=1)])
    paths = [folder / f"{n}.hnv" for n in range(2000)]
    for path in paths:
        path.write_bytes(content)
    return paths


@pytest.fixture
def small_cache(small_file: Path) -> Iterator[int]:
    """For about 50 segments, until the test ends."""
    SEGMENTS.clear()
    with Decoder(small_file, threads=1) as decoder:
        decoder.get_planes_at(0)
    limit = SEGMENTS.limit = 50 * SEGMENTS.nbytes
    SEGMENTS.clear()
    yield limit
    SEGMENTS.limit = CACHE_BYTES
    SEGMENTS.clear()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class Counting(FrameDataset):
    """Of each frame, what the process that made it holds: open files, loaded bytes, peak KiB."""

    def __getitem__(self, index: int) -> torch.Tensor:
        super().__getitem__(index)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return torch.tensor([open_files(), SEGMENTS.nbytes, peak])

    def __getitems__(self, indices: list[int]) -> list[torch.Tensor]:
        super().__getitems__(indices)
        return [self[indices[-1]]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_thousand_files(many_files: list[Path], small_cache: int, method: str) -> None:
    before = open_files()
    dataset = Counting(many_files, cache_bytes=small_cache)
    assert len(dataset) == 4000 and open_files() <= before + datasets.MAX_OPEN_FILES
    dataset[0]  # what workers inherit is in use already
    chosen = random.Random(0).sample(range(4000), 300)
    loader = DataLoader(
        dataset, 10, sampler=chosen, num_workers=2, multiprocessing_context=method
    )  # fmt: skip
    files, held, peak = torch.cat(list(loader)).T
    assert len(files) == 30
    assert files.max() <= before + datasets.MAX_OPEN_FILES + 30  # those of a worker's own
    assert 0.9 * small_cache < held.max() <= small_cache
    assert files[-2:].max() <= files[8:12].max() and peak[-1] - peak[14] < 16 << 10
    del dataset, loader
    assert open_files() <= before + 8  # those of the way to start processes


def test_a_batch_is_its_frames_in_any_order(many_files: list[Path], small_file: Path) -> None:
    dataset = FrameDataset([small_file, *many_files[:2], small_file], output_dtype=torch.float32)
    order = [9, 0, 5, 4, 0, 13, 6, -1, 3]
    for index, frame in zip(order, dataset.__getitems__(order), strict=True):
        assert frame.dtype == torch.float32 and torch.equal(frame, dataset[index])
    with Decoder(small_file) as decoder:
        assert torch.equal(dataset[0], decoder[0].float() / 255)


def test_crop_and_resize(small_file: Path) -> None:
    """Of 22x14."""
    with Decoder(small_file) as decoder:
        whole = decoder.get_frames_at([3, 1]).data
    with Decoder(small_file, crop=(3, 5, 10, 12)) as decoder:
        assert torch.equal(decoder.get_frames_at([3, 1]).data, whole[..., 3:13, 5:17])
    for crop, part in ((None, whole), ((3, 5, 10, 12), whole[..., 3:13, 5:17])):
        theirs = torch.nn.functional.interpolate(
            part.float(), (6, 9), mode="bicubic", antialias=True
        )
        for order in ("NCHW", "NHWC"):
            with Decoder(small_file, dimension_order=order, crop=crop, resize=(6, 9)) as decoder:
                made = decoder.get_frames_at([3, 1]).data
            made = made.permute(0, 3, 1, 2) if order == "NHWC" else made
            assert made.shape == theirs.shape
            assert (made - theirs).abs().mean() < 0.2 * (theirs - theirs.mean()).abs().mean()
    for bad in ({"crop": (0, 0, 15, 22)}, {"crop": (0, 0, 0, 3)}, {"resize": (3,)}):
        with pytest.raises(UsageError, match=f"{next(iter(bad))} \\("):
            Decoder(small_file, **bad)


def test_segments_are_shuffled_and_loaded_once(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = FrameDataset([small_file] * 10)  # of 3 and 2 frames
    generator = torch.Generator().manual_seed(0)
    for together, longest in ((1, 3), (4, 12)):
        sampler = SegmentSampler(dataset, together, generator)
        order = list(sampler)
        assert sorted(order) == list(range(len(sampler))) == list(range(50))
        assert order != sorted(order) and order != list(sampler)
        visited = [next(n for n, part in enumerate(dataset.segments) if at in part) for at in order]
        spans = [len(visited) - visited[::-1].index(n) - visited.index(n) for n in set(visited)]
        assert max(spans) <= longest  # a segment's frames are not far from each other
    with pytest.raises(UsageError, match="together"):
        SegmentSampler(dataset, 0)


def test_workers_do_not_fight(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def opened(path: Path, **options: object) -> Decoder:
        asked.append(options["threads"])
        return Decoder(path)

    monkeypatch.setattr(datasets, "Decoder", opened)
    FrameDataset(small_file)[0]
    monkeypatch.setattr(datasets, "get_worker_info", lambda: "a worker's")
    FrameDataset(small_file)[0]
    FrameDataset(small_file, threads=3)[0]
    assert asked == [None, 1, 3]


def test_frames_at_timestamps(small_file: Path) -> None:
    """As LeRobot's function of this name."""
    with Decoder(small_file) as decoder:
        expected = decoder.get_frames_at([2, 0, 1, 4, 2]).data
        rate = decoder.metadata.average_fps
    near = [2 / rate, 0.0, 1.01 / rate, 3.9 / rate, 2 / rate]
    frames = decode_video_frames(small_file, near, 0.2 / rate)
    assert frames.dtype == torch.float32
    assert torch.equal((frames * 255).round().to(torch.uint8), expected)
    assert decode_video_frames(str(small_file), [4.9 / rate], 1 / rate).shape == (1, 3, 14, 22)
    for seconds, tolerance in ((2.3, 0.2), (-0.6, 0.5), (5.0, 0.9), (2.0, 0.0)):
        message = f"no frame is nearer than {tolerance / rate} s"
        with pytest.raises(ValueError, match=message):
            decode_video_frames(small_file, [2.01 / rate, seconds / rate], tolerance / rate)
    for broken in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="timestamps"):
            decode_video_frames(small_file, [broken], 1.0)


def test_another_file_in_a_files_place(tmp_path: Path) -> None:
    """Of the same size, with the same times: its frames are its own."""
    path, video = tmp_path / "x.hnv", make_video()
    by_size: dict[int, list[bytes]] = {}
    for seed in range(30):
        content = make_file(video, [random_segment(video, 1, seed=seed)])
        by_size.setdefault(len(content), []).append(content)
    first, second, *_ = max(by_size.values(), key=len)
    for content in (first, second):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        with Decoder(path) as placed, Decoder(content) as held:
            assert placed.get_planes_at(0)[0].tobytes() == held.get_planes_at(0)[0].tobytes()
    assert first != second
