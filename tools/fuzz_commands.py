"""See tools/fuzz: every command and output format on files whose fields claim extremes.

    fuzz_commands.py SECONDS [--sources] [--seed N] [--cases N] [--keep FOLDER]

Each case is a sound file with some fields set to extreme values, or its chunks disordered, and all
its checksums right again. Each command runs in a process of its own. What must hold of it: no
signal; an exit code that errors.py names; one line for an error, in our own words; processor time
and memory that the file's size allows; success only for what the reference decoder accepts.
`serve` is asked for its list, its page and parts of the file, and for what makes no sense.
With --sources each case is a damaged video, and the commands are those that take one; what they
write must pass `hnv verify`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

# One thread, as those that a library has started do not live on in a forked process, which would
# wait for them.
os.environ["OMP_NUM_THREADS"] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "spec"), str(ROOT / "tools"), str(ROOT / "tools/vector_files")]

import beside  # noqa: E402
import damaged_sources  # noqa: E402
import fuzzing  # noqa: E402
from vectors import Chunks, join, make_file, make_video, random_segment, repair, split  # noqa: E402

from hnervcodec import cli  # noqa: E402
from hnervcodec.bitstream.fields import ByteWriter  # noqa: E402
from hnervcodec.decoding import decoder, selection  # noqa: E402
from hnervcodec.media import outputs  # noqa: E402
from hnervcodec.player import server  # noqa: E402

LOADED_ONCE = decoder, selection, outputs, server  # before the processes

SECONDS, SECONDS_PER_MEGABYTE, MEBIBYTES = 1.0, 1.0, 512
ENCODER_SECONDS = 4.0  # what starting libx264 or an AV1 encoder takes
SLOWNESS = 4  # of a busy processor
HANGS_AFTER = 600  # seconds, on a busy machine
EXIT_CODES = (0, 2, 3, 4, 5, 7)
UNREADABLE = 6  # the exit code for a source
# Words of Python's, numpy's and libav's that no user should read.
FOREIGN = (
    "Traceback",
    "Errno",
    "too large to convert",
    "int too",
    "NoneType",
    "Fraction(",
    "numpy",
    "avcodec",
    "index out of range",
    "division",
    " object",
    "float",
)
EXTREMES = (0, 1, 2, 3, 5, 9, 10, 22, 255)

# Where the fields of a payload are: offset, bytes.
DESCRIBING = [(8, 1), (9, 1), (10, 1), (16, 4), (20, 4)]  # without changing samples
FIELDS = {
    b"VHDR": [(0, 2), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1), (24, 4), *6 * DESCRIBING],
    b"SEGM": [(0, 4), (4, 2), (6, 2), (8, 2), (10, 1), (11, 1), (12, 1), (13, 2), (15, 1)],
    b"INDX": [(0, 4), (4, 8), (12, 4), (16, 4), (20, 2)],
    b"HEND": [(0, 8), (8, 4)],
    b"dISP": [(0, 1), (1, 1), (3, 2), (5, 2), (19, 4), (23, 4), (28, 2), (30, 2)],
    b"tIME": [(0, 4), (4, 4)],
    b"sTRM": [(7, 4), (11, 4), (18, 4), (22, 1), (23, 1)],
    b"pKTS": [(0, 1)],
}

FORMATS = ("y4m", "yuv", "npy", "framemd5", "mkv", "mp4", "mov", "webm", "gif")
DECODE = ("decode", "{file}", "-y", "-q", "-o")
COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("info", "{file}"),
    "json": ("info", "--json", "{file}"),
    "verify": ("verify", "{file}"),
    "join": ("join", "{file}", "{file}", "-y", "-o", "{out}.hnv"),
    "join sound": ("join", "{sound}", "{file}", "-y", "-o", "{out}.hnv"),
    "metrics": ("metrics", "{file}", "{file}"),
    "frame": (*DECODE, "{out}.png", "--frames", "0"),
    "recover": (*DECODE, "{out}.mkv", "--recover"),
    "recover slow": (*DECODE, "{out}.y4m", "--recover", "--slow-motion", "3"),
    "fps": (*DECODE, "{out}.mkv", "--fps", "10"),
    "png": (*DECODE, "{out}%05d.png"),
    "export": ("export", "{file}", "-y", "-o", "{out}.onnx"),
    "page": ("export", "{file}", "-y", "-o", "{out}.html"),
    "serve": ("serve", "{folder}"),  # see served
    "play": ("play", "{file}", "-q"),  # in a player without a window: see without_window
    **{name: (*DECODE, f"{{out}}.{name}") for name in FORMATS},
}
WHOLE = {"verify", "png", *FORMATS}
ANY_VIDEO = {
    "info",
    "json",
    "verify",
    "yuv",
    "npy",
    "framemd5",
    "png",
    "frame",
}  # holds any of ours

FIT = ("--bpp", "4", "--preset", "ultrafast")  # at least what the smallest network takes
FITTING_SECONDS = 30
SOURCE_COMMANDS: dict[str, tuple[str, ...]] = {
    "encode": ("encode", "{source}", "-y", "-q", "-o", "{out}.hnv", *FIT),
    "encode mask": ("encode", "{source}", "--mask", "{mask}", "-y", "-q", "-o", "{out}.hnv", *FIT),
    "inpaint": ("inpaint", "{source}", "--mask", "{mask}", "-y", "-q", "-o", "{out}.mkv", *FIT),
    "compare": ("compare", "{source}", "-q", "-o", "{out}", "--codecs", "hnv,x264", *FIT),
}
SAYS_WHAT_IT_WROTE = {"join", "join sound", "export", "page"}
ENCODERS = {"mp4", "mov", "webm", "gif", "mkv", "recover", "fps", "metrics"}


# ---------------------------------------------------------------- cases


def extreme(rng: random.Random, size: int) -> bytes:
    most = (1 << 8 * size) - 1
    value = rng.choice(
        (*EXTREMES, most, most - 1, most >> 1, (most >> 1) + 1, rng.randint(0, most))
    )
    return min(value, most).to_bytes(size, "little")


def number(rng: random.Random, bits: int) -> int:
    most = (1 << bits) - 1
    return rng.choice((0, 1, 2, 3, 1000, most, most - 1, most >> 1, rng.randint(0, most)))


def times(rng: random.Random, payload: bytes) -> bytes:
    w = ByteWriter()
    w.raw(payload[:8])
    w.uv(number(rng, rng.choice((3, 20, 54, 54))))
    for run in rng.choice(((3,), (3,), (1, 2), (1, 1, 1), (2, 1), (2,))):
        w.uv(run)
        w.uv(number(rng, rng.choice((2, 12, 32))) or 1)
    return w.getvalue()


def packets(rng: random.Random) -> bytes:
    w = ByteWriter()
    w.u8(rng.choice((0,) * 9 + (1, 255)))
    count = rng.choice((1, 2, 5, 5, 2000))
    w.uv(count if rng.random() < 0.95 else number(rng, 32))
    size = rng.choice((0, 0, 1, 7))
    for n in range(count):
        w.uv(number(rng, rng.choice((2, 20, 54))) if n < 5 and rng.random() < 0.4 else 0)
        w.uv(number(rng, rng.choice((2, 12, 32))) if n < 5 else 1)
        w.uv(size)
    w.raw(bytes(count * size))
    return w.getvalue()


def mutate_payload(rng: random.Random, kind: bytes, payload: bytes) -> bytes:
    if kind == b"tIME" and rng.random() < 0.6:
        payload = times(rng, payload)
    if kind == b"pKTS" and rng.random() < 0.8:
        return packets(rng)
    changed = bytearray(payload)
    if kind == b"VHDR" and rng.random() < 0.2:
        changed[12:16] = b"".join(max(b"\1\0", extreme(rng, 2)) for _ in range(2))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.1 and changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
            continue
        at, size = rng.choice(FIELDS.get(kind, [(0, 1)]))
        if at + size <= len(changed):
            changed[at : at + size] = extreme(rng, size)
    return bytes(changed)


def mutate_structure(rng: random.Random, chunks: Chunks) -> None:
    n = rng.randrange(len(chunks))
    match rng.choice(("drop", "repeat", "move", "rename", "add", "many")):
        case "drop":
            del chunks[n]
        case "repeat":
            chunks[n:n] = [chunks[n]] * rng.choice((1, 1, 70))
        case "move":
            chunks.insert(rng.randrange(len(chunks)), chunks.pop(n))
        case "rename":
            chunks[n] = rng.choice((b"SEGM", b"tIME", b"dISP", b"ABCD", b"abcd")), chunks[n][1]
        case "add":
            kind = rng.choice((b"tIME", b"dISP", b"sTRM", b"pKTS"))
            chunks.insert(n, (kind, rng.choice((packets(rng), beside.payload_of(kind)))))
        case _:
            chunks[n:n] = [(b"teST", b"")] * 3000


def case_of(rng: random.Random, seeds: list[bytes]) -> bytes:
    prefix, chunks = split(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not chunks or rng.random() < 0.1:
            break
        if rng.random() < 0.1:
            mutate_structure(rng, chunks)
            continue
        weights = [6 if kind[:1].islower() or kind == b"VHDR" else 1 for kind, _ in chunks]
        n = rng.choices(range(len(chunks)), weights)[0]
        chunks[n] = chunks[n][0], mutate_payload(rng, *chunks[n])
    data = join(prefix, chunks, relocate=rng.random() < 0.9)
    if rng.random() < 0.1:
        data = data[: rng.randrange(24, len(data) + 1)]
        data = repair(data) if rng.random() < 0.5 else data
    return data


def seed_files() -> list[bytes]:
    files = [path.read_bytes() for path in sorted((ROOT / "spec/vectors/valid").glob("*.hnv"))]
    files = [data for data in files if len(data) < 3000 and data[11] == fuzzing.LEVEL]
    video = make_video(16, 16)
    plain = make_file(video, [random_segment(video, 2, seed=5)])
    prefix, chunks = split(beside.file_with(beside.EXTRAS))
    in_two = [n for n, (kind, _) in enumerate(chunks) if kind == b"SEGM"]
    side_data = [chunk for chunk in chunks[: in_two[1]] if chunk[0][:1].islower()]
    _, (header, part, *rest) = split(make_file(make_video(), [random_segment(make_video(), 3)]))
    single = join(prefix, [header, *side_data[:2], part, *side_data[2:], *rest])
    return [*files, *[single] * len(files), *[plain, beside.file_with(beside.EXTRAS)] * 9]


# ---------------------------------------------------------------- running


@dataclass(frozen=True)
class Run:
    status: int  # of the process: an exit code, or the negative number of a signal
    said: str
    seconds: float
    mebibytes: float


def in_process(work: Callable[[], int], folder: Path, limit: float) -> Run:
    """`work` in a process of its own, which takes what it changes with it."""
    log = folder / "stderr"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.alarm(HANGS_AFTER)  # for what waits and takes no processor time
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))
            for number, path in ((0, os.devnull), (1, os.devnull), (2, log)):
                flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if number == 2 else 0)
                os.dup2(os.open(path, flags, 0o600), number)
            code = work()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    said = log.read_text(errors="replace") if log.exists() else ""
    code = os.waitstatus_to_exitcode(status)
    return Run(code, said, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def without_window(folder: Path) -> None:
    """An ffplay that reads all that it is given, before any other in PATH."""
    folder.mkdir()
    player = folder / "ffplay"
    player.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    player.chmod(0o700)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def command(words: list[str]) -> int:
    sys.argv = ["hnv", *words]
    cli.main()


# Ranges, methods and whole requests that a server may be asked for.
ODD_RANGES = "bytes=0-", "bytes=5-4", "bytes=-5", "bytes=0-0,2-3", "bytes=9" + "9" * 30, "x", ""
ODD_REQUESTS = (
    b"POST / HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /files/../file.hnv HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /files/%ff%00.hnv HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET //[/file.hnv HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: {host}\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    b"\x16\x03\x01\x00\xff\r\n\r\n",
)
ANSWERS = {200, 206, 302, 400, 403, 404, 405, 414, 416, 431, 505}


class ServerUnderTest(server.PlayerServer):
    """One that tells what goes wrong in it."""

    def handle_error(self, *_: object) -> None:
        traceback.print_exc()
        os._exit(99)


def answer_to(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """(status, body) of an answer to the end of the connection; 0 for none."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def served(folder: Path, data: bytes) -> int:
    """Asks a server of `folder`, which holds `data` as file.hnv, as browsers and others might."""
    rng = random.Random(data)
    with ServerUnderTest(folder) as asked:
        Thread(target=asked.serve_forever, daemon=True).start()
        address = server.HOST, asked.server_port
        host = f"{server.HOST}:{asked.server_port}"

        def get(path: str, *headers: str) -> tuple[int, bytes]:
            lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
            return answer_to(address, "\r\n".join(lines).encode())

        status, listing = get("/")
        assert status == 200 and b"file.hnv" in listing, listing
        assert get("/play/file.hnv")[0] == 200
        assert get("/files/file.hnv") == (200, data)
        first = rng.randrange(len(data) + 2)
        last = rng.randrange(first, len(data) + 3)
        part = get("/files/file.hnv", f"Range: bytes={first}-{last}")
        right = (206, data[first : last + 1]) if first < len(data) else (416, b"")
        assert part == right, (first, last, part[0])
        assert get("/files/file.hnv", f"Range: {rng.choice(ODD_RANGES)}")[0] in ANSWERS
        request = rng.choice(ODD_REQUESTS).replace(b"{host}", host.encode())
        # What names no version gets no status: to HTTP/0.9.
        assert answer_to(address, request)[0] in {0, *ANSWERS}, request[:80]
    return 0


OUTCOMES = {"valid": 20, "refused": 21, "large": 22}


def expectation(data: bytes, folder: Path) -> tuple[str, str]:
    """(outcome, complaint): what the reference decoder and the library make of it."""
    run = in_process(lambda: OUTCOMES[fuzzing.check(data)], folder, 60)
    for outcome, code in OUTCOMES.items():
        if run.status == code:
            return outcome, ""
    return "unknown", f"the library ends with {run.status}: {run.said.strip()[-1000:]}"


def errors_of(run: Run) -> list[str]:
    return [line for line in run.said.splitlines() if line and not line.startswith("note: ")]


def ill_mannered(run: Run, exit_codes: tuple[int, ...]) -> str:
    """What no command may do, whatever it is given."""
    errors = errors_of(run)
    if run.status not in exit_codes:
        return f"exit code {run.status}"
    if foreign := [word for word in FOREIGN if word in run.said]:
        return f"foreign words {foreign}"
    if run.status and (len(errors) != 1 or not errors[0].startswith("hnv: ")):
        return f"{len(errors)} lines for an error"
    return ""


def source_complaint(name: str, run: Run) -> str:
    """What is wrong with a run on a damaged video; "" if nothing is."""
    if wrong := ill_mannered(run, (*EXIT_CODES, UNREADABLE)):
        return wrong
    if run.seconds > SLOWNESS * FITTING_SECONDS:
        return f"{run.seconds:.1f} s"
    if run.status == 0 and errors_of(run) and name != "compare":  # which says what it measured
        return "says something else than a note"
    return ""


def complaint(name: str, run: Run, outcome: str, size: int) -> str:
    """What is wrong with a run; "" if nothing is."""
    errors = errors_of(run)
    limit = SECONDS + SECONDS_PER_MEGABYTE * size / 1e6 + ENCODER_SECONDS * (name in ENCODERS)
    if wrong := ill_mannered(run, EXIT_CODES):
        return wrong
    if run.status == 0 and errors and name not in SAYS_WHAT_IT_WROTE:
        return "says something else than a note"
    if outcome != "large" and run.seconds > SLOWNESS * limit:
        return f"{run.seconds:.1f} s"
    if run.mebibytes > MEBIBYTES:
        return f"{run.mebibytes:.0f} MiB"
    if outcome == "refused" and name in WHOLE and run.status == 0:
        return "success with what the reference decoder refuses"
    if outcome == "valid" and name in ANY_VIDEO and run.status:
        return "refuses what the reference decoder accepts"
    return ""


def mask_of(rng: random.Random) -> bytes:
    """Boxes in JSON; one in two is odd or damaged."""
    keys = ("x", "y", "width", "height", "first", "last")
    odd: tuple[object, ...] = (-1, 0, 10**30, 0.5, "1", None, True, [], float("inf"))
    boxes: list[dict[str, object]] = [
        {key: rng.randrange(1, 40) for key in keys} for _ in range(rng.choice((1, 1, 3)))
    ]
    if rng.random() < 0.3:
        rng.choice(boxes)[rng.choice(keys)] = rng.choice(odd)
    data = bytearray(json.dumps(boxes).encode())
    if rng.random() < 0.2:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@dataclass(frozen=True)
class Case:
    """One input, and what was found with it: (command, what is wrong, what was said)."""

    data: bytes
    outcome: str
    runs: list[Run]
    wrongs: list[tuple[str, str, str]]


def run_command(words: tuple[str, ...], places: dict[str, Path], limit: float) -> Run:
    filled = [word.format(**places) for word in words]
    if words[0] == "serve":
        data = (places["folder"] / "file.hnv").read_bytes()
        return in_process(lambda: served(places["folder"], data), places["out"].parent, limit)
    return in_process(lambda: command(filled), places["out"].parent, limit)


def file_cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    seeds = seed_files()
    places = {name: folder / name for name in ("sound", "out")}
    places["folder"] = folder / "served"
    places["folder"].mkdir()
    places["file"] = places["folder"] / "file.hnv"
    places["sound"].write_bytes(beside.file_with(beside.EXTRAS))
    while True:
        data = case_of(rng, seeds)
        outcome, wrong = expectation(data, folder)
        wrongs, runs = [("library", wrong, "")] if wrong else [], []
        names = list(COMMANDS) if outcome != "large" else ["info", "json"]
        for chosen in rng.sample(names, min(5, len(names))):
            places["file"].write_bytes(data)
            runs.append(run := run_command(COMMANDS[chosen], places, 60))
            if wrong := complaint(chosen, run, outcome, len(data)):
                wrongs.append((chosen, wrong, run.said.strip()[-300:]))
        yield Case(data, outcome, runs, wrongs)


def source_cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    kinds = [(c, codec) for c, codecs in damaged_sources.CARRIERS.items() for codec in codecs]
    places = {name: folder / name for name in ("source", "out")}
    places["mask"] = folder / "mask.json"
    while True:
        carrier, codec = rng.choice(kinds)
        path = damaged_sources.make(folder, carrier, codec, frames=3)
        data, _ = damaged_sources.damage(path.read_bytes(), rng, carrier)
        path.unlink()
        places["source"].write_bytes(data)
        places["mask"].write_bytes(mask_of(rng))
        chosen = rng.choice(list(SOURCE_COMMANDS))
        run = run_command(SOURCE_COMMANDS[chosen], places, SLOWNESS * FITTING_SECONDS)
        wrong = source_complaint(chosen, run)
        encoded = folder / "out.hnv"
        if not wrong and encoded.exists():
            verified = run_command(COMMANDS["verify"], {**places, "file": encoded}, 60)
            wrong = "wrote what does not verify" if verified.status else ""
        wrongs = [(chosen, wrong, run.said.strip()[-300:])] if wrong else []
        yield Case(data, "refused" if run.status else "read", [run], wrongs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--sources", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--cases", type=int, default=1 << 62)
    parser.add_argument("--keep", type=Path, help="a folder for the files that broke something")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    found, outcomes, runs = Counter[str](), Counter[str](), list[Run]()
    stop, told = time.monotonic() + options.seconds, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        without_window(folder / "bin")
        for case in (source_cases if options.sources else file_cases)(rng, folder):
            outcomes[case.outcome] += 1
            runs += case.runs
            for chosen, wrong, said in case.wrongs:
                found[f"{chosen}: {wrong.splitlines()[-1][:80]}"] += 1
                print(f"{chosen}: {wrong}\n    {said}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / str(found.total())).write_bytes(case.data)
            for left in folder.glob("out*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            if time.monotonic() > told + 60:
                told = time.monotonic()
                print(f"{len(runs)} runs, {dict(outcomes)}, {found.total()} findings", flush=True)
            if outcomes.total() >= options.cases or time.monotonic() > stop:
                break
    print(
        f"{len(runs)} runs of {outcomes.total()} inputs {dict(outcomes)}; at most "
        f"{max(run.seconds for run in runs):.1f} s and {max(run.mebibytes for run in runs):.0f} MiB"
    )
    for text, times_found in found.most_common():
        print(f"{times_found:6} {text}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
