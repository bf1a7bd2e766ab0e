"""Budgets: what is spent, what is reserved, and whether more may be. Values in, values out; money is whole nano-USD.

Whoever rents machines asks before it spends: "may I have spent so much in all?" What is granted and not yet spent
counts as spent, so for every budget with action "stop" and every period, at any time,

    spent + reserved <= amount,     reserved = sum over grants of max(0, limit - what its owner has spent)

and since nobody spends more than its limit, spend never passes the amount. A row of the ledger that comes late leaves
`spent + reserved` as it was. What is metered without asking (storage, egress; whatever ran before the budget was set)
counts as spent and leaves less for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sskai.money import NANO_PER_USD

THRESHOLDS = (0.5, 0.8, 1.0)
TENANT, PROJECT, ENDPOINT, JOB = "tenant", "project", "endpoint", "job"
SCOPES = (TENANT, PROJECT, ENDPOINT, JOB)
MONTH, TOTAL = "month", "total"


@dataclass(frozen=True, slots=True)
class Budget:
    """As BudgetSet says it."""

    budget_id: str
    tenant_id: str
    scope: str
    target: str
    amount_nano_usd: int
    period: str = MONTH
    thresholds: tuple[float, ...] = THRESHOLDS
    action: str = "warn"

    @property
    def stops(self) -> bool:
        return self.action == "stop"

    def covers(self, owner: Owner) -> bool:
        """Whether what this one spends is of this budget."""
        if owner.tenant_id != self.tenant_id:
            return False
        targets = {TENANT: owner.tenant_id, PROJECT: owner.project, ENDPOINT: owner.endpoint_id, JOB: owner.job_id}
        return bool(self.target) and targets.get(self.scope) == self.target

    @property
    def named(self) -> str:
        """In words."""
        return "the tenant's budget" if self.scope == TENANT else f"the budget of {self.scope} {self.target}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who spends: a job, or an endpoint."""

    tenant_id: str
    job_id: str = ""
    endpoint_id: str = ""
    project: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """A budget in its period now. `reserved`: by others than the one who asks."""

    budget: Budget
    spent: int
    reserved: int

    @property
    def left(self) -> int:
        return self.budget.amount_nano_usd - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Ask:
    """What SpendReserveRequested wants: to have spent `wanted` in all, or at least `minimum`."""

    minimum: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`limit`: what it may have spent in all from now on. `short`: the budget that has not enough; None: granted."""

    limit: int
    short: Account | None = None


def decide(ask: Ask, granted: int, spent: int, accounts: Iterable[Account]) -> Answer:
    """Reserve as much of what is wanted as every account has, or nothing more than was `granted` before.

    `spent`: what the one who asks has spent in its whole life, by the ledger. What it spent of a budget is in that
    account already, so a new limit takes `limit - spent` of it.
    """
    wanted, minimum = max(ask.wanted, ask.minimum), ask.minimum
    limit, tightest = wanted, None
    for account in accounts:
        most = spent + account.left if account.budget.scope != JOB else account.budget.amount_nano_usd
        if account.budget.stops and most < limit:
            limit, tightest = most, account
    if tightest is not None and limit < minimum:
        return Answer(granted, tightest)
    return Answer(max(limit, granted))


def shortage(account: Account, at: datetime) -> str:
    """Why nothing is reserved, in words."""
    left, amount = max(0, account.left) / NANO_PER_USD, account.budget.amount_nano_usd / NANO_PER_USD
    reserved = account.reserved / NANO_PER_USD
    when = f" for {period_of(account.budget, at)}" if account.budget.period == MONTH else ""
    return (
        f"{account.budget.named} has {left:.2f} of {amount:.2f} USD left{when}, {reserved:.2f} USD are reserved for "
        f"what runs: raise it (PUT /v1/budgets), or wait"
    )


def reached(account: Account, told: float) -> list[float]:
    """The thresholds that are reached now and were not told in this period; `told` is the highest told one, or 0."""
    amount = account.budget.amount_nano_usd
    return [part for part in sorted(account.budget.thresholds) if part > told and account.spent >= part * amount]


def period_of(budget: Budget, at: datetime) -> str:
    """The name of the period that a moment lies in: "2026-11"; of a total "" ."""
    return f"{at.astimezone(UTC):%Y-%m}" if budget.period == MONTH else ""


def month_days(name: str) -> tuple[datetime, datetime]:
    """The first moment of a month ("2026-11") and that of the next. Raises ValueError."""
    first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    return first, (first + timedelta(days=32)).replace(day=1)


def outstanding(limits: Sequence[tuple[int, int]]) -> int:
    """What is reserved and not yet spent, of (limit, spent) of each."""
    return sum(max(0, limit - spent) for limit, spent in limits)
