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


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Those of `modules` that a file imports anywhere, also lazily or for type checking."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {m for m in modules if any(f"{n}.".startswith(f"hnervcodec.{m}.") for n in names)}
