"""Values that the optimizer's tests share."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.optimizer import catalogue, domain
from services.optimizer.memory import ModelProfile
from services.optimizer.profiles import model_profile
from services.optimizer.throughput import Measured, log_tokens
from services.optimizer.values import Assumptions, History, Offer, Plan, Refusal
from services.optimizer.work import Request
from sskai import contract
from sskai.events import v1 as events

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

# SmolLM2-135M: its published config.json. What the profiling worker counts for it and for Llama 3.1 8B is in
# profiles.json; test_profile.py holds the worker to it.
SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
COUNTED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("profiles.json").read_text())
SMOLLM2_PROFILE = model_profile(COUNTED["smollm2-135m/lora"])
SMOLLM2_FULL = model_profile(COUNTED["smollm2-135m/full"])
LLAMA_8B = model_profile(COUNTED["llama-8b/lora"])
LLAMA_8B_FULL = model_profile(COUNTED["llama-8b/full"])
REQUEST = Request(
    method="lora",
    rank=8,
    rows=400,
    dataset_bytes=100_000,
    estimated_tokens=20_000,
    eval_fraction=0.05,
    context_length=8192,
)


def decide(
    request: Request = REQUEST,
    *,
    profile: ModelProfile = SMOLLM2_PROFILE,
    offers: tuple[Offer, ...] | None = None,
    assumptions: Assumptions | None = None,
    history: History | None = None,
    now: datetime = NOW,
) -> Plan | Refusal:
    """A decision on the project's own catalogue."""
    known = catalogue.snapshot()
    return domain.plan(
        request,
        profile,
        machines=known.machines,
        offers=known.offers if offers is None else offers,
        assumptions=assumptions or Assumptions(),
        now=now,
        history=history or History(),
    )


def planned(request: Request = REQUEST, **arguments: Any) -> Plan:
    outcome = decide(request, **arguments)
    assert isinstance(outcome, Plan), outcome
    return outcome


def refused(request: Request = REQUEST, **arguments: Any) -> Refusal:
    outcome = decide(request, **arguments)
    assert isinstance(outcome, Refusal), outcome
    return outcome


def measured(
    ratio: float,
    count: int = 1,
    *,
    family: str = "c5",
    hardware: str = "cpu",
    method: str = "lora",
    tokens: float = 1024,
) -> Measured:
    """So many attempts whose steps took e^ratio times as long as predicted, at micro-batches of so many tokens."""
    z = log_tokens(tokens)
    return Measured(
        family, hardware, method, count, count * z, count * z * z, count * ratio, count * z * ratio, count * ratio**2
    )


def asking(**changes: Any) -> Request:
    return replace(REQUEST, **changes)


def spec(**fields: Any) -> events.JobSpec:
    """A job on SmolLM2 as the gateway tells it."""
    return events.JobSpec(
        kind="finetune",
        name="support-bot",
        model=events.ModelRef(
            model_id="smollm2-135m-instruct",
            uri="builtin://smollm2-135m-instruct",
            config_json=json.dumps(fields.pop("config", SMOLLM2)),
            method="lora",
            rank=8,
            alpha=16,
        ),
        dataset=events.DatasetRef(
            dataset_id="dataset_1", rows=400, bytes=100_000, estimated_tokens=20_000, eval_fraction=0.05
        ),
        **fields,
    )


def submitted(job_id: str = "job_1", tenant_id: str = "tenant_a", **fields: Any) -> events.JobSubmitted:
    return events.JobSubmitted(
        job_id=job_id, tenant_id=tenant_id, spec=spec(**fields), submitted_at=contract.timestamp(NOW)
    )
