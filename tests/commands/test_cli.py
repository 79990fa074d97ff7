"""The command as people use it, and as it fails: one clear line, an exit code, nothing left."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from running import EXCERPT, ROOT, Args, error_of, heed_interrupts, hnv

from hnervcodec import cli
from hnervcodec.decoding.selection import parse_frames
from hnervcodec.errors import Terminated, UsageError


@pytest.mark.slow
def test_real_frames_there_and_back(real_file: Path, real_source: Path, tmp_path: Path) -> None:
    pixels = 63 * 47 * 20
    assert 0.99 <= 8 * real_file.stat().st_size / pixels / 0.9 <= 1.0
    assert b"20 frames in 2 segments verified" in hnv("verify", real_file).stdout
    facts = json.loads(hnv("info", "--json", real_file).stdout)
    assert [s["first_frame"] for s in facts["segments"]] == [0, 10]
    whole = hnv("decode", real_file, "--format", "framemd5", "-o", "-").stdout.splitlines()
    assert [line.split(b", ")[0] for line in whole] == [b"%d" % n for n in range(20)]
    for selection, picked in (
        ("10-13", range(10, 14)),
        ("7", [7]),
        ("2:20:5", range(2, 20, 5)),
        ("15,3,3", [15, 3, 3]),
        ("::-1", range(19, -1, -1)),
        ("-2:", [18, 19]),
    ):
        part = hnv("decode", real_file, "--frames", selection, "--format", "framemd5").stdout
        assert part.splitlines() == [whole[n] for n in picked], selection


def test_y4m_pipes_into_ffmpeg(real_file: Path, ffmpeg: str) -> None:
    y4m = hnv("decode", real_file, "-o", "-").stdout
    command = [ffmpeg, "-hide_banner", "-i", "-", "-f", "null", "-"]
    log = subprocess.run(command, input=y4m, capture_output=True, check=True).stderr.decode()
    assert "63x47" in log and re.search(r"frame= *20 ", log)


@pytest.mark.parametrize("rate", [("--bpp", 1), ("--quality", 30)])
@pytest.mark.slow
def test_dry_run_writes_nothing(
    rate: tuple[object, ...], real_source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x.hnv"
    run = hnv(
        "encode",
        real_source,
        *rate,
        "--preset",
        "ultrafast",
        "--segment",
        8,
        "-o",
        output,
        "--dry-run",
        "-q",
    )
    frames, network, size, seconds = run.stdout.decode().splitlines()
    assert frames == "20 frames in 2 segments" and not list(tmp_path.iterdir())
    assert re.fullmatch(r"network: [\d,]+ weights, [\d.]+ kMAC per pixel", network)
    if size.startswith("size: what"):  # on a busy machine trial fits are left out
        assert "--bpp" not in rate
    else:
        assert size.startswith("size: a") and 0 < int(re.sub(r"\D", "", size)) < 100_000
    assert re.fullmatch(r"time: about (\d+ s|\d+:\d\d min)", seconds) and run.stderr == b""


@pytest.mark.slow
def test_rgb_is_called_so(rgb_source: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.hnv"
    run = hnv("encode", rgb_source, "-o", output, "--bpp", 1, "--preset", "ultrafast")
    log = run.stderr.decode()
    assert "8-bit RGB" in log and re.search(r"\(G [\d.]+  B [\d.]+  R [\d.]+\)", log)
    assert "8-bit RGB" in hnv("info", output).stdout.decode()
    assert json.loads(hnv("info", output, "--json").stdout)["video"]["is_rgb"] is True


@pytest.mark.slow
def test_dry_run_of_a_share(real_source: Path) -> None:
    options = ("--bpp", 1, "--preset", "ultrafast", "--segment", 4, "--scenecut", 0, "-q")
    said = hnv("encode", real_source, *options, "--segments", "2/3", "--dry-run").stdout.decode()
    assert said.startswith("5 frames in 1 segment\n")


@pytest.mark.slow
def test_encode_reads_y4m_from_stdin_and_writes_to_stdout(
    real_source: Path, ffmpeg: str, tmp_path: Path
) -> None:
    command: Args = [ffmpeg, "-v", "error", "-i", real_source, "-f", "yuv4mpegpipe", "-"]
    y4m = subprocess.run(command, capture_output=True, check=True).stdout
    run = hnv(
        "encode",
        "-",
        "-o",
        "-",
        "--bpp",
        "1",
        "--preset",
        "ultrafast",
        "--limit",
        "4",
        "-q",
        input=y4m,
    )
    assert run.stderr == b""
    path = tmp_path / "x.hnv"
    path.write_bytes(run.stdout)
    assert b"4 frames in 1 segment verified" in hnv("verify", path).stdout
    assert hnv("decode", "-", "--format", "framemd5", input=run.stdout).stdout.count(b"\n") == 4


@pytest.mark.slow
def test_size_and_bitrate(real_source: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.hnv"
    options = ["--preset", "ultrafast", "--limit", "8", "--skip", "2", "-y", "-q"]
    hnv("encode", real_source, "-o", out, "--size", "3k", *options)
    assert 0.98 * 3000 <= out.stat().st_size <= 3000
    hnv("encode", real_source, "-o", out, "--bitrate", "80k", *options)
    assert 0.98 <= out.stat().st_size / (80_000 / 8 * 8 / 25) <= 1.0


def test_info_accounts_for_every_byte(real_file: Path) -> None:
    facts = json.loads(hnv("info", "--json", real_file).stdout)
    assert sum(facts["bytes"].values()) == facts["size"] == real_file.stat().st_size
    for part in facts["segments"]:
        spent = part["chunk"] + part["header"] + part["embedding"] + part["coder"]
        spent += part["frame_crcs"] + sum(part["layers"].values())
        assert spent == pytest.approx(part["bytes"])
    text = hnv("info", real_file).stdout.decode()
    assert "63x47, 20 frames" in text and "bits per weight" in text


@pytest.mark.slow
def test_outputs_by_name(real_file: Path, tmp_path: Path) -> None:
    from hnervcodec.media.source import VideoSource

    for name in ("x.y4m", "x.mkv", "x.mp4"):
        hnv("decode", real_file, "-o", tmp_path / name, "--frames", "5-9")
        with VideoSource(tmp_path / name) as source:
            assert sum(1 for _ in source.frames()) == 5
    hnv("decode", real_file, "-o", tmp_path / "x.yuv", "--frames", "5-9")
    assert (tmp_path / "x.yuv").stat().st_size == 5 * (63 * 47 + 2 * 32 * 24)
    hnv("decode", real_file, "-o", tmp_path / "%03d.png", "--frames", "5,12")
    assert (tmp_path / "005.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "012.png").exists()
    hnv("decode", real_file, "-o", tmp_path / "x.framemd5")
    assert (tmp_path / "x.framemd5").read_text().startswith("0, ")
    assert not list(tmp_path.glob(".*"))


def test_version_names_what_matters() -> None:
    text = hnv("--version").stdout.decode()
    for word in (
        "hnv ",
        "format 1.1",
        "torch ",
        "PyAV ",
        "constriction",
        "arithmetic",
    ):
        assert word in text


@pytest.mark.slow
def test_help_teaches() -> None:
    from hnervcodec.cli import all_commands

    whole = hnv("--help").stdout.decode()
    for name, command in all_commands().items():
        text = hnv(name, "--help").stdout.decode()
        assert text.startswith(f"Usage: hnv {name}") and len(text.splitlines()) > 5
        assert name == "help" or f"\n  hnv {name} " in text, f"{name} has no example"
        assert command.short_help and f"{name:10}  {command.short_help}" in whole
    for phrase in ("hnv encode in.mp4   ", "Exit codes", "| ffmpeg -i -"):
        assert phrase in hnv("--help").stdout.decode()


def test_messages_are_in_the_words_of_the_command_line() -> None:
    from hnervcodec.cli import as_flags

    said = "choose `bpp` or `audio=none`, go on with `resume=True`, or `discard=True` with `share`"
    flags = "choose --bpp or --audio none, go on with --resume, or -y with --segments"
    assert as_flags(said) == flags
    for name in ("cannot open `x`: gone", "/a/`bpp`.mp4 exists", "`bpp`.mp4 is no video"):
        assert as_flags(name) == name  # what a person wrote stays
    assert as_flags("give the `format`, not `start`") == "give the --format, not --ss"


@pytest.mark.slow
def test_encode_without_options(real_source: Path, tmp_path: Path) -> None:
    """OUT lies beside IN and the quality is the default one, which the first line says; what is
    there already stays."""
    source, output = tmp_path / "in.mkv", tmp_path / "in.hnv"
    source.write_bytes(real_source.read_bytes())
    short = ("--limit", 2, "--preset", "ultrafast", "--threads", 1)
    said = hnv("encode", source, *short).stderr.decode().splitlines()
    assert said[0].startswith(f"{source} -> {output}, at --quality 38 (hnv help rates")
    assert sorted(tmp_path.iterdir()) == [output, source]
    made = output.read_bytes()
    explicit = ("--quality", 38, "-o", tmp_path / "explicit.hnv", *short)
    hnv("encode", source, *explicit)
    assert (tmp_path / "explicit.hnv").read_bytes() == made
    text = error_of(hnv("encode", source, "-q", "--bpp", 1, *short, check=False), 2)
    assert text == f"hnv: {output} exists: use -y to overwrite it\n"
    assert output.read_bytes() == made


# ---------------------------------------------------------------- failures


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Files that are not what they should be."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "text.txt").write_text("hello, this is no video\n" * 50)
    (folder / "empty").write_bytes(b"")
    tone: Args = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "pcm_s16le", folder / "tone.wav"]
    subprocess.run([ffmpeg, "-v", "error", *tone], check=True)
    still: Args = ["-i", EXCERPT, "-frames:v", "1", folder / "still.png"]
    subprocess.run([ffmpeg, "-v", "error", *still], check=True)
    (folder / "noframes.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A0:0 C420jpeg\n")
    return folder


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("missing.hnv", 6, "missing.hnv: No such file"),
        ("text.txt", 3, "text.txt: not a .hnv file"),
        ("still.png", 3, "still.png: not a .hnv file"),
        ("empty", 3, "empty: empty file"),
        (".", 6, "directory"),
    ],
)
def test_decode_of_what_is_not_ours(odd_files: Path, name: str, code: int, message: str) -> None:
    for command in ("decode", "info", "verify"):
        assert message in error_of(hnv(command, odd_files / name, check=False), code)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(8, 2, "format version 2.0"), (10, 9, "unknown profile 9"), (12, 1, "unknown features")],
)
def test_decode_of_the_future(
    small_file: Path, offset: int, value: int, message: str, tmp_path: Path
) -> None:
    from patching import patched

    newer = tmp_path / "newer.hnv"
    newer.write_bytes(patched(small_file.read_bytes(), offset, bytes([value])))
    out = tmp_path / "out.y4m"
    text = error_of(hnv("decode", newer, "-o", out, check=False), 4)
    assert message in text and "newer.hnv" in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("tone.wav", "-o", "x.hnv", "--bpp", "0.1"), 6, "no video stream"),
        (("noframes.y4m", "-o", "x.hnv", "--bpp", "0.1"), 6, "no video frames"),
        (("text.txt", "-o", "x.hnv", "--bpp", "0.1"), 6, "no video stream"),
        (("empty", "-o", "x.hnv", "--bpp", "0.1"), 6, "cannot open"),
        (("missing.mp4", "-o", "x.hnv", "--bpp", "0.1"), 6, "No such file"),
        (("still.png", "-o", "none/x.hnv", "--bpp", "0.1"), 7, "no such folder"),
        (("still.png", "-o", "/proc/x.hnv", "--bpp", "0.1"), 7, "cannot write /proc/x.hnv"),
        (("still.png", "-o", "still.png", "--bpp", "0.1", "-y"), 2, "same file"),
        (("still.png", "-o", "text.txt", "--bpp", "0.1"), 2, "use -y"),
        (("still.png", "-o", "x.hnv", "--bpp", "0"), 2, "0.0 is not in the range"),
        (("still.png", "-o", "x.hnv", "--bpp", "50"), 2, "uncompressed"),
        (("still.png", "-o", "x.hnv", "--bpp", "0.0001"), 2, "smallest network needs"),
        (("still.png", "-o", "x.hnv", "--bpp", "nan"), 2, "nan is not a number"),
        (("still.png", "-o", "x.hnv", "--size", "-3"), 2, "-3"),
        (("-", "--bpp", "1"), 2, "-o OUT is missing"),
        (("%03d.png", "--bpp", "1"), 2, "-o OUT is missing"),
        (("text.txt",), 6, "text.txt"),
        (("still.png", "--bpp", "0.0001", "--dry-run"), 2, "smallest network needs"),
        (("still.png", "-o", "x.hnv", "--bpp", "1", "--size", "3k"), 2, "exactly one of --bpp"),
        (("still.png", "-o", "x.hnv", "--bpp", "1", "--psnr", "30"), 2, "exactly one of --bpp"),
        (("still.png", "-o", "x.hnv", "--psnr", "99"), 2, "not in the range"),
        (("still.png", "-o", "x.hnv", "--psnr", "nan"), 2, "nan is not a number"),
        (("still.png", "-o", "x.hnv", "--quality", "nan"), 2, "nan is not a number"),
        (("still.png", "-o", "x.hnv", "--bpp", "1", "--skip", "4"), 6, "no frames in the selected"),
        (("still.png", "-o", "x.hnv", "--bpp", "1", "--device", "cuda:77"), 2, "not available"),
        (("still.png", "-o", "x.hnv", "--bpp", "1", "--preset", "warp"), 2, "warp"),
    ],
)
@pytest.mark.slow
def test_encode_refuses(
    odd_files: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    before = sorted(odd_files.iterdir())
    quiet = () if "50" in arguments else ("-q",)  # an absurd rate is one line even when not quiet
    text = error_of(hnv("encode", *arguments, *quiet, check=False, cwd=odd_files), code)
    assert message in text
    assert sorted(odd_files.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--frames", "500-600"), 2, "the last frame is 4"),
        (("--frames", "3-1"), 2, "ends before it starts"),
        (("--frames", "x"), 2, "write 7, 10-20"),
        (("--frames", "9:"), 2, "select nothing"),
        (("-o", "x.avi"), 2, "cannot tell a format"),
        (("-o", "x.png"), 2, "do not fit into one PNG"),
        (("-o", "none/x.y4m"), 7, "cannot write"),
        (("-o", "100%.png"), 2, "no pattern"),
        (("-o", "%d_%d.png"), 2, "no pattern"),
        (("--format", "mp4"), 2, "cannot be written to a pipe"),
        (("--device", "cuda:77"), 2, "not available"),
    ],
)
@pytest.mark.slow
def test_decode_refuses(
    small_file: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    run = hnv("decode", small_file, *arguments, check=False, cwd=small_file.parent)
    assert message in error_of(run, code)
    assert run.stdout == b""
    assert [p.name for p in small_file.parent.iterdir()] == ["small.hnv"]


def test_a_cut_file(small_file: Path, tmp_path: Path) -> None:
    """Refused by default; with --recover its intact segments, exit 3 and what is missing."""
    cut = tmp_path / "cut.hnv"
    data = small_file.read_bytes()
    cut.write_bytes(data[: data.rindex(b"SEGM") + 50])
    out = tmp_path / "out.md5"
    error_of(hnv("decode", cut, "-o", out, check=False), 3)
    assert not out.exists()
    run = hnv("decode", cut, "-o", "-", "--format", "framemd5", "--recover", check=False)
    error_of(run, 3)
    whole = hnv("decode", small_file, "--format", "framemd5").stdout
    assert run.stdout.splitlines() == whole.splitlines()[:3]


def test_a_closed_pipe_is_quiet(real_file: Path) -> None:
    command = f"{sys.executable} -m hnervcodec decode {real_file} --frames {'0-19,' * 30}0 -o -"
    script = f"{command} | head -c 100 >/dev/null; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT)
    assert run.stdout == b"141\n" and run.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk(real_file: Path) -> None:
    run = subprocess.run(
        f"{sys.executable} -m hnervcodec decode {real_file} -o - > /dev/full",
        shell=True,
        capture_output=True,
    )
    assert "No space left" in error_of(run, 7)
    run = hnv("decode", real_file, "-o", "/dev/full", "--format", "y4m", check=False)
    assert "cannot write /dev/full: No space left" in error_of(run, 7)


@pytest.mark.parametrize("name", ["y4m", "mkv"])
def test_a_closed_pipe_under_a_name(name: str, real_file: Path) -> None:
    much = "0-19," * 9 + "0"  # more than a pipe holds
    command = f"{sys.executable} -m hnervcodec decode {real_file} -q --frames {much}"
    script = f"{command} -o /dev/stdout --format {name} | head -c 10 >/dev/null"
    run = subprocess.run(["bash", "-c", f"{script}; exit ${{PIPESTATUS[0]}}"], capture_output=True)
    assert (run.returncode, run.stderr) == (141, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_interrupting_an_encode_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "x.hnv"
    rarely = (
        "from hnervcodec import cli; from hnervcodec.fitting import fit_state; "
        "fit_state.INTERVAL = 60; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", rarely, "encode", EXCERPT, "-o", out, "--bpp", "0.08"],
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    assert process.stderr is not None
    while b"sketch" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(number)
    rest = process.communicate(timeout=60)[1].decode()
    assert process.returncode == code
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_import_of_torch(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = ModuleType("torch")
    importing.__spec__ = ModuleSpec("torch", None)
    importing.__spec__._initializing = True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", importing)
    cli._heed(number, None)
    time.sleep(0.2)
    importing.__spec__._initializing = False  # type: ignore[attr-defined]
    expected = Terminated if number == signal.SIGTERM else KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as caught:
        time.sleep(5)
    assert caught.type is expected


@pytest.mark.parametrize(
    "statement",
    [
        # Dataclasses and named tuples are made so, hence an interrupt during a late import may come
        # there, and `python -m` would die of the signal in spite of our exit code.
        "exec('raise KeyboardInterrupt')",
        # The end of an interpreter waits for every thread.
        "threading.Thread(target=threading.Event().wait).start(); raise KeyboardInterrupt",
    ],
)
def test_interrupted_anywhere(statement: str, tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import threading; from hnervcodec import cli; from click import Command\n"
        f"def interrupted(): {statement}\n"
        "cli.cli.add_command(Command('x', callback=interrupted)); cli.main()"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "interrupted", "x"]
    run = subprocess.run(command, capture_output=True, env=env, timeout=60)
    assert (run.returncode, run.stderr.split(b"\n")[-2]) == (130, b"hnv: interrupted")


@pytest.mark.slow
def test_a_file_of_ours_is_no_source(small_file: Path, tmp_path: Path) -> None:
    run = hnv("encode", small_file, "-o", tmp_path / "x.hnv", "--bpp", 1, check=False)
    assert "is a .hnv file already" in error_of(run, 2)


def test_existing_pictures_are_not_overwritten(small_file: Path) -> None:
    pattern = small_file.parent / "%d.png"
    hnv("decode", small_file, "-o", pattern, "--frames", "0-1")
    run = hnv("decode", small_file, "-o", pattern, "--frames", "1-2", check=False)
    assert "1.png exists: use -y" in error_of(run, 2)
    assert not (small_file.parent / "2.png").exists()
    hnv("decode", small_file, "-o", pattern, "--frames", "1-2", "-y")


def test_named_pipes(small_file: Path) -> None:
    """-o to a FIFO, and a .hnv file from one."""
    expected = hnv("decode", small_file, "--format", "framemd5").stdout
    script = (
        f"{sys.executable} -m hnervcodec decode <(cat {small_file}) --format framemd5 -o >(cat)"
    )
    run = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT)
    assert (run.stdout, run.returncode) == (expected, 0), run.stderr


def test_parse_frames() -> None:
    assert list(parse_frames("0, 2-4 ,-1:", 9)) == [0, 2, 3, 4, 8]
    for wrong in ("", "-", "1-", "a", "1::0", "9", "0-9", "--3", "1.5"):
        with pytest.raises(UsageError):
            parse_frames(wrong, 9)


def test_topics() -> None:
    from hnervcodec.commands.help import TOPICS
    from hnervcodec.fitting.presets import PRESETS

    listed = hnv("help").stdout.decode()
    for name, text in TOPICS.items():
        assert f"\n  {name} " in listed
        assert max(map(len, text.splitlines())) <= 80
    assert hnv("help", "random-access").stdout.decode() == TOPICS["random-access"]
    assert "'rates', 'presets'" in error_of(hnv("help", "nothing", check=False), 2)
    for name, preset in PRESETS.items():
        row = rf"{name} +{preset.fit.updates_per_frame} +{preset.limits.macs_per_pixel // 1000}\b"
        assert re.search(row, TOPICS["presets"]), name


def test_examples_in_the_help_use_options_that_exist() -> None:
    from hnervcodec.cli import all_commands, cli
    from hnervcodec.commands.help import TOPICS

    texts = [*TOPICS.values(), *(command.help or "" for command in all_commands().values())]
    known = {"hnv": {o for p in cli.params for o in p.opts}} | {
        name: {o for p in command.params for o in p.opts} | {"--help"}
        for name, command in all_commands().items()
    }
    seen = 0
    for line in re.findall(r"\bhnv (\w+[^\n|]*)", "\n".join(texts)):
        name, *words = line.split(" -- ")[0].split()
        for word in words:
            if name in known and re.fullmatch(r"--?[a-z][a-z-]*", word):
                assert word in known[name], line
                seen += 1
    assert seen > 30


def complete(*words: str, cwd: Path) -> list[str]:
    """What bash offers for the last of `words`."""
    command = cwd / "hnv"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m hnervcodec "$@"\n')
    command.chmod(0o755)
    script = f"""
        PATH=$PWD:$PATH
        complete() {{ :; }}; compopt() {{ offered=files; }}
        source <(hnv completion bash)
        COMP_WORDS=(hnv {" ".join(map(repr, words))}); COMP_CWORD={len(words)}
        _hnv_completion hnv {words[-1]!r}
        printf '%s\\n' "${{COMPREPLY[@]}}" $offered
    """
    run = subprocess.run(["bash", "-c", script], capture_output=True, cwd=cwd, timeout=60)
    assert run.stderr == b""
    return run.stdout.decode().split()


@pytest.mark.slow
def test_completion_in_bash(tmp_path: Path) -> None:
    assert complete("enc", cwd=tmp_path) == ["encode"]
    assert complete("decode", "--f", cwd=tmp_path) == ["--frames", "--fps", "--format"]
    assert complete("decode", "--format", "fr", cwd=tmp_path) == ["framemd5"]
    assert complete("help", "ran", cwd=tmp_path) == ["random-access"]
    assert complete("encode", "in", cwd=tmp_path) == ["files"]
    assert complete("decode", "x.hnv", "-o", "ou", cwd=tmp_path) == ["files"]
    for shell, start in (("zsh", b"#compdef hnv"), ("fish", b"function _hnv_completion")):
        assert hnv("completion", shell).stdout.startswith(start)
    assert "nothing" in error_of(hnv("completion", "nothing", check=False), 2)
