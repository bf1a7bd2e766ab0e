"""From the job file's words to the contract's, by tables."""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway import endpointfile, references
from services.gateway.endpointfile import EndpointFile
from services.gateway.jobfile import ACCELERATORS, JobFile, JobFileError
from services.gateway.jobspec import TRAINABLE, deadline, require_trainable, retrain_spec, to_spec, trainable_spec
from services.gateway.values import Dataset, Model
from sskai.contract import moment, timestamp
from sskai.events import v1 as events

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DATASET = Dataset("dataset_1", "tenant_a", "support", 3, "s3://b/k", "messages", 100, 1000, "ab", 50, NOW)
MODEL = Model("base", "base", 0, "builtin", "base", "builtin://base", "", "{}", True, NOW)


JOB = {"name": "bot", "model": {"base": "base"}, "dataset": {"uri": "support"}}


def spec_of(**fields: Any) -> events.JobSpec:
    return to_spec(JobFile.model_validate({**JOB, **fields}), MODEL, DATASET, NOW)


CONVENTIONS = {
    "kind": "finetune",
    "name": "support-bot",
    "model": {"base": "smollm2-135m-instruct", "method": "lora", "rank": 8},
    "dataset": {"uri": "dataset://support/3", "format": "messages", "eval_fraction": 0.05},
    "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate": "auto"},
    "resources": {
        "accelerators": "L4:1",
        "cpus": "4+",
        "memory": "16+",
        "any_of": [{"use_spot": True}, {"use_spot": False}],
    },
    "spot_policy": "auto",
    "max_price": 1.2,
    "budget": {"total_usd": 15},
    "deadline": "2026-12-01T09:00:00Z",
    "retry": {"on_events": ["no-capacity", "interruption", "error"], "duration": "4h", "max_restarts_on_errors": 3},
    "checkpoint": {"interval": "auto", "keep": 3},
    "env": {},
    "secrets": ["HF_TOKEN"],
}


def test_the_job_file_of_the_conventions_says_what_it_means() -> None:
    spec = spec_of(**CONVENTIONS)
    assert (spec.kind, spec.name, spec.model.rank, spec.model.alpha) == ("finetune", "support-bot", 8, 16)
    assert (spec.hyperparameters.n_epochs, spec.hyperparameters.HasField("batch_size")) == (3, False)
    assert (spec.resources.accelerators, spec.resources.cpus, spec.resources.memory) == ("L4:1", "4+", "16+")
    assert (spec.resources.max_price_usd_per_hour, spec.budget_usd) == (1.2, 15)
    assert moment(spec.deadline) == datetime(2026, 12, 1, 9, tzinfo=UTC)
    assert (spec.retry.max_restarts_on_errors, spec.retry.duration_seconds) == (3, 4 * 3600)
    assert list(spec.retry.on_events) == ["error", "interruption", "no-capacity"]
    assert (spec.checkpoint.interval_steps, spec.checkpoint.keep) == (0, 3)
    assert (list(spec.secrets), spec.spot_policy) == (["HF_TOKEN"], events.SPOT_POLICY_AUTO)


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, events.SPOT_POLICY_AUTO),
        ({"spot_policy": "spot"}, events.SPOT_POLICY_SPOT),
        ({"resources": {"use_spot": True}}, events.SPOT_POLICY_SPOT),
        ({"resources": {"use_spot": False}}, events.SPOT_POLICY_ON_DEMAND),
        ({"resources": {"any_of": [{"use_spot": False}]}}, events.SPOT_POLICY_ON_DEMAND),
        ({"resources": {"any_of": [{"use_spot": True}, {"use_spot": False}]}}, events.SPOT_POLICY_AUTO),
        ({"resources": {"use_spot": True}, "spot_policy": "spot"}, events.SPOT_POLICY_SPOT),
    ],
)
def test_spot_is_said_in_skypilots_way_or_in_ours(fields: dict[str, Any], policy: int) -> None:
    assert spec_of(**fields).spot_policy == policy


@pytest.mark.parametrize(
    ("objective", "number"),
    [
        ("cheapest", events.OBJECTIVE_CHEAPEST),
        ("fastest", events.OBJECTIVE_FASTEST),
        ("cheapest-within-deadline", events.OBJECTIVE_CHEAPEST_WITHIN_DEADLINE),
        ("fastest-within-budget", events.OBJECTIVE_FASTEST_WITHIN_BUDGET),
    ],
)
def test_each_objective_has_its_number(objective: str, number: int) -> None:
    assert spec_of(objective=objective, deadline="6h", budget={"total_usd": 5}).objective == number


@pytest.mark.parametrize(
    ("said", "priority"),
    [
        ({}, events.PRIORITY_NORMAL),
        ({"priority": "low"}, events.PRIORITY_LOW),
        ({"priority": "normal"}, events.PRIORITY_NORMAL),
        ({"priority": "high"}, events.PRIORITY_HIGH),
    ],
)
def test_a_job_says_its_priority_class(said: dict[str, Any], priority: int) -> None:
    assert spec_of(**said).priority == priority


@pytest.mark.parametrize("said", ["urgent", "HIGH", 1, None, ""])
def test_an_unknown_priority_class_is_refused_by_its_name(said: Any) -> None:
    with pytest.raises(ValidationError, match=r"priority\n.*'low', 'normal' or 'high'"):
        spec_of(priority=said)


@pytest.mark.parametrize("method", ["lora", "qlora", "full", "scratch"])
def test_every_method_can_be_planned(method: str) -> None:
    assert spec_of(model={"base": "base", "method": method}).model.method == method


@pytest.mark.parametrize(
    ("said", "nodes", "least"),
    [(None, "", 1), (1, "1", 1), ("1", "1", 1), ("1+", "1+", 1), ("1..4", "1..4", 1), (2, "2", 2), ("9+", "9+", 9)],
)
def test_machines_of_one_job_are_a_size(said: Any, nodes: str, least: int) -> None:
    assert spec_of(resources={"nodes": said}).resources.nodes == nodes
    job = JobFile.model_validate({**JOB, "resources": {"nodes": said}})
    if least > TRAINABLE.nodes:
        with pytest.raises(JobFileError, match=r"resources\.nodes asks for .*POST /v1/plans.*write 8"):
            require_trainable(job)
    else:
        require_trainable(job)


@pytest.mark.parametrize(
    ("retry", "listed", "restarts"),
    [
        ({}, ["error", "interruption", "no-capacity"], 3),
        ({"on_events": ["no-capacity", "no-capacity"]}, ["no-capacity"], 0),
        ({"on_events": ["error"], "max_restarts_on_errors": 5}, ["error"], 5),
    ],
)
def test_a_job_goes_on_after_what_its_file_lists(retry: dict[str, Any], listed: list[str], restarts: int) -> None:
    spec = spec_of(retry=retry)
    assert (list(spec.retry.on_events), spec.retry.max_restarts_on_errors) == (listed, restarts)


@pytest.mark.parametrize(("interval", "steps", "disabled"), [("auto", 0, False), (25, 25, False), ("never", 0, True)])
def test_checkpoints_come_by_themselves_every_so_many_steps_or_never(interval: Any, steps: int, disabled: bool) -> None:
    policy = spec_of(checkpoint={"interval": interval}).checkpoint
    assert (policy.interval_steps, policy.disabled) == (steps, disabled)


@pytest.mark.parametrize("said", [True, False, "auto"])
def test_gradient_checkpointing_is_the_planners_choice_unless_said(said: Any) -> None:
    wishes = spec_of(hyperparameters={"gradient_checkpointing": said}).hyperparameters
    assert wishes.HasField("gradient_checkpointing") == (said != "auto")
    assert wishes.gradient_checkpointing == (said is True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"resources": {"nodes": "9+"}}, "resources.nodes"),
    ],
)
def test_what_can_be_planned_and_not_trained_says_so_and_what_to_do(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(
        JobFileError, match=r"can be planned .* but not trained yet: write .* to submit the job"
    ) as told:
        require_trainable(JobFile.model_validate({**JOB, **fields}))
    assert told.value.field == field


@pytest.mark.parametrize(
    ("said", "left"),
    [(None, "1..8"), ("1", "1"), ("2", "2"), ("1..4", "1..4"), ("2..100", "2..8"), ("2+", "2..8"), ("8+", "8..8")],
)
def test_a_job_leaves_nothing_to_the_planner_that_the_trainer_cannot_do(said: str | None, left: str) -> None:
    planned = spec_of(resources={"nodes": said})
    narrowed = trainable_spec(planned)
    assert narrowed.resources.nodes == left
    assert planned.resources.nodes == (said or "")


def test_the_door_knows_every_accelerator_of_the_catalogue() -> None:
    with (Path(__file__).parents[2] / "services/optimizer/data/accelerators.csv").open() as file:
        assert {row["name"] for row in csv.DictReader(file)} == set(ACCELERATORS)


@pytest.mark.parametrize("accelerators", ["L4", "l4:1", "L4:1, A10G:1+", "none", "A100-80GB:2..8"])
def test_an_accelerator_that_is_known_is_accepted(accelerators: str) -> None:
    assert spec_of(resources={"accelerators": accelerators}).resources.accelerators == accelerators


@given(
    policy=st.sampled_from([None, "spot", "on-demand", "auto"]),
    use_spot=st.sampled_from([None, True, False]),
    interval=st.sampled_from(["auto", "never", 10]),
)
def test_no_job_without_checkpoints_ever_asks_for_spot(policy: Any, use_spot: Any, interval: Any) -> None:
    with suppress(JobFileError):
        spec = spec_of(spot_policy=policy, resources={"use_spot": use_spot}, checkpoint={"interval": interval})
        assert not (spec.checkpoint.disabled and spec.spot_policy == events.SPOT_POLICY_SPOT)
        assert spec.checkpoint.disabled == (interval == "never")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("6h", NOW + timedelta(hours=6)),
        ("30m", NOW + timedelta(minutes=30)),
        ("1.5d", NOW + timedelta(hours=36)),
        ("2026-11-24T14:00:00+01:00", NOW + timedelta(hours=1)),
        ("2026-11-25T00:00:00Z", NOW + timedelta(hours=12)),
    ],
)
def test_a_deadline_is_a_time_or_a_duration(text: str, at: datetime) -> None:
    assert deadline(text, NOW) == at


@given(text=st.text(max_size=40))
def test_any_other_deadline_is_refused_and_never_breaks(text: str) -> None:
    with suppress(JobFileError):
        assert NOW < deadline(text, NOW) <= NOW + timedelta(days=90)


def test_an_adapter_is_no_base_to_train() -> None:
    adapter = Model("model_1", "bot", 2, "trained", "base", "builtin://base", "s3://b/a", "", True, NOW)
    job = JobFile.model_validate({"name": "x", "model": {"artifact": "model://bot/2"}, "dataset": {"uri": "support"}})
    with pytest.raises(JobFileError, match="train again from its base, base"):
        to_spec(job, adapter, DATASET, NOW)


def test_a_retrain_has_the_parents_words_and_as_much_time() -> None:
    parent = spec_of(deadline="6h", budget={"total_usd": 15}, env={"A": "b"})
    parent.champion.version = 1  # of its own time
    newer = Dataset("dataset_2", "tenant_a", "support", 4, "s3://b/k4", "messages", 120, 1200, "cd", 60, NOW)
    request = events.RetrainRequested(
        endpoint_id="endpoint_1", model_id="model_1", version=2, budget_usd=4, requested_at=timestamp(NOW)
    )
    later = NOW + timedelta(days=3)
    spec = retrain_spec(parent, NOW, newer, request, later, champion=None)
    assert not spec.HasField("champion")
    assert (spec.dataset.version, spec.dataset.eval_fraction) == (4, parent.dataset.eval_fraction)
    assert (spec.retrain_of.endpoint_id, spec.retrain_of.version, spec.budget_usd) == ("endpoint_1", 2, 4)
    assert moment(spec.deadline) == later + timedelta(hours=6)
    assert spec.env == parent.env
    assert not parent.HasField("retrain_of")


@pytest.mark.parametrize(
    ("text", "kind", "reference"),
    [
        ("bot", "model", references.Reference("bot", None)),
        ("bot@3", "model", references.Reference("bot", 3)),
        ("model://bot/3", "model", references.Reference("bot", 3)),
        ("model://bot", "model", references.Reference("bot", None)),
        ("dataset://support/3", "dataset", references.Reference("support", 3)),
        ("dataset://support/3", "model", None),
        ("bot/3", "model", None),
        ("bot@champion", "model", references.Reference("bot", None, "champion")),
        ("model://bot@challenger", "model", references.Reference("bot", None, "challenger")),
        ("bot@champion", "dataset", None),
        ("bot@canary", "model", None),
        ("../bot", "model", None),
        ("", "model", None),
        ("bot@3\n", "model", None),
    ],
)
def test_a_reference_names_a_thing_and_perhaps_its_version(
    text: str, kind: str, reference: references.Reference | None
) -> None:
    assert references.parse(text, kind) == reference


def test_the_files_of_the_guide_are_accepted() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/plans.md").read_text()
    wishes, endpoint = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL))
    assert spec_of(**wishes).resources.nodes == "1..4"
    spec = endpointfile.to_spec(EndpointFile.model_validate(endpoint), MODEL, MODEL, base_is_running=True)
    assert (spec.requests_per_day, spec.budget_usd_per_month, spec.base_is_running) == (2000, 100, True)


LABELLED = Dataset(
    "dataset_3",
    "tenant_a",
    "mails",
    1,
    "s3://b/m",
    "classification",
    100,
    1000,
    "ef",
    50,
    NOW,
    {"labels": ["ham", "spam"]},
)


def test_what_the_trainer_is_told_of_a_method() -> None:
    spec = spec_of(
        model={"base": "base", "method": "qlora", "dora": True, "rslora": True},
        hyperparameters={"packing": True},
        export=["merged", "gguf"],
    )
    assert (spec.model.dora, spec.model.rslora, list(spec.exports)) == (True, True, ["gguf", "merged"])
    assert spec.hyperparameters.packing
    assert not spec_of().hyperparameters.HasField("packing")
    assert not spec_of().hyperparameters.HasField("dpo_beta")
    for method in TRAINABLE.methods:
        require_trainable(JobFile.model_validate({**JOB, "model": {"base": "base", "method": method}}))


def test_pictures_in_classes_may_be_mirrored() -> None:
    job = JobFile.model_validate({**JOB, "hyperparameters": {"horizontal_flip": True}})
    assert to_spec(job, MODEL, replace(LABELLED, format="image-classification"), NOW).hyperparameters.horizontal_flip


def test_the_names_of_classes_are_told() -> None:
    assert list(to_spec(JobFile.model_validate(JOB), MODEL, LABELLED, NOW).dataset.labels) == ["ham", "spam"]


@pytest.mark.parametrize(
    ("fields", "dataset", "field"),
    [
        ({"model": {"base": "base", "method": "full", "dora": True}}, DATASET, "model.dora"),
        ({"model": {"base": "base", "method": "scratch", "rslora": True}}, DATASET, "model.rslora"),
        ({"hyperparameters": {"dpo_beta": 0.2}}, DATASET, "hyperparameters.dpo_beta"),
        ({"hyperparameters": {"packing": True}}, LABELLED, "hyperparameters.packing"),
        ({"hyperparameters": {"horizontal_flip": True}}, LABELLED, "hyperparameters.horizontal_flip"),
        ({}, replace(LABELLED, report={}), "dataset"),
    ],
)
def test_wishes_that_do_not_fit_method_or_data_are_refused(
    fields: dict[str, Any], dataset: Dataset, field: str
) -> None:
    with pytest.raises(JobFileError) as refused:
        to_spec(JobFile.model_validate({**JOB, **fields}), MODEL, dataset, NOW)
    assert refused.value.field == field
