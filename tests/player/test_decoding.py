"""The player's module in Node decodes what the specification's vectors say, and its colours are
`Decoder`'s."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import ROOT
from vectors import repair

from hnervcodec import Decoder

PLAYER = ROOT / "hnervcodec/player"
VECTORS = ROOT / "spec/vectors"
# Node 20 has products of bytes behind a flag, and its first compiler gets them wrong.
BYTES = ("--experimental-wasm-relaxed-simd", "--no-liftoff")
MATRIX, RANGE, SITING = 24 + 16 + 10, 24 + 16 + 7, 24 + 16 + 6  # bytes of VHDR in a file

if not shutil.which("node"):
    pytest.skip("node is not installed", allow_module_level=True)


def node(*arguments: object) -> str:
    command = ["node", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), BYTES], ids=["words", "bytes"])
def test_every_vector(flags: tuple[str, ...]) -> None:
    files = sorted(VECTORS.glob("*/*.hnv"))
    out = node(*flags, ROOT / "tests/player/decode.mjs", PLAYER, *files)
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == len(files)
    for path, (name, result, seconds, megabytes) in zip(files, lines, strict=True):
        facts = json.loads(path.with_suffix(".json").read_text())
        between = [moment["md5"] for moment in facts.get("between", ())]
        assert result == facts.get("error") or result == facts["md5"] + between, name
        if "error" in facts:
            assert seconds < 1 and megabytes < 64, name


def varied(name: str, **bytes_at: int) -> bytes:
    """A vector whose VHDR says something else of the same samples."""
    data = bytearray((VECTORS / f"valid/{name}.hnv").read_bytes())
    places = {"matrix": MATRIX, "full": RANGE, "siting": SITING}
    for key, value in bytes_at.items():
        data[places[key]] = value
    return repair(bytes(data))


def coloured() -> list[bytes]:
    files = [
        varied(f"yuv{chroma}-{depth}bit", full=full)
        for chroma in (400, 420, 422, 444)
        for depth in (8, 10, 12)
        for full in (0, 1)
    ]
    files += [varied("yuv420-8bit", matrix=m) for m in (1, 4, 6, 7, 9, 14)]
    files += [varied(f"yuv444-{depth}bit", matrix=0) for depth in (8, 10, 12)]
    for name in ("yuv420-8bit", "odd-size-420", "one-sample-420", "odd-size-422"):
        files += [varied(name, siting=siting) for siting in (0, 1, 2, 3, 4, 5)]
    return files


@pytest.mark.slow
def test_colours_are_those_of_decoder(tmp_path: Path) -> None:
    files = []
    for n, data in enumerate(coloured()):
        files.append(tmp_path / f"{n}.hnv")
        files[-1].write_bytes(data)
    node(ROOT / "tests/player/colours.mjs", PLAYER, tmp_path / "rgba", *files)
    made, at = np.fromfile(tmp_path / "rgba", np.uint8), 0
    for path in files:
        with Decoder(path, dimension_order="NHWC") as decoder:
            right = decoder[0].numpy()
            facts = decoder.video
        height, width, _ = right.shape
        rgba = made[at : at + 4 * height * width].reshape(height, width, 4)
        at += rgba.size
        assert np.abs(rgba[..., :3].astype(int) - right).max() <= 1, facts
        assert (rgba[..., 3] == 255).all()
    assert at == made.size


def test_kernels_are_what_clang_makes(tmp_path: Path) -> None:
    found = shutil.which("clang-19")
    if (
        not found
        or "19.1.7"
        not in subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    ):
        pytest.skip("clang 19.1.7 is not installed")
    subprocess.run([ROOT / "tools/make_kernels", tmp_path], check=True)
    for name in ("kernel.wasm", "kernel_i8.wasm"):
        assert (tmp_path / name).read_bytes() == (PLAYER / name).read_bytes(), name


def script(text: str, *flags: str, file: Path = VECTORS / "valid/real-bunny.hnv") -> Any:
    """What a script says as JSON, in which `decoder` has the file open, and P is the player."""
    setup = f"""
import {{ readFileSync }} from "node:fs";
const P = await import("{(PLAYER / "hnv.js").as_uri()}");
const {{ Kernel }} = await import("{(PLAYER / "kernel.js").as_uri()}");
const decoder = await P.HnvDecoder.open(new Uint8Array(readFileSync({json.dumps(str(file))})));
"""
    return json.loads(node(*flags, "--input-type=module", "-e", setup + text))


# A server of `file`, with what it says of ranges; how often it is asked is `asked`.
SERVER = """
const file = new Uint8Array(readFileSync(PATH));
let asked = 0, says = null, status = 206, sent = file;
globalThis.fetch = async (url, { headers } = {}) => {
  asked++;
  const range = /bytes=(\\d+)-(\\d+)/.exec(headers?.Range);
  if (!range || status === 200) return new Response(sent);
  if (status === 416) return new Response(null, { status });
  const [first, last] = [Number(range[1]), Math.min(Number(range[2]), sent.length - 1)];
  const told = { "Content-Range": says ?? `bytes ${first}-${last}/${sent.length}` };
  return new Response(sent.subarray(first, last + 1), { status, headers: says === "" ? {} : told });
};
const first = async (change = () => {}) => {
  try {
    const opened = await P.HnvDecoder.open("http://x/");
    change();
    return (await opened.frameBytes(0)).length;
  } catch (error) {
    return error.message;
  }
};
"""


def test_servers_are_as_they_are() -> None:
    path = VECTORS / "valid/real-bunny.hnv"
    told = """
const results = [await first()]; // ranges
for (const header of ["", "bytes */9", "none"]) { // none that is told: the whole file
  says = header;
  results.push(await first());
}
says = null;
results.push(await first(() => { status = 200; })); // no ranges any more
results.push(await first()); // none from the beginning
status = 206;
results.push(await first(() => { sent = file.subarray(0, 9000); })); // another file now
sent = file;
results.push(await first(() => { status = 416; }));
results.push(await first()); // an empty one
console.log(JSON.stringify([results, (await decoder.frameBytes(0)).length]));
"""
    setup = SERVER.replace("PATH", json.dumps(str(path)))
    results, length = script(setup + told, file=path)
    changed = "http://x/ has changed"
    assert results == [length] * 6 + [changed, changed, "no .hnv file"]


def test_moments_are_whole_numbers() -> None:
    told = """
const results = [];
for (const moment of [[0, 1, 2], [0, 0.5, 1], [0, 1, 2.5], [0, NaN, 2], [0.5]]) {
  const made = decoder.frameBytes(...moment);
  results.push(await made.then(({ length }) => length, ({ name }) => name));
}
console.log(JSON.stringify(results));
"""
    length, *refused = script(told)
    assert length > 0 and refused == ["RangeError"] * 4


def test_a_decoder_that_is_closed_while_it_works_keeps_nothing() -> None:
    told = """
const made = decoder.frameBytes(3);
await decoder.close();
console.log(JSON.stringify([(await made).length, decoder.segments.size]));
"""
    length, segments = script(told)
    assert length > 0 and segments == 0


def test_products_of_bytes_are_used_where_they_are_right() -> None:
    asked = "console.log((await Kernel.load()).hasBytes)"
    assert script(asked, *BYTES) is True
    assert script(asked) is False  # without the flag they are not known


def test_a_wrong_checksum_is_tried_again_in_words() -> None:
    spoilt = """
const { network } = await decoder.segment(0), layer = network.layers.find(({ bits }) => bits === 8);
const weight = network.kernel.int32(layer.at, 24)[11];
network.kernel.bytes(weight, 64).fill(0);
await decoder.frameBytes(0); // which throws where it is wrong
console.log(JSON.stringify([network.usesBytes, decoder.fellBack, decoder.bytes]));
"""
    assert script(spoilt, *BYTES) == [True, True, False]


def test_frames_have_their_times() -> None:
    told = """
const times = await decoder.reader.times();
const frames = Array.from({ length: decoder.frameCount }, (_, n) => n);
console.log(JSON.stringify(frames.map((n) => [times.begin(n), times.at(times.begin(n))])));
"""
    for name in ("beside", "real-bunny"):
        path = VECTORS / f"valid/{name}.hnv"
        with Decoder(path) as decoder:
            right = [decoder.get_frame_at(n).pts_seconds for n in range(len(decoder))]
        made = script(told, file=path)
        assert [n for _, n in made] == list(range(len(right)))
        assert [begin for begin, _ in made] == pytest.approx(right)
