"""Plans as a person reads them in a terminal: tables that fit its width, and sentences. Pure.

A table has several layouts, the fullest first; the first one that fits the width is drawn, so that no cell is ever
wrapped. What the gateway sends comes in (`GET /v1/plans/ID`, `POST /v1/plans/ID/replay`); rich's renderables go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Document: TypeAlias = Mapping[str, Any]

MAX_ROWS = 20
GAP = 1  # cells between two columns
UNKNOWN = "-"

HOURS_GO = {
    "startup": "start: machine, image, model and data",
    "training": "training steps",
    "checkpoint_stall": "standing still for checkpoints",
    "interruptions": "interruptions: restarts and work done again",
    "finish": "finish: evaluations, last checkpoint, export",
    "waiting": "waiting for capacity",
}
DOLLARS_GO = {
    "compute": "machine time, interruptions included",
    "on_demand_fallback": "on demand while there is no spot",
    "storage": "disks and checkpoints",
    "egress": "data, model and checkpoints across regions",
}
MEMORY_GOES = {
    "weights": "weight_bytes",
    "gradients": "gradient_bytes",
    "optimizer": "optimizer_bytes",
    "activations": "activation_bytes",
}
LIMITED_BY = {
    "compute": "arithmetic is what limits it",
    "memory-bandwidth": "memory traffic is what limits it",
    "interconnect": "the exchange of gradients between workers is what limits it",
}
MARKS = {
    "P": "nothing is both cheaper and faster",
    "!": "its price is older than the planner trusts",
}


@dataclass(frozen=True, slots=True)
class Column:
    """`cell` makes the text of one row."""

    head: str
    cell: Callable[[Document], str]
    is_number: bool = False


def job_plan(plan: Document, width: int, *, explain: bool = False) -> Group:
    """The candidates of a job, best first, and what there is to say about the choice; with `explain`, why and how."""
    candidates = _ranked(plan["candidates"])
    parts: list[RenderableType] = [_fitting(CANDIDATES, candidates[:MAX_ROWS], width), _legend(candidates[:MAX_ROWS])]
    parts += _sentences(_of_job(plan))
    if explain and candidates:
        parts += _explained(plan, candidates, width)
    return Group(*parts)


def endpoint_plan(plan: Document, width: int, *, explain: bool = False) -> Group:
    """The ways to serve an endpoint, best first, and what there is to say about each."""
    options = _ranked(plan["options"])
    parts: list[RenderableType] = [_fitting(OPTIONS, options, width)]
    parts += [Text("* chosen   break-even: requests a day at which it costs as much as the chosen kind", style="dim")]
    said = [plan["explanation"]]
    said += [f"{each['kind']}{'' if each['meets'] else ' (misses a wish)'}: {each['detail']}" for each in options]
    parts += _sentences(said)
    if explain and options:
        parts += [_heading("How busy the replicas are, and which share of the requests finds none warm")]
        parts += [_fitting(LOADS, options, width)]
        parts += [_heading("Decided with"), *_sentences(_versions(plan))]
    return Group(*parts)


def replayed(replay: Document, width: int) -> Group:
    """Whether a decision came out equal to the bit, or how it differs."""
    verdict = "the plan is equal to the bit." if replay["equal"] else "another plan comes out."
    parts: list[RenderableType] = [Text(f"Decided again from its stored inputs, {verdict}", style="bold")]
    if replay["policy"] and not replay["differences"]:
        parts.append(Text(f"The policy {replay['policy']} takes the same placement."))
    parts += [Text(f"- {difference}") for difference in replay["differences"]]
    names = {"stored_choice": "stored", "choice": replay["policy"] or "now"}
    choices = [{**replay[name], "mark": mark} for name, mark in names.items() if replay[name] is not None]
    parts += [Text(), _fitting(CHOICES, choices, width)] if choices else []
    by = f"By the policy {replay['policy']}" if replay["policy"] else "Now"
    refused = {"stored_choice": "The stored decision was a refusal.", "choice": f"{by} it is a refusal."}
    said = [sentence for name, sentence in refused.items() if replay[name] is None]
    said += [
        replay["explanation"],
        f"Planner {replay['planner_version'] or UNKNOWN} decided now, "
        f"{replay['stored_planner_version'] or UNKNOWN} had decided.",
        f"Snapshot {replay['snapshot_hash'] or UNKNOWN}.",
    ]
    return Group(*parts, *_sentences(said))


# Cells


def _machines(candidate: Document) -> int:
    return int(candidate.get("machine_count") or 1)


def _place(row: Document) -> str:
    """The zone, whose id is the same for every account; or the region where prices are per region."""
    placement = row["placement"]
    return str(placement["region"] if placement["zone"] in ("", "*") else placement["zone"])


def _infrastructure(row: Document) -> str:
    placement = row["placement"]
    return "/".join(part for part in (placement["cloud"], placement["region"], placement["zone"]) if part)


def _accelerators(row: Document) -> str:
    placement = row["placement"]
    return f"{placement['accelerator_name']}:{placement['accelerator_count']}" if placement["accelerator_name"] else ""


def _hourly(row: Document) -> str:
    price = row["placement"]["price_usd_per_hour"]
    return _dollars(None if price is None else price * _machines(row))


def _hours_range(row: Document) -> str:
    hours = row["hours"] or {}
    return f"{_hours(hours.get('expected'))} ({_hours(hours.get('low'))}-{_hours(hours.get('high'))})"


def _total_range(row: Document) -> str:
    total = row["total_usd"] or {}
    return f"{_dollars(total.get('expected'))} (<{_dollars(total.get('high'))})"


def _marks(row: Document) -> str:
    return ("P" if row.get("on_pareto_front") else "") + ("!" if row.get("price_stale") else "")


def _replicas(option: Document) -> str:
    floor = option["on_demand_floor"]
    return f"{option['replicas']} ({floor} on demand)" if floor else str(option["replicas"])


def _cold(option: Document) -> str:
    return f"{option['cold_start_seconds']:.0f} s" if option["cold_start_seconds"] else "none"


def _break_even(option: Document) -> str:
    requests = option["break_even_requests_per_day"]
    return f"{requests:,.0f}" if requests else UNKNOWN


def _hours(hours: float | None) -> str:
    if hours is None:
        return UNKNOWN
    return f"{hours:.2f}" if hours < 10 else f"{hours:.1f}" if hours < 100 else f"{hours:,.0f}"


def _dollars(usd: float | None) -> str:
    """Cents, or parts of one where that says more."""
    if usd is None:
        return UNKNOWN
    if 0 < usd < 1:
        return f"{usd:.4f}" if usd < 0.1 else f"{usd:.3f}"
    return f"{usd:,.2f}" if usd < 10_000 else f"{usd:,.0f}"


def _number(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return "<0.001" if 0 < value < 0.001 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


MARK = Column("", lambda row: row["mark"])
INFRASTRUCTURE = Column("infrastructure", _infrastructure)
PLACE = Column("zone", _place)
INSTANCE = Column("instance", lambda row: row["placement"]["instance_type"])
COUNT = Column("n", lambda row: str(_machines(row)), is_number=True)
VCPUS = Column("vCPU", lambda row: str(row["placement"]["vcpus"]), is_number=True)
MEMORY = Column("GiB", lambda row: f"{row['placement']['memory_gib'] or 0:g}", is_number=True)
ACCELERATORS = Column("GPUs", _accelerators)
CAPACITY = Column("capacity", lambda row: row["placement"]["capacity_type"] or UNKNOWN)
HOURLY = Column("$/h", _hourly, is_number=True)
HOURS = Column("hours", lambda row: _hours((row["hours"] or {}).get("expected")), is_number=True)
HOURS_RANGE = Column("hours (5-95 %)", _hours_range, is_number=True)
TOTAL = Column("total $", lambda row: _dollars((row["total_usd"] or {}).get("expected")), is_number=True)
TOTAL_RANGE = Column("total $ (95 %)", _total_range, is_number=True)
NOTES = Column("", _marks)

_HARDWARE = (VCPUS, MEMORY, ACCELERATORS)
_RANGES = (HOURLY, HOURS_RANGE, TOTAL_RANGE)
_MEANS = (HOURLY, HOURS, TOTAL)
CANDIDATES: tuple[tuple[Column, ...], ...] = (
    (MARK, INFRASTRUCTURE, INSTANCE, COUNT, *_HARDWARE, CAPACITY, *_RANGES, NOTES),
    (MARK, PLACE, INSTANCE, COUNT, *_HARDWARE, CAPACITY, *_RANGES, NOTES),
    (MARK, PLACE, INSTANCE, COUNT, *_HARDWARE, CAPACITY, *_MEANS, NOTES),
    (MARK, PLACE, INSTANCE, COUNT, ACCELERATORS, CAPACITY, *_MEANS, NOTES),
    (MARK, INSTANCE, COUNT, CAPACITY, *_MEANS, NOTES),
    (MARK, INSTANCE, HOURS, TOTAL),
)
CHOICES: tuple[tuple[Column, ...], ...] = (
    (MARK, INFRASTRUCTURE, INSTANCE, COUNT, ACCELERATORS, CAPACITY, *_RANGES),
    (MARK, PLACE, INSTANCE, COUNT, ACCELERATORS, CAPACITY, *_MEANS),
    (MARK, INSTANCE, COUNT, CAPACITY, HOURS, TOTAL),
)
FRONT: tuple[tuple[Column, ...], ...] = (
    (MARK, PLACE, INSTANCE, COUNT, CAPACITY, *_RANGES),
    (MARK, INSTANCE, COUNT, CAPACITY, HOURS, TOTAL),
)

KIND = Column("kind", lambda row: row["kind"])
REPLICAS = Column("replicas", _replicas)
MONTHLY = Column("$/month", lambda row: _dollars(row["usd_per_month"]), is_number=True)
PER_MILLION = Column("$/M tokens", lambda row: _dollars(row["usd_per_million_tokens"]), is_number=True)
P95 = Column("p95 s", lambda row: _number(row["p95_latency_seconds"]), is_number=True)
STREAM = Column("tokens/s", lambda row: _number(row["tokens_per_second"]), is_number=True)
COLD = Column("cold start", _cold, is_number=True)
BREAK_EVEN = Column("break-even", _break_even, is_number=True)
MEETS = Column("meets", lambda row: "yes" if row["meets"] else "no")

_SPEED = (P95, STREAM, COLD)
OPTIONS: tuple[tuple[Column, ...], ...] = (
    (MARK, KIND, INFRASTRUCTURE, INSTANCE, REPLICAS, ACCELERATORS, MONTHLY, PER_MILLION, *_SPEED, BREAK_EVEN, MEETS),
    (MARK, KIND, PLACE, INSTANCE, REPLICAS, MONTHLY, PER_MILLION, *_SPEED, BREAK_EVEN, MEETS),
    (MARK, KIND, INSTANCE, MONTHLY, PER_MILLION, *_SPEED, BREAK_EVEN, MEETS),
    (MARK, KIND, MONTHLY, PER_MILLION, *_SPEED, BREAK_EVEN, MEETS),
    (MARK, KIND, MONTHLY, PER_MILLION, P95, MEETS),
    (MARK, KIND, MONTHLY, MEETS),
)
BUSY = Column("busy", lambda row: f"{row['utilisation'] or 0:.0%}", is_number=True)
START_COLD = Column("start cold", lambda row: f"{row['cold_fraction'] or 0:.1%}", is_number=True)
LOADS: tuple[tuple[Column, ...], ...] = (
    (MARK, KIND, INSTANCE, ACCELERATORS, REPLICAS, BUSY, START_COLD),
    (MARK, KIND, BUSY, START_COLD),
)


# Sentences


def _of_job(plan: Document) -> Iterable[str]:
    yield plan["explanation"]
    if not plan["candidates"]:
        return
    best = plan["candidates"][0]
    hours, total = best["hours"] or {}, best["total_usd"] or {}
    yield (
        f"To completion: {_hours(hours.get('expected'))} h ({_hours(hours.get('low'))} to "
        f"{_hours(hours.get('high'))}) and {_dollars(total.get('expected'))} USD, with 95 % certainty at most "
        f"{_dollars(total.get('high'))} USD."
    )
    if saving := _saving(best):
        yield saving
    yield _checkpoints(best, plan)
    if plan.get("point_of_no_return"):
        yield (
            f"Point of no return: {_minute(plan['point_of_no_return'])}. Later than that, no on-demand machine meets "
            "the deadline any more."
        )
    shown = min(len(plan["candidates"]), MAX_ROWS)
    if (plan.get("fitting") or 0) > shown:
        yield f"{plan['fitting'] - shown:,} more placements meet every constraint."


def _saving(best: Document) -> str:
    on_demand, expected = best.get("on_demand_total_usd"), (best["total_usd"] or {}).get("expected")
    if best["placement"]["capacity_type"] != "spot" or not on_demand or expected is None or expected >= on_demand:
        return ""
    return (
        f"On demand the same work on the same machines would cost {_dollars(on_demand)} USD: spot saves "
        f"{_dollars(on_demand - expected)} USD ({1 - expected / on_demand:.0%})."
    )


def _checkpoints(best: Document, plan: Document) -> str:
    steps = best.get("checkpoint_interval_steps") or plan.get("checkpoint_interval_steps")
    if not steps:
        return "No checkpoints are saved on the way."
    step_seconds = (best["step_seconds"] or {}).get("expected")
    after = "" if step_seconds is None else f", about every {_duration(steps * step_seconds)}"
    return f"A checkpoint every {steps:,} steps{after}."


def _versions(plan: Document) -> Iterable[str]:
    planner = plan.get("planner_version") or UNKNOWN
    taught = plan.get("throughput_version")
    learnt = f", step times as learnt by {taught}" if taught else ""
    yield f"Planner {planner}{learnt}; prices as of {_minute(plan['prices_as_of'])}."
    yield f"Snapshot {plan['snapshot_hash'] or UNKNOWN}."
    yield f"`sskai plan replay {plan['id']}` decides it again."


def _minute(text: str | None) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC" if text else UNKNOWN


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _gib(amount: float) -> str:
    return f"{amount / 2**30:,.2f}"


# What --explain adds


def _explained(plan: Document, candidates: list[Document], width: int) -> list[RenderableType]:
    best, profile = candidates[0], plan.get("profile") or {}
    parts: list[RenderableType] = []
    if best.get("seconds"):
        parts += [_heading("Where the hours go"), _shares(HOURS_GO, best["seconds"], "hours", 1 / 3600, _hours)]
    if best.get("usd"):
        parts += [_heading("Where the dollars go"), _shares(DOLLARS_GO, best["usd"], "USD", 1, _dollars)]
    if profile.get("peak_bytes"):
        parts += [_heading("Memory of one worker"), _memory(best, profile)]
    parts += [_heading("A step, and what may interrupt it"), *_sentences(_pace(best, profile))]
    front = [each for each in candidates if each.get("on_pareto_front")]
    if front:
        parts += [
            _heading("The Pareto front: nothing is both cheaper and faster than these"),
            _fitting(FRONT, front, width),
        ]
    if plan["rejections"]:
        told = len(plan["rejections"])
        parts += [
            _heading(f"Out of the running, by reason (of the {told} that were told)"),
            *_sentences(_rejections(plan["rejections"])),
        ]
    return [*parts, _heading("Decided with"), *_sentences(_versions(plan))]


def _shares(words: dict[str, str], amounts: Document, unit: str, factor: float, show: Callable[[float], str]) -> Table:
    """Each term with its share, what is nothing left out."""
    scaled = {name: (amounts[name] or 0) * factor for name in words}
    total = sum(scaled.values())
    table = _table("", unit, "share")
    for name, amount in scaled.items():
        if amount > 0:
            table.add_row(words[name], show(amount), f"{amount / total:.1%}")
    table.add_row("together", show(total), "", style="bold")
    return table


def _memory(best: Document, profile: Document) -> Table:
    terms = {name: profile[field] for name, field in MEMORY_GOES.items()}
    terms["runtime"] = max(0, profile["peak_bytes"] - sum(terms.values()))
    largest = best.get("largest_memory_term") or profile.get("largest_memory_term") or max(terms, key=terms.__getitem__)
    table = _table("", "GiB", "")
    for name, amount in terms.items():
        table.add_row(name, _gib(amount), "the largest" if name == largest else "")
    usable = best.get("usable_bytes")
    room = f"of {_gib(usable)} usable" if usable else ""
    table.add_row("peak", _gib(best.get("peak_bytes") or profile["peak_bytes"]), room, style="bold")
    return table


def _pace(best: Document, profile: Document) -> Iterable[str]:
    step = best["step_seconds"] or {}
    limit = LIMITED_BY.get(best["bound_by"], f"{best['bound_by'] or 'nothing known'} limits it")
    seconds = f"{_number(step.get('expected'))} s ({_number(step.get('low'))} to {_number(step.get('high'))})"
    workers = best.get("workers") or 1
    batch = f"{profile.get('batch_size') or UNKNOWN} sequences of {profile.get('sequence_length') or UNKNOWN} tokens"
    yield f"A step takes {seconds}; {limit}."
    yield (
        f"It trains on {batch}, in micro-batches of {best['micro_batch_size'] or UNKNOWN} on {workers} "
        f"{'worker' if workers == 1 else 'workers'}, gradient checkpointing "
        f"{'on' if best.get('gradient_checkpointing') else 'off'}."
    )
    if best["placement"]["capacity_type"] == "spot":
        rate = best.get("interruptions_per_hour")
        often = f" (a machine is interrupted {_number(rate)} times an hour)" if rate else ""
        yield f"{_number(best['expected_interruptions'])} interruptions are expected until it is done{often}."


def _rejections(rejections: list[Document]) -> Iterable[str]:
    """By reason, the most frequent first, each with the first that was told."""
    reasons: dict[str, list[Document]] = {}
    for rejection in rejections:
        reasons.setdefault(rejection["reason"], []).append(rejection)
    for reason, rejected in sorted(reasons.items(), key=lambda item: -len(item[1])):
        placement = rejected[0]["placement"]
        machine = f"{placement['instance_type']} {placement['capacity_type']} in {_place(rejected[0])}"
        yield f"{reason}: {len(rejected)}, such as {machine}: {rejected[0]['detail']}"


# Drawing


def _ranked(rows: Sequence[Document]) -> list[Document]:
    return [{**row, "mark": "*" if number == 0 else ""} for number, row in enumerate(rows)]


def _fitting(layouts: Sequence[Sequence[Column]], rows: Sequence[Document], width: int) -> Table:
    """The first layout that fits; the last one where none does, its cells cut and never wrapped."""
    for columns in layouts:
        cells = [[column.cell(row) for column in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip([column.head for column in columns], *cells, strict=True)]
        if sum(widths) + GAP * (len(columns) - 1) <= width:
            break
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(
            column.head, justify="right" if column.is_number else "left", no_wrap=True, overflow="ellipsis"
        )
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(*map(Text, texts), style="bold" if row["mark"] == "*" else "")
    return table


def _table(first: str, second: str, third: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(first)
    table.add_column(second, justify="right")
    table.add_column(third, justify="right" if third else "left")
    return table


def _legend(rows: Sequence[Document]) -> Text:
    used = "".join(map(_marks, rows))
    said = ["* chosen", "n machines at once", *(f"{mark} {words}" for mark, words in MARKS.items() if mark in used)]
    return Text("   ".join(said), style="dim")


def _heading(words: str) -> Text:
    return Text(f"\n{words}", style="bold")


def _sentences(said: Iterable[str]) -> list[Text]:
    return [Text(sentence) for sentence in said if sentence]
