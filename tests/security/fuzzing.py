"""Schemathesis against a running application: what it sent, and what it found wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import EngineFinished, FatalError, NonFatalError, ScenarioFinished

# Refusals that a schema cannot express (a dataset that nobody has) are 422 or 409 here, as they are documented.
REFUSALS = ["2xx", "400", "401", "403", "404", "409", "412", "413", "415", "422", "429", "503"]
QUICK = ("fuzzing", "stateful")
ALL = ("examples", "coverage", *QUICK)
# A stream that ends with its reader alone; and what could revoke the key that asks.
LEFT_OUT = ("GET /v1/events", "DELETE /v1/keys/{key_id}")


@dataclass
class Found:
    """`failures`: by operation and what was wrong, with one example each."""

    requests: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    seconds: float = 0.0


def fuzz(url: str, headers: dict[str, str], *, seed: int, examples: int, phases: tuple[str, ...] = QUICK) -> Found:
    """Every operation of the document at `url`, `examples` times in each phase. Blocks. The same seed asks the same."""
    config = SchemathesisConfig.from_dict(_config(headers, seed, examples, phases))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    found = Found()
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            _take(found, event)
        elif isinstance(event, (NonFatalError, FatalError)):
            found.failures[getattr(event, "label", ""), "error"] = repr(getattr(event, "value", event))
        elif isinstance(event, EngineFinished):
            found.seconds = event.running_time
    return found


def _config(headers: dict[str, str], seed: int, examples: int, phases: tuple[str, ...]) -> dict[str, Any]:
    return {
        "seed": seed,
        "headers": headers,
        "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
        "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
        "checks": {
            "positive_data_acceptance": {"expected-statuses": REFUSALS},
            # A part that is away or busy is no bug of the gateway's; `Found.statuses` counts these.
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
        },
        "continue-on-failure": True,
        "request-timeout": 30,
        "max-stream-events": 1,
        "suppress-health-check": ["all"],
        "operations": [{"include-name": name, "enabled": False} for name in LEFT_OUT],
    }


def _take(found: Found, event: ScenarioFinished) -> None:
    recorder = event.recorder
    found.requests += len(recorder.interactions)
    found.phases[event.phase.value] += len(recorder.interactions)
    for one in recorder.interactions.values():
        found.statuses[str(one.response.status_code) if one.response else "none"] += 1
    for case_id, checks in recorder.checks.items():
        for check in checks:
            found.checks[check.name] += 1
            if check.failure_info is not None:
                case, failure = recorder.cases[case_id].value, check.failure_info.failure
                where = (f"{case.operation.method.upper()} {case.operation.path}", f"{check.name}: {failure.title}")
                text = f"{failure.message}\n{check.failure_info.code_sample}"
                found.failures.setdefault(where, text[:2_000])
