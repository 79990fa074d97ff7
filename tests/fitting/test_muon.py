"""Our Muon beside torch's, and the number format that ours may choose."""

import pytest
import torch

from hnervcodec.fitting import muon
from hnervcodec.fitting.muon import Muon, orthogonalized


def trained(optimizer: str, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    """Matrices of five shapes, two of one, after four steps from the same gradients."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((16, 144), (64, 40), (24, 24), (64, 40), (5, 63), (250, 7))
    matrices = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    used: torch.optim.Optimizer
    if optimizer == "ours":
        used = Muon(matrices, rate=0.04, decay=0.05, momentum=0.95, dtype=dtype)
    else:
        used = torch.optim.Muon(matrices, lr=0.04, weight_decay=0.05, momentum=0.95)
    for _ in range(4):
        for matrix in matrices:
            matrix.grad = torch.randn(matrix.shape, generator=generator)
        used.step()
    return [matrix.detach() for matrix in matrices]


def test_in_bfloat16_it_is_torchs() -> None:
    for ours, theirs in zip(trained("ours"), trained("torch"), strict=True):
        assert torch.equal(ours, theirs)


def test_in_float32_it_is_nearly_that() -> None:
    for ours, theirs in zip(trained("ours", torch.float32), trained("torch"), strict=True):
        assert (ours - theirs).abs().max() < 0.01 < ours.abs().max()


def test_the_kernel_is_what_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    if muon.library() is None:
        pytest.skip("no C compiler")
    ours = trained("ours", torch.float32)
    monkeypatch.setattr(muon, "library", lambda: None)
    for with_kernel, without in zip(ours, trained("ours", torch.float32), strict=True):
        assert not torch.equal(with_kernel, without)  # in another order
        assert torch.allclose(with_kernel, without, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 144), (64, 40)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_singular_values_come_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 1e-3
    before = matrix.clone()
    values = torch.linalg.svdvals(orthogonalized(matrix, dtype).float())
    assert values.min() > 0.4 and values.max() < 1.4
    assert torch.equal(matrix, before)
