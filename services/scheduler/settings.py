"""What the scheduler is told from outside, beyond the chassis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import sskai.settings


class Settings(sskai.settings.Settings):
    cluster: Literal["local", "kubernetes"] = "local"
    namespace: str = "sskai-jobs"  # Kubernetes: where pods run
    trainer_image: str = "sskai/trainer:0.1.0"
    service_account: str = "sskai-trainer"
    kueue_queue: str = ""  # Kubernetes: admit by this Kueue LocalQueue; empty: not used

    # Longer than the longest silence of a healthy trainer: it tells something every 2 s.
    lease_seconds: float = Field(default=15, gt=0)
    # A pod that the cluster calls running but that told nothing for so long hangs.
    hang_seconds: float = Field(default=1800, gt=0)
    metering_seconds: float = Field(default=5, gt=0)
    # How long a requeued job waits for a new plan before it goes on with the alternates of the old one.
    replan_seconds: float = Field(default=3, gt=0)
    # How long an offer that had no machine is left alone.
    denial_seconds: float = Field(default=60, gt=0)
    # A job without a deadline waits so long for spot capacity before it takes on-demand (spot_policy: auto).
    patience_seconds: float = Field(default=600, ge=0)
    drain_seconds: float = Field(default=60, gt=0)  # cancel and budget stops: SIGTERM to SIGKILL
    max_running_jobs_per_tenant: int = Field(default=20, gt=0)
