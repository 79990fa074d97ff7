"""See tools/bench_access."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from unittest import mock

from reference import CLIPS as STANDARD
from reference import ROOT, Filters, read_clip, write_y4m

from hnervcodec.benchmark import access_files, access_report, access_times
from hnervcodec.benchmark.access_files import HNV
from hnervcodec.benchmark.access_readers import has_torchcodec
from hnervcodec.benchmark.access_study import FILES, TIMES, AccessStudy, Case
from hnervcodec.encoding.observer import Observer

FOLDER, RESULTS = ROOT / "clips/access", ROOT / "tools/results/access"
_CAMERA: Filters = (("scale", "320:240:flags=lanczos"),)
CLIPS: dict[str, tuple[str, Filters]] = {
    **{name: STANDARD[name] for name in ("carphone", "bunny320", "bikes320")},
    "vtest320": ("vtest.avi", _CAMERA),  # people who cross a square; 795 frames
    "box320": ("box.mp4", _CAMERA),  # a hand that turns a box in a room; 455 frames
    "bunny1280": STANDARD["bunny1280"],
}
# Of hnv, in bits per pixel.
RATES = {
    "carphone": ("0.02", "0.05"),
    "bunny320": ("0.03", "0.06"),
    "bikes320": ("0.03", "0.06"),
    "vtest320": ("0.03",),
    "box320": ("0.02",),
    "bunny1280": ("0.01", "0.02"),
}
PICTURES = (("png", "0"), ("jpeg", "40"), ("jpeg", "70"), ("jpeg", "90"))
QUICK = {
    ("svtav1", "12"): ("30", "40", "50", "60"),
    ("x264", "ultrafast"): ("24", "30", "36", "42"),
}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def encode(study: AccessStudy, case: Case, source: Path) -> None:
    """Our own file, from a Y4M file, so that an interrupted encode goes on."""
    path = study.path_of(case)
    if not path.exists():
        command = [sys.executable, "-m", "hnervcodec", "encode", str(source), "-o", str(path)]
        command += ["--tune", "psnr", "--preset", case[1], "--bpp", case[3], "--resume"]
        say(" ".join(command[1:]))
        subprocess.run(command, check=True)


def run(clip: str, given: argparse.Namespace) -> AccessStudy:
    """Makes, measures and times what is missing of one clip."""
    file, filters = CLIPS[clip]
    header, frames = read_clip(ROOT / "clips" / file, filters, given.limit)
    study = AccessStudy(clip, header, frames, FOLDER, say)
    if given.report:
        return study
    rates = given.rates.split(",") if given.rates else RATES[clip]
    ours: list[Case] = [(HNV, given.preset, 0, rate) for rate in rates]
    others = [
        (*codec, int(gop), crf)
        for codec, factors in access_files.OTHERS.items()
        for gop in given.gop.split(",")
        for crf in factors
    ]
    if not given.times_only:
        study.code([*others, *((kind, "", 0, rate) for kind, rate in PICTURES)], Observer())
        if not given.no_hnv:
            source = FOLDER / f"{clip}.y4m"
            if not source.exists():
                write_y4m(source, header, frames)
            for case in ours:
                encode(study, case, source)
    study.code([case for case in ours if study.path_of(case).exists()], Observer())
    if not given.encode_only:
        gops = {0, *map(int, given.gop.split(","))}  # 0: of ours, and of pictures
        study.time([file for file in study.nearest_files() if file.gop in gops])
    return study


def report(studies: list[AccessStudy]) -> None:
    """README.md and the pictures of tools/results/access."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in (FILES, TIMES):
        (RESULTS / name).write_bytes(
            (FOLDER / name).read_bytes() if (FOLDER / name).exists() else b""
        )
    reader = "torchcodec" if has_torchcodec() else "PyAV"
    lines = [
        "# Random access: hnv beside other codecs in short groups of pictures",
        "",
        f"Written by `tools/bench_access`, without a GPU. Other codecs are read by {reader}, with",
        "the seek and the threads that are fastest there, pictures by Pillow. Ours are tuned for",
        "PSNR, as theirs are (`--tune psnr`).",
        "",
        "* bytes: of hnv the whole file, of others the elementary stream, at hnv's 6:1:1 PSNR:",
        "  straight in the logarithm between measured files. Empty: not measured at this quality.",
        "* of ours: these bytes as a multiple of hnv's.",
        "* cold: milliseconds to open the file, read a frame and close it. one, two, two apart,",
        "  six: from an open file, a random frame, two neighbours, two with three between them,",
        "  six in a row, together. Median / 95th percentile, frames in RGB.",
        f"* loader: frames per second of a shuffled DataLoader, batches of {access_times.BATCH},",
        "  without workers and with two, which have a thread each.",
        "* open: memory of an open video that has given a frame.",
    ]
    for study in studies:
        for target in access_report.targets(study.files):
            picture = f"{study.clip}-{target.codec}-{target.preset}-{target.rate}.png"
            title = f"{study.clip}: {target.frames} frames of {target.width}x{target.height}"
            access_report.plot(str(RESULTS / picture), study.files, study.times, target, title)
            command = f"tools/bench_access --clips {study.clip}"
            if target.codec == HNV:
                command += f" --preset {target.preset} --rates {target.rate}"
            lines += [
                "",
                f"## {title}, {target.psnr_611:.2f} dB",
                "",
                f"`{command}`",
                "",
                "| " + " | ".join(access_report.COLUMNS) + " |",
                "|---" * len(access_report.COLUMNS) + "|",
            ]
            found = access_report.rows(study.files, study.times, target)
            machine = access_report.processor_of(study.times, target)
            lines += ["| " + " | ".join(row) + " |" for row in found]
            lines += ["", f"Times: {machine or 'not taken'}.", ""]
            lines += [*(f"* {line}" for line in access_report.crossings(study.files, target))]
            lines += ["", f"![bytes over milliseconds]({picture})"]
    (RESULTS / "README.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(usage="see the head of tools/bench_access")
    parser.add_argument("--clips", default=",".join(CLIPS))
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--rates", default="")
    parser.add_argument("--gop", default="1,2,5,10,30,250")
    parser.add_argument("--limit", type=int)
    for flag in ("encode-only", "times-only", "no-hnv", "report", "quick"):
        parser.add_argument(f"--{flag}", action="store_true")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    presets = QUICK if given.quick else access_files.OTHERS
    with mock.patch.object(access_files, "OTHERS", presets):
        for clip in given.clips.split(","):
            run(clip, given)
        given.report = True
        report([study for clip in CLIPS if (study := run(clip, given)).times])
    print(f"{RESULTS / 'README.md'} has the table")


if __name__ == "__main__":
    main()
