"""Makes pages of the player: one file with everything in it, or one that a server completes."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent
# What a page's one script holds, each before those that import it.
MODULES = ("colour", "kernel", "hnv", "worker", "frames", "renderer", "sound", "player")
KERNELS = ("kernel", "kernel_i8")
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_FOR_READERS = re.compile(r"^ *//.*\n|^ +| +// .*$", re.MULTILINE)  # comments and indentation
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)

# Nothing may be loaded from anywhere: the page's own scripts make the workers' from Blobs.
ALONE = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'"
)
SERVED = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'unsafe-inline'; connect-src 'self'"
)

_START_SERVED = """<script type="module">
import {{ startPlayer }} from "/player/player.js";
startPlayer({{
  file: {file},
  startWorker: () => new Worker("/player/worker.js", {{ type: "module" }}),
}});
</script>"""


def script() -> str:
    """All modules as one classic script, for pages and workers, without comments and indentation:
    each a function that gives what it exports. `hnvStart` is player.js's startPlayer."""
    parts = ['"use strict";\n']
    for name in MODULES:
        text = _FOR_READERS.sub("", _text(f"{name}.js"))
        exported = ", ".join(match[2] for match in _EXPORT.finditer(text))
        text = _IMPORT.sub(r"const \1 = $\2;", _EXPORT.sub(r"\1", text))
        text = text.replace("import.meta.url", '""')
        parts.append(f"const ${name} = (() => {{\n{text}return {{ {exported} }};\n}})();\n")
    return "".join(parts) + "globalThis.hnvStart = $player.startPlayer;\n"


def _page(title: str, policy: str, script: str) -> str:
    style = f"<style>\n{_text('player.css')}</style>"
    title = html.escape(title)
    return _filled("player.html", title=title, policy=policy, style=style, script=script)


def _filled(name: str, **fields: str) -> str:
    """A page whose words in double braces are those fields."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match[1]], _text(name))


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def alone(video: bytes, title: str) -> str:
    """A page that needs nothing but itself. video: a `.hnv` file. title: shown above it."""
    parts = {"code": _packed(script().encode()), "video": base64.b64encode(video).decode()}
    parts |= {name: _packed((FOLDER / f"{name}.wasm").read_bytes()) for name in KERNELS}
    held = "".join(
        f'<script type="text/plain" id="{name}">{text}</script>\n' for name, text in parts.items()
    )
    start = f"<script>\n{_FOR_READERS.sub('', _text('alone.js'))}</script>"
    return _page(title, ALONE, held + start)


def served(address: str, title: str) -> str:
    """A page for a server that has the modules under /player and the video at `address`."""
    file = json.dumps(address).replace("<", "\\u003c")
    return _page(title, SERVED, _START_SERVED.format(file=file))


def listing(title: str, body: str) -> str:
    """A page that lists files. body: HTML."""
    return _filled("list.html", title=html.escape(title), body=body)
