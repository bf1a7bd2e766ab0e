"""Plans as text: every figure where it belongs, and no cell wrapped at any width."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from services.gateway.plain import plain
from sskai import plan_table
from sskai.events import v1 as events
from tests.chassis.plan_documents import MARKET, candidate, endpoint_plan, job_plan, replay


def text_of(renderable: RenderableType, width: int = 120) -> list[str]:
    """Lines as a terminal of this width shows them."""
    console = Console(width=width, file=StringIO(), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def table_of(lines: list[str], head: str) -> list[str]:
    """The rows under the header that holds `head`, as many as stand there without a gap."""
    begin = next(number for number, line in enumerate(lines) if head in line)
    return lines[begin + 1 :]


def test_a_wide_terminal_shows_everything_about_each_candidate() -> None:
    lines = text_of(plan_table.job_plan(job_plan(), 120))
    assert lines[0].split() == [
        *("infrastructure", "instance", "n", "vCPU", "GiB", "GPUs", "capacity", "$/h"),
        *("hours", "(5-95", "%)", "total", "$", "(95", "%)"),
    ]
    assert lines[1].split() == [
        *("*", "aws/us-east-1/use1-az2", "g6.xlarge", "1", "4", "16", "L4:1", "spot", "0.242"),
        *("6.12", "(5.26-8.02)", "1.48", "(<1.94)", "P"),
    ]
    # Two machines at 40.9657 USD an hour each.
    assert "p4de.24xlarge 2   96 1152 A100-80GB:8  on-demand  81.93" in lines[5]
    assert [line[-1] for line in lines[1:7]] == ["P", "!", "P", "P", "P", "!"]


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60, 40])
@pytest.mark.parametrize("draw", [plan_table.job_plan, plan_table.endpoint_plan])
def test_no_cell_is_wrapped_at_any_width(draw: Callable[..., RenderableType], width: int) -> None:
    plan = job_plan() if draw is plan_table.job_plan else endpoint_plan()
    lines = text_of(draw(plan, width), width)
    rows = len(plan["candidates"] if draw is plan_table.job_plan else plan["options"])
    table = lines[1 : rows + 1]
    assert table[0].startswith("*")
    assert lines[rows + 1].startswith("* chosen"), "one line a row, and the legend below them"
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in table)
    expected = [row[0] for row in MARKET] if draw is plan_table.job_plan else [each["kind"] for each in plan["options"]]
    assert all(name in line for name, line in zip(expected, table, strict=True))


@pytest.mark.parametrize("width", [120, 80])
def test_numbers_end_below_each_other(width: int) -> None:
    lines = text_of(plan_table.job_plan(job_plan(), width))
    head = "$/h"
    end = lines[0].index(head) + len(head)
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[1:8])


def test_below_the_table_stands_what_a_person_wants_to_know() -> None:
    lines = text_of(plan_table.job_plan(job_plan(), 120))
    assert lines[8] == (
        "* chosen   n machines at once   P nothing is both cheaper and faster"
        "   ! its price is older than the planner trusts"
    )
    assert lines[9:] == [
        "g6.xlarge spot in use1-az2 at 0.2417 USD/h is the cheapest of 904 placements that fit.",
        "To completion: 6.12 h (5.26 to 8.02) and 1.48 USD, with 95 % certainty at most 1.94 USD.",
        "On demand the same work on the same machines would cost 4.93 USD: spot saves 3.45 USD (70%).",
        "A checkpoint every 300 steps, about every 3 min.",
        "Point of no return: 2026-11-24 16:00 UTC. Later than that, no on-demand machine meets the deadline any more.",
        "897 more placements meet every constraint.",
    ]


def test_what_does_not_apply_is_not_said() -> None:
    chosen = candidate(MARKET[4])
    chosen.checkpoint_interval_steps = 0
    plan = job_plan(
        candidates=[plain(chosen)], checkpoint_interval_steps=0, point_of_no_return=None, fitting=1, explanation="So."
    )
    assert text_of(plan_table.job_plan(plan, 120))[2:] == [
        "* chosen   n machines at once   P nothing is both cheaper and faster",
        "So.",
        "To completion: 0.31 h (0.27 to 0.41) and 25.40 USD, with 95 % certainty at most 33.27 USD.",
        "No checkpoints are saved on the way.",
    ]


def test_explain_tells_where_hours_dollars_and_memory_go() -> None:
    lines = text_of(plan_table.job_plan(job_plan(), 120, explain=True))
    said = {line.split("  ")[0].strip(): line.split() for line in lines}
    assert said["training steps"][-2:] == ["5.95", "97.3%"]
    assert said["interruptions: restarts and work done again"][-2:] == ["0.06", "1.0%"]
    assert "waiting for capacity" not in said, "what takes no time is left out"
    assert said["machine time, interruptions included"][-2:] == ["1.43", "97.0%"]
    together = [line.split()[-1] for line in lines if line.startswith("together")]
    assert together == ["6.12", "1.48"], "the shares add up to the estimate"
    assert said["activations"] == ["activations", "5.00", "the", "largest"]
    assert said["runtime"] == ["runtime", "1.00"]
    assert said["peak"] == ["peak", "11.00", "of", "22.00", "usable"]
    text = "\n".join(lines)
    for sentence in (
        "A step takes 0.61 s (0.55 to 0.74); arithmetic is what limits it.",
        "It trains on 16 sequences of 2048 tokens, in micro-batches of 4 on 1 worker, gradient checkpointing off.",
        "0.31 interruptions are expected until it is done (a machine is interrupted 0.05 times an hour).",
        "Planner 2, step times as learnt by 3f2a9c01; prices as of 2026-11-24 11:40 UTC.",
        "Snapshot 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae.",
        "`sskai plan replay plan_01jdq4v7m2c8r5t9w3x6y0z1ab` decides it again.",
    ):
        assert sentence in text


def test_explain_groups_what_is_out_by_its_reason() -> None:
    lines = table_of(text_of(plan_table.job_plan(job_plan(), 120, explain=True)), "Out of the running")
    assert lines[:2] == [
        "budget: 2, such as p4de.24xlarge on-demand in use1-az6: needs up to 33.27 USD of the 15.00 USD left",
        "deadline: 1, such as c6i.2xlarge on-demand in us-east-1: needs 148.0 h of the 12.0 h left",
    ]


def test_explain_shows_the_pareto_front_alone() -> None:
    lines = table_of(text_of(plan_table.job_plan(job_plan(), 120, explain=True)), "The Pareto front")
    on_it = [row[0] for row in MARKET if row[10]]
    assert all(name in line for name, line in zip(on_it, lines[1:5], strict=True))
    assert lines[5] == ""


def test_a_plan_that_tells_little_is_shown_all_the_same() -> None:
    bare = events.PlanProposed(
        candidates=[events.Candidate(placement=events.Placement(instance_type="m1", price_usd_per_hour=float("nan")))]
    )
    plan = {**plain(bare), "id": "plan_1", "kind": "finetune"}
    lines = text_of(plan_table.job_plan(plan, 120, explain=True))
    assert lines[1].split() == ["*", "m1", "1", "0", "0", "-", "-", "-", "(---)", "-", "(<-)"]
    assert "A step takes - s (- to -); nothing known limits it." in lines


def test_brackets_in_what_the_optimizer_says_are_no_markup() -> None:
    assert "[red]x[/] [/nope]" in text_of(plan_table.job_plan(job_plan(explanation="[red]x[/] [/nope]"), 120))


def test_the_ways_to_serve_an_endpoint() -> None:
    lines = text_of(plan_table.endpoint_plan(endpoint_plan(), 120))
    assert lines[0].split() == [
        *("kind", "zone", "instance", "replicas", "$/month", "$/M", "tokens", "p95", "s", "tokens/s"),
        *("cold", "start", "break-even", "meets"),
    ]
    serverless = ["*", "serverless", "use1-az2", "g6.xlarge", "1", "41.50", "1.54", "3.12", "61.4", "35", "s"]
    assert lines[1].split() == [*serverless, "9,000", "yes"]
    assert lines[2].split()[-3:] == ["none", "-", "yes"], "always warm, and no traffic makes it as dear as the choice"
    assert "3 (1 on demand) 1,322.00" in lines[3]
    assert lines[4].endswith("no")
    assert lines[6:] == [
        "Serverless costs 41.50 USD a month for 2000 requests a day.",
        "serverless: scales to zero after 300 s without a request",
        "adapter: on the replicas that run already",
        "spot: always warm",
        "on-demand (misses a wish): misses the budget by 48284.00 USD a month",
    ]


def test_a_replay_says_that_it_is_equal_to_the_bit() -> None:
    lines = text_of(plan_table.replayed(replay(), 120))
    assert lines[0] == "Decided again from its stored inputs, the plan is equal to the bit."
    assert [line.split()[:3] for line in lines[3:5]] == [
        ["stored", "aws/us-east-1/use1-az2", "g6.xlarge"],
        ["now", "aws/us-east-1/use1-az2", "g6.xlarge"],
    ]
    assert lines[-2] == "Planner 2 decided now, 2 had decided."


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (plain(candidate(MARKET[3])), "fastest aws/us-east-2/use2-az3"),
        (None, "By the policy fastest it is a refusal."),
    ],
)
def test_a_replay_lists_how_it_differs(choice: dict[str, Any] | None, said: str) -> None:
    differs = replay(policy="fastest", differences=["5.2 h sooner", "2.42 USD more"], choice=choice)
    lines = text_of(plan_table.replayed(differs, 120))
    assert lines[0] == "Decided again from its stored inputs, the plan is equal to the bit."
    assert lines[1:3] == ["- 5.2 h sooner", "- 2.42 USD more"]
    assert any(line.startswith(said) for line in lines)


def test_a_policy_that_takes_the_same_says_so_and_another_plan_too() -> None:
    same = text_of(plan_table.replayed(replay(policy="cheapest"), 120))
    assert same[1] == "The policy cheapest takes the same placement."
    unequal = text_of(plan_table.replayed(replay(equal=False, differences=["planner version 1 had decided"]), 120))
    assert unequal[:2] == [
        "Decided again from its stored inputs, another plan comes out.",
        "- planner version 1 had decided",
    ]


@pytest.mark.parametrize(
    ("usd", "hours", "shown"),
    [
        (0.00658, 0.21, ["0.0066", "(<0.0086)"]),
        (0.61, 0.21, ["0.610", "(<0.799)"]),
        (12.345, 9.999, ["12.35", "(<16.17)"]),
        (12_345.6, 99.96, ["12,346", "(<16,173)"]),
    ],
)
def test_small_and_large_sums_keep_their_meaning(usd: float, hours: float, shown: list[str]) -> None:
    one = candidate((*MARKET[0][:7], usd / hours, 1, hours, False, False, 1))
    lines = text_of(plan_table.job_plan(job_plan(candidates=[plain(one)]), 120))
    assert lines[1].split()[-2:] == shown


def test_what_hardly_ever_happens_is_not_written_with_an_exponent() -> None:
    one = candidate(MARKET[0])
    one.expected_interruptions = 5.47e-5
    text = "\n".join(text_of(plan_table.job_plan(job_plan(candidates=[plain(one)]), 120, explain=True)))
    assert "<0.001 interruptions are expected" in text
