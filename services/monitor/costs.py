"""Totals for who looks at costs: by day, kind, job, endpoint and project, and of a month to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sskai.http import Problem
from sskai.money import NANO_PER_USD

MAX_DAYS = 400
MAX_GROUPS = 10_000
GROUPS = ("day", "kind", "job", "endpoint", "project")


@dataclass(frozen=True, slots=True)
class Total:
    """Sums of the ledger's rows of one group. `group`: the values of what was grouped by."""

    group: tuple[Any, ...]
    amount_nano_usd: int
    on_demand_nano_usd: int
    machine_microseconds: int
    input_tokens: int
    output_tokens: int
    rows: int


class Between(BaseModel):
    """A span of time; by default this month (UTC) to date."""

    model_config = ConfigDict(extra="forbid")

    since: datetime | None = None
    until: datetime | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From and to, in UTC. Raises Problem."""
        until = _utc(self.until) if self.until else now
        since = _utc(self.since) if self.since else until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if since >= until:
            raise Problem(422, "No span of time", "since: must lie before until", field="since")
        if until - since > timedelta(days=MAX_DAYS):
            raise Problem(422, "Too long a span", f"since: at most {MAX_DAYS} days before until", field="since")
        return since, until


class CostQuery(Between):
    """`group_by`: names of GROUPS with commas between them."""

    group_by: str = "day"
    kind: str | None = None
    job: str | None = Field(None, max_length=200)
    endpoint: str | None = Field(None, max_length=200)
    project: str | None = Field(None, max_length=200)

    @field_validator("group_by")
    @classmethod
    def _known(cls, text: str) -> str:
        unknown = [name for name in text.split(",") if name and name not in GROUPS]
        if unknown:
            raise ValueError(f"knows {', '.join(GROUPS)}, not {unknown[0]!r:.40}")
        return text

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(name for name in self.group_by.split(",") if name))

    @property
    def filters(self) -> dict[str, str]:
        given = {"kind": self.kind, "job": self.job, "endpoint": self.endpoint, "project": self.project}
        return {name: value for name, value in given.items() if value is not None}


def days_of(since: datetime, until: datetime) -> tuple[date, date]:
    """The first and the last day (UTC) that a span touches: totals are kept by the day."""
    return since.date(), (until - timedelta(microseconds=1)).date()


def answer(groups: Sequence[str], totals: Iterable[Total]) -> list[dict[str, Any]]:
    """One object for each group."""
    return [{**dict(zip(groups, total.group, strict=True)), **sums(total)} for total in totals]


def sums(total: Total) -> dict[str, Any]:
    """A group's figures. `saving`: what its machine time was cheaper than at the on-demand price."""
    paid, on_demand = total.amount_nano_usd, total.on_demand_nano_usd
    tokens = total.input_tokens + total.output_tokens
    return {
        "spent_nano_usd": paid,
        "on_demand_nano_usd": on_demand,
        "saving_nano_usd": on_demand - paid,
        "spent_usd": paid / NANO_PER_USD,
        "on_demand_usd": on_demand / NANO_PER_USD,
        "saving_usd": (on_demand - paid) / NANO_PER_USD,
        "saving_fraction": 1 - paid / on_demand if on_demand else 0.0,
        "machine_seconds": total.machine_microseconds / 1e6,
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "usd_per_million_tokens": paid / NANO_PER_USD / tokens * 1e6 if tokens and paid else None,
        "rows": total.rows,
    }


def added(totals: Iterable[Total]) -> Total:
    """Their sum."""
    every = list(totals)
    return Total(
        (),
        sum(one.amount_nano_usd for one in every),
        sum(one.on_demand_nano_usd for one in every),
        sum(one.machine_microseconds for one in every),
        sum(one.input_tokens for one in every),
        sum(one.output_tokens for one in every),
        sum(one.rows for one in every),
    )


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
