"""The training step in C beside torch's: the same samples and gradients, also among workers."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.fitting import ms_ssim_kernel, training_kernel, training_library
from hnervcodec.fitting.cores import Cores
from hnervcodec.fitting.synthesis_network import Quantizers, SynthesisNetwork
from hnervcodec.fitting.training_kernel import TrainingKernel
from hnervcodec.metrics import ms_ssim as reference
from hnervcodec.system import kernels

# Channels that fill vectors and that do not, shuffles of every kind, kernels of 1, 3 and 5.
MODELS = (
    ModelConfig(16, 24, (StageConfig(5, 1, 24, 0), StageConfig(2, 3, 12, 2)), 3),
    ModelConfig(3, 5, (StageConfig(2, 5, 7, 1), StageConfig(1, 3, 33, 0)), 5),
)
# Relative errors: of sums of float32 in another order, and of rounded factors. A value near the
# middle between two levels may be rounded to the other one.
NEAR = {kernel: 1e-3 for kernel in training_library.TRAINING}
NEAR[training_library.MULTIPLY_BF16] = 0.05


def quantizers(network: SynthesisNetwork, embedding: Tensor, rounds: bool) -> Quantizers:
    spreads = [weight.std() / 8 for weight in network.weights]
    made = Quantizers(torch.stack([*spreads, embedding.std() / 12]).detach().log())
    hidden = len(network.specs) - 1
    made.gains, made.zero_points, made.round_activations = [2000] * hidden, [20] * hidden, rounds
    return made


def gradients(
    decode: SynthesisNetwork | TrainingKernel, inputs: list[Tensor], rounding: Quantizers | None
) -> list[Tensor]:
    """Of a loss by all of `inputs`, after the samples."""
    used = [tensor.detach().requires_grad_() for tensor in inputs]
    samples: Tensor = decode(used[0], used[1:], rounding)
    slope = torch.randn(samples.shape, generator=torch.Generator().manual_seed(2))
    return [samples.detach(), *torch.autograd.grad(samples, used, slope)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rounding", ["none", "weights", "activations"])
@pytest.mark.parametrize(("threads", "frames"), [(1, 2), (3, 1)])
@pytest.mark.parametrize("one_kernel", NEAR, ids=lambda kernel: kernel.name)
def test_it_computes_what_torch_does(
    model: ModelConfig,
    rounding: str,
    threads: int,
    frames: int,
    one_kernel: kernels.Kernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (lib := next(kernels.loadable([one_kernel]), None)) is None:
        pytest.skip("no compiler for that, or no such processor")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    specs = VideoHeader(70, 50, 1, Fraction(25)).layers(model)
    torch.manual_seed(1)
    network = SynthesisNetwork(specs)
    for bias in network.biases:
        torch.nn.init.normal_(bias, 0, 0.1)
    embedding = torch.randn(frames, model.embed_channels, specs[0].height, specs[0].width)
    q = None if rounding == "none" else quantizers(network, embedding, rounding == "activations")
    x = embedding if q is None else network.embedding_levels(embedding, q)
    inputs = [x, *network.operands(q)]
    cores = Cores(torch.device("cpu"), frames)
    assert cores.workers == threads
    kernel = TrainingKernel(specs, cores, training_kernel.declared(lib))
    expected, ours = gradients(network, inputs, q), gradients(kernel, inputs, q)
    for one, other in zip(expected, ours, strict=True):
        assert (one - other).norm() <= NEAR[one_kernel] * one.norm()
    again = gradients(kernel, inputs, q)  # in the same memory
    assert all(map(torch.equal, ours, again)) and len(kernel.spare) == 1


@pytest.mark.parametrize("size", [(144, 176), (161, 239), (20, 50), (11, 11)])
def test_ms_ssim_and_its_gradient(size: tuple[int, int]) -> None:
    if ms_ssim_kernel.library() is None:
        pytest.skip("no kernel for this processor")
    torch.manual_seed(0)
    b = F.avg_pool2d(torch.rand(2, 1, *(side + 4 for side in size)), 5, 1)
    found = []
    for similarity in (reference.ms_ssim, ms_ssim_kernel.ms_ssim):
        a = (b + 0.05 * torch.randn(b.shape, generator=torch.Generator().manual_seed(1))).clamp(
            0, 1
        )
        a.requires_grad_()
        value = similarity(a, b)
        (slope,) = torch.autograd.grad(3 * value, a)
        found.append((value.detach(), slope))
    torch.testing.assert_close(*(value for value, _ in found), atol=1e-5, rtol=0)
    expected, slope = (slope for _, slope in found)
    assert (slope - expected).abs().max() < 1e-4 * expected.abs().max()


def test_built_with_the_package_it_needs_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As setup.py builds it into a wheel."""
    if not list(kernels.loadable(training_library.TRAINING)):
        pytest.skip("no kernel for this processor")
    kernels.build(training_library.KERNELS, tmp_path)
    monkeypatch.setattr(kernels, "BUILT", tmp_path)
    monkeypatch.setenv("CC", "/nowhere")
    assert list(kernels.loadable(training_library.TRAINING))
    monkeypatch.setattr(kernels, "BUILT", tmp_path / "elsewhere")
    assert not list(kernels.loadable(training_library.TRAINING))
