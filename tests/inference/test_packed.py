"""Linear layers in oneDNN's layout: the numbers of torch's own, and where they are used at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from services.inference import packed
from sskai import processor


def layers(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Sequential(nn.Linear(40, 7, bias=False))).to(dtype)


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(processor, "CPU_INFO", info)
    return info


@pytest.mark.parametrize("shape", [(1, 24), (1, 1, 24), (1, 33, 24), (2, 3, 24)])
def test_the_numbers_are_torchs(amd: Path, shape: tuple[int, ...]) -> None:
    model, given = layers(), torch.randn(shape)
    with torch.inference_mode():
        expected, weight = model(given), model[0].weight.clone()
        packed.pack(model)
        assert isinstance(model[0], packed.PackedLinear)
        assert isinstance(model[2][0], packed.PackedLinear)
        torch.testing.assert_close(model(given), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(packed.plain_weight(model[0]), weight)


@pytest.mark.parametrize("told", ["vendor_id\t: GenuineIntel\n", "no maker is told\n", None])
def test_elsewhere_torch_multiplies_by_itself(amd: Path, told: str | None) -> None:
    amd.write_text(told) if told else amd.unlink()
    model = layers()
    packed.pack(model)
    assert type(model[0]) is nn.Linear


def test_shorter_numbers_stay_as_they_are(amd: Path) -> None:
    model = layers(torch.bfloat16)
    packed.pack(model)
    assert type(model[0]) is nn.Linear
