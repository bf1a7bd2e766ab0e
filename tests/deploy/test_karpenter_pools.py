"""Node pools are made of what plans may choose, and a plan's pods fit on them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from services.gateway.plain import plain
from services.optimizer import catalogue
from sskai.cluster.kubernetes_manifests import _node_selector
from sskai.events import v1 as events
from tests.chassis.plan_documents import MARKET, candidate
from tools import karpenter_pools


def run(*arguments: str, plan: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.karpenter_pools", *arguments]
    return subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, timeout=60, check=False)


def test_each_candidate_of_a_plan_in_the_region_finds_a_pool() -> None:
    candidates = [candidate(row) for row in MARKET]
    done = run("--regions", "us-east-1", plan={"candidates": [plain(one) for one in candidates]})
    pools = yaml.safe_load(done.stdout)["karpenter"]["pools"]
    assert [pool["name"] for pool in pools] == ["sskai-gpu-spot", "sskai-gpu-on-demand", "sskai-cpu-on-demand"]
    for one in candidates:
        wanted = _node_selector(one.placement, one.placement.capacity_type == events.CAPACITY_TYPE_SPOT)
        fitting = [
            pool["name"] for pool in pools
            if wanted["karpenter.sh/capacity-type"] in pool["capacityTypes"]
            and wanted["node.kubernetes.io/instance-type"] in pool["instanceTypes"]
        ]  # fmt: skip
        assert len(fitting) == (1 if one.placement.region == "us-east-1" else 0) or "g6.xlarge" in str(wanted)


def test_what_is_offered_is_what_the_optimizer_plans_on() -> None:
    found = karpenter_pools.of_catalogue(["g5.*", "m5.*"], ["us-east-1"])
    assert {one.instance_type for one in found if one.capacity_type == "spot"} == {
        offer.instance_type
        for offer in catalogue.snapshot().offers
        if offer.region == "us-east-1" and offer.capacity_type == "spot" and offer.instance_type[:3] in ("g5.", "m5.")
    }
    assert {bool(one.accelerators) for one in found if one.instance_type.startswith("g5.")} == {True}


@pytest.mark.parametrize("plan", [None, {}, {"candidates": []}, {"candidates": [{"placement": {"cloud": "local"}}]}])
def test_of_nothing_no_pool_is_made(plan: dict[str, Any] | None) -> None:
    done = run(plan=plan)
    assert done.returncode == 2
    assert "--offered" in done.stderr
    assert done.stdout == ""
