"""What the planner learns from a job's life and tells of its decisions, on a real PostgreSQL: replays, corrections,
hazards, prices that move, users' own models."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import update

from services.optimizer import catalogue, domain, loops, replay
from services.optimizer.completion import DENIAL_SECONDS
from services.optimizer.handlers import HANDLERS
from services.optimizer.loops import Planner
from services.optimizer.profiler import ProfileError
from services.optimizer.store import EXPOSED_DAYS, Store
from services.optimizer.tables import CorrectionRow, DenialRow, MeasurementRow, PlanRow
from services.optimizer.values import Offer
from sskai import contract, testing
from sskai.database import Database
from sskai.events import v1 as events
from tests.optimizer.made import COUNTED, NOW, submitted
from tests.optimizer.test_service import KnownCode, KnownProfile, World, denied, key_of, observed, requeued

SERVICE = "optimizer"
ONLY_C5 = events.Resources(instance_types=["c5.xlarge"])
OFFERS = catalogue.offers_by_key()


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


class KnownMethods(KnownProfile):
    """Tells full fine-tuning from LoRA."""

    async def profile(self, request: dict[str, Any]) -> dict[str, Any]:
        return COUNTED[f"smollm2-135m/{request['method']}"]


def started(attempt: int, placement: events.Placement, job_id: str = "job_1") -> events.AttemptStarted:
    return events.AttemptStarted(job_id=job_id, tenant_id="tenant_a", attempt=attempt, placement=placement)


def finished(attempt: int, median_step_seconds: float = 0.0) -> events.AttemptFinished:
    return events.AttemptFinished(
        job_id="job_1",
        tenant_id="tenant_a",
        attempt=attempt,
        succeeded=True,
        median_step_seconds=median_step_seconds,
    )


def saved(step: int, tenant_id: str = "tenant_a", **fields: float) -> events.CheckpointCommitted:
    return events.CheckpointCommitted(job_id="job_1", tenant_id=tenant_id, attempt=1, step=step, **fields)


def asked_again(plan_id: str, policy: str = "", tenant_id: str = "tenant_a") -> events.PlanReplayRequested:
    return events.PlanReplayRequested(plan_id=plan_id, tenant_id=tenant_id, replay_id="replay_1", policy=policy)


async def replayed(world: World, *request: Any, **fields: Any) -> events.PlanReplayed:
    [answer] = await world.hears(asked_again(*request, **fields))
    assert isinstance(answer, events.PlanReplayed)
    return answer


async def attempts(world: World) -> dict[int, MeasurementRow]:
    return {row.attempt: row for row in await world.rows(MeasurementRow)}


# Replays


async def test_a_plan_is_replayed_equal_to_the_bit(world: World) -> None:
    [plan] = await world.hears(submitted())
    answer = await replayed(world, plan.plan_id)
    assert (answer.plan_id, answer.tenant_id, answer.replay_id) == (plan.plan_id, "tenant_a", "replay_1")
    assert (answer.problem, answer.equal, list(answer.differences)) == ("", True, [])
    assert answer.stored_choice == answer.choice == plan.candidates[0]
    assert (answer.snapshot_hash, answer.explanation) == (plan.snapshot_hash, plan.explanation)
    assert answer.planner_version == answer.stored_planner_version == domain.PLANNER_VERSION


async def test_a_refusal_is_replayed_equal_to_the_bit(world: World) -> None:
    [refusal] = await world.hears(submitted(budget_usd=0.0))
    answer = await replayed(world, refusal.plan_id)
    assert (answer.problem, answer.equal, list(answer.differences)) == ("", True, [])
    assert not answer.HasField("stored_choice")
    assert not answer.HasField("choice")
    assert answer.explanation == f"{refusal.detail} {refusal.advice}"


@pytest.mark.parametrize("policy", sorted(replay.POLICIES))
async def test_another_policy_answers_with_both_choices(world: World, policy: str) -> None:
    [plan] = await world.hears(submitted())
    answer = await replayed(world, plan.plan_id, policy)
    assert (answer.problem, answer.policy, answer.equal) == ("", policy, True), "equal speaks of the stored decision"
    assert answer.stored_choice == plan.candidates[0]
    same = (answer.choice.placement, answer.choice.machine_count) == (
        plan.candidates[0].placement,
        plan.candidates[0].machine_count,
    )
    assert same is (not answer.differences)
    if policy in ("cheapest", "spot"):
        assert same, "that is what was asked for, and it is spot"
    if policy in ("on-demand", "naive"):
        assert answer.choice.placement.capacity_type == events.CAPACITY_TYPE_ON_DEMAND
        assert answer.choice.total_usd.expected > plan.candidates[0].total_usd.expected
    if policy == "naive":
        assert answer.choice.placement.instance_type == replay.NAIVE_TYPE
        assert f"naive takes {key_of(answer.choice.placement)} instead of" in answer.differences[0]
    if policy == "fastest":
        assert answer.choice.hours.expected < plan.candidates[0].hours.expected


async def test_a_policy_may_find_something_where_the_plan_was_refused(world: World) -> None:
    without = {"checkpoint": events.CheckpointPolicy(disabled=True), "spot_policy": events.SPOT_POLICY_SPOT}
    [refusal] = await world.hears(submitted(**without))
    answer = await replayed(world, refusal.plan_id, "on-demand")
    assert answer.equal
    assert not answer.HasField("stored_choice")
    assert answer.choice.placement.capacity_type == events.CAPACITY_TYPE_ON_DEMAND
    assert "where the plan was refused" in answer.differences[0]


async def test_what_cannot_be_replayed_is_a_problem_in_words(world: World) -> None:
    [plan] = await world.hears(submitted())
    unknown = await replayed(world, plan.plan_id, "dearest")
    assert "policy 'dearest' is not known; known are cheapest, " in unknown.problem
    nowhere, elsewhere = await replayed(world, "plan_0"), await replayed(world, plan.plan_id, tenant_id="tenant_b")
    assert nowhere.problem == elsewhere.problem
    assert "no such plan" in nowhere.problem
    for answer in (unknown, nowhere, elsewhere):
        assert not answer.equal
        assert not answer.HasField("stored_choice")
        assert not answer.HasField("choice")
    assert elsewhere.snapshot_hash == elsewhere.stored_planner_version == "", "nothing of another tenant's is told"


async def test_inputs_of_another_version_are_a_problem(world: World) -> None:
    [plan] = await world.hears(submitted())
    [row] = await world.rows(PlanRow)
    inputs = json.loads(row.inputs)
    del inputs["profile"]["linear_parameters"]
    async with world.database.transaction() as session:
        await session.execute(update(PlanRow).values(inputs=json.dumps(inputs), planner_version="1"))
    answer = await replayed(world, plan.plan_id)
    assert "linear_parameters" in answer.problem
    assert "\n" not in answer.problem
    assert (answer.equal, answer.stored_planner_version) == (False, "1")


async def test_a_model_that_was_not_profiled_is_a_problem(database: Database) -> None:
    world = World(database, KnownProfile(ProfileError("config.json names no model_type")))
    [refusal] = await world.hears(submitted())
    assert "nothing to decide" in (await replayed(world, refusal.plan_id)).problem


@pytest.mark.parametrize(
    ("version", "said"),
    [("1", "planner version 1 had decided"), (domain.PLANNER_VERSION, "the same planner version came to a plan")],
)
async def test_a_decision_that_comes_out_otherwise_is_told(world: World, version: str, said: str) -> None:
    [plan] = await world.hears(submitted())
    plan.candidates[0].step_seconds.expected += 1e-9
    async with world.database.transaction() as session:
        event = plan.SerializeToString(deterministic=True)
        await session.execute(update(PlanRow).values(event=event, planner_version=version))
    answer = await replayed(world, plan.plan_id)
    assert (answer.problem, answer.equal) == ("", False)
    assert said in answer.differences[0]


async def test_twenty_stored_plans_are_replayed_equal(database: Database) -> None:
    world = World(database, KnownMethods(), max_workers=8, objects_region="us-east-1")
    deadline = contract.timestamp(datetime.now(UTC) + timedelta(hours=5))
    wishes: list[dict[str, Any]] = [
        {},
        {"budget_usd": 2.0},
        {"budget_usd": 1e-6},
        {"deadline": deadline},
        {"deadline": contract.timestamp(datetime.now(UTC) + timedelta(seconds=5))},
        {"objective": events.OBJECTIVE_FASTEST},
        {"objective": events.OBJECTIVE_FASTEST_WITHIN_BUDGET, "budget_usd": 1.0},
        {"spot_policy": events.SPOT_POLICY_SPOT},
        {"spot_policy": events.SPOT_POLICY_ON_DEMAND},
        {"resources": events.Resources(nodes="2")},
        {"resources": events.Resources(regions=["eu-west-1"])},
        {"checkpoint": events.CheckpointPolicy(disabled=True)},
        {"hyperparameters": events.Hyperparameters(gradient_checkpointing=True, batch_size=16)},
    ]
    jobs = [submitted(f"job_{number}", **wish) for number, wish in enumerate(wishes)]
    full = submitted("job_full")
    full.spec.model.method = "full"
    plans = await world.hears(*jobs, full)
    [best] = [plan.candidates[0] for plan in plans if plan.job_id == "job_1"]
    life: list[Message] = [
        started(1, best.placement),
        events.AttemptProgressed(
            job_id="job_1", tenant_id="tenant_a", attempt=1, phase="training", step=5, step_seconds=3.7
        ),
        saved(60, save_seconds=11.3, stall_seconds=0.7),
        requeued(1, steps_done=60, spent_usd=0.01),
    ]
    plans += await world.hears(*life)
    plans += await world.hears(denied(key_of(best.placement)))
    plans += await world.hears(
        observed(OFFERS[key_of(best.placement)], 0.0123456789, datetime.now(UTC)), submitted("job_after")
    )
    plans += await world.hears(
        *(events.PlanRequested(job_id=f"job_p{n}", tenant_id="tenant_a", spec=full.spec) for n in range(3))
    )
    assert len(plans) == 20
    assert {type(plan) for plan in plans} == {events.PlanProposed, events.PlanRefused}
    answers = [await replayed(world, plan.plan_id) for plan in plans]
    assert [answer.plan_id for answer in answers if not answer.equal or answer.problem] == []


# What a plan says of itself


async def test_what_measured_attempts_taught_has_a_version(world: World) -> None:
    [first] = await world.hears(submitted(resources=ONLY_C5))
    assert (first.planner_version, first.throughput_version) == (domain.PLANNER_VERSION, "")
    assert await world.rows(CorrectionRow) == []
    step_seconds = first.candidates[0].step_seconds.expected
    await world.hears(started(1, first.candidates[0].placement), finished(1, 2 * step_seconds))
    [second, third] = await world.hears(submitted("job_2", resources=ONLY_C5), submitted("job_3"))
    assert second.throughput_version == third.throughput_version != ""
    [learnt] = await world.rows(CorrectionRow)
    assert learnt.version == second.throughput_version
    [told] = learnt.measured
    assert (told["family"], told["hardware"], told["method"], told["count"]) == ("c5", "cpu", "lora", 1)
    rows = {row.plan_id: row for row in await world.rows(PlanRow)}
    assert rows[second.plan_id].throughput_version == learnt.version
    await world.hears(started(2, first.candidates[0].placement), finished(2, 3 * step_seconds))
    [fourth] = await world.hears(submitted("job_4", resources=ONLY_C5))
    assert fourth.throughput_version not in ("", second.throughput_version)
    assert {row.version for row in await world.rows(CorrectionRow)} == {learnt.version, fourth.throughput_version}


async def test_what_was_learnt_is_kept_as_long_as_the_plans_that_name_it(world: World) -> None:
    [first] = await world.hears(submitted())
    await world.hears(started(1, first.candidates[0].placement), finished(1, 9.0))
    [second] = await world.hears(submitted("job_2"))
    long_ago = datetime.now(UTC) - timedelta(days=91)
    async with world.database.transaction() as session:
        await session.execute(update(CorrectionRow).values(learnt_at=long_ago))
        await session.execute(update(PlanRow).where(PlanRow.plan_id == second.plan_id).values(decided_at=long_ago))
    [third] = await world.hears(submitted("job_3"))
    assert third.throughput_version == second.throughput_version
    await world.planner.forget_old_plans()
    assert [row.version for row in await world.rows(CorrectionRow)] == [third.throughput_version]
    assert second.plan_id not in {row.plan_id for row in await world.rows(PlanRow)}


async def test_a_deadline_has_a_point_of_no_return(world: World) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=30)
    [with_deadline, without] = await world.hears(
        submitted(deadline=contract.timestamp(deadline), resources=ONLY_C5), submitted("job_2", resources=ONLY_C5)
    )
    steady = [
        each.hours.high
        for each in with_deadline.candidates
        if each.placement.capacity_type == events.CAPACITY_TYPE_ON_DEMAND
    ]
    left = deadline - contract.moment(with_deadline.point_of_no_return)
    assert left.total_seconds() / 3600 == pytest.approx(min(steady), rel=1e-6)
    assert not without.HasField("point_of_no_return")


async def test_a_plan_says_how_many_placements_fit(world: World) -> None:
    [all_types, one_type, none] = await world.hears(
        submitted(), submitted("job_2", resources=ONLY_C5), submitted("job_3", budget_usd=0.0)
    )
    assert all_types.fitting > len(all_types.candidates)
    of_c5 = [key for key in OFFERS if "/c5.xlarge/" in key]
    assert one_type.fitting == len(of_c5) >= len(one_type.candidates)
    assert isinstance(none, events.PlanRefused)


async def test_a_jobs_first_plan_names_what_somebody_takes_who_does_not_plan(world: World) -> None:
    """One well-known machine on demand, whatever the job's file narrows; the receipt is compared with it."""
    [first] = await world.hears(submitted(resources=ONLY_C5))
    naive = first.naive
    assert naive.placement.instance_type == replay.NAIVE_TYPE
    assert naive.placement.capacity_type == events.CAPACITY_TYPE_ON_DEMAND
    assert naive.total_usd.expected >= naive.hours.expected * naive.placement.price_usd_per_hour * 0.99
    [rest] = await world.hears(requeued(1, steps_done=10))
    assert not rest.HasField("naive")


async def test_a_plan_names_its_cause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "MOVE_COOLDOWN_SECONDS", 0.0)
    [preview] = await world.hears(events.PlanRequested(job_id="job_p", tenant_id="tenant_a", spec=submitted().spec))
    [first] = await world.hears(large())
    again = requeued(1, steps_done=10)
    again.spec.CopyFrom(large().spec)
    [rest] = await world.hears(again)
    [around] = await world.hears(denied(key_of(rest.candidates[0].placement)))
    [moved] = await prices_move(world, dearer(around, 3))
    causes = [plan.cause for plan in (preview, first, rest, around, moved)]
    assert causes == ["preview", "submitted", "requeued", "denied", "price-moved"]
    assert {row.cause for row in await world.rows(PlanRow)} == set(causes)
    assert [plan.preview for plan in (preview, first, moved)] == [True, False, False]
    assert moved.after_attempt == 1


# Checkpoints


async def test_a_measured_save_sets_the_next_plans_interval(world: World) -> None:
    [first] = await world.hears(submitted(resources=ONLY_C5))
    placement = first.candidates[0].placement
    await world.hears(
        started(1, placement),
        saved(10, save_seconds=30.0, stall_seconds=0.5),
        saved(20, save_seconds=40.0, stall_seconds=0.5),  # the newest word counts
        saved(20, save_seconds=float("nan")),
        saved(20, save_seconds=-5.0),
        saved(20, save_seconds=9.0, stall_seconds=1e9),
        saved(30, tenant_id="tenant_b", save_seconds=500.0),
    )
    assert (await attempts(world))[1].save_seconds == 40.0
    [second] = await world.hears(denied(key_of(placement)))
    one, other = first.candidates[0], second.candidates[0]
    assert other.checkpoint_interval_steps > one.checkpoint_interval_steps
    # Saves run one at a time in the background: never closer than four times what one takes.
    assert (other.checkpoint_interval_steps + 0.5) * other.step_seconds.expected >= 4 * 40
    [other_jobs] = await world.hears(submitted("job_2", resources=ONLY_C5))
    assert other_jobs.candidates[0].checkpoint_interval_steps == one.checkpoint_interval_steps


async def test_what_is_saved_is_not_planned_for_again(world: World) -> None:
    [first] = await world.hears(submitted())
    total: int = first.profile.total_steps

    async def left() -> int:
        async with world.database.transaction() as session:
            job = await Store(session).job("tenant_a", "job_1")
            assert job is not None
            return total - job.steps_done

    await world.hears(started(1, first.candidates[0].placement), saved(60))
    assert await left() == total - 60
    await world.hears(saved(40))
    assert await left() == total - 60, "a late word does not undo what is saved"
    await world.hears(saved(100, tenant_id="tenant_b"))
    assert await left() == total - 60, "another tenant's word is about another job"
    await world.hears(saved(61, save_seconds=float("nan")))
    assert await left() == total - 61, "a broken clock does not undo a save"
    [plan] = await world.hears(denied(key_of(first.candidates[0].placement)))
    assert plan.profile.steps_left == total - 61


# What spot machines were seen to do


async def of(world: World, number: int, region: str, instance_type: str = "g4dn.xlarge") -> events.Candidate:
    """A new job's candidate on spot of this type in this region."""
    only = events.Resources(instance_types=[instance_type], regions=[region])
    job_id = f"job_{region}_{instance_type}_{number}"
    [plan] = await world.hears(submitted(job_id, resources=only, spot_policy=events.SPOT_POLICY_SPOT))
    candidate: events.Candidate = plan.candidates[0]
    return candidate


async def age(world: World, days: float) -> None:
    passed = timedelta(days=days)
    async with world.database.transaction() as session:
        row = MeasurementRow
        await session.execute(update(row).values(started_at=row.started_at - passed, ended_at=row.ended_at - passed))
        await session.execute(
            update(DenialRow).values(denied_at=DenialRow.denied_at - passed, since=DenialRow.since - passed)
        )


async def test_interrupted_attempts_raise_the_hazard_of_their_region_and_type(world: World) -> None:
    before, elsewhere = await of(world, 1, "us-east-1"), await of(world, 1, "us-west-2")
    other_type = await of(world, 1, "us-east-1", "g5.xlarge")
    await world.hears(submitted())
    for attempt in range(1, 4):
        await world.hears(started(attempt, before.placement), requeued(attempt, steps_done=attempt))
    after = await of(world, 2, "us-east-1")
    # A gamma belief of 500 hours, and three interruptions within seconds.
    assert after.interruptions_per_hour == pytest.approx(before.interruptions_per_hour + 3 / 500, rel=1e-3)
    assert after.expected_interruptions > before.expected_interruptions
    assert (await of(world, 2, "us-west-2")).interruptions_per_hour == elsewhere.interruptions_per_hour
    assert (await of(world, 2, "us-east-1", "g5.xlarge")).interruptions_per_hour == other_type.interruptions_per_hour
    await age(world, EXPOSED_DAYS - 0.01)
    assert (await of(world, 3, "us-east-1")).interruptions_per_hour > before.interruptions_per_hour
    await age(world, 0.02)
    assert (await of(world, 4, "us-east-1")).interruptions_per_hour == before.interruptions_per_hour


async def test_attempts_that_the_market_did_not_end_lower_the_hazard(world: World) -> None:
    before = await of(world, 1, "us-east-1")
    await world.hears(submitted())
    for attempt in range(1, 3):
        failed = requeued(attempt)
        failed.reason = "error"
        await world.hears(started(attempt, before.placement), failed)
    assert not any(row.interrupted for row in await world.rows(MeasurementRow))
    async with world.database.transaction() as session:
        row = MeasurementRow
        await session.execute(update(row).values(started_at=row.started_at - timedelta(hours=100)))
    after = await of(world, 2, "us-east-1")
    assert after.interruptions_per_hour == pytest.approx(before.interruptions_per_hour * 500 / 700, rel=1e-3)


async def test_denials_raise_the_seconds_that_a_launch_waits(database: Database) -> None:
    world = World(database, denial_seconds=0.0)
    before, elsewhere = await of(world, 1, "us-east-1"), await of(world, 1, "us-west-2")
    await world.hears(*(denied(key_of(before.placement), "") for _ in range(20)))
    after = await of(world, 2, "us-east-1")
    # One of twenty was expected; twenty of twenty were seen: 21 of 40.
    assert before.seconds.waiting == pytest.approx(0.05 * DENIAL_SECONDS, rel=0.01)
    assert after.seconds.waiting == pytest.approx(21 / 40 * DENIAL_SECONDS, rel=0.01)
    assert (await of(world, 2, "us-west-2")).seconds.waiting == elsewhere.seconds.waiting
    await age(world, EXPOSED_DAYS + 0.01)
    assert (await of(world, 3, "us-east-1")).seconds.waiting == before.seconds.waiting
    await world.hears(denied(key_of(before.placement), ""))
    [row] = await world.rows(DenialRow)
    assert row.denials == 1, "its bad day is forgotten"


# The end of attempts


ENDS: list[tuple[Message, bool]] = [
    (requeued(1), True),
    (finished(1), False),
    (events.JobSucceeded(job_id="job_1", tenant_id="tenant_a"), False),
    (events.JobFailed(job_id="job_1", tenant_id="tenant_a"), False),
    (events.JobCancelled(job_id="job_1", tenant_id="tenant_a"), False),
]


@pytest.mark.parametrize(("end", "interrupted"), ENDS, ids=[type(end).__name__ for end, _ in ENDS])
async def test_an_attempt_ends_once(world: World, end: Message, interrupted: bool) -> None:
    [plan] = await world.hears(submitted())

    async def happens(event: Message, minutes: float) -> MeasurementRow:
        await testing.handle(HANDLERS, world.database, Store, event, NOW + timedelta(minutes=minutes))
        return (await attempts(world))[1]

    assert (await happens(started(1, plan.candidates[0].placement), 0)).ended_at is None
    others = [type(other).FromString(other.SerializeToString()) for other, _ in ENDS[1:]]
    for other in others:
        other.tenant_id = "tenant_b"
        assert (await happens(other, 1)).ended_at is None, f"another tenant's {type(other).__name__}"
    row = await happens(end, 2)
    assert (row.ended_at, row.interrupted) == (NOW + timedelta(minutes=2), interrupted)
    for number, (later, _) in enumerate(ENDS):
        row = await happens(later, 3 + number)
        assert (row.ended_at, row.interrupted) == (NOW + timedelta(minutes=2), interrupted)


async def test_only_the_attempt_that_is_named_ends(world: World) -> None:
    [plan] = await world.hears(submitted())
    placement = plan.candidates[0].placement
    await world.hears(started(1, placement), requeued(1), started(2, placement))
    rows = await attempts(world)
    assert rows[1].ended_at is not None
    assert rows[2].ended_at is None


@pytest.mark.parametrize("end", [requeued(1), events.JobCancelled(job_id="job_1", tenant_id="tenant_a")])
async def test_an_attempt_whose_start_is_heard_after_its_end_is_not_running(world: World, end: Message) -> None:
    """They come by two topics."""
    [plan] = await world.hears(submitted())
    await world.hears(end, started(1, plan.candidates[0].placement))
    assert (await attempts(world))[1].ended_at is not None


async def test_an_attempt_on_a_type_of_an_earlier_plan_is_running_as_well(world: World) -> None:
    """The next plan may be made while the machine is ordered."""
    [first] = await world.hears(submitted(resources=events.Resources(instance_types=["c5.xlarge", "g4dn.xlarge"])))
    of_c5 = [each.placement for each in first.candidates if each.placement.instance_type == "c5.xlarge"]
    assert of_c5
    [second] = await world.hears(*(denied(key) for key in OFFERS if "/c5.xlarge/" in key))
    assert {each.placement.instance_type for each in second.candidates} == {"g4dn.xlarge"}
    await world.hears(started(1, of_c5[0]))
    [row] = await world.rows(MeasurementRow)
    assert (row.instance_type, row.family, row.ended_at) == ("c5.xlarge", "c5", None)


# Prices that move


def large(job_id: str = "job_1", **fields: Any) -> events.JobSubmitted:
    """A job that costs dollars, so that moving it may be worth it."""
    return submitted(job_id, hyperparameters=events.Hyperparameters(n_epochs=400.0), **fields)


def dearer(plan: events.PlanProposed, times: float) -> tuple[Offer, float]:
    """The plan's choice at so many times its price."""
    best = plan.candidates[0].placement
    return OFFERS[key_of(best)], best.price_usd_per_hour * times


async def prices_move(world: World, *prices: tuple[Offer, float]) -> list[Any]:
    """These prices are observed, one turn of the loop, and the plans that it asks for."""
    for offer, usd in prices:
        await testing.handle(HANDLERS, world.database, Store, observed(offer, usd, datetime.now(UTC)))
    await world.planner.replan_where_prices_moved()
    return await world.plans()


@pytest.fixture
def without_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "MOVE_COOLDOWN_SECONDS", 0.0)


@pytest.mark.usefixtures("without_cooldown")
async def test_a_job_that_waits_leaves_an_offer_whose_price_triples(world: World) -> None:
    [first] = await world.hears(large())
    [second] = await prices_move(world, dearer(first, 3))
    assert (second.cause, second.job_id, second.tenant_id) == ("price-moved", "job_1", "tenant_a")
    assert key_of(second.candidates[0].placement) != key_of(first.candidates[0].placement)


@pytest.mark.usefixtures("without_cooldown")
async def test_a_job_that_waits_goes_where_a_price_falls_far(world: World) -> None:
    [first] = await world.hears(large())
    other = OFFERS["aws/us-east-1/*/c5.4xlarge/spot"]
    assert key_of(first.candidates[0].placement) != other.key
    [second] = await prices_move(world, (other, 0.001))
    assert (second.cause, key_of(second.candidates[0].placement)) == ("price-moved", other.key)


@pytest.mark.usefixtures("without_cooldown")
@pytest.mark.parametrize("times", [0.9, 0.99, 1.01, 1.04, 1.08])
async def test_a_wiggle_moves_no_job(world: World, times: float) -> None:
    """Not even where the choice falls out of the short list, which names only a few zones of each type."""
    [first] = await world.hears(large())
    assert await prices_move(world, dearer(first, times)) == []


@pytest.mark.usefixtures("without_cooldown")
async def test_one_market_moves_a_job_once(world: World) -> None:
    [first] = await world.hears(large())
    away = dearer(first, 3)
    [second] = await prices_move(world, away)
    assert await prices_move(world) == []
    world.planner = Planner(world.database, world.planner.settings, world.profiler, world.code)  # another replica
    assert await prices_move(world) == []
    back = (OFFERS[key_of(second.candidates[0].placement)], second.candidates[0].placement.price_usd_per_hour * 3)
    [third] = await prices_move(world, back)
    assert third.cause == "price-moved", "another market is another cause"


async def test_a_new_plan_stands_for_a_while_and_is_then_held_against_the_market(world: World) -> None:
    [first] = await world.hears(large())
    assert await prices_move(world, dearer(first, 3)) == []
    [kept] = await world.rows(PlanRow)
    async with world.database.transaction() as session:
        decided_at = kept.decided_at - timedelta(seconds=loops.MOVE_COOLDOWN_SECONDS)
        await session.execute(update(PlanRow).values(decided_at=decided_at))
    world.planner = Planner(world.database, world.planner.settings, world.profiler, world.code)
    [second] = await prices_move(world)
    assert second.cause == "price-moved"


async def test_a_saving_of_cents_is_not_worth_a_new_plan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "MOVE_COOLDOWN_SECONDS", 0.0)
    [first] = await world.hears(submitted())
    assert first.candidates[0].total_usd.expected < domain.MOVE_USD / 2
    assert await prices_move(world, dearer(first, 3)) == []


async def test_a_job_whose_cooldown_ends_is_held_against_prices_that_had_moved_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = await world.hears(large())
    assert await prices_move(world, dearer(first, 3)) == []
    monkeypatch.setattr(loops, "MOVE_COOLDOWN_SECONDS", 0.0)
    [second] = await prices_move(world)
    assert second.cause == "price-moved"


@pytest.mark.usefixtures("without_cooldown")
async def test_a_job_that_runs_is_left_where_it_is(world: World) -> None:
    [first] = await world.hears(large())
    await world.hears(started(1, first.candidates[0].placement))
    assert await prices_move(world, dearer(first, 3)) == []
    again = requeued(1)
    again.spec.CopyFrom(large().spec)
    [rest] = await world.hears(again)
    [moved] = await prices_move(world, dearer(rest, 3))
    assert (moved.cause, moved.after_attempt) == ("price-moved", 1)


@pytest.mark.usefixtures("without_cooldown")
async def test_ended_jobs_refusals_and_previews_are_not_planned_again(world: World) -> None:
    [first, _refusal, _preview] = await world.hears(
        large(),
        large("job_2", budget_usd=0.0),
        events.PlanRequested(job_id="job_p", tenant_id="tenant_a", spec=large().spec),
    )
    await world.hears(events.JobCancelled(job_id="job_1", tenant_id="tenant_a"))
    assert await prices_move(world, dearer(first, 3)) == []


@pytest.mark.usefixtures("without_cooldown")
async def test_a_plan_of_another_version_stands_and_does_not_stop_the_others(world: World) -> None:
    [first, _] = await world.hears(large(), large("job_2"))
    async with world.database.transaction() as session:
        await session.execute(update(PlanRow).where(PlanRow.job_id == "job_1").values(inputs='{"request": {}}'))
    [moved] = await prices_move(world, dearer(first, 3))
    assert moved.job_id == "job_2"


# Users' own models


CODE_URI = "s3://sskai/tenants/tenant_a/code/0123.zip"
COUNTS = {
    "parameters": 1_000_000,
    "trainable_parameters": 1_000_000,
    "buffers_bytes": 0,
    "flops_forward_per_sample": 2_000_000,
    "flops_backward_per_sample": 4_000_000,
    "activation_bytes_per_sample": 50_000,
    "peak_bytes_two_samples": 20_000_000,
    "samples": 1_000,
    "held_out_samples": 200,
    "sample_bytes": 264,
    "dtype": "float32",
    "learning_rate": 1e-3,
}


def with_code(job_id: str = "job_1", **fields: Any) -> events.JobSubmitted:
    event = submitted(job_id, **fields)
    event.spec.kind = "train"
    event.spec.ClearField("dataset")
    event.spec.model.CopyFrom(events.ModelRef(model_id="model_1", method="scratch", code_uri=CODE_URI))
    return event


async def test_a_users_own_model_is_planned_from_the_samples_in_its_zip(database: Database) -> None:
    world = World(database, code=KnownCode(COUNTS))
    wishes = events.Hyperparameters(n_epochs=2.0, batch_size=10)
    [plan] = await world.hears(with_code(hyperparameters=wishes))
    assert isinstance(plan, events.PlanProposed)
    assert (plan.profile.parameters, plan.profile.trainable_parameters) == (1_000_000, 1_000_000)
    assert plan.profile.flops_per_token == 6_000_000
    assert (plan.profile.total_steps, plan.profile.sequence_length) == (2 * 1_000 // 10, 1)
    assert world.profiler.asked == [], "no transformers model is counted"
    [row] = await world.rows(PlanRow)
    assert row.method == "scratch"
    assert (await replayed(world, plan.plan_id)).equal


async def test_a_zip_is_profiled_once(database: Database) -> None:
    world = World(database, code=KnownCode(COUNTS))
    assert len(await world.hears(with_code(), with_code("job_2"))) == 2
    [_] = await world.hears(requeued_code(1))
    assert world.code.asked == [CODE_URI]


def requeued_code(attempt: int) -> events.JobRequeued:
    event = requeued(attempt)
    event.spec.CopyFrom(with_code().spec)
    return event


async def test_a_mistake_in_the_users_code_refuses_the_plan(database: Database) -> None:
    world = World(database, code=KnownCode(COUNTS, ProfileError("model.py: forward() raised KeyError: 'x'")))
    [refusal] = await world.hears(with_code())
    assert isinstance(refusal, events.PlanRefused)
    assert (refusal.reason, refusal.detail) == ("model", "model.py: forward() raised KeyError: 'x'")
    assert "model.py" in refusal.advice
    assert "config_json" not in refusal.advice, "there is none"
    [again] = await world.hears(with_code("job_2"))
    assert isinstance(again, events.PlanProposed), "a refusal is not remembered"


# The specification's wishes


async def test_a_job_without_checkpoints_is_kept_off_spot(world: World) -> None:
    [plan] = await world.hears(submitted(checkpoint=events.CheckpointPolicy(disabled=True)))
    assert {each.placement.capacity_type for each in plan.candidates} == {events.CAPACITY_TYPE_ON_DEMAND}
    assert {each.reason for each in plan.rejections} >= {"checkpoints"}
    assert {each.checkpoint_interval_steps for each in plan.candidates} == {plan.profile.total_steps}


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_users_word_on_gradient_checkpointing_is_kept(world: World, wanted: bool) -> None:
    wishes = events.Hyperparameters(gradient_checkpointing=wanted)
    [plan] = await world.hears(submitted(hyperparameters=wishes))
    assert {each.gradient_checkpointing for each in plan.candidates} == {wanted}


@pytest.mark.parametrize(("nodes", "counts"), [("", {1, 2, 4}), ("2", {2}), ("2+", {2, 4}), ("1..2", {1, 2})])
async def test_the_number_of_machines_is_as_asked(database: Database, nodes: str, counts: set[int]) -> None:
    world = World(database, max_workers=4)
    resources = events.Resources(instance_types=["c5.xlarge"], nodes=nodes)
    [plan] = await world.hears(submitted(resources=resources))
    told = {each.machine_count for each in plan.candidates}
    assert told <= counts
    assert plan.fitting == len([key for key in OFFERS if "/c5.xlarge/" in key])
    assert all(each.workers == each.machine_count for each in plan.candidates)
