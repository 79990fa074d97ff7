"""The package's modules and what they import, read from their source."""

from __future__ import annotations

import ast
from pathlib import Path

from running import ROOT

PACKAGE = ROOT / "hnervcodec"


def modules_of(package: Path) -> dict[str, Path]:
    """Each module's file by its name below the package, such as `bitstream.fields`."""
    paths = {p.relative_to(package).with_suffix(""): p for p in package.rglob("*.py")}
    return {".".join(name.parts): p for name, p in paths.items() if name.name != "__init__"}


def names_imported(path: Path) -> set[str]:
    """Full names of all that a file imports anywhere, also lazily or for type checking."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Those of `modules` that a file imports."""
    names = names_imported(path)
    return {m for m in modules if any(f"{n}.".startswith(f"hnervcodec.{m}.") for n in names)}


def rooms_of(path: Path) -> set[str]:
    """What a file imports right below the package: `bitstream`, `errors`; "" is the package
    itself, and a name such as `Decoder` is one that the package looks up in any room."""
    names = (name.split(".") for name in names_imported(path))
    return {"".join(name[1:2]) for name in names if name[0] == "hnervcodec"}
