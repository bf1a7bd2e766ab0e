"""What a seed stands for: who wants what, how the weather is, and which faults come when. Nothing else draws it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from simulation import broker, cluster, objectstore, pod, postgres
from simulation.processes import SERVICES, Tempo
from simulation.users import Wish, job_file

FAULTS_SECONDS = 180.0  # after so long the weather is fine
KINDS = (
    *("crash", "crash", "crash", "pause", "cut-broker", "cut-cluster", "cut-objects", "disk-full"),
    *("database-restart", "database-away", "no-capacity", "interrupt", "price-spike", "broker-away", "cloud-away"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: str
    service: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:7.1f} s  {self.kind} {self.service} {f'for {self.seconds:.1f} s' if self.seconds else ''}"


@dataclass(frozen=True, slots=True)
class BudgetWish:
    tenant_id: str
    at: float
    form: dict[str, Any]


@dataclass
class Scenario:
    seed: int
    wishes: list[Wish]
    budgets: list[BudgetWish]
    faults: list[Fault]
    skews: dict[str, float]
    replicas: dict[str, int]
    settings: dict[str, Any]
    tempo: Tempo
    tenants: tuple[str, ...]
    rows: int
    database: postgres.Weather = field(default_factory=postgres.Weather)
    broker: broker.Weather = field(default_factory=broker.Weather)
    objects: objectstore.Weather = field(default_factory=objectstore.Weather)
    cluster: cluster.Weather = field(default_factory=cluster.Weather)
    pods: pod.Weather = field(default_factory=pod.Weather)


def draw(seed: int) -> Scenario:
    """Most seeds are stormy, some are calm in one respect or another: a storm hides what a breeze would show."""
    dice = random.Random(f"scenario {seed}")
    tenants = ("tenant_a", "tenant_b")
    stormy = dice.random() < 0.9

    def sometimes(value: Any, calm: Any, share: float = 0.5) -> Any:
        return value if stormy and dice.random() < share else calm

    jobs = dice.randint(1, 4)
    wishes = [_wish(number, dice.choice(tenants), dice) for number in range(jobs)]
    skew = dice.choice((0.0, 0.5, 5.0, 300.0)) if stormy else 0.0
    return Scenario(
        seed=seed,
        wishes=wishes,
        budgets=_budgets(dice, tenants),
        faults=_faults(dice, sometimes(dice.randint(1, 8), 0, 0.85)),
        skews={service: dice.uniform(-skew, skew) for service in SERVICES},
        replicas={service: 2 if service == "scheduler" and dice.random() < 0.3 else 1 for service in SERVICES},
        settings={
            "metering_seconds": dice.choice((5.0, 10.0)),
            "denial_seconds": dice.choice((10.0, 60.0)),
            "patience_seconds": dice.choice((0.0, 60.0)),
            "hang_seconds": dice.choice((40.0, 1800.0)),
            "start_seconds": dice.choice((60.0, 900.0)),
            "max_running_jobs_per_tenant": dice.choice((1, 2, 20)),
            "max_machines": dice.choice((None, None, 2)),
        },
        tempo=Tempo(often=dice.choice((3.0, 6.0, 12.0)), seldom=60.0),
        tenants=tenants,
        rows=dice.choice((64, 160)),
        database=postgres.Weather(
            most_seconds=sometimes(dice.choice((0.01, 0.1)), 0.002), lost_answers=sometimes(0.005, 0.0)
        ),
        broker=broker.Weather(
            most_seconds=sometimes(dice.choice((0.2, 1.0)), 0.02),
            lost_acknowledgements=sometimes(0.01, 0.0),
            held_back=sometimes(0.05, 0.0),
            most_held_seconds=dice.choice((5.0, 30.0)),
            redelivered=sometimes(0.3, 0.0),
        ),
        objects=objectstore.Weather(lost_answers=sometimes(0.01, 0.0)),
        cluster=cluster.Weather(
            most_seconds=sometimes(dice.choice((1.0, 5.0)), 0.2),
            lost_answers=sometimes(0.2, 0.0),
            failed_deletes=sometimes(0.3, 0.0),
            mean_life_seconds=sometimes(dice.choice((30.0, 120.0)), 0.0, 0.7),
            without_notice=dice.choice((0.0, 0.3, 1.0)),
            denied=sometimes(0.3, 0.0),
            forgets_seconds=dice.choice((0.0, 10.0, 60.0)),
            knows_ends=dice.random() < 0.5,
        ),
        pods=pod.Weather(
            step_seconds=dice.choice(((0.2, 0.5), (0.5, 2.0), (1.0, 4.0))),
            fails=sometimes(0.1, 0.0),
            mute_deaths=sometimes(0.15, 0.0),
            hangs=sometimes(0.1, 0.0, 0.3),
        ),
    )


def _wish(number: int, tenant_id: str, dice: random.Random) -> Wish:
    name = f"bot-{number}"
    fields: dict[str, Any] = {"hyperparameters": {"max_steps": dice.randint(5, 30)}}
    fields["checkpoint"] = {"interval": dice.choice((2, 5, 10))}
    fields["spot_policy"] = dice.choice(("auto", "auto", "spot", "on-demand"))
    if dice.random() < 0.4:
        fields["budget"] = {"total_usd": round(dice.uniform(0.02, 0.3), 4)}
    if dice.random() < 0.3:
        fields["deadline"] = f"{dice.randint(5, 30)}m"
    if dice.random() < 0.3:
        fields["retry"] = {"max_restarts_on_errors": dice.randint(0, 5), "duration": f"{dice.randint(30, 300)}s"}
    if dice.random() < 0.3:
        fields["priority"] = dice.choice(("low", "high"))
    cancel_after = dice.expovariate(1 / 60) if dice.random() < 0.25 else None
    return Wish(tenant_id, name, dice.uniform(0, 40), job_file(name, **fields), cancel_after)


def _budgets(dice: random.Random, tenants: tuple[str, ...]) -> list[BudgetWish]:
    if dice.random() < 0.6:
        return []
    tenant_id = dice.choice(tenants)
    form = {"scope": "tenant", "amount_usd": round(dice.uniform(0.02, 0.5), 4), "action": dice.choice(("stop", "warn"))}
    return [BudgetWish(tenant_id, dice.uniform(0, 60), form)]


def _faults(dice: random.Random, count: int) -> list[Fault]:
    found = []
    for _ in range(count):
        kind = dice.choice(KINDS)
        service = dice.choice(SERVICES) if kind in ("crash", "pause", "cut-broker") else ""
        if kind in ("cut-cluster", "crash", "pause") and dice.random() < 0.5:
            service = "scheduler"
        if kind == "cut-objects":
            service = dice.choice(("pods", "scheduler", "trainer", "monitor"))
        if kind == "cut-broker" and dice.random() < 0.2:
            service = "pods"
        found.append(Fault(dice.uniform(1, FAULTS_SECONDS * 0.6), kind, service, _length(dice, kind)))
    return sorted(found, key=lambda fault: fault.at)


def _length(dice: random.Random, kind: str) -> float:
    if kind in ("interrupt", "database-restart", "price-spike"):
        return 0.0
    if kind == "pause":
        return dice.choice((2.0, 15.0, 75.0))
    if kind == "crash":
        return dice.choice((0.1, 2.0, 20.0))  # until it is up again
    return dice.uniform(1, 40)
