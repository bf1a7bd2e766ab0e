"""Real parts that are built first, once per session; without what they are built with their tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real.kubernetes import Kubernetes
from tests.real.namespace import Namespace
from tools.goparts import GoPartError


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Kubernetes]:
    """A control plane without nodes."""
    try:
        with Kubernetes.start() as plane:
            yield plane
    except GoPartError as missing:
        pytest.skip(f"Kubernetes is not built here: {missing}")


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> Iterator[Namespace]:
    """An empty one, as docs/operations.md asks for it."""
    made = Namespace(kubernetes)
    yield made
    made.remove()
