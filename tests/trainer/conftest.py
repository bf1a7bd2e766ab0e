"""The tiny model, once per session, and torch as the other tests found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_model


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of base models with one in it: `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model.build(folder / "tiny")
    return folder


@pytest.fixture
def torch_as_before() -> Iterator[None]:
    """An attempt in this process makes torch deterministic; other tests measure it otherwise."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
