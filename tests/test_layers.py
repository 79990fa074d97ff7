"""The house rules: imports only go down, and reading headers never loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, hnv

PACKAGE = ROOT / "hnervcodec"
# A module may import from rows above its own; within a row nothing imports its neighbour.
ROWS = (
    {"errors", "planes", "frame"},
    {"bitstream"},
    {"entropy", "architecture", "files"},
    {"profiles", "checkpoints"},
    {"syntax"},
    {"container", "segment", "requantization", "metrics", "video"},
    {"native", "kernels", "quantization", "masks", "scenes", "export"},
    {"synthesis"},
    {"network", "analysis", "losses", "decoder", "landing"},
    {"ratecontrol", "dataset", "quality"},
    {"fitting"},
    {"presets"},
    {"encoder"},
    {"cli"},
    {"__main__"},
)
WITHOUT_TORCH = {
    "errors", "bitstream", "planes", "entropy", "architecture", "files", "profiles", "syntax",
    "container", "segment", "requantization", "metrics", "video", "quantization", "cli",
    "native", "synthesis", "decoder", "masks", "scenes", "checkpoints", "export", "frame",
}  # fmt: skip
ONLY_IN = {"constriction": {"entropy"}, "av": {"video"}, "click": {"cli"}, "onnx": {"export"}}


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
    return {name.split(".")[1] for name in names if name.startswith("hnervcodec.")}


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_every_module_has_a_row() -> None:
    assert set().union(*ROWS) == set(modules())


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    row = next(n for n, names in enumerate(ROWS) if module in names)
    below = set().union(*ROWS[:row])
    upwards = ours(imports(PACKAGE / f"{module}.py")) - below
    assert not upwards, f"{module} imports {upwards}, which are not below it"


@pytest.mark.parametrize("module", modules())
def test_nothing_imports_the_package_root(module: str) -> None:
    names = imports(PACKAGE / f"{module}.py")
    roots = {n for n in names if n == "hnervcodec"}
    assert not roots or module == "cli"  # for __version__


@pytest.mark.parametrize(("library", "homes"), ONLY_IN.items())
def test_libraries_stay_in_their_module(library: str, homes: set[str]) -> None:
    users = {
        module for module in modules()
        if any(n.split(".")[0] == library for n in imports(PACKAGE / f"{module}.py"))
    }  # fmt: skip
    assert users == homes


def test_decoder_never_reaches_the_encoder() -> None:
    reached, queue = set(), ["decoder"]
    while queue:
        module = queue.pop()
        if module not in reached:
            reached.add(module)
            queue += ours(imports(PACKAGE / f"{module}.py"))
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
