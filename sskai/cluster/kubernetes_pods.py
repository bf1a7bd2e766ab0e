"""Kubernetes' words about Jobs, pods and nodes, in the protocol's. Values only; objects are the API's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sskai.cluster import Observation, PodState
from sskai.cluster.kubernetes_manifests import ATTEMPT, COMPLETION_INDEX, GRACE_SECONDS, JOB_ID, NAME
from sskai.cluster.pods import KILLED, OUT_OF_MEMORY, Ending, gang_end, lost_members

Thing = dict[str, Any]

# A Job that was told to make no more pods of its attempt remembers its exit code here.
EXIT_CODE_NOTE = "sskai.dev/exit-code"
SOURCE = "kubernetes"
# What a node is tainted with before it goes, and how long it has from then on. AWS's node termination handler (a spot
# notice is two minutes; other events it acts on when they are due), Karpenter (drains at once, by evictions with the
# pod's own grace), GKE (25 s for pods of a node that is shut down), Cluster Autoscaler, and for a node that is off
# already the cloud's controller and the operator.
ENDING_TAINTS = {
    "aws-node-termination-handler/spot-itn": 120.0,
    "aws-node-termination-handler/asg-lifecycle-termination": 120.0,
    "aws-node-termination-handler/scheduled-maintenance": 120.0,
    "karpenter.sh/disrupted": float(GRACE_SECONDS),
    "karpenter.sh/disruption": float(GRACE_SECONDS),  # before Karpenter 1.0
    "cloud.google.com/impending-node-termination": 25.0,
    "ToBeDeletedByClusterAutoscaler": float(GRACE_SECONDS),
    "node.cloudprovider.kubernetes.io/shutdown": 0.0,
    "node.kubernetes.io/out-of-service": 0.0,
}
# The risk has risen, no more.
HINT_TAINTS = ("aws-node-termination-handler/rebalance-recommendation",)
ENDED_CONDITIONS = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")
MAX_PENDING_CHARACTERS = 500
MAX_WHY_CHARACTERS = 200
NO_POD_SECONDS = 10.0  # the Job controller makes pods within a second


@dataclass(frozen=True, slots=True)
class NodeEnd:
    """When a node goes, and the taint that says so. `at` None: a hint only."""

    at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation, and whether the Job controller would start another pod for an attempt that is over."""

    observation: Observation
    restarting: bool = False


def slim_job(job: Thing) -> Thing:
    return {
        "metadata": _slim_metadata(job),
        "spec": _some(job.get("spec"), ("suspend", "parallelism", "completions")),
    } | {"status": _some(job.get("status"), ("conditions", "startTime"))}


def slim_pod(pod: Thing) -> Thing:
    status = _some(pod.get("status"), ("phase", "conditions", "containerStatuses", "reason", "message"))
    return {"metadata": _slim_metadata(pod), "spec": _some(pod.get("spec"), ("nodeName",)), "status": status}


def slim_node(node: Thing) -> Thing:
    return {"metadata": {"name": node["metadata"]["name"]}, "spec": _some(node.get("spec"), ("taints",))}


def _slim_metadata(thing: Thing) -> Thing:
    kept = ("name", "uid", "labels", "annotations", "creationTimestamp", "deletionTimestamp")
    return _some(thing["metadata"], kept)


def _some(thing: Thing | None, keys: Iterable[str]) -> Thing:
    return {key: thing[key] for key in keys if thing and key in thing}


def ending_nodes(nodes: Iterable[Thing], known: Mapping[str, NodeEnd], now: datetime) -> dict[str, NodeEnd]:
    """When each node goes that is about to. `known`: what this said before, because taints rarely say since when."""
    ends: dict[str, NodeEnd] = {}
    for node in nodes:
        name = node["metadata"]["name"]
        for taint in node["spec"].get("taints") or []:
            key = taint.get("key", "")
            if key in HINT_TAINTS:
                ends.setdefault(name, NodeEnd(None, key))
            if key in ENDING_TAINTS:
                at = (_at(taint.get("timeAdded")) or now) + timedelta(seconds=ENDING_TAINTS[key])
                ends[name] = _earlier(ends.get(name), NodeEnd(at, key))
        if name in ends and name in known:
            ends[name] = _earlier(known[name], ends[name])
    return ends


def nodes_of(pods: Iterable[Thing]) -> set[str]:
    """Those that pods which have not ended are bound to."""
    alive = (pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed"))
    return {pod["spec"]["nodeName"] for pod in alive if pod["spec"].get("nodeName")}


def _earlier(one: NodeEnd | None, other: NodeEnd) -> NodeEnd:
    """The first of two ends; of the same, the one that was known first."""
    if one is None or one.at is None:
        return other
    return one if other.at is None or one.at <= other.at else other


def observe(
    job: Thing,
    pods: Sequence[Thing],
    departed: Sequence[Thing],
    ends: Mapping[str, NodeEnd],
    now: datetime,
    *,
    lost_nodes: Mapping[str, datetime],
    patience_seconds: float,
) -> Seen:
    """The word on one Job. `departed`: its pods that are no more, as they were last seen; `ends`: `ending_nodes`;
    `lost_nodes`: those that are no more, and since when; `patience_seconds`: so long may a pod wait for a node."""
    metadata = job["metadata"]
    conditions = _conditions(job)
    gone = {id(pod): _lost(pod, now, "the pod is no more") for pod in departed}
    for pod in pods:
        if pod["spec"].get("nodeName") in lost_nodes:
            gone[id(pod)] = _lost(pod, lost_nodes[pod["spec"]["nodeName"]], "its node is no more")
    endings = [
        one
        for one in (_ending(pod) or gone.get(id(pod)) for pod in _first_of_each_member([*pods, *departed]))
        if one is not None
    ]
    here = [pod for pod in pods if _ending(pod) is None and id(pod) not in gone]
    noted = (metadata.get("annotations") or {}).get(EXIT_CODE_NOTE)
    word = partial(Observation, metadata["name"], metadata["labels"][JOB_ID], int(metadata["labels"][ATTEMPT]))
    ended = conditions.get("Complete") or conditions.get("Failed")
    members = int(job["spec"].get("completions") or 1)
    if "Complete" in conditions:
        return Seen(word(PodState.EXITED, 0, _at(conditions["Complete"].get("lastTransitionTime"))))
    if noted is not None:
        at = min((one.ended_at for one in endings if one.ended_at), default=None)
        return Seen(word(PodState.EXITED, exit_code=int(noted), ended_at=at))
    over = gang_end(endings, members)
    if over is None and ended is not None:
        # Kubernetes calls a Job failed at the first member that left with a code, though others may still save.
        still_saving = members > 1 and bool(here)
        # Failed, and of its pods nothing is left to ask.
        nothing_left = Ending(None, _at(ended.get("lastTransitionTime")))
        over = None if still_saving else gang_end(endings, len(endings)) or nothing_left
    if over is not None:
        state = PodState.GONE if over.exit_code is None else PodState.EXITED
        restarting = over.disrupted and not any(one in conditions for one in ENDED_CONDITIONS)
        return Seen(word(state, over.exit_code, over.ended_at, source=SOURCE, why=over.why), restarting)
    pending, waits_since = _pending(job, conditions, pods, now)
    denied = waits_since is not None and (now - waits_since).total_seconds() > patience_seconds
    lost, lost_at = lost_members(endings)
    end = _next_end(here, ends)
    word = partial(word, PodState.RUNNING, pending=pending, denied=denied, lost=lost, lost_at=lost_at, source=SOURCE)
    if end is None:
        return Seen(word())
    return Seen(word(terminates_at=end.at, why=end.why, recommended=end.at is None))


def _first_of_each_member(pods: Iterable[Thing]) -> list[Thing]:
    """A member's attempt is its first pod; what the Job controller made in its place has no say."""
    first: dict[str, Thing] = {}
    for pod in sorted(pods, key=lambda one: (one["metadata"].get("creationTimestamp") or "", _ending(one) is None)):
        first.setdefault((pod["metadata"].get("annotations") or {}).get(COMPLETION_INDEX, ""), pod)
    return list(first.values())


def _is_first(pod: Thing) -> bool:
    """Rank 0, or the only pod."""
    told: str = (pod["metadata"].get("annotations") or {}).get(COMPLETION_INDEX, "0")
    return told == "0"


def _lost(pod: Thing, at: datetime, why: str) -> Ending:
    """Of a pod that left no exit code."""
    return Ending(None, at, disrupted=True, first=_is_first(pod), why=_disruption(pod) or why)


def _disruption(pod: Thing) -> str:
    """Why Kubernetes ended a pod, or is about to: PreemptionByScheduler, DeletionByTaintManager, EvictionByEvictionAPI,
    DeletionByPodGC, TerminationByKubelet ("Disruptions", Pod disruption conditions); else the kubelet's own word."""
    condition = _conditions(pod).get("DisruptionTarget")
    if condition is None:
        return str(pod["status"].get("reason") or "")[:MAX_WHY_CHARACTERS]
    return f"DisruptionTarget/{condition.get('reason') or 'unknown'}"[:MAX_WHY_CHARACTERS]


def _ending(pod: Thing) -> Ending | None:
    status, first = pod["status"], _is_first(pod)
    conditions = _conditions(pod)
    disrupted = "DisruptionTarget" in conditions
    ours = pod["metadata"].get("labels", {}).get(NAME, "").removeprefix("sskai-")
    for container in status.get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if ended is not None and container.get("name") == ours:
            code: int | None = int(ended["exitCode"])
            if ended.get("reason") == "OOMKilled":
                code = OUT_OF_MEMORY
            elif ended.get("reason") == "ContainerStatusUnknown" or (disrupted and code in KILLED):
                code = None
            why = _disruption(pod) or str(ended.get("reason") or "")[:MAX_WHY_CHARACTERS]
            return Ending(code, _at(ended.get("finishedAt")), disrupted or code is None, first, why)
    if status.get("phase") == "Failed":
        at = conditions.get("DisruptionTarget", {}).get("lastTransitionTime") or pod["metadata"].get(
            "deletionTimestamp"
        )
        return Ending(None, _at(at), disrupted=True, first=first, why=_disruption(pod))
    return None


def _next_end(pods: Sequence[Thing], ends: Mapping[str, NodeEnd]) -> NodeEnd | None:
    """The first end that a member has been told of: its own (an eviction) or its node's."""
    first: NodeEnd | None = None
    for pod in pods:
        disruption = _conditions(pod).get("DisruptionTarget")
        if disruption is not None:
            # A pod's deletionTimestamp is when its grace runs out.
            evicted = _at(pod["metadata"].get("deletionTimestamp"))
            since = _at(disruption.get("lastTransitionTime"))
            at = evicted or (since + timedelta(seconds=GRACE_SECONDS) if since else None)
            if at is not None:
                first = _earlier(first, NodeEnd(at, _disruption(pod)))
        node = pod["spec"].get("nodeName")
        if node in ends:
            first = _earlier(first, ends[node])
    return first


def _pending(
    job: Thing, conditions: Mapping[str, Thing], pods: Sequence[Thing], now: datetime
) -> tuple[str, datetime | None]:
    """What the Job waits for, and since when if it is for a machine."""
    if "Suspended" in conditions or job["spec"].get("suspend"):
        return "the queue has not admitted it yet", None
    if not pods:
        since = _at(job["status"].get("startTime")) or _at(job["metadata"].get("creationTimestamp")) or now
        if (now - since).total_seconds() < NO_POD_SECONDS:
            return "", None
        return "no pod was made: the namespace's quota is used up, or an admission rule refuses it", since
    for pod in pods:
        for container in pod["status"].get("containerStatuses") or []:
            waiting = (container.get("state") or {}).get("waiting") or {}
            # ErrImagePull, ImagePullBackOff, InvalidImageName, CreateContainerConfigError (a missing secret), ...
            if waiting.get("message"):
                return f"{waiting.get('reason')}: {waiting['message']}"[:MAX_PENDING_CHARACTERS], None
        for one in pod["status"].get("conditions") or []:
            if one.get("type") == "PodScheduled" and one.get("status") == "False":
                text = f"{one.get('reason', 'Unschedulable')}: {one.get('message', '')}"
                return text[:MAX_PENDING_CHARACTERS], _at(one.get("lastTransitionTime"))
    return "", None


def _conditions(thing: Thing) -> dict[str, Thing]:
    """Those that hold, by type."""
    return {one["type"]: one for one in thing["status"].get("conditions") or [] if one.get("status") == "True"}


def _at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
