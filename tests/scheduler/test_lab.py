"""The policy lab: held to a referee and to brute force, on records, made-up markets and bad files."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from services.scheduler import availability
from services.scheduler.lab import baselines, fitting, replaying
from services.scheduler.lab.__main__ import app
from services.scheduler.lab.bound import omniscient_usd
from services.scheduler.lab.simulator import Work, simulate
from services.scheduler.lab.traces import Trace, read_all, starts, synthetic
from services.scheduler.policy import Action, Decision, Situation
from sskai.local.cloud.records import RecordError

SHARED = Path(__file__).parents[2].parent / "shared"
REFEREE = SHARED / "tools" / "spotsim.py"
RECORDS = SHARED / "data" / "spot-traces"


def made_up(*zones: str, gap: float = 600.0, prices: list[float] | None = None) -> list[Trace]:
    """Zones drawn as text: # is a tick with capacity, . one without."""
    return [
        Trace(
            f"zone-{number}",
            "made up",
            gap,
            np.array([tick == "#" for tick in zone]),
            None if prices is None else np.full(len(zone), prices[number]),
        )
        for number, zone in enumerate(zones)
    ]


@pytest.fixture(scope="module")
def referee() -> ModuleType:
    """The simulator that the lab must agree with."""
    if not REFEREE.exists():
        pytest.skip(f"{REFEREE} is not there: the lab is not compared with the referee")
    spec = importlib.util.spec_from_file_location("spotsim", REFEREE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["spotsim"] = module
    spec.loader.exec_module(module)
    return module


@given(
    runs=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=3),
    gap=st.sampled_from([195, 300, 600]),
    work=st.sampled_from([2.0, 4.0]),
    slack=st.sampled_from([0.5, 1.0, 4.0]),
    restart=st.sampled_from([0.0, 0.05, 0.2, 0.4]),
)
@settings(max_examples=30, deadline=None)
def test_the_lab_agrees_with_the_referee(
    referee: ModuleType, runs: list[list[int]], gap: int, work: float, slack: float, restart: float
) -> None:
    deadline = work + slack
    ticks = math.ceil(deadline * 3600 / gap) + 1
    zones = [
        np.resize(np.concatenate([np.full(run, index % 2 == 0) for index, run in enumerate(zone)]), ticks)
        for zone in runs
    ]
    ours = [Trace(str(number), "made up", float(gap), zone) for number, zone in enumerate(zones)]
    theirs = [referee.Trace(str(number), float(gap), zone) for number, zone in enumerate(zones)]
    job, what = referee.Job(work, deadline, restart), Work(work, deadline, restart)
    for policy, other in (
        (baselines.on_demand_only, referee.OnDemandOnly),
        (baselines.greedy, referee.Greedy),
        (baselines.uniform_progress, referee.UniformProgress),
    ):
        outcome, expected = simulate(policy, ours, what), referee.simulate(other(), theirs, job)
        assert outcome.usd == pytest.approx(expected.cost)
        assert (outcome.launches, outcome.interruptions) == (expected.launches, expected.preemptions)
        assert outcome.missed == expected.missed
    assert omniscient_usd(ours, what) == pytest.approx(referee.omniscient(theirs, job))


def test_the_look_ahead_costs_the_same_by_the_referee(referee: ModuleType) -> None:
    """The decisions that the lab's simulator saw, played again by the referee: the same money."""
    rng = np.random.default_rng(11)
    zones = synthetic(rng, ticks=400, gap_seconds=600, mean_up_seconds=[1800, 36000], mean_down_seconds=5400, zones=2)
    work = Work(20, 26, 0.2)
    outcome = simulate(replaying.policy(replaying.LOOKAHEAD), zones, work, availability.shipped(), log=True)
    names = {None: referee.WAIT, Action.SPOT: referee.SPOT, Action.ON_DEMAND: referee.ON_DEMAND}

    class Played:
        def reset(self, *_: object) -> None:
            self.actions = iter(outcome.actions)

        def decide(self, _: object) -> object:
            action, zone = next(self.actions)
            return (names[action], zone) if action is Action.SPOT else names[action]

    theirs = [referee.Trace(zone.name, 600.0, zone.available) for zone in zones]
    again = referee.simulate(Played(), theirs, referee.Job(20, 26, 0.2))
    assert again.cost == pytest.approx(outcome.usd)
    assert not again.missed


@given(st.text("#.", min_size=6, max_size=6), st.sampled_from([0.0, 0.05, 0.25]))
@settings(max_examples=25, deadline=None)
def test_the_bound_is_the_cheapest_of_all_schedules(record: str, restart: float) -> None:
    """Every schedule of a short job, tried."""
    zones, work = made_up(record, gap=600), Work(0.5, 1.0, restart)
    best = math.inf
    for plan in itertools.product((Action.WAIT, Action.SPOT, Action.ON_DEMAND), repeat=6):

        def planned(s: Situation, plan: tuple[Action, ...] = plan) -> Decision:
            action = plan[round(s.elapsed_seconds / 600)]
            if action is Action.SPOT and not s.zones[0].available:
                action = Action.WAIT
            return Decision(action, "planned", "zone-0")

        outcome = simulate(planned, zones, work)
        if not outcome.missed:
            best = min(best, outcome.usd)
    assert omniscient_usd(zones, work) == pytest.approx(best)


def test_prices_of_a_record_are_what_is_paid() -> None:
    zones = made_up("#" * 12, "#" * 12, prices=[0.5, 2.0])
    work = Work(1.0, 2.0, 0.0, on_demand_price=4.0)
    outcome = simulate(replaying.policy(replaying.LOOKAHEAD), zones, work, availability.shipped())
    assert outcome.usd == pytest.approx(0.5)


def test_windows_lie_within_their_share() -> None:
    assert starts(100, 20, 3) == [0, 40, 80]
    assert starts(100, 20, 3, first=50) == [50, 65, 80]
    assert starts(10, 20, 3) == []
    zones = made_up("#" * 100)
    chosen = list(replaying.windows(zones, Work(1, 3, 0), zones="single", count=4, first_share=0.5, last_share=0.9))
    assert chosen[0].start_tick == 50
    assert chosen[-1].start_tick + len(chosen[-1].zones[0]) == 90


def test_better_than_uniform_progress_on_markets_that_were_never_fitted() -> None:
    """Runs of another shape than any record's: the mean over many windows, without a miss."""
    rng = np.random.default_rng(2)
    zones = synthetic(rng, ticks=6000, gap_seconds=600, mean_up_seconds=[2400, 60000], mean_down_seconds=9000)
    work = Work(24, 30, 0.2)
    todo = list(replaying.windows(zones, work, zones="single", count=16))
    results = replaying.replay(todo, [replaying.LOOKAHEAD, replaying.UNIFORM], processes=1)
    assert sum(result.outcomes[replaying.LOOKAHEAD].missed for result in results) == 0
    closed = replaying.gap_closed(results, replaying.LOOKAHEAD)
    assert closed is not None
    assert closed > 0.25
    for result in results:
        assert result.omniscient is not None
        assert all(outcome.ratio >= result.omniscient - 1e-9 for outcome in result.outcomes.values())


def test_a_fit_tells_records_as_well_as_the_chain_that_made_them() -> None:
    rng = np.random.default_rng(1)
    shape = {"gap_seconds": 600, "mean_up_seconds": [1800, 72000], "mean_down_seconds": 3600}
    records = synthetic(rng, ticks=2500, zones=3, **shape)
    fitted = fitting.fit(records, ups=2, downs=1, turns=25)
    rates = np.array([[0, 0, 1 / 72000], [0, 0, 1 / 1800], [1 / 7200, 1 / 7200, 0]])
    np.fill_diagonal(rates, -rates.sum(axis=1))
    true = availability.Model(rates, 2)
    assert fitted.log_likelihood > fitting.log_likelihood(true, records)
    other = synthetic(rng, ticks=2500, **shape)
    found = fitting.log_likelihood(fitted.model, other)
    assert found > fitting.log_likelihood(true, other) - 5
    assert found > fitting.log_likelihood(availability.shipped(), other)


def test_correlated_zones_are_seen_as_such() -> None:
    rng = np.random.default_rng(4)
    (zone,) = synthetic(rng, ticks=2000, gap_seconds=600, mean_up_seconds=[7200], mean_down_seconds=7200)
    twin = Trace("twin", zone.group, zone.gap_seconds, zone.available)
    assert fitting.zone_correlation([zone, twin]) == pytest.approx(1)
    apart = synthetic(rng, ticks=2000, gap_seconds=600, mean_up_seconds=[7200], mean_down_seconds=7200, zones=2)
    assert fitting.zone_correlation(apart) < 0.2


def test_hours_of_the_day_are_learnt_where_there_is_a_pattern() -> None:
    rng = np.random.default_rng(6)
    hour = (np.arange(20_000) // 6) % 24
    lost = rng.random(20_000) < np.where(hour == 9, 0.5, 0.05)
    zone = Trace("z", "g", 600.0, ~lost)
    by_hour = fitting.hazard_by_hour([zone], begin_at_hour=0)
    assert int(np.argmax(by_hour)) == 9
    shifted = fitting.hazard_by_hour([zone], begin_at_hour=5)
    assert int(np.argmax(shifted)) == 14
    steady = Trace("z", "g", 600.0, rng.random(20_000) < 0.95)
    assert fitting.hazard_by_hour([steady], begin_at_hour=0) == ()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "JSON"),
        ({"metadata": {"gap_seconds": 0}, "data": [1]}, "gap_seconds"),
        ({"metadata": {"gap_seconds": 60}, "data": []}, "data"),
        ({"metadata": {"gap_seconds": 60}, "data": [1, -1]}, "data"),
        ({"metadata": {"gap_seconds": 60}, "data": [1, 1], "prices": [0.1]}, "prices has 1 entries, data has 2"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, document: object, said: str) -> None:
    path = tmp_path / "zone.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(RecordError, match=said) as told:
        read_all(tmp_path)
    assert "zone.json" in str(told.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two zones that were recorded together, a week long."""
    records = tmp_path / "records"
    records.mkdir()
    rng = np.random.default_rng(8)
    for zone in synthetic(rng, ticks=1000, gap_seconds=600, mean_up_seconds=[36000], mean_down_seconds=7200, zones=2):
        document = {"metadata": {"gap_seconds": 600}, "data": zone.available.astype(int).tolist()}
        (records / f"{zone.name}.json").write_text(json.dumps(document))
    return records


def test_lab_replay_prints_one_json_object(folder: Path) -> None:
    options = ["--work-hours", "6", "--deadline-hours", "9", "--windows", "2", "--zones", "multi", "--processes", "1"]
    answer = CliRunner().invoke(app, ["replay", "--traces", str(folder), *options, "--json"])
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["policy"] == "lookahead"
    assert document["deadline_misses"] == 0
    assert len(document["per_window"]) == document["windows"] == 2
    assert document["omniscient_cost_over_on_demand"] <= document["mean_cost_over_on_demand"] <= 1.1


def test_lab_compare_draws_and_fit_writes_priors_that_replay_takes(folder: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    common = ["--traces", str(folder), "--windows", "1", "--work-hours", "4", "--processes", "1"]
    settings_ = ["--deadline-hours", "6,8", "--restart-overhead-hours", "0.1"]
    answer = run(app, ["compare", *common, *settings_, "--plot", str(tmp_path / "picture"), "--json"])
    assert answer.exit_code == 0, answer.output
    assert [row["deadline_hours"] for row in json.loads(answer.stdout)] == [6, 8]
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "picture.svg").read_text()

    priors = tmp_path / "mine.json"
    small = ["--up-states", "1", "--down-states", "1", "--turns", "5"]
    answer = run(app, ["fit", "--traces", str(folder), "--output", str(priors), "--last-share", "0.5", *small])
    assert answer.exit_code == 0, answer.output
    provenance = availability.read_priors(priors).provenance
    assert [record["ticks"] for record in provenance["records"]] == [500, 500]
    answer = run(app, ["replay", *common, "--deadline-hours", "6", "--priors", str(priors), "--json"])
    assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--work-hours", "50", "--deadline-hours", "40"], "cannot end within"),
        (["--policy", "magic"], "magic"),
        (["--traces", "/nowhere"], "json"),
        (["--priors", "/nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_usage_is_told(folder: Path, options: list[str], said: str) -> None:
    answer = CliRunner().invoke(app, ["replay", "--traces", str(folder), *options])
    assert answer.exit_code == 2
    assert said in " ".join(answer.output.replace("│", " ").split())
