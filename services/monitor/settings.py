"""The monitor's settings: `SSKAI_*` environment variables beside those that every service has."""

from __future__ import annotations

from pydantic import Field

import sskai.settings
from services.monitor.domain import Rules
from services.monitor.storage import USD_PER_GB_BETWEEN_REGIONS, USD_PER_GB_MONTH


class Settings(sskai.settings.Settings):
    drift_alpha: float = Field(0.01, gt=0, lt=1)
    drift_min_samples: int = Field(20, ge=1)
    retrain_enabled: bool = True
    retrain_cooldown_seconds: float = Field(3600.0, ge=0)
    retrain_budget_usd_per_30_days: float | None = None

    interruption_poll_seconds: float = Field(0.25, gt=0)
    # The SQS queue that EventBridge's rules for EC2 and Health send to; credentials and region as boto3 finds them.
    interruption_queue_url: str | None = None

    trace_retention_days: float = Field(7.0, gt=0)
    max_stored_spans: int = Field(2_000_000, gt=0)
    # Facts about the attempts of a job that failed or was cancelled may still be on their way when it ends.
    receipt_settle_seconds: float = Field(10.0, ge=0)

    # As the trainer's service and the optimizer have them, by the same names.
    checkpoint_retention_hours: float = Field(default=24.0, ge=0)
    objects_region: str = ""  # where data and checkpoints are; empty: traffic between regions is not metered
    # List prices (storage.py says where from); 0: not metered.
    storage_usd_per_gb_month: float = Field(USD_PER_GB_MONTH, ge=0)
    egress_usd_per_gb: float = Field(USD_PER_GB_BETWEEN_REGIONS, ge=0)

    @property
    def rules(self) -> Rules:
        return Rules(
            drift_alpha=self.drift_alpha,
            drift_min_samples=self.drift_min_samples,
            retrain_enabled=self.retrain_enabled,
            retrain_cooldown_seconds=self.retrain_cooldown_seconds,
            retrain_budget_usd_per_30_days=self.retrain_budget_usd_per_30_days,
            objects_region=self.objects_region,
            checkpoint_retention_hours=self.checkpoint_retention_hours,
            usd_per_gb_month=self.storage_usd_per_gb_month,
            usd_per_gb_between_regions=self.egress_usd_per_gb,
        )
