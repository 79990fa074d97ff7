"""What is loaded when: reading headers never loads torch, and libraries stay in their package."""

import subprocess
import sys
from pathlib import Path

import pytest
from module_imports import PACKAGE, imports_of, modules_of

from hnervcodec.synthesis import native

MODULES = modules_of(PACKAGE)
NEED_TORCH = {
    "api",
    "decoding.dataset",
    "metrics.ms_ssim",
    "synthesis.torch_kernels",
    "benchmark.access_files",
    "benchmark.access_readers",
    "benchmark.access_report",
    "benchmark.access_study",
    "benchmark.access_times",
    "benchmark.frame_quality",
    "benchmark.study",
    "commands.compare_access",
    "fitting.coarser",
    "fitting.first_embeddings",
    "fitting.cores",
    "fitting.fit",
    "fitting.float_phase",
    "fitting.loss",
    "fitting.ms_ssim_kernel",
    "fitting.muon",
    "fitting.quantized_phase",
    "fitting.rate_model",
    "fitting.start_weights",
    "fitting.synthesis_network",
    "fitting.training",
    "fitting.training_kernel",
    "encoding.cluster",
    "encoding.dispatch",
    "encoding.encoder",
    "encoding.inpainting",
    "encoding.local_workers",
    "encoding.many",
    "encoding.remote",
    "encoding.segment_encoder",
    "encoding.session",
    "encoding.shared_start",
    "encoding.start_fit",
}
WITHOUT_TORCH = sorted(MODULES.keys() - NEED_TORCH - {"__main__"})


def libraries_of(module: str) -> set[str]:
    """The packages, ours and others', that a module imports anywhere."""
    import ast

    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("constriction", ("bitstream.range_coding",)),
        ("av", ("media.", "benchmark.other_codecs", "benchmark.access_readers")),
        ("onnx", ("synthesis.onnx_graph",)),
        ("imageio", ("decoding.imageio_plugin",)),
        ("distributed", ("encoding.cluster",)),
        ("click", ("cli", "commands.")),
    ],
)
def test_libraries_stay_at_home(library: str, homes: tuple[str, ...]) -> None:
    users = [module for module in MODULES if library in libraries_of(module)]
    assert users and [module for module in users if not module.startswith(homes)] == []


def test_the_decoder_never_reaches_the_encoder() -> None:
    reached: set[str] = set()
    queue = ["decoding.decoder"]
    while queue:
        module = queue.pop()
        if module not in reached:
            reached.add(module)
            queue += imports_of(MODULES[module], MODULES)
    assert not any(module.startswith(("fitting.", "encoding.")) for module in reached)


@pytest.mark.slow
def test_torch_is_loaded_only_where_it_computes() -> None:
    """All of them in one process, each on a clean slate but for what is not ours."""
    code = (
        "import sys, importlib\n"
        f"for name in {WITHOUT_TORCH!r}:\n"
        "    importlib.import_module('hnervcodec.' + name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("--help",),
        ("encode", "--help"),
        ("help", "rates"),
        ("info", "{file}"),
        ("info", "--json", "{file}"),
        ("join", "{file}", "-o", "{folder}/joined.hnv"),
    ],
    ids=" ".join,
)
def test_commands_without_a_network_load_neither_torch_nor_av(
    words: tuple[str, ...], small_file: Path, tmp_path: Path
) -> None:
    assert heavy_libraries(words, small_file, tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [("verify", "{file}"), ("decode", "{file}", "--frames", "0", "-o", "{folder}/frame.y4m")],
    ids=" ".join,
)
def test_decoding_loads_torch_only_without_the_native_kernel(
    words: tuple[str, ...], small_file: Path, tmp_path: Path
) -> None:
    loaded = heavy_libraries(words, small_file, tmp_path)
    assert ("torch" in loaded) is (native.library() is None)
    assert words[0] == "decode" or "av" not in loaded


def heavy_libraries(words: tuple[str, ...], file: Path, folder: Path) -> list[str]:
    """Which of torch and av are loaded when `hnv` has done what `words` say."""
    command = ["hnv", *(word.format(file=file, folder=folder) for word in words)]
    code = (
        "import atexit, sys; from hnervcodec.cli import main\n"
        f"sys.argv = {command!r}\n"
        "heavy = lambda: [name for name in ('torch', 'av') if name in sys.modules]\n"
        "atexit.register(lambda: print('\\n', *heavy()))\n"
        "main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1].split()


def test_public_names() -> None:
    import hnervcodec

    for name in hnervcodec.__all__:
        assert getattr(hnervcodec, name) is not None
    with pytest.raises(AttributeError):
        hnervcodec.nothing  # noqa: B018
