"""hnervcodec.encode: what hnv encode does, for programs."""

import inspect
import io
import subprocess
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import EXCERPT, Args, hnv

from hnervcodec import Decoder, EncodeResult, encode, encode_many, inpaint
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import HnervError, SourceError, UsageError
from hnervcodec.media.colour import PlaneConverter, RgbConverter
from hnervcodec.media.source import VideoSource

FAST: dict[str, Any] = {"preset": "ultrafast", "threads": 1}


def test_its_options_are_those_of_the_command() -> None:
    from hnervcodec.commands.encode import encode as command

    ours = inspect.signature(encode).parameters
    theirs = {p.name: p for p in command.params}
    # The command has -y for `discard`, and any number of sources.
    only_ours = {"frame_rate", "video", "on_progress", "discard", "source"}
    assert set(ours) - only_ours <= set(theirs)
    many = inspect.signature(encode_many).parameters
    assert set(many) - {"on_progress", "discard", "folder"} <= set(theirs)
    for name in set(many) & set(ours) - {"on_progress"}:
        assert many[name] == ours[name], name
    for name in set(ours) - only_ours - {"source", "output"}:
        assert ours[name].default == theirs[name].to_info_dict()["default"], name


@pytest.mark.slow
def test_a_path_gives_the_commands_file(real_source: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    files: set[str] = set()

    def watch(*report: object) -> None:
        seen.append(report)
        files.update(path.name for path in tmp_path.iterdir())

    threads = torch.get_num_threads() + 1
    torch.set_num_threads(threads)
    try:
        result = encode(
            real_source, tmp_path / "x.hnv", bpp=4, limit=4, segment=2, on_progress=watch, **FAST
        )
        assert torch.get_num_threads() == threads  # as before, whatever the encode took
    finally:
        torch.set_num_threads(threads - 1)
    assert files == {"x.hnv.job"} and result.notes == ()
    hnv(
        "encode",
        real_source,
        "-o",
        tmp_path / "y.hnv",
        "--bpp",
        "4",
        "--limit",
        "4",
        "--segment",
        "2",
        "--preset",
        "ultrafast",
        "--threads",
        "1",
    )
    assert (tmp_path / "x.hnv").read_bytes() == (tmp_path / "y.hnv").read_bytes()
    assert isinstance(result, EncodeResult) and result.bytes == (tmp_path / "x.hnv").stat().st_size
    assert (result.frames, result.segments) == (4, 2) and result.error.average > 10
    assert {number for number, _ in seen} == {0, 1} and seen[0][1].steps > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.hnv", "y.hnv"]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_array(kind: object, real_file: Path) -> None:
    with Decoder(real_file, dimension_order="NHWC") as decoder:
        rgb = decoder[:6].numpy()
    file = io.BytesIO()
    result = encode(kind(rgb), file, frame_rate=30, size=9000, **FAST)  # type: ignore[operator]
    assert 8900 <= result.bytes == len(file.getvalue()) <= 9000
    with Decoder(file.getvalue(), dimension_order="NHWC") as decoder:
        assert (len(decoder), decoder.metadata.average_fps) == (6, 30.0)
        assert decoder.video.matrix_coefficients == 1
        # A wrong matrix or range would be seen in the mean colour.
        shift = decoder[:].float().mean((0, 1, 2)) - torch.tensor(rgb).float().mean((0, 1, 2))
        assert shift.abs().max() < 4


def test_rgb_to_planes_and_back() -> None:
    video = VideoHeader(64, 48, 1, Fraction(25), chroma_siting=0, matrix_coefficients=1)
    y, x = np.mgrid[:48, :64]
    smooth = np.stack([4 * x, 5 * y, 255 - 2 * (x + y)], -1).astype(np.uint8)
    planes = PlaneConverter(video)(smooth)
    assert [p.shape for p in planes] == [(48, 64), (24, 32), (24, 32)]
    back = RgbConverter(video)(planes).astype(int)
    assert np.abs(back - smooth)[2:-2, 2:-2].max() <= 4
    red = PlaneConverter(video)(np.broadcast_to(np.array([255, 0, 0], np.uint8), (48, 64, 3)))
    assert [int(p[20, 20]) for p in red] == [63, 102, 240]  # BT.709, limited range


def test_planes(real_source: Path, tmp_path: Path) -> None:
    with VideoSource(real_source, limit=6) as source:
        video, frames = source.header, list(source.frames())
    encode(frames, tmp_path / "list.hnv", video=video, bpp=1.5, **FAST)
    encode(iter(frames), tmp_path / "iterator.hnv", video=video, bpp=1.5, **FAST)
    encode(real_source, tmp_path / "path.hnv", limit=6, bpp=1.5, **FAST)
    made = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(made) == 3 and made[0] == made[1] == made[2]


def test_what_is_lost_is_said(ffmpeg: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=64:48,format=yuv411p"]
    subprocess.run([*command, "-frames:v", "3", "-c:v", "ffv1", path], check=True)
    result = encode(path, io.BytesIO(), bpp=2, **FAST)
    assert len(result.notes) == 1 and "yuv411p is converted" in result.notes[0]


def test_masks_of_given_frames(real_source: Path, tmp_path: Path) -> None:
    mask = tmp_path / "boxes.json"
    mask.write_text('[{"x": 0, "y": 0, "width": 30, "height": 47}]')
    with VideoSource(real_source, limit=6) as source:
        video, frames = source.header, list(source.frames())
    ours = encode(frames, tmp_path / "x.hnv", video=video, bpp=1.5, mask=mask, **FAST)
    encode(real_source, tmp_path / "y.hnv", limit=6, bpp=1.5, mask=mask, **FAST)
    assert (tmp_path / "x.hnv").read_bytes() == (tmp_path / "y.hnv").read_bytes()
    assert ours.error.samples[0] == 6 * 33 * 47


def test_a_video_of_as_many_masks_as_given_frames(real_source: Path) -> None:
    with VideoSource(real_source) as source:
        video, frames = source.header, list(source.frames())
    result = encode(frames, io.BytesIO(), video=video, bpp=1.5, mask=real_source, **FAST)
    assert result.frames == 20 and 0 < result.error.samples[0] < 20 * 63 * 47
    with pytest.raises(SourceError, match="masks end at frame 19"):
        encode([*frames, frames[0]], io.BytesIO(), video=video, bpp=1.5, mask=real_source, **FAST)


VIDEO = VideoHeader(16, 16, 1, Fraction(25))
RGB = np.zeros((2, 16, 16, 3), np.uint8)
PLANES = (np.zeros((16, 16), np.uint8), *[np.zeros((8, 8), np.uint8)] * 2)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("missing.mp4", {"bpp": 1}, SourceError, "missing.mp4"),
        (RGB, {"bpp": 1}, UsageError, "needs a frame_rate"),
        (RGB, {"frame_rate": 25}, UsageError, "exactly one"),
        (RGB, {"frame_rate": 25, "bpp": 1, "size": 9}, UsageError, "exactly one"),
        (RGB, {"frame_rate": 25, "bpp": 1, "limit": 3}, UsageError, "for paths"),
        (RGB, {"frame_rate": 25, "bpp": 1, "resume": True}, UsageError, "from a file"),
        (RGB, {"frame_rate": 25, "bpp": 1, "share": (1, 2)}, UsageError, "need a file"),
        (RGB, {"frame_rate": 25, "bpp": 1, "workers": 2}, UsageError, "need a file"),
        (EXCERPT, {"bpp": 1, "workers": 0}, UsageError, "`workers` 0"),
        (EXCERPT, {"bpp": 1, "workers": 2, "cluster": "x"}, UsageError, "choose"),
        (EXCERPT, {"bpp": 1, "share": (3, 2)}, UsageError, "not a share"),
        (EXCERPT, {"bpp": 1, "start": float("nan")}, UsageError, "`start` nan is not a number"),
        (EXCERPT, {"bpp": 1, "start": 1, "skip": 1}, UsageError, "choose the part"),
        (EXCERPT, {"bpp": 1, "skip": -1}, UsageError, "skip -1"),
        (EXCERPT, {"bpp": 1, "audio": "non"}, UsageError, "unknown audio 'non'"),
        (RGB, {"frame_rate": 25, "bpp": 1, "preset": "warp"}, UsageError, "unknown preset"),
        (RGB, {"frame_rate": 0, "bpp": 1}, UsageError, "0 frames/s"),
        (RGB, {"frame_rate": float("nan"), "bpp": 1}, UsageError, "`frame_rate` nan is not"),
        (RGB, {"frame_rate": "fast", "bpp": 1}, UsageError, "`frame_rate` 'fast' is not"),
        (EXCERPT, {"bpp": "1"}, UsageError, "`bpp` '1' is not a number"),
        (EXCERPT, {"bpp": -1}, UsageError, "`bpp` -1 is not a positive number"),
        (EXCERPT, {"psnr": np.float32("nan")}, UsageError, "`psnr` .* is not a number"),
        (EXCERPT, {"size": 10**400}, UsageError, "`size` 1000.* is not a number"),
        (EXCERPT, {"bpp": 1, "seed": 1.5}, UsageError, "`seed` 1.5 is not a whole number"),
        (EXCERPT, {"bpp": 1, "seed": 1 << 63}, UsageError, "is out of range"),
        (EXCERPT, {"bpp": 1, "segment": 0}, UsageError, "`segment` 0 or"),
        (EXCERPT, {"bpp": 1, "limit": np.ones(2)}, UsageError, "`limit` .* is not a"),
        (EXCERPT, {"bpp": 1, "threads": 1 << 70}, UsageError, "out of range"),
        (EXCERPT, {"bpp": 1, "share": (1,)}, UsageError, "not a share"),
        ([PLANES], {"video": replace(VIDEO, width=0), "bpp": 1}, UsageError, "no file can hold"),
        (RGB, {"frame_rate": 1e300, "bpp": 1}, UsageError, "no video"),
        (RGB[..., :2], {"frame_rate": 25, "bpp": 1}, UsageError, r"\[2, 16, 16, 2\]"),
        (RGB[:0], {"frame_rate": 25, "bpp": 1}, UsageError, "no video"),
        (RGB.astype(float), {"frame_rate": 25, "bpp": 1}, UsageError, "float64"),
        ([PLANES], {"bpp": 1}, UsageError, "need the video"),
        ([PLANES[:1]], {"video": VIDEO, "bpp": 1}, UsageError, "frame 0 has planes"),
        ([], {"video": VIDEO, "bpp": 1}, UsageError, "no frames"),
        (iter([PLANES]), {"video": VIDEO, "size": 900}, UsageError, "size"),
    ],
)
def test_wrong_arguments(
    source: object,
    options: dict[str, Any],
    error: type[HnervError],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        encode(source, tmp_path / "x.hnv", **{**FAST, **options})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


SCALARS: list[Any] = [
    np.float64, np.float32, lambda x: np.array(x), torch.tensor, lambda x: torch.tensor(float(x)),
    Fraction, Decimal,
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS)
def test_numbers_of_all_kinds(scalar: Any, real_source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "bpp": 2, "limit": 4, "segment": 2, "every": 2, "skip": 1, "seed": 3, "scenecut": 8,
        "threads": 1,
    }  # fmt: skip
    encode(real_source, tmp_path / "x.hnv", preset="ultrafast", share=(1, 2), **options)
    others = {name: scalar(value) for name, value in options.items()}
    share = (scalar(1), scalar(2))
    encode(real_source, tmp_path / "y.hnv", preset="ultrafast", share=share, **others)
    assert (tmp_path / "x.hnv").read_bytes() == (tmp_path / "y.hnv").read_bytes()


@pytest.mark.parametrize("scalar", SCALARS)
def test_times_and_rates_of_all_kinds(scalar: Any, real_source: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), np.uint8)
    made = encode(rgb, io.BytesIO(), frame_rate=scalar(25), size=scalar(700), **FAST)
    assert made.video.frame_rate == 25
    times = {"start": scalar(0.125), "stop": scalar(0.25)}
    assert encode(real_source, io.BytesIO(), bpp=2, **times, **FAST).frames == 3


def test_a_header_of_other_numbers() -> None:
    header = VideoHeader(np.int64(16), torch.tensor(16), np.uint8(1), np.float32(25))  # type: ignore[arg-type]
    assert encode([PLANES] * 2, io.BytesIO(), video=header, bpp=11, **FAST).video == VIDEO


def test_an_interrupted_encode_goes_on(real_source: Path, tmp_path: Path) -> None:
    def interrupt(number: int, progress: object) -> None:
        if number == 1:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"bpp": 2, "limit": 8, "segment": 4, **FAST}
    with pytest.raises(KeyboardInterrupt):
        encode(real_source, tmp_path / "x.hnv", on_progress=interrupt, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.hnv.job"]
    with pytest.raises(UsageError, match="unfinished"):
        encode(real_source, tmp_path / "x.hnv", **options)
    fitted = set()
    encode(
        real_source,
        tmp_path / "x.hnv",
        resume=True,
        on_progress=lambda n, p: fitted.add((n, p.phase)),
        **options,
    )
    assert (1, "fit") in fitted and (0, "fit") not in fitted
    encode(real_source, tmp_path / "y.hnv", **options)
    assert (tmp_path / "x.hnv").read_bytes() == (tmp_path / "y.hnv").read_bytes()


@pytest.mark.slow
def test_shares_and_workers_make_the_file_of_one_process(real_source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bpp": 2, "limit": 8, "segment": 4, **FAST}
    encode(real_source, tmp_path / "whole.hnv", **options)
    encode(real_source, tmp_path / "workers.hnv", workers=2, **options)
    whole = (tmp_path / "whole.hnv").read_bytes()
    assert (tmp_path / "workers.hnv").read_bytes() == whole
    for n in (1, 2):
        result = encode(real_source, tmp_path / f"{n}.hnv", share=(n, 2), **options)
        assert (result.frames, result.segments) == (4, 1)
    hnv("join", tmp_path / "1.hnv", tmp_path / "2.hnv", "-o", tmp_path / "joined.hnv")
    assert (tmp_path / "joined.hnv").read_bytes() == whole


@pytest.mark.slow
def test_inpaint_makes_what_the_command_makes(real_source: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text('[{"x": 20, "y": 12, "width": 12, "height": 10}]')
    result = inpaint(real_source, tmp_path / "x.y4m", mask=boxes, bpp=0.9, **FAST)
    options = ("--bpp", "0.9", "--preset", "ultrafast", "--threads", "1", "-q")
    hnv("inpaint", real_source, "--mask", boxes, "-o", tmp_path / "y.y4m", *options)
    assert (tmp_path / "x.y4m").read_bytes() == (tmp_path / "y.y4m").read_bytes()
    assert result.frames == 20 and result.error.samples[0] == 20 * (63 * 47 - 12 * 10)
    with VideoSource(real_source) as source, VideoSource(tmp_path / "x.y4m") as made:
        for before, after in zip(source.frames(), made.frames(), strict=True):
            differs = before[0] != after[0]
            assert differs[12:22, 20:32].any()
            differs[12:22, 20:32] = False
            assert not differs.any()  # what is not masked stays the source's
    for name in ("x.png", "x.nothing"):
        with pytest.raises(UsageError, match="format"):
            inpaint(real_source, tmp_path / name, mask=boxes, **FAST)
    with pytest.raises(UsageError, match="'foo' is not a `format`"):
        inpaint(real_source, tmp_path / "x.mkv", mask=boxes, format="foo", **FAST)
