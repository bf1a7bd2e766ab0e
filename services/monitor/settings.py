"""The monitor's settings: `SSKAI_*` environment variables beside those that every service has."""

from __future__ import annotations

from pydantic import Field

import sskai.settings
from services.monitor.domain import Rules
from services.monitor.drift_watch import Rules as DriftRules


class Settings(sskai.settings.Settings):
    # The chance that any test of a version ever raises a false alarm, and what the tests look at.
    drift_alpha: float = Field(0.01, gt=0, lt=1)
    drift_min_samples: int = Field(20, ge=1)
    drift_window_samples: int = Field(200, ge=48, le=1_000)
    drift_window_labels: int = Field(50, ge=10, le=1_000)
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

    @property
    def rules(self) -> Rules:
        return Rules(
            drift=DriftRules(
                self.drift_alpha, self.drift_min_samples, self.drift_window_samples, self.drift_window_labels
            ),
            retrain_enabled=self.retrain_enabled,
            retrain_cooldown_seconds=self.retrain_cooldown_seconds,
            retrain_budget_usd_per_30_days=self.retrain_budget_usd_per_30_days,
        )
