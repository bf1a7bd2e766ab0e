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

    # A pod that the cluster calls running but that told nothing for so long hangs. A healthy one tells something every
    # 2 s, but a broker may be away for a while, and a false recovery costs more than a late one.
    hang_seconds: float = Field(default=1800, gt=0)
    # A pod that never told anything: its image cannot be pulled, or it does not reach the broker.
    start_seconds: float = Field(default=900, gt=0)
    metering_seconds: float = Field(default=5, gt=0)
    # How long an offer that had no machine is left alone.
    denial_seconds: float = Field(default=60, gt=0)
    # A job without a deadline waits so long for spot capacity before it takes on-demand (spot_policy: auto).
    patience_seconds: float = Field(default=600, ge=0)
    max_running_jobs_per_tenant: int = Field(default=20, gt=0)
