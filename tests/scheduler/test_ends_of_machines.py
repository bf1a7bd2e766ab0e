"""How a machine's end is told by the cluster that it belongs to: Kubernetes' own words for it, and to whom they go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sskai.cluster import Observation, PodState, telling
from sskai.cluster import kubernetes_manifests as manifests
from sskai.cluster.kubernetes_pods import NodeEnd, ending_nodes, observe
from sskai.contract import moment
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.stage import Stage
from tests.scheduler.test_interruptions import FIRST, drained, notice

SERVICE = "scheduler"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)

# Kubernetes, "Disruptions", Pod disruption conditions.
REASONS = (
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
)


def node(*taints: str | dict[str, str]) -> dict[str, Any]:
    found = [{"key": one, "effect": "NoSchedule"} if isinstance(one, str) else one for one in taints]
    return {"metadata": {"name": "node-1"}, "spec": {"taints": found}}


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(**status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "job-1-1-0-abc", "uid": "u", "labels": {manifests.NAME: "sskai-trainer"}}
    metadata |= {"creationTimestamp": text(NOON), "annotations": {}} | status.pop("metadata", {})
    return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"} | status}


JOB: dict[str, Any] = {
    "metadata": {"name": "job-1-1", "uid": "j", "labels": {manifests.JOB_ID: "job_1", manifests.ATTEMPT: "1"}},
    "spec": {"completions": 1},
    "status": {},
}


def disruption(reason: str) -> dict[str, str]:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": text(NOON)}


def word(
    pods: list[Any],
    departed: list[Any] | None = None,
    ends: dict[str, NodeEnd] | None = None,
    lost_nodes: dict[str, datetime] | None = None,
) -> Observation:
    seen = observe(JOB, pods, departed or [], ends or {}, NOON, lost_nodes=lost_nodes or {}, patience_seconds=300)
    return seen.observation


@pytest.mark.parametrize("reason", REASONS)
def test_why_a_pod_is_to_end_and_why_it_ended(reason: str) -> None:
    leaving = pod(conditions=[disruption(reason)], metadata={"deletionTimestamp": text(NOON + timedelta(seconds=60))})
    [told] = telling.notice(word([leaving]), NOON)
    assert (told.machine_id, told.action, told.source) == ("job-1-1", "terminate", "kubernetes")
    assert (told.reason, told.notice_seconds) == (f"DisruptionTarget/{reason}", 60)
    failed = pod(phase="Failed", conditions=[disruption(reason)])
    [lost] = telling.loss(word([failed]), NOON)
    assert (lost.machine_id, lost.reason, moment(lost.lost_at)) == ("job-1-1", f"DisruptionTarget/{reason}", NOON)
    gone = pod(conditions=[disruption(reason)])
    [lost] = telling.loss(word([], departed=[gone]), NOON)
    assert lost.reason == f"DisruptionTarget/{reason}"


def test_a_pod_that_is_no_more_and_said_nothing_is_lost_all_the_same() -> None:
    [lost] = telling.loss(word([], departed=[pod()]), NOON)
    assert lost.reason == "the pod is no more"


def test_the_first_of_a_nodes_and_a_pods_own_end_counts() -> None:
    ends = {"node-1": NodeEnd(NOON + timedelta(seconds=25), "cloud.google.com/impending-node-termination")}
    leaving = pod(
        conditions=[disruption("EvictionByEvictionAPI")],
        metadata={"deletionTimestamp": text(NOON + timedelta(seconds=60))},
    )
    assert word([leaving], ends=ends).why == "cloud.google.com/impending-node-termination"
    assert word([leaving]).why == "DisruptionTarget/EvictionByEvictionAPI"


NTH = "aws-node-termination-handler"
OFF = "node.kubernetes.io/out-of-service"
DISRUPTED = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taints", "seconds", "why"),
    [
        ([DISRUPTED], 120, "karpenter.sh/disrupted"),
        ([DISRUPTED | {"timeAdded": text(NOON - timedelta(seconds=90))}], 30, "karpenter.sh/disrupted"),
        ([DISRUPTED, OFF], 0, OFF),
        ([f"{NTH}/scheduled-maintenance"], 120, f"{NTH}/scheduled-maintenance"),
        ([f"{NTH}/rebalance-recommendation"], None, f"{NTH}/rebalance-recommendation"),
        ([f"{NTH}/rebalance-recommendation", f"{NTH}/spot-itn"], 120, f"{NTH}/spot-itn"),
    ],
)
def test_what_a_nodes_taints_say(taints: list[Any], seconds: float | None, why: str) -> None:
    at = None if seconds is None else NOON + timedelta(seconds=seconds)
    assert ending_nodes([node(*taints)], {}, NOON) == {"node-1": NodeEnd(at, why)}


def test_a_pod_whose_node_is_no_more_is_lost_unless_it_ended_before() -> None:
    since = NOON - timedelta(seconds=3)
    one = word([pod()], lost_nodes={"node-1": since})
    [lost] = telling.loss(one, NOON)
    assert (one.state, moment(lost.lost_at), lost.reason) == (PodState.GONE, since, "its node is no more")
    assert word([pod()], lost_nodes={"node-2": since}).state is PodState.RUNNING
    ended = {"name": "trainer", "state": {"terminated": {"exitCode": 75, "finishedAt": text(NOON)}}}
    saved = word([pod(phase="Failed", containerStatuses=[ended])], lost_nodes={"node-1": since})
    assert (saved.state, saved.exit_code) == (PodState.EXITED, 75)


def test_other_taints_say_nothing() -> None:
    assert ending_nodes([node("node.kubernetes.io/memory-pressure", "team")], {}, NOON) == {}


def test_a_nodes_end_stays_where_it_was_and_may_come_nearer() -> None:
    first = ending_nodes([node("karpenter.sh/disrupted")], {}, NOON)
    later = NOON + timedelta(seconds=60)
    assert ending_nodes([node("karpenter.sh/disrupted")], first, later) == first
    nearer = ending_nodes([node("karpenter.sh/disrupted", "node.kubernetes.io/out-of-service")], first, later)
    assert nearer == {"node-1": NodeEnd(later, "node.kubernetes.io/out-of-service")}
    assert ending_nodes([node()], nearer, later) == {}, "what was taken off again is no end"


def test_a_hint_is_told_as_one() -> None:
    ends = {"node-1": NodeEnd(None, "aws-node-termination-handler/rebalance-recommendation")}
    one = word([pod()], ends=ends)
    [told] = telling.notice(one, NOON)
    assert (told.action, told.notice_seconds, told.HasField("terminates_at")) == ("rebalance", 0, False)


def test_what_others_tell_is_not_told_by_the_cluster() -> None:
    local = Observation("m-1", "job_1", 1, PodState.GONE, terminates_at=NOON)
    assert (telling.notice(local, NOON), telling.loss(local, NOON)) == ([], [])


# What the scheduler makes of it


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def noticed(stage: Stage) -> list[events.InterruptionNoticed]:
    return [one for one in stage.history if isinstance(one, events.InterruptionNoticed)]


def says(stage: Stage, seconds: float) -> None:
    at = stage.now + timedelta(seconds=seconds)
    stage.cluster.says(FIRST, terminates_at=at, source="kubernetes", why="karpenter.sh/disrupted")


async def test_everybody_hears_once_what_the_cluster_knows(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    says(stage, 90)
    for _ in range(3):
        await stage.turn(1)
    [told] = noticed(stage)
    assert (told.machine_id, told.source, told.reason) == (FIRST, "kubernetes", "karpenter.sh/disrupted")
    assert stage.cluster.drained == [FIRST]
    says(stage, 20)
    await stage.turn(1)
    assert len(noticed(stage)) == 2, "it comes earlier"
    says(stage, 60)
    await stage.turn(1)
    assert len(noticed(stage)) == 2
    await stage.tell(*noticed(stage))  # as the scheduler hears itself
    await stage.turn(1)
    assert len(noticed(stage)) == 2


async def test_what_the_cloud_said_first_is_not_said_again(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    await stage.tell(notice(stage, seconds=90))
    says(stage, 90)
    await stage.turn(1)
    assert noticed(stage) == []
    says(stage, 30)
    await stage.turn(1)
    assert len(noticed(stage)) == 1, "this is earlier"


async def test_a_hint_is_passed_on_and_stops_nothing(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    stage.cluster.says(FIRST, recommended=True, source="imds", why="rebalance-recommendation")
    for _ in range(3):
        await stage.turn(1)
    assert [(one.action, one.source) for one in noticed(stage)] == [("rebalance", "imds")]
    assert (stage.cluster.drained, (await stage.job()).state) == ([], "running")


async def test_a_loss_is_told_with_its_reason_and_hearing_it_changes_nothing(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    stage.cluster.says(
        FIRST, state=PodState.GONE, ended_at=stage.now, source="kubernetes", why="DisruptionTarget/DeletionByPodGC"
    )
    await stage.turn(1)
    [lost] = [one for one in stage.history if isinstance(one, events.MachineLost)]
    assert (lost.machine_id, lost.reason) == (FIRST, "DisruptionTarget/DeletionByPodGC")
    before = await stage.job()
    await stage.tell(lost, drained(1))
    after = await stage.job()
    assert (after.state, after.attempts) == (before.state, before.attempts)
