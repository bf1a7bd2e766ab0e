"""Endpoint states, routing by name, adapter configs, token budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from services.inference import domain
from services.inference.domain import AdapterConfig, Endpoint, FailureReason, Kind, State


def endpoint(**changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "endpoint_id": "end_1",
        "tenant_id": "tenant_a",
        "name": "support",
        "kind": "adapter",
        "model_id": "model_1",
        "version": 1,
        "base_model_id": "tiny",
        "base_uri": "builtin://tiny",
        "artifact_uri": "s3://sskai/a",
        "sample_rate": 0.0,
        "requested_at": datetime(2026, 11, 24, tzinfo=UTC),
    }
    return Endpoint(**{**values, **changes})


def test_every_state_has_its_next_states_and_only_deleted_is_final() -> None:
    assert set(domain.NEXT_STATES) == set(State)
    assert [state for state, following in domain.NEXT_STATES.items() if not following] == [State.DELETED]


def test_an_endpoint_that_is_not_gone_can_always_be_deleted() -> None:
    for state in set(State) - {State.DELETING, State.DELETED}:
        assert endpoint(state=state).to(State.DELETING).state == State.DELETING


def test_a_wrong_transition_names_endpoint_and_states() -> None:
    with pytest.raises(ValueError, match="endpoint end_1: failed -> ready"):
        endpoint(state=State.FAILED).to(State.READY)


@pytest.mark.parametrize(
    ("states", "answers"),
    [
        ([State.READY], 0),
        ([State.READY, State.LOADING], 0),  # the old version answers until the new one can
        ([State.READY, State.READY], 1),
        ([State.READY, State.FAILED], 0),
        ([State.FAILED, State.REQUESTED], 1),
        ([State.LOADING, State.FAILED], 0),
        ([State.FAILED], 0),
        ([State.DELETING], None),
        ([], None),
    ],
)
def test_of_several_endpoints_with_one_name_the_newest_ready_one_answers(
    states: list[State], answers: int | None
) -> None:
    endpoints = [endpoint(endpoint_id=f"end_{at}", order=at, state=state) for at, state in enumerate(states)]
    found = domain.answering(endpoints, "tenant_a", "support")
    assert (found and found.order) == answers


def test_a_tenant_never_reaches_anothers_endpoint() -> None:
    assert domain.answering([endpoint(state=State.READY)], "tenant_b", "support") is None


@pytest.mark.parametrize("reason", FailureReason)
def test_every_failure_says_what_to_do_and_ends_some_time(reason: FailureReason) -> None:
    assert reason.advice
    waits = [domain.retry_in_seconds(reason, tries) for tries in range(1, domain.MAX_LOAD_TRIES + 1)]
    assert waits[-1] is None
    assert all(wait is None or 0 < wait <= domain.LONGEST_RETRY_SECONDS for wait in waits)
    assert (waits[0] is not None) == reason.retries


LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none", "use_dora": False}


def test_an_adapters_scaling() -> None:
    assert AdapterConfig.parse(LORA).scaling == 2.0
    assert AdapterConfig.parse({**LORA, "r": 16, "use_rslora": True}).scaling == 4.0


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"r": 100_000}, "r is 100000"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused_by_name(change: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        AdapterConfig.parse({**LORA, **change})


def test_an_adapter_config_must_be_an_object() -> None:
    with pytest.raises(ValueError, match="not an object"):
        AdapterConfig.parse([LORA])


@pytest.mark.parametrize(
    ("prompt", "asked", "allowed"),
    [(10, None, 50), (90, None, 10), (99, 1, 1), (10, 90, 90), (10, 91, None), (100, None, None), (120, 5, None)],
)
def test_prompt_and_answer_share_the_context(prompt: int, asked: int | None, allowed: int | None) -> None:
    if allowed is None:
        with pytest.raises(domain.ContextError, match="100 tokens"):
            domain.output_tokens(prompt, asked, 50, 100)
    else:
        assert domain.output_tokens(prompt, asked, 50, 100) == allowed


@pytest.mark.parametrize(
    ("rate", "draw", "sampled"), [(0, 0, False), (1, 0.999, True), (0.3, 0.29, True), (0.3, 0.3, False)]
)
def test_sampling(rate: float, draw: float, sampled: bool) -> None:
    assert domain.is_sampled(rate, draw) is sampled


def test_kinds() -> None:
    assert domain.kind_of("") == Kind.ADAPTER
    assert domain.kind_of("dedicated") not in set(Kind)
    assert endpoint(kind="serverless").serverless
