"""Spans for every test of this folder."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from sskai import telemetry


@pytest.fixture(scope="session", autouse=True)
def traced() -> None:
    """Spans are drawn as in a service: none of them may find its way into a state that events make."""
    trace.set_tracer_provider(TracerProvider(id_generator=telemetry.OwnIds()))
