"""The monitor's settings: `SSKAI_*` environment variables beside those that every service has."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

import sskai.settings
from services.monitor.domain import Rules
from services.monitor.drift_watch import Rules as DriftRules
from services.monitor.notices import LEAD_SECONDS
from services.monitor.storage import USD_PER_GB_BETWEEN_REGIONS, USD_PER_GB_MONTH


class Settings(sskai.settings.Settings):
    # The chance that any test of a version ever raises a false alarm, and what the tests look at.
    drift_alpha: float = Field(0.01, gt=0, lt=1)
    drift_min_samples: int = Field(20, ge=1)
    drift_window_samples: int = Field(200, ge=48, le=1_000)
    drift_window_labels: int = Field(50, ge=10, le=1_000)
    retrain_enabled: bool = True
    retrain_cooldown_seconds: float = Field(3600.0, ge=0)
    retrain_budget_usd_per_30_days: float | None = None
    # So long a suggestion waits for somebody; less than the gateway keeps events, by which it knows suggestions.
    retrain_suggestion_hours: float = Field(72.0, gt=0)
    retrain_look_seconds: float = Field(2.0, gt=0)  # for schedules that are due and suggestions that are over

    interruption_poll_seconds: float = Field(0.25, gt=0)
    # The SQS queues that EventBridge's rules for EC2 and Health send to, with commas; credentials as boto3 finds them.
    interruption_queue_url: str | None = None
    # Long polling: a question waits so long in SQS for a message. 0 asks all the time, and costs accordingly.
    interruption_wait_seconds: int = Field(8, ge=0, le=20)
    # A machine that goes later than this (a retirement is announced two weeks before) is told of only then.
    interruption_lead_seconds: float = Field(LEAD_SECONDS, ge=120)

    trace_retention_days: float = Field(7.0, gt=0)
    max_stored_spans: int = Field(2_000_000, gt=0)
    # Of traces in which nothing failed, nothing was slow and no job worked, this share is kept. Figures count all.
    trace_sample_fraction: float = Field(1.0, ge=0, le=1)
    trace_quiet_seconds: float = Field(10.0, gt=0)  # after its last span a trace is judged
    trace_slow_seconds: float | None = Field(None, gt=0)  # beside each series' own p95 of the last hour

    figures_10s_retention_hours: float = Field(2.0, ge=0.1)
    figures_1m_retention_days: float = Field(2.0, gt=0)
    figures_1h_retention_days: float = Field(90.0, gt=0)
    figures_1d_retention_days: float = Field(730.0, gt=0)

    objectives_look_seconds: float = Field(15.0, gt=0)
    metrics_look_seconds: float = Field(15.0, gt=0)  # what /metrics tells of figures is at most so old

    # Facts about the attempts of a job that failed or was cancelled may still be on their way when it ends.
    receipt_settle_seconds: float = Field(10.0, ge=0)

    # As the trainer's service has it, by the same name.
    checkpoint_retention_hours: float = Field(default=24.0, ge=0)
    # List prices (storage.py says where from); 0: not metered.
    storage_usd_per_gb_month: float = Field(USD_PER_GB_MONTH, ge=0)
    egress_usd_per_gb: float = Field(USD_PER_GB_BETWEEN_REGIONS, ge=0)

    @property
    def queue_urls(self) -> list[str]:
        return [url.strip() for url in (self.interruption_queue_url or "").split(",") if url.strip()]

    @property
    def rules(self) -> Rules:
        return Rules(
            drift=DriftRules(
                self.drift_alpha, self.drift_min_samples, self.drift_window_samples, self.drift_window_labels
            ),
            retrain_enabled=self.retrain_enabled,
            retrain_cooldown_seconds=self.retrain_cooldown_seconds,
            retrain_suggestion_hours=self.retrain_suggestion_hours,
            retrain_budget_usd_per_30_days=self.retrain_budget_usd_per_30_days,
            objects_region=self.objects_region,
            checkpoint_retention_hours=self.checkpoint_retention_hours,
            usd_per_gb_month=self.storage_usd_per_gb_month,
            usd_per_gb_between_regions=self.egress_usd_per_gb,
        )

    @property
    def figures_retention(self) -> dict[int, timedelta]:
        """How long windows of each length are kept."""
        return {
            10: timedelta(hours=self.figures_10s_retention_hours),
            60: timedelta(days=self.figures_1m_retention_days),
            3600: timedelta(days=self.figures_1h_retention_days),
            86_400: timedelta(days=self.figures_1d_retention_days),
        }
