"""Linear layers by oneDNN: outputs and gradients are torch's own, and they are used where they should be."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from services.trainer import products
from sskai import processor


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(processor, "CPU_INFO", info)
    return info


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (24,), (0, 24)])
@pytest.mark.parametrize("frozen", [(), ("weight",), ("weight", "bias")])
def test_outputs_and_gradients_are_torchs(
    amd: Path, shape: tuple[int, ...], frozen: tuple[str, ...], *, bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(24, 40, bias=bias)
    for name, parameter in plain.named_parameters():
        parameter.requires_grad_(name not in frozen)
    quick = copy.deepcopy(plain)
    products.quicken(quick)
    assert isinstance(quick, products.OneDnnLinear)
    assert quick.state_dict().keys() == plain.state_dict().keys()
    told = []
    for layer in (plain, quick):
        given = torch.linspace(-1, 1, 24).expand(shape).clone().requires_grad_()
        output = layer(given)
        (output * torch.linspace(0, 1, 40)).sum().backward()
        told.append([output, given.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad])
    for expected, found in zip(*told, strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_twice_gives_the_same_bits(amd: Path) -> None:
    torch.manual_seed(0)
    layer, given, pulled = nn.Linear(64, 48), torch.randn(7, 64), torch.randn(7, 48)
    products.quicken(layer)
    told = []
    for _ in range(2):
        layer.zero_grad()
        layer(given).backward(pulled)
        told.append(layer.weight.grad.clone())
    assert torch.equal(*told)


def test_other_numbers_are_computed_by_torch(amd: Path) -> None:
    layer = nn.Linear(8, 8).double()
    expected = layer(torch.ones(2, 8).double())
    products.quicken(layer)
    assert torch.equal(layer(torch.ones(2, 8).double()), expected)


@pytest.mark.parametrize("told", ["vendor_id\t: GenuineIntel\n", "no maker is told\n", None])
def test_elsewhere_nothing_changes(amd: Path, told: str | None) -> None:
    amd.write_text(told) if told else amd.unlink()
    layer = nn.Linear(8, 8)
    products.quicken(layer)
    assert type(layer) is nn.Linear
