"""Hidden chains and beliefs: hazards that fall with age, time without a look, several zones, the priors file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import availability
from services.scheduler.availability import Model, PriorsError, best_of, parse_priors, pool, read_priors

SHIPPED = availability.shipped()


def test_the_shipped_priors_are_sound_and_say_where_they_come_from() -> None:
    assert np.allclose(SHIPPED.generator.sum(axis=1), 0)
    assert np.allclose(SHIPPED.stationary @ SHIPPED.generator, 0, atol=1e-9)
    assert (np.diff(SHIPPED.seconds_up) <= 0).all()
    assert (np.diff(SHIPPED.seconds_down) >= 0).all()
    records = SHIPPED.provenance["records"]
    assert records
    assert all(len(record["sha256"]) == 64 for record in records)


def test_a_run_that_has_lasted_is_more_likely_to_last() -> None:
    belief = SHIPPED.seen(SHIPPED.stationary, True)
    lasts = []
    for _ in range(48):
        lasts.append(SHIPPED.moved(belief, 1800)[: SHIPPED.ups].sum())
        belief = SHIPPED.seen(SHIPPED.moved(belief, 1800), True)
    assert lasts == sorted(lasts)
    assert lasts[-1] > lasts[0] + 0.05


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from([True, False, None])), max_size=30))
def test_a_belief_stays_a_distribution(story: list[tuple[float, bool | None]]) -> None:
    belief = SHIPPED.stationary
    for seconds, seen in story:
        belief = SHIPPED.moved(belief, seconds)
        if seen is not None:
            belief = SHIPPED.seen(belief, seen)
            assert belief[: SHIPPED.ups].sum() == pytest.approx(1.0 if seen else 0.0)
        assert belief.sum() == pytest.approx(1)
        assert (belief >= 0).all()


def test_not_looking_for_long_leads_back_to_what_is_usual() -> None:
    belief = SHIPPED.seen(SHIPPED.stationary, False)
    assert np.allclose(SHIPPED.moved(belief, 3600 * 24 * 365), SHIPPED.stationary, atol=1e-3)


def test_two_short_times_are_one_long_one() -> None:
    assert np.allclose(SHIPPED.step(600) @ SHIPPED.step(300), SHIPPED.step(900), atol=1e-9)


def test_an_hour_with_more_losses_takes_more_down() -> None:
    by_hour = tuple(2.0 if hour == 9 else 0.5 if hour == 3 else 1.0 for hour in range(24))
    model = Model(SHIPPED.generator, SHIPPED.ups, hazard_by_hour=by_hour)
    belief = model.seen(model.stationary, True)
    up = {hour: model.moved(belief, 600, hour)[: model.ups].sum() for hour in (3, 9, 12)}
    assert up[9] < up[12] < up[3]
    assert up[12] == pytest.approx(SHIPPED.moved(belief, 600)[: SHIPPED.ups].sum())


def test_the_best_of_several_zones_by_simulation() -> None:
    rng = np.random.default_rng(5)
    beliefs = rng.dirichlet(np.ones(SHIPPED.states), size=3)
    draws = np.stack([rng.choice(SHIPPED.states, size=20_000, p=belief) for belief in beliefs])
    counted = np.bincount(draws.min(axis=0), minlength=SHIPPED.states) / 20_000
    assert np.allclose(best_of(beliefs), counted, atol=0.015)
    assert best_of(beliefs).sum() == pytest.approx(1)
    # Zones that are one and the same are worth as much as one.
    same = np.stack([beliefs[0]] * 3)
    assert np.allclose(best_of(same, correlation=1.0), beliefs[0])


def test_the_pool_of_several_zones_by_simulation() -> None:
    """How the best zone moves, and what is left when it is taken: against three simulated chains."""
    model = Model(SHIPPED.generator, SHIPPED.ups)
    step, rng, count = model.step(1800.0), np.random.default_rng(3), 60_000
    now = rng.choice(model.states, size=(3, count), p=model.stationary)
    then = np.empty_like(now)
    for state in range(model.states):
        here = now == state
        then[here] = rng.choice(model.states, size=here.sum(), p=step[state])
    three = pool(model, 3, 1800.0)
    ranked = np.sort(now, axis=0)
    for state in range(model.states):
        chosen = ranked[0] == state
        if chosen.sum() < 3000:
            continue
        moved = np.bincount(then.min(axis=0)[chosen], minlength=model.states) / chosen.sum()
        rest = np.bincount(ranked[1][chosen], minlength=model.states) / chosen.sum()
        assert np.allclose(three.step[state], moved, atol=0.03)
        assert np.allclose(three.rest[state], rest, atol=0.03)


def test_a_priors_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "priors.json"
    path.write_text(SHIPPED.to_json())
    again = read_priors(path)
    assert np.allclose(again.generator, SHIPPED.generator, rtol=1e-5)
    assert again.provenance == SHIPPED.provenance


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other/9"}, "other/9"),
        ({"rates_per_hour": [[0, 1]]}, "square"),
        ({"ups": 0}, "ups"),
        ({"zone_correlation": 2}, "zone_correlation"),
        ({"hazard_by_hour": [1.0] * 23}, "hazard_by_hour"),
        ({"rates_per_hour": [[0, -1], [1, 0]], "ups": 1}, "negative"),
        ({"rates_per_hour": [[0, 0], [1, 0]], "ups": 1}, "from up to down"),
        ({"rates_per_hour": "many"}, "sskai lab fit"),
    ],
)
def test_a_wrong_priors_file_is_refused_with_the_reason(change: dict[str, object], said: str) -> None:
    document = json.loads(SHIPPED.to_json()) | change
    with pytest.raises(PriorsError, match=said):
        parse_priors(json.dumps(document))


def test_a_missing_priors_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriorsError, match=r"nowhere\.json"):
        read_priors(tmp_path / "nowhere.json")
