"""Interruptions on a real database and a small real cluster: the successor that stands by, failover, lists that lag."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from services.scheduler import standby
from services.scheduler.watching import MAX_DELETES_PER_TURN, MAX_TRIES_FOR_GONE
from sskai.cluster import ClusterUnavailableError, NoCapacityError, Observation, PodState
from sskai.contract import moment, timestamp
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.examples import START, candidate, placement, progressed, proposed, submitted
from tests.scheduler.stage import Stage

SERVICE = "scheduler"
FIRST, SECOND, THIRD = "m-job-1-1", "m-job-1-2", "m-job-1-3"
ZONES = [f"aws/us-east-1/{zone}/g5.xlarge/spot" for zone in ("use1-az1", "use1-az2")]


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def notice(stage: Stage, machine: str = FIRST, seconds: float = 120) -> events.InterruptionNoticed:
    at = timestamp(stage.now + timedelta(seconds=seconds))
    return events.InterruptionNoticed(
        machine_id=machine,
        action="terminate",
        notice_seconds=seconds,
        noticed_at=timestamp(stage.now),
        terminates_at=at,
    )


def drained(attempt: int, step: int = 42) -> events.AttemptDrained:
    return events.AttemptDrained(job_id="job_1", tenant_id="tenant_a", attempt=attempt, step=step)


async def stand_by(stage: Stage) -> None:
    """The first attempt has its notice, and the second stands by in the other zone."""
    await stage.run_first_attempt(fresh=True)
    await stage.tell(progressed(1, 42))
    await stage.turn(10)
    await stage.tell(notice(stage))
    await stage.turn()
    assert stage.cluster.running() == [FIRST, SECOND]


# The successor


async def test_a_successor_loads_while_the_noticed_attempt_drains(stage: Stage) -> None:
    await stand_by(stage)
    assert stage.cluster.drained == [FIRST], "the old one saves"
    pod = stage.cluster.pods[SECOND]
    assert (pod.attempt, pod.placement.zone) == (2, "use1-az2"), "not where the machine is being taken"
    awaits = json.loads(pod.env["SSKAI_AWAITS"])
    assert awaits == {"attempt": 1, "until": (stage.now + timedelta(seconds=120)).isoformat()}
    assert json.loads(pod.env["SSKAI_PREVIOUS"])["attempt"] == 1
    (started,) = stage.heard(events.AttemptStarted)
    assert started.attempt == 2
    job = await stage.job()
    assert (job.state, job.current_attempt, job.successor_attempt, job.attempts) == ("draining", 1, 2, 2)


async def test_the_draining_attempt_still_counts_and_the_successor_does_not_yet(stage: Stage) -> None:
    await stand_by(stage)
    await stage.tell(progressed(2, 99), progressed(1, 43))
    await stage.tell(events.CheckpointCommitted(job_id="job_1", attempt=1, step=43, uri="s3://sskai/c-43"))
    job = await stage.job()
    assert (job.steps_told, job.steps_saved, job.checkpoint_uri) == (43, 43, "s3://sskai/c-43")


@pytest.mark.parametrize("seconds", [120, 60])
async def test_a_notice_that_comes_again_launches_no_second_successor(stage: Stage, seconds: float) -> None:
    """In the cloud's words and in the cluster's, or by a queue that gives a message out again; it may be earlier."""
    await stand_by(stage)
    await stage.tell(notice(stage, seconds=seconds), notice(stage, seconds=seconds))
    for _ in range(5):
        await stage.turn(1)
    job = await stage.job()
    assert (job.state, job.current_attempt, job.successor_attempt, job.attempts) == ("draining", 1, 2, 2)
    assert stage.cluster.running() == [FIRST, SECOND]


async def test_a_drained_attempt_hands_over_without_another_launch(stage: Stage) -> None:
    await stand_by(stage)
    await stage.turn(8)
    await stage.tell(drained(1, 44))
    (requeued,) = stage.heard(events.JobRequeued)
    assert (requeued.attempt, requeued.reason, requeued.steps_done) == (1, "spot-interrupted", 44)
    job = await stage.job()
    assert (job.state, job.current_attempt, job.successor_attempt) == ("running", 2, None)
    await stage.tell(proposed(after_attempt=1, at=stage.now))
    await stage.turn(1)
    assert FIRST in stage.cluster.running(), "its last act, by which the successor knows its end, may follow"
    stage.cluster.exit(FIRST, 75)
    await stage.turn(1)
    assert stage.cluster.running() == [SECOND]
    assert (await stage.job()).attempts == 2
    await stage.tell(progressed(2, 45))
    assert (await stage.job()).steps_told == 45
    await stage.tell(progressed(1, 99), drained(1, 99))
    assert (await stage.job()).steps_told == 45, "the first one is fenced"
    rows = await stage.ledger_holds()
    assert {row.attempt for row in rows} == {1, 2}, "both machines are paid for"
    paid_twice = [moment(row.started_at) for row in rows if row.attempt == 2]
    assert min(paid_twice) == START + timedelta(seconds=10)


@pytest.mark.parametrize("way", ["killed", "vanished", "late"])
async def test_an_attempt_that_ends_without_a_drain_hands_over_too(stage: Stage, way: str) -> None:
    await stand_by(stage)
    if way == "killed":
        stage.cluster.interrupt(FIRST)
        await stage.turn(1)
    elif way == "vanished":
        await stage.tell(events.MachineLost(machine_id=FIRST))
        await stage.turn(4)
    else:
        await stage.turn(121)
    job = await stage.job()
    assert (job.state, job.current_attempt) == ("running", 2)
    await stage.turn(6)
    assert stage.cluster.running() == [SECOND]


@pytest.mark.parametrize(
    "proof",
    [
        events.CheckpointCommitted(job_id="job_1", attempt=2, step=50, uri="s3://sskai/c-50"),
        events.AttemptResumed(job_id="job_1", attempt=2, from_attempt=1, from_step=44),
        events.AttemptFinished(job_id="job_1", attempt=2, succeeded=True, artifact_uri="s3://sskai/a"),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_a_successor_that_wrote_has_taken_over_whatever_became_of_the_last_word(
    stage: Stage, proof: object
) -> None:
    await stand_by(stage)
    await stage.tell(proof)  # type: ignore[arg-type]
    job = await stage.job()
    assert job.current_attempt == 2
    assert job.state == ("succeeded" if isinstance(proof, events.AttemptFinished) else "running")
    assert (await stage.attempt(1)).ended_at is not None
    await stage.turn(6)
    assert FIRST not in stage.cluster.running()


@pytest.mark.parametrize("end", ["cancel", "fail", "succeed"])
async def test_the_end_of_the_job_is_the_end_of_the_successor(stage: Stage, end: str) -> None:
    await stand_by(stage)
    words = {
        "cancel": events.JobCancelRequested(job_id="job_1", tenant_id="tenant_a"),
        "fail": events.AttemptFinished(job_id="job_1", attempt=1, reason="nan-loss", detail="step 44"),
        "succeed": events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/a"),
    }
    await stage.tell(words[end])
    lost = stage.heard(events.AttemptLost)
    assert [(one.attempt, one.reason) for one in lost] == [(2, "not-needed")]
    await stage.turn(1)
    assert SECOND not in stage.cluster.running()
    if end == "cancel":
        await stage.tell(drained(1))
    assert (await stage.job()).state == {"cancel": "cancelled", "fail": "failed", "succeed": "succeeded"}[end]
    await stage.turn(1)
    assert not stage.cluster.running()
    ends = (events.JobCancelled, events.JobFailed, events.JobSucceeded)
    (ended,) = [one for one in stage.history if isinstance(one, ends)]
    assert len(await stage.ledger_holds()) == ended.metered_intervals


async def test_a_denied_successor_gives_way_to_the_next_offer_and_then_to_the_ordinary_way(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    stage.cluster.denied = {ZONES[1]}
    await stage.tell(notice(stage))
    await stage.turn()
    assert (await stage.job()).state == "draining"
    assert [one.offer for one in stage.heard(events.CapacityDenied)] == [ZONES[1]]
    assert stage.cluster.running() == [FIRST]
    await stage.tell(drained(1))
    stage.cluster.denied.clear()
    await stage.turn(120)
    await stage.turn(1)
    (machine,) = stage.cluster.running()
    assert "SSKAI_AWAITS" not in stage.cluster.pods[machine].env


async def test_a_successor_that_dies_does_not_touch_the_attempt_that_drains(stage: Stage) -> None:
    await stand_by(stage)
    stage.cluster.exit(SECOND, 70)
    await stage.turn(4)
    job = await stage.job()
    assert (job.state, job.current_attempt) == ("draining", 1)
    assert [(one.attempt, one.reason) for one in stage.heard(events.AttemptLost)] == [(2, "error")]
    assert (await stage.attempt(1)).ended_at is None


async def test_a_notice_for_the_successor_ends_the_successor(stage: Stage) -> None:
    await stand_by(stage)
    await stage.tell(notice(stage, SECOND))
    assert (await stage.job()).successor_attempt != 2
    await stage.turn(1)
    assert FIRST in stage.cluster.running()
    assert SECOND not in stage.cluster.running()


async def test_successors_are_tried_three_times_at_most(stage: Stage) -> None:
    await stand_by(stage)
    for _ in range(10):
        for machine in set(stage.cluster.running()) - {FIRST}:
            stage.cluster.interrupt(machine)
        await stage.turn(4)
    assert (await stage.job()).attempts == 1 + standby.MAX_TRIES


@pytest.mark.parametrize(("budget", "stands_by"), [(0.10, True), (0.025, False)])
async def test_a_successor_is_only_launched_if_the_money_pays_for_both(
    stage: Stage, budget: float, stands_by: bool
) -> None:
    # The plan costs 0.022 USD, which both budgets pay for; 120 s at 0.36 and at 0.40 USD/h are 0.025 USD more.
    await stage.tell(submitted(budget_usd=budget), proposed(total_steps=1, at=stage.now))
    await stage.turn()
    assert stage.cluster.running() == [FIRST]
    await stage.tell(notice(stage))
    await stage.turn()
    assert (len(stage.cluster.running()) == 2) is stands_by
    assert stage.cluster.drained == [FIRST]


async def test_a_short_notice_drains_and_launches_nothing_beside(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    await stage.tell(notice(stage, seconds=3))
    await stage.turn()
    assert stage.cluster.drained == [FIRST]
    assert stage.cluster.running() == [FIRST]


@pytest.mark.parametrize("crash", ["after the number", "after the launch"])
@pytest.mark.parametrize("meanwhile", ["nothing", "drained"])
async def test_a_crash_around_the_successors_launch_repairs_itself(stage: Stage, crash: str, meanwhile: str) -> None:
    await stage.run_first_attempt(fresh=True)
    await stage.tell(notice(stage))
    launch = stage.cluster.launch

    async def dying(pod):  # type: ignore[no-untyped-def]
        if crash == "after the launch":
            await launch(pod)
        raise KilledError

    stage.cluster.launch = dying  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        await stage.turn()
    stage.cluster.launch = launch  # type: ignore[method-assign]
    await stage.restart()
    if meanwhile == "drained":
        await stage.tell(drained(1))
    await stage.turn(1)
    job = await stage.job()
    assert job.attempts == 2
    assert SECOND in stage.cluster.running()
    if meanwhile == "drained":
        assert (job.state, job.current_attempt) == ("running", 2)
        await stage.turn(6)
        assert stage.cluster.running() == [SECOND]
    else:
        assert (job.state, job.successor_attempt) == ("draining", 2)
    await stage.turn(1)
    assert len([one for one in stage.history if isinstance(one, events.AttemptStarted) and one.attempt == 2]) == 1


class KilledError(BaseException):
    """Nothing that runs in the process sees the end of it."""


# Failover


async def test_a_lost_machine_is_replaced_at_once_by_an_alternate_of_the_fresh_plan(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    stage.cluster.interrupt(FIRST)
    await stage.turn(1)
    assert [one.reason for one in stage.heard(events.JobRequeued)] == ["spot-interrupted"]
    await stage.turn(0)
    assert stage.cluster.running() == [SECOND]
    assert stage.cluster.pods[SECOND].placement.zone == "use1-az2"
    newer = proposed(after_attempt=1, at=stage.now)
    newer.plan_id = "newer"
    await stage.tell(newer)
    stored = (await stage.job()).plan
    assert stored is not None
    assert events.PlanProposed.FromString(stored).plan_id == "newer", "the next failover goes by the new plan"
    assert (await stage.job()).state == "running"


async def test_three_fruitless_recoveries_an_hour_are_enough_and_the_user_is_told(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    for _ in range(40):
        for machine in stage.cluster.running():
            stage.cluster.interrupt(machine)
        await stage.turn(30)
    assert (await stage.job()).attempts == 4
    held = [one for one in stage.history if isinstance(one, events.JobHeld) and one.rule == "backoff"]
    assert len(held) == 1
    assert "no newer checkpoint" in held[0].detail
    await stage.tell(proposed(after_attempt=4, at=stage.now))
    await stage.turn(3600)
    assert (await stage.job()).attempts == 5


async def test_a_job_file_that_does_not_list_interruptions_fails_at_the_first(stage: Stage) -> None:
    job = submitted()
    job.spec.retry.on_events.extend(["no-capacity", "error"])
    await stage.tell(job, proposed(at=stage.now))
    await stage.turn()
    await stage.tell(notice(stage))
    await stage.turn()
    assert stage.cluster.running() == [FIRST], "no successor for a job that will not go on"
    await stage.tell(drained(1))
    (failed,) = stage.heard(events.JobFailed)
    assert failed.reason == "spot-interrupted"
    assert "retry.on_events" in failed.advice


async def test_out_of_memory_moves_to_a_larger_machine_of_the_plan(stage: Stage) -> None:
    plan = proposed(at=stage.now)
    plan.candidates[2].usable_bytes *= 2
    await stage.tell(submitted(), plan)
    await stage.turn()
    finished = events.AttemptFinished(job_id="job_1", attempt=1, reason="out-of-memory", detail="at step 1")
    await stage.tell(finished)
    for _ in range(3):
        await stage.turn(700)  # no spot is large enough; patience for it runs out
    (machine,) = stage.cluster.running()
    assert stage.cluster.pods[machine].placement.zone == "*"
    finished.attempt = 2
    await stage.tell(finished)
    (failed,) = stage.heard(events.JobFailed)
    assert "larger machine" in failed.advice


# What the cluster says


async def test_a_notice_in_the_clusters_own_words_drains(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    stage.cluster.says(FIRST, terminates_at=stage.now + timedelta(seconds=90))
    await stage.turn(1)
    await stage.turn()
    assert stage.cluster.drained == [FIRST]
    job = await stage.job()
    assert job.stop_by == START + timedelta(seconds=90)
    assert stage.cluster.running() == [FIRST, SECOND]


async def test_a_pod_that_waited_too_long_for_capacity_counts_as_denied(stage: Stage) -> None:
    await stage.run_first_attempt(fresh=True)
    stage.cluster.says(FIRST, denied=True, pending="0/3 nodes are available")
    await stage.turn(1)
    (denied,) = stage.heard(events.CapacityDenied)
    assert (denied.offer, denied.detail) == (ZONES[0], "0/3 nodes are available")
    await stage.turn()
    assert stage.cluster.running() == [SECOND]
    assert not [one for one in stage.history if isinstance(one, events.AttemptLost)]
    await stage.ledger_holds()


@pytest.mark.parametrize(("lists", "lost"), [(1, False), (3, True)])
async def test_a_machine_that_lists_lack_is_gone_after_two_in_a_row(stage: Stage, lists: int, lost: bool) -> None:
    await stage.run_first_attempt()
    await stage.turn(60)
    stage.cluster.hidden = {FIRST}
    for _ in range(lists):
        await stage.turn(1)
    stage.cluster.hidden = set()
    await stage.turn(1)
    assert any(isinstance(one, events.AttemptLost) for one in stage.history) is lost


async def test_a_list_that_lags_behind_a_launch_ends_nothing(stage: Stage) -> None:
    stage.cluster.hidden = {FIRST}
    await stage.tell(submitted(), proposed())
    for _ in range(20):
        await stage.turn(1)
    stage.cluster.hidden = set()
    await stage.turn(1)
    assert stage.cluster.running() == [FIRST]
    assert (await stage.job()).state == "running"


async def test_25_failed_status_calls_and_25_cut_heartbeats_relaunch_nothing(stage: Stage) -> None:
    await stage.run_first_attempt()
    for cut in range(25):
        stage.cluster.away = True
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await stage.turn(900)  # longer, all in all, than a pod may be silent
        stage.cluster.away = False
        await stage.turn(1)
        await stage.tell(progressed(1, cut + 1))
    assert stage.cluster.running() == [FIRST]
    assert (await stage.job()).attempts == 1
    assert not stage.cluster.drained


async def test_a_scheduler_that_was_down_for_long_has_heard_nobody_and_ends_nobody(stage: Stage) -> None:
    await stage.run_first_attempt()
    await stage.tell(progressed(1, 1))
    await stage.restart()
    await stage.turn(10 * 3600)
    await stage.turn(1)
    assert (await stage.job()).state == "running"


async def test_a_pod_that_is_silent_while_its_cluster_answers_hangs(database: Database) -> None:
    stage = Stage(database, hang_seconds=300)
    await stage.run_first_attempt(fresh=True)
    await stage.tell(progressed(1, 1))
    for _ in range(11):
        await stage.turn(30)
    assert stage.cluster.drained == [FIRST]
    await stage.turn(61)
    assert [one.reason for one in stage.heard(events.JobRequeued)] == ["hung"]


async def test_a_pod_that_never_tells_anything_is_given_up_with_what_it_waits_for(database: Database) -> None:
    stage = Stage(database, start_seconds=200)
    job = submitted()
    job.spec.retry.max_restarts_on_errors = 0
    await stage.tell(job, proposed())
    await stage.turn()
    stage.cluster.says(FIRST, pending="ImagePullBackOff: registry.example/trainer")
    for _ in range(8):
        await stage.turn(30)
    assert stage.cluster.drained == [FIRST]
    await stage.turn(61)
    (failed,) = stage.heard(events.JobFailed)
    assert failed.reason == "never-started"
    assert "ImagePullBackOff" in failed.advice


async def test_an_orphan_is_deleted_within_a_minute_though_ten_tries_fail(stage: Stage) -> None:
    await stage.run_first_attempt()
    await stage.tell(events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/a"))
    stage.cluster.failing_deletes = 10
    began = stage.now
    while stage.cluster.running():
        await stage.turn(0.5)
        assert stage.now - began <= timedelta(seconds=60)
    assert len(stage.cluster.deletes) == 11, "and not one try a turn"


async def test_a_machine_of_a_job_that_nobody_knows_is_deleted(stage: Stage) -> None:
    """The database came back from a backup, say, and knows nothing of the job; the machine's tags do."""
    await stage.run_first_attempt()
    pod = replace(stage.cluster.pods[FIRST], job_id="job_2")
    await stage.cluster.launch(pod)
    await stage.turn(1)
    assert stage.cluster.running() == [FIRST]


async def test_an_orphan_does_not_wait_for_machines_that_are_no_more(stage: Stage) -> None:
    """A cluster lists those for a while, and pods that were done among them are not called gone."""
    await stage.run_first_attempt()
    orphan = stage.cluster.observations.pop(FIRST)
    for number in range(3 * MAX_DELETES_PER_TURN):
        done = Observation(f"m-done-{number}", f"job_done_{number}", 1, PodState.EXITED, exit_code=0, stands=False)
        stage.cluster.observations[done.machine_id] = done
    stage.cluster.observations[FIRST] = orphan
    await stage.tell(events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/a"))
    await stage.turn(0.5)
    assert not stage.cluster.running()
    for _ in range(60):
        await stage.turn(1)
    assert len(stage.cluster.deletes) <= 3 * MAX_DELETES_PER_TURN + 1 + MAX_TRIES_FOR_GONE, "once for each, at most"


@pytest.mark.parametrize("lie", [ClusterUnavailableError("500"), NoCapacityError("none")])
async def test_a_cluster_that_says_error_though_the_machine_exists(stage: Stage, lie: Exception) -> None:
    """Adopted by name where the launch may be repeated; where it may not, another is launched and this one deleted."""
    stage.cluster.launch_lies = lie
    await stage.tell(submitted(), proposed())
    await stage.turn()
    if isinstance(lie, ClusterUnavailableError):
        for _ in range(40):
            await stage.turn(1)
        assert (await stage.job()).state == "running", "its list knows better"
    else:
        stage.cluster.launch_lies = None
        await stage.turn(1)
    await stage.turn(1)
    assert len(stage.cluster.running()) == 1
    assert len([one for one in stage.history if isinstance(one, events.AttemptStarted)]) == 1


# Gangs


async def test_a_gang_starts_ends_and_is_paid_for_as_one(stage: Stage) -> None:
    plan = proposed(at=stage.now)
    del plan.candidates[:]
    plan.candidates.extend([candidate(placement(), machines=4), candidate(placement(zone="use1-az2"), machines=4)])
    await stage.tell(submitted(), plan)
    await stage.turn()
    assert stage.cluster.pods[FIRST].machines == 4
    (started,) = stage.heard(events.AttemptStarted)
    assert list(started.member_ids) == [f"{FIRST}.{rank}" for rank in range(4)]
    await stage.turn(100)
    (row,) = await stage.ledger_holds()
    assert row.amount_nano_usd == round(4 * 0.36e9 * 100 / 3600)
    await stage.tell(notice(stage, f"{FIRST}.2"))
    await stage.turn()
    assert stage.cluster.drained == [FIRST], "one member's notice drains all"
    assert stage.cluster.pods[SECOND].machines == 4
    await stage.tell(events.MachineLost(machine_id=f"{FIRST}.2"))
    await stage.turn(6)
    assert stage.cluster.running() == [SECOND], "what is left of the gang is deleted"
    assert (await stage.job()).current_attempt == 2


async def test_a_gang_goes_on_without_a_lost_machine_and_pays_for_it_no_more(stage: Stage) -> None:
    plan = proposed(at=stage.now)
    del plan.candidates[:]
    plan.candidates.extend([candidate(placement(), machines=4), candidate(placement(zone="use1-az2"), machines=4)])
    await stage.tell(submitted(), plan)
    await stage.turn()
    await stage.tell(progressed(1, 1))
    await stage.turn(100)
    paid = sum(row.amount_nano_usd for row in await stage.ledger_holds())
    stage.cluster.lose(FIRST, 2)
    await stage.tell(events.MachineLost(machine_id=f"{FIRST}.2"))
    await stage.turn()
    assert (await stage.job()).current_attempt == 1
    assert (await stage.job()).state == "running"
    await stage.tell(progressed(1, 2))
    await stage.turn(100)
    rows = await stage.ledger_holds()
    assert rows[-1].price_usd_per_hour == pytest.approx(3 * 0.36)
    assert sum(row.amount_nano_usd for row in rows) - paid == pytest.approx(3 * 0.36e9 * 100 / 3600, rel=0.02)

    stage.cluster.lose(FIRST, 0)
    await stage.turn(6)
    (lost,) = stage.heard(events.AttemptLost)
    assert lost.attempt == 1, "the others met at the first one's machine"
    assert stage.cluster.running() == []


async def test_a_model_in_parts_ends_with_any_of_its_machines(stage: Stage) -> None:
    plan = proposed(at=stage.now)
    gang = candidate(placement(), machines=4)
    gang.shard = True
    del plan.candidates[:]
    plan.candidates.append(gang)
    await stage.tell(submitted(), plan)
    await stage.turn()
    await stage.tell(progressed(1, 1))
    stage.cluster.lose(FIRST, 2)
    await stage.turn(1)
    (lost,) = stage.heard(events.AttemptLost)
    assert (lost.attempt, lost.reason) == (1, "spot-interrupted")
    await stage.turn(6)
    assert stage.cluster.running() == [SECOND], "what is left of the gang is deleted"
