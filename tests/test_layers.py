"""The house rules: imports only go down, and reading headers never loads torch."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT, hnv

PACKAGE = ROOT / "hnervcodec"
# A module may import from rows above its own; within a row nothing imports its neighbour.
ROWS = (
    {"errors", "planes", "frame", "plots"},
    {"bitstream"},
    {"entropy", "architecture", "files", "tables", "apart"},
    {"profiles", "checkpoints"},
    {"syntax", "ancillary"},
    {"timing"},
    {"container", "segment", "requantization", "metrics", "libav", "matroska", "selection"},
    {"reader"},
    {
        "native",
        "kernels",
        "quantization",
        "video",
        "packets",
        "extras",
        "encodings",
        "scenes",
        "export",
        "classical",
    },
    {"synthesis", "masks", "presentation"},
    {"sinks", "libav_sink"},
    {"carriers"},
    {"network", "analysis", "losses", "decoder", "landing", "vmaf"},
    {"ratecontrol", "dataset", "quality", "imageio_plugin", "footage"},
    {"fitting"},
    {"presets"},
    {"plan", "joining"},
    {"segment_encoder", "rate", "work", "given"},
    {"encoder"},
    {"cluster", "api", "comparison"},
    {"commands.options", "commands.files", "commands.progress"},
    {"commands.where"},
    {
        "commands.encode",
        "commands.decode",
        "commands.info",
        "commands.metrics",
        "commands.export",
        "commands.play",
        "commands.help",
        "commands.completion",
        "commands.join",
    },
    {"commands.inpaint", "commands.compare"},
    {"cli"},
    {"__main__"},
)


@cache
def modules() -> list[str]:
    """`fitting`, `commands.encode` and so on."""
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(p.with_suffix("").parts) for p in paths if p.stem != "__init__")


WITHOUT_TORCH = {
    "errors", "bitstream", "planes", "entropy", "architecture", "files", "profiles", "syntax",
    "container", "segment", "requantization", "metrics", "libav", "video", "encodings", "sinks",
    "libav_sink", "carriers", "selection",
    "ancillary", "timing", "reader", "matroska", "packets", "extras", "presentation",
    "quantization", "cli",
    "native", "synthesis", "decoder", "masks", "vmaf", "scenes", "checkpoints", "export", "frame",
    "tables", "apart", "classical", "plots", "imageio_plugin",
    *(module for module in modules() if module.startswith("commands.")),
}  # fmt: skip
ONLY_IN = {
    "constriction": {"entropy"},
    "av": {"libav", "video", "encodings", "sinks", "libav_sink", "classical", "packets"},
    "onnx": {"export"},
    "imageio": {"imageio_plugin"},
}


def imports(path: Path) -> set[str]:
    """Full names a module imports anywhere, also lazily or for type checking."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert getattr(node, "level", 0) == 0, f"{path} has a relative import"
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(names: set[str]) -> set[str]:
    return {
        module for module in modules()
        if any(f"{name}.".startswith(f"hnervcodec.{module}.") for name in names)
    }  # fmt: skip


def file_of(module: str) -> Path:
    return (PACKAGE / module.replace(".", "/")).with_suffix(".py")


def test_every_module_has_a_row() -> None:
    assert set().union(*ROWS) == set(modules())


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    row = next(n for n, names in enumerate(ROWS) if module in names)
    below = set().union(*ROWS[:row])
    upwards = ours(imports(file_of(module))) - below
    assert not upwards, f"{module} imports {upwards}, which are not below it"


@pytest.mark.parametrize("module", modules())
def test_nothing_imports_the_package_root(module: str) -> None:
    names = imports(file_of(module))
    roots = {n for n in names if n == "hnervcodec"}
    assert not roots or module in ("cli", "work", "commands.compare")  # for __version__


@pytest.mark.parametrize(("library", "homes"), ONLY_IN.items())
def test_libraries_stay_in_their_module(library: str, homes: set[str]) -> None:
    users = {
        module for module in modules()
        if any(n.split(".")[0] == library for n in imports(file_of(module)))
    }  # fmt: skip
    assert users == homes


def test_only_the_command_line_knows_click() -> None:
    users = {m for m in modules() if any(n.startswith("click") for n in imports(file_of(m)))}
    assert all(module == "cli" or module.startswith("commands.") for module in users)


def test_decoder_never_reaches_the_encoder() -> None:
    reached, queue = set(), ["decoder"]
    while queue:
        module = queue.pop()
        if module not in reached:
            reached.add(module)
            queue += ours(imports(file_of(module)))
    assert not reached & {"fitting", "analysis", "ratecontrol", "encoder", "network", "presets"}


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH))
def test_torch_is_not_loaded(module: str) -> None:
    code = f"import sys, hnervcodec.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_info_does_not_load_torch(small_file: Path) -> None:
    run = hnv("info", small_file, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert b"constriction" in run.stderr and b"torch" not in run.stderr


def test_public_names() -> None:
    import hnervcodec

    for name in hnervcodec.__all__:
        assert getattr(hnervcodec, name) is not None
    with pytest.raises(AttributeError):
        hnervcodec.nothing  # noqa: B018
