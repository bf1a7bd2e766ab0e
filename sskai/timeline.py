"""A job's timeline, from the gateway's document to values in seconds, and as a Gantt for a terminal. Pure.

`read` makes a `Chart` of what `GET /v1/jobs/ID/timeline` answers; `draw` makes rich's renderables of it that fit a
width and can be read without colour. `timeline_picture.py` draws the same chart as SVG and PNG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from rich.console import Group, RenderableType
from rich.text import Text

Document: TypeAlias = dict[str, Any]

# A deadline further away than the job is long is told and not drawn: the bars would shrink to nothing.
MAX_STRETCH = 2.0
MAX_LANES = 20  # the newest
MAX_SERIES = 4  # the offers that ran last
SHORTEST_SECONDS = 1.0

NOTICE, CHECKPOINT, LOSS, DEADLINE, WAIT = "▼", "●", "✗", "┊", "·"
BARS = {"training": "█", "starting": "░"}
OTHER_BAR = "▒"  # evaluating, saving, publishing
SPARKS = "▁▂▃▄▅▆▇█"
# Of two dots nearer than this only the first is drawn; a checkpoint that answers a notice always is.
CELLS_BETWEEN_DOTS = 3
NARROWEST_CELLS = 20
STYLES = {"spot": "blue", "on-demand": "yellow", NOTICE: "bold red", CHECKPOINT: "bold green", LOSS: "bold red"}
# Reasons of ends that were the market's doing, not the job's, the user's or the scheduler's.
INTERRUPTIONS = ("spot-interrupted", "machine-lost")
TICK_STEPS_SECONDS = (
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800),
)


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to another, in seconds after the job's submission; `name` says of what."""

    start: float
    end: float
    name: str


@dataclass(frozen=True, slots=True)
class Point:
    """A moment in seconds after the submission; `always`: it is drawn wherever it falls."""

    at: float
    kind: str
    always: bool = True


@dataclass(frozen=True, slots=True)
class Lane:
    """One attempt."""

    number: int
    capacity: str
    place: str
    start: float
    end: float
    phases: tuple[Span, ...]
    points: tuple[Point, ...]
    said: str  # how it ended, and the steps that it made


@dataclass(frozen=True, slots=True)
class Series:
    """What an offer cost: (seconds, USD an hour), each price until the next one."""

    offer: str
    capacity: str
    points: tuple[tuple[float, float], ...]
    on_demand: float

    @property
    def moves(self) -> bool:
        return len({usd for _, usd in self.points}) > 1

    @property
    def place(self) -> str:
        """The zone, or the region of an offer that leaves it open."""
        return short(self.offer).rpartition(" ")[2]

    def at(self, seconds: float) -> float | None:
        """The price then; None: before the first one."""
        return next((usd for at, usd in reversed(self.points) if at <= seconds), None)


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is drawn. `end` is where the axis ends, `now` how far the job has come."""

    job_id: str
    name: str
    state: str
    began: datetime
    now: float
    end: float
    lanes: tuple[Lane, ...]
    lanes_hidden: int
    waits: tuple[Span, ...]
    series: tuple[Series, ...]
    deadline: float | None
    point_of_no_return: float | None
    interruptions: int
    spent_usd: float
    on_demand_usd: float

    @property
    def deadline_drawn(self) -> float | None:
        return self.deadline if self.deadline is not None and self.deadline <= self.end else None


def read(document: Document) -> Chart:
    """The gateway's document as values."""
    began = _moment(document["from"])

    def seconds(text: str) -> float:
        return (_moment(text) - began).total_seconds()

    now = max(seconds(document["until"]), SHORTEST_SECONDS)
    deadline = seconds(document["deadline"]) if document["deadline"] else None
    # `no_return` is drawn only beside a deadline that is.
    no_return = seconds(document["point_of_no_return"]) if document["point_of_no_return"] else None
    end = deadline if deadline is not None and now < deadline <= now * MAX_STRETCH else now
    lanes = [_lane(each, document["events"], now, seconds) for each in document["attempts"]]
    return Chart(
        job_id=document["id"],
        name=document["name"],
        state=document["state"],
        began=began,
        now=now,
        end=end,
        lanes=tuple(lanes[-MAX_LANES:]),
        lanes_hidden=max(0, len(lanes) - MAX_LANES),
        waits=tuple(Span(seconds(wait["from"]), seconds(wait["until"]), wait["rule"]) for wait in document["waits"]),
        series=tuple(_series(each, seconds) for each in document["prices"][:MAX_SERIES]),
        deadline=deadline,
        point_of_no_return=no_return,
        interruptions=sum(_was_interrupted(each) for each in document["attempts"]),
        spent_usd=document["spent_usd"],
        on_demand_usd=document["on_demand_usd"],
    )


def _lane(attempt: Document, events: Iterable[Document], now: float, seconds: Any) -> Lane:
    number, placement = attempt["number"], attempt["placement"]
    own = [event for event in events if event.get("attempt") == number]
    points = [
        Point(seconds(event["at"]), CHECKPOINT, event["cause"] != "interval")
        for event in own
        if event["kind"] == "checkpoint"
    ]
    points += [Point(seconds(event["at"]), NOTICE) for event in own if event["kind"] == "notice"]
    end = seconds(attempt["ended_at"]) if attempt["ended_at"] else now
    if attempt["outcome"] == "lost":
        points.append(Point(end, LOSS))
    return Lane(
        number=number,
        capacity=placement["capacity_type"] or "",
        place=placement["zone"] if placement["zone"] != "*" else placement["region"],
        start=seconds(attempt["started_at"]),
        end=end,
        phases=tuple(
            Span(seconds(each["started_at"]), seconds(each["ended_at"]), each["phase"]) for each in attempt["phases"]
        ),
        points=tuple(sorted(points, key=lambda point: point.at)),
        said=_said(attempt),
    )


def _said(attempt: Document) -> str:
    outcome = attempt["reason"] or attempt["outcome"]
    steps = f"steps {attempt['from_step']} to {attempt['to_step']}" if attempt["to_step"] else "no step"
    lost = f", {attempt['lost_steps']} lost" if attempt["lost_steps"] else ""
    return f"{outcome}, {steps}{lost}"


def _was_interrupted(attempt: Document) -> bool:
    return attempt["reason"] in INTERRUPTIONS or (attempt["outcome"] == "lost" and not attempt["reason"])


def _series(series: Document, seconds: Any) -> Series:
    return Series(
        offer=series["offer"],
        capacity=series["capacity_type"] or "",
        points=tuple((max(0.0, seconds(point["at"])), point["usd_per_hour"]) for point in series["points"]),
        on_demand=series["on_demand_usd_per_hour"],
    )


def draw(document: Document, width: int) -> Group:
    """The timeline in a terminal of so many columns: a line per attempt under one axis, waits, prices, a legend."""
    chart = read(document)
    labels = [f"#{lane.number} {lane.capacity} {lane.place}" for lane in chart.lanes]
    moving = [series for series in chart.series if series.moves]
    prices = [f"$ {series.capacity} {series.place}" for series in moving]
    left = min(max(map(len, (*labels, "waiting", *prices))), max(9, width // 4))
    # What an attempt says goes beside its bar where there is room, else under the chart.
    said = max((len(lane.said) for lane in chart.lanes), default=0) + 1
    beside = width - left - 1 - said >= NARROWEST_CELLS * 2
    cells = max(NARROWEST_CELLS, width - left - 1 - (said if beside else 0))

    lines: list[RenderableType] = [Text(line, overflow="fold") for line in headline(chart)]
    lines += [_line("", left, Text(text, style="dim"), width) for text in axis(chart, cells)]
    for lane, label in zip(chart.lanes, labels, strict=True):
        bar = _styled(lane_cells(lane, chart, cells), lane.capacity)
        lines.append(_line(label, left, bar + Text(f" {lane.said}", style="dim") if beside else bar, width))
    if any(wait.end > wait.start for wait in chart.waits):
        lines.append(_line("waiting", left, Text(wait_cells(chart, cells), style="dim"), width))
    lines += [
        _line(label, left, Text(spark(series, chart, cells), style="cyan"), width)
        for series, label in zip(moving, prices, strict=True)
    ]
    lines += [Text(line, style="dim", overflow="fold") for line in _notes(chart, beside)]
    return Group(*lines)


def headline(chart: Chart) -> Iterator[str]:
    """What the job came to so far, in a sentence."""
    saved = f", {chart.on_demand_usd:.4g} on demand" if chart.on_demand_usd else ""
    yield (
        f"{chart.name} ({chart.job_id}) {chart.state}: {duration(chart.now)}, {_count(attempts(chart), 'attempt')}, "
        f"{_count(chart.interruptions, 'interruption')}, {chart.spent_usd:.4g} USD{saved}"
    )
    if chart.deadline is not None:
        left = chart.deadline - chart.now
        word = f"{duration(left)} left" if left >= 0 else f"passed {duration(-left)} ago"
        if chart.state in ("succeeded", "failed", "cancelled"):
            word = f"met with {duration(left)} to spare" if left >= 0 else f"missed by {duration(-left)}"
        yield f"deadline after {duration(chart.deadline)}: {word}"


def attempts(chart: Chart) -> int:
    return len(chart.lanes) + chart.lanes_hidden


def axis(chart: Chart, cells: int) -> tuple[str, str]:
    """Numbers and ticks above the bars; `┊` and its word where the deadline is."""
    step = tick_seconds(chart.end, max(2, cells // 10))
    numbers, ticks = [" "] * cells, ["─"] * cells
    tick = 0.0
    while tick <= chart.end:
        place, text = cell_of(tick, chart, cells), duration(tick)
        if place + len(text) <= cells and all(one == " " for one in numbers[max(0, place - 1) : place + len(text) + 1]):
            numbers[place : place + len(text)] = text
        ticks[place] = "┬"
        tick += step
    if chart.deadline_drawn is not None:
        ticks[cell_of(chart.deadline_drawn, chart, cells)] = DEADLINE
    return "".join(numbers).rstrip(), "".join(ticks)


def tick_seconds(end: float, ticks: int) -> float:
    """The smallest step of a round length that needs no more ticks than that."""
    return next((step for step in TICK_STEPS_SECONDS if end / step <= ticks), end)


def lane_cells(lane: Lane, chart: Chart, cells: int) -> str:
    """The attempt's bar, one character a cell: its phases, and over them what happened."""
    row = [" "] * cells
    if chart.deadline_drawn is not None:
        row[cell_of(chart.deadline_drawn, chart, cells)] = DEADLINE
    for phase in lane.phases:
        for place in range(cell_of(phase.start, chart, cells), cell_of(phase.end, chart, cells) + 1):
            row[place] = BARS.get(phase.name, OTHER_BAR)
    dotted = -CELLS_BETWEEN_DOTS
    # What matters more is drawn later, over the rest.
    for point in sorted(lane.points, key=lambda point: (point.always, point.kind != CHECKPOINT, point.at)):
        place = cell_of(point.at, chart, cells)
        if not point.always:
            if place < dotted + CELLS_BETWEEN_DOTS:
                continue
            dotted = place
        if row[place] == NOTICE and point.kind == LOSS and place + 1 < cells:
            place += 1  # a notice that was followed at once
        row[place] = point.kind
    return "".join(row)


def wait_cells(chart: Chart, cells: int) -> str:
    """Where nothing ran."""
    row = [" "] * cells
    for wait in chart.waits:
        for place in range(cell_of(wait.start, chart, cells), cell_of(wait.end, chart, cells) + 1):
            row[place] = WAIT
    return "".join(row)


def spark(series: Series, chart: Chart, cells: int) -> str:
    """A moving price in eighths between its lowest and its highest."""
    lowest, highest = min(usd for _, usd in series.points), max(usd for _, usd in series.points)
    row = []
    for place in range(cells):
        at = chart.end * (place + 1) / cells
        usd = series.at(at) if at <= chart.now + chart.end / cells else None
        eighth = 0 if usd is None else round((usd - lowest) / (highest - lowest) * (len(SPARKS) - 1))
        row.append(" " if usd is None else SPARKS[eighth])
    return "".join(row)


def cell_of(seconds: float, chart: Chart, cells: int) -> int:
    """The cell of a moment; what is outside of the axis is at its edge."""
    return min(cells - 1, max(0, int(seconds / chart.end * cells)))


def duration(seconds: float) -> str:
    """`0`, `40s`, `12m`, `1h30m`, `2d4h`: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s" if whole else "0"
    units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")]
    place = next(place for place, (size, _) in enumerate(units) if whole >= size)
    (size, name), (smaller, smaller_name) = units[place], units[place + 1]
    rest = whole % size // smaller
    return f"{whole // size}{name}" + (f"{rest}{smaller_name}" if rest else "")


def short(offer: str) -> str:
    """`aws/us-east-1/use1-az1/g5.xlarge/spot` as `g5.xlarge spot use1-az1`."""
    parts = offer.split("/")
    if len(parts) != 5:
        return offer
    _, region, zone, instance_type, capacity = parts
    return f"{instance_type} {capacity} {zone if zone != '*' else region}"


def waits_by_rule(waits: Sequence[Span]) -> dict[str, float]:
    """Seconds by the rule that held, the longest first."""
    seconds: dict[str, float] = {}
    for wait in waits:
        name = wait.name or "no machine yet"
        seconds[name] = seconds.get(name, 0.0) + wait.end - wait.start
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _notes(chart: Chart, beside: bool) -> Iterator[str]:
    if not beside:
        yield from (f"#{lane.number} {lane.said}" for lane in chart.lanes)
    if chart.lanes_hidden:
        yield f"and {_count(chart.lanes_hidden, 'attempt')} before these"
    waited = waits_by_rule(chart.waits)
    if waited:
        yield "waited: " + ", ".join(f"{rule} {duration(seconds)}" for rule, seconds in waited.items())
    for series in chart.series:
        usd = [price for _, price in series.points]
        if usd:
            span = f"{min(usd):.4g}" if min(usd) == max(usd) else f"{min(usd):.4g} to {max(usd):.4g}"
            yield f"{short(series.offer)}: {span} USD/h, {series.on_demand:.4g} on demand"
    legend = f"█ training  ░ starting  ▒ other  {CHECKPOINT} checkpoint  {NOTICE} notice  {LOSS} lost  {WAIT} waiting"
    yield legend + (f"  {DEADLINE} deadline" if chart.deadline_drawn is not None else "")


def _line(label: str, left: int, cells: Text, width: int) -> Text:
    text = label if len(label) <= left else label[: left - 1] + "…"
    line = Text(f"{text:<{left}} ", no_wrap=True, overflow="ellipsis") + cells
    line.truncate(width, overflow="ellipsis")
    line.rstrip()
    return line


def _styled(cells: str, capacity: str) -> Text:
    text = Text()
    for character in cells:
        text.append(character, STYLES.get(character, STYLES.get(capacity, "")))
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
