"""What the scheduler is told from outside, beyond the chassis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

import sskai.cluster.settings
from sskai.cluster import Program


class Settings(sskai.cluster.settings.Settings):
    program: ClassVar[Program] = Program("trainer", "services.trainer.pod", "sskai-scheduler")

    trainer_image: str = "sskai/trainer:0.1.0"

    # A pod that the cluster calls running but that told nothing for so long hangs. A healthy one tells something every
    # 2 s, but a broker may be away for a while, and a false recovery costs more than a late one.
    hang_seconds: float = Field(default=1800, gt=0)
    # A pod that never told anything: its image cannot be pulled, or it does not reach the broker.
    start_seconds: float = Field(default=900, gt=0)
    metering_seconds: float = Field(default=5, gt=0)
    # How long an offer that had no machine is left alone.
    denial_seconds: float = Field(default=60, gt=0)
    # A job without a deadline may take so much longer than half as long again as without any waiting, before it goes on
    # demand (spot_policy: auto; `policy.end_seconds`).
    patience_seconds: float = Field(default=600, ge=0)
    # What the spot policy knows of markets before it has seen any; a file of `sskai lab fit`. Unset: the shipped one.
    spot_priors: Path | None = None
    # Limits of what runs at the same time; unset: none. A job that would pass one waits its turn.
    max_running_jobs_per_tenant: int = Field(default=20, gt=0)
    max_machines_per_tenant: int | None = Field(default=None, gt=0)
    max_machines: int | None = Field(default=None, gt=0)  # of all tenants
    # A waiting job rises one priority class per so many seconds, so that nobody waits for ever behind higher ones.
    priority_ageing_seconds: float = Field(default=7200, gt=0)
    # tenant -> weight of its fair share of the machines, as JSON: {"tenant_acme": 2}; 1 where it is not named.
    tenant_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    # What a tenant may spend in a calendar month (UTC), jobs that run included as far as they are expected to cost.
    tenant_budget_usd_per_month: float | None = Field(default=None, gt=0)

    @property
    def image(self) -> str:
        return self.trainer_image
