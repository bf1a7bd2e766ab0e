"""The policy's question about one job, put together from its plan, its progress and the market; and its answer as a
candidate of the plan. Pure.

Candidates differ in speed, and the policy counts one kind of work. So work is counted in seconds of the machine that a
job falls back on (the plan's best on-demand candidate), and the price of every other candidate is that of as much work.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.scheduler import domain, money, policy
from services.scheduler.domain import EndReason, Job
from services.scheduler.market import Market
from services.scheduler.policy import Action, Decision, Lookahead, Situation, SpotPolicy, Zone
from services.scheduler.settings import Settings
from sskai.cluster import offer_of
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

SPOT_POLICIES = {events.SPOT_POLICY_SPOT: SpotPolicy.SPOT, events.SPOT_POLICY_ON_DEMAND: SpotPolicy.ON_DEMAND}
# Before a running job moves to a spot offer, so sure must it be that the offer has machines.
SURE_ENOUGH = 0.8
# A decision holds until the next look; no policy is asked about shorter times.
SHORTEST_TICK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate of the plan to launch on, or the rule that holds the job."""

    candidate: events.Candidate | None
    rule: str
    detail: str = ""
    again_in_seconds: float = 5.0


def on_spot(placement: events.Placement) -> bool:
    return placement.capacity_type == events.CAPACITY_TYPE_SPOT


def runs_on_spot(job: Job) -> bool:
    return job.attempt is not None and on_spot(job.attempt.placement)


def spot_offers(job: Job) -> list[str]:
    """Names of the plan's spot offers, and of the one that runs."""
    placements = [candidate.placement for candidate in job.plan.candidates] if job.plan else []
    if job.attempt is not None:
        placements.append(job.attempt.placement)
    return [offer_of(placement) for placement in placements if on_spot(placement)]


def offers_left(job: Job, now: datetime, capacity_type: events.CapacityType) -> list[events.Candidate]:
    """The plan's candidates of one kind, best first, less those that had no machine a short while ago."""
    candidates = job.plan.candidates if job.plan else []
    return [
        candidate
        for candidate in candidates
        if candidate.placement.capacity_type == capacity_type
        and job.denied_until.get(offer_of(candidate.placement), now) <= now
    ]


def decide(job: Job, now: datetime, settings: Settings, market: Market, lookahead: Lookahead) -> Decision:
    """What the job should run on from now on."""
    return policy.decide(situation(job, now, settings, market), lookahead)


def situation(job: Job, now: datetime, settings: Settings, market: Market) -> Situation:
    """What the policy should know of a planned job."""
    assert job.plan is not None
    profile = job.plan.profile
    fallback = _fallback(job)
    running, done = None, job.steps_saved
    if job.state.has_attempt and job.attempt is not None:
        running = Action.SPOT if runs_on_spot(job) else Action.ON_DEMAND
        done = max(done, job.steps_told)
    seconds = fallback.step_seconds.expected * _pace(job)
    restart = _restart_seconds(job, fallback)
    work, left = profile.total_steps * seconds, max(0, profile.total_steps - done) * seconds
    finish = fallback.seconds.finish
    spot_policy = SPOT_POLICIES.get(job.spec.spot_policy, SpotPolicy.AUTO)
    if not any(not on_spot(candidate.placement) for candidate in job.plan.candidates):
        spot_policy = SpotPolicy.SPOT  # nothing to fall back on was planned
    elif not any(on_spot(candidate.placement) for candidate in job.plan.candidates):
        spot_policy = SpotPolicy.ON_DEMAND  # nothing to wait for was planned
    return Situation(
        elapsed_seconds=(now - job.submitted_at).total_seconds(),
        deadline_seconds=_deadline_seconds(job, restart),
        work_seconds=work + finish,
        work_left_seconds=left + finish,
        restart_seconds=restart,
        running_on=running,
        running_zone=offer_of(job.attempt.placement) if job.attempt and running is Action.SPOT else "",
        restart_left_seconds=_restart_left_seconds(job, restart, now) if running else 0.0,
        zones=_zones(job, fallback, running, market, now),
        on_demand_price=_usd_per_hour(fallback, fallback),
        spot_policy=spot_policy,
        patience_seconds=settings.patience_seconds,
        tick_seconds=max(SHORTEST_TICK_SECONDS, settings.metering_seconds),
        budget_left_usd=_budget_left_usd(job, fallback, settings),
    )


def choose(job: Job, now: datetime, settings: Settings, market: Market, lookahead: Lookahead) -> Choice:
    """The candidate that the policy wants."""
    if job.plan is None or not job.plan.candidates:
        return Choice(None, "no-plan", "the optimizer has not answered yet")
    seen = situation(job, now, settings, market)
    decision = policy.decide(seen, lookahead)
    if decision.action is Action.WAIT:
        why = "no spot machine there is likely to last" if seen.has_spot else "no spot capacity now"
        return Choice(None, "waiting-for-spot", f"{why}, and waiting is the cheapest way to the end", 1.0)
    wanted = events.CAPACITY_TYPE_SPOT if decision.action is Action.SPOT else events.CAPACITY_TYPE_ON_DEMAND
    left = offers_left(job, now, wanted)
    if not left:
        return Choice(None, "no-capacity", f"every planned {decision.action} offer was denied; trying again", 5.0)
    named = next((one for one in left if offer_of(one.placement) == decision.zone), left[0])
    return Choice(named, decision.rule)


def seconds_to_on_demand(
    job: Job, now: datetime, settings: Settings, market: Market, lookahead: Lookahead
) -> float | None:
    """After how long a planned job that waits takes on-demand if no spot comes; None: never."""
    return policy.seconds_to_on_demand(situation(job, now, settings, market), lookahead)


def reason_to_move(job: Job, decision: Decision) -> EndReason | None:
    """Why a running job should save, stop and go on elsewhere; None: it runs where it should.

    To wait is for who has no machine: one that is paid for and works is not given up for a cheaper one that may come.
    """
    on, to = runs_on_spot(job), decision.action
    if job.attempt is None or to is Action.WAIT:
        return None
    if on and to is Action.ON_DEMAND:
        return EndReason.DEADLINE_AT_RISK
    moves = to is Action.SPOT and (not on or decision.zone != offer_of(job.attempt.placement))
    return EndReason.CHEAPER_ELSEWHERE if moves else None


def _fallback(job: Job) -> events.Candidate:
    """The best on-demand candidate, else the best of all."""
    assert job.plan is not None
    candidates = job.plan.candidates
    return next((one for one in candidates if not on_spot(one.placement)), candidates[0])


def _pace(job: Job) -> float:
    """Measured over planned step time of what runs or ran last: 1 where nothing was measured."""
    planned = job.attempt.planned if job.attempt is not None else None
    if planned is None or not job.step_seconds or not planned.step_seconds.expected:
        return 1.0
    return job.step_seconds / planned.step_seconds.expected


def _restart_seconds(job: Job, fallback: events.Candidate) -> float:
    """Start-up and restore after a launch; of plans that do not say, what they count besides steps."""
    assert job.plan is not None
    if fallback.seconds.startup:
        return float(fallback.seconds.startup)
    profile = job.plan.profile
    steps = (profile.steps_left or profile.total_steps) * fallback.step_seconds.expected
    return max(0.0, fallback.hours.expected * domain.SECONDS_PER_HOUR - steps)


def _restart_left_seconds(job: Job, restart_seconds: float, now: datetime) -> float:
    """What is left of the running attempt's start-up: nothing once it has told a step of its own."""
    assert job.attempt is not None
    if job.attempt.first_step is not None:
        return 0.0
    return max(1.0, restart_seconds - (now - job.attempt.started_at).total_seconds())


def _deadline_seconds(job: Job, restart_seconds: float) -> float | None:
    """The deadline less what a plan cannot promise: the drain of what runs, and one start-up that is slower."""
    if job.deadline is None:
        return None
    spare = restart_seconds + money.DRAIN_SECONDS
    return (job.deadline - job.submitted_at).total_seconds() - spare


def _budget_left_usd(job: Job, fallback: events.Candidate, settings: Settings) -> float | None:
    left = domain.budget_left_nano_usd(job)
    if left is None:
        return None
    reserve = _usd_per_hour(fallback, fallback) * (settings.metering_seconds + money.DRAIN_SECONDS) / 3600
    return left / NANO_PER_USD - reserve


def _usd_per_hour(candidate: events.Candidate, fallback: events.Candidate) -> float:
    """USD for as much work as the fallback does in an hour."""
    slower = 1.0
    if candidate.step_seconds.expected and fallback.step_seconds.expected:
        slower = candidate.step_seconds.expected / fallback.step_seconds.expected
    return float(candidate.placement.price_usd_per_hour * max(1, candidate.machine_count) * slower)


def _zones(
    job: Job, fallback: events.Candidate, running: Action | None, market: Market, now: datetime
) -> tuple[Zone, ...]:
    """The plan's spot offers (the best candidate of each), and the one that runs."""
    assert job.plan is not None
    candidates = [candidate for candidate in job.plan.candidates if on_spot(candidate.placement)]
    here = ""
    if running is Action.SPOT and job.attempt is not None:
        here = offer_of(job.attempt.placement)
        if job.attempt.planned is not None:
            candidates.append(job.attempt.planned)
    left = {offer_of(one.placement) for one in offers_left(job, now, events.CAPACITY_TYPE_SPOT)}
    zones: dict[str, Zone] = {}
    for candidate in candidates:
        offer = offer_of(candidate.placement)
        if offer in zones:
            continue
        available = offer == here or offer in left
        if running is not None and offer != here and available:
            # To try costs nothing where nothing runs; a machine that runs is not given up for a perhaps.
            available = market.chance_up(offer, now) >= SURE_ENOUGH
        belief = market.model.seen(market.belief(offer, now), available)
        zones[offer] = Zone(offer, available, _usd_per_hour(candidate, fallback), belief)
    return tuple(zones.values())
