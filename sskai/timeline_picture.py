"""A job's timeline as a picture for reports: attempts above, prices below, on one axis. SVG or PNG, by the file's name.

Needs matplotlib (`pip install 'sskai[lab]'`). Colours are those of Okabe and Ito (jfly.uni-koeln.de/color, 2008), which
people who confuse red and green tell apart; shapes and words say the same as colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sskai.timeline import (
    CHECKPOINT,
    NOTICE,
    Chart,
    Document,
    Lane,
    duration,
    headline,
    read,
    short,
    tick_seconds,
    waits_by_rule,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#8C8C8C"
CAPACITIES = {"spot": BLUE, "on-demand": ORANGE}
LINES = (BLUE, GREEN, PURPLE, VERMILLION)
SUFFIXES = (".png", ".svg")
WIDTH_INCHES, LANE_INCHES, PRICE_INCHES, FRAME_INCHES = 11.0, 0.42, 1.9, 2.1
DOTS_PER_INCH = 150
BAR_HEIGHT = 0.62
MAX_TICKS = 10
# A share of the axis: checkpoints nearer to each other than this are drawn as one.
DOT_SPACING = 0.012
# Of the axis: in a shorter wait its rule has no room.
NAMED_WAIT_SHARE = 0.05


class NoMatplotlibError(ImportError):
    """The picture cannot be drawn; the message says what to install."""


def save(document: Document, file: Path) -> None:
    """Draw the timeline into a file. Raises ValueError for a name that is neither .png nor .svg, NoMatplotlibError."""
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{file} should end in {' or '.join(SUFFIXES)}")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise NoMatplotlibError("pictures need matplotlib: pip install 'sskai[lab]'") from error
    # The same data give the same file: no dates, no random ids.
    with mpl.rc_context({"svg.hashsalt": "sskai", "font.family": "DejaVu Sans", "font.size": 9}):
        metadata: dict[str, Any] = {"Date": None} if file.suffix.lower() == ".svg" else {"Software": None}
        figure(read(document)).savefig(file, dpi=DOTS_PER_INCH, metadata=metadata, facecolor="white")


def figure(chart: Chart) -> Figure:
    """The picture before it is written."""
    from matplotlib.figure import Figure

    rows = max(len(chart.lanes), 1) + 1  # one for the waits
    gantt_inches = LANE_INCHES * rows
    picture = Figure(figsize=(WIDTH_INCHES, gantt_inches + PRICE_INCHES + FRAME_INCHES), layout="constrained")
    gantt, prices = picture.subplots(2, 1, sharex=True, height_ratios=(gantt_inches, PRICE_INCHES))
    _attempts(gantt, chart)
    _prices(prices, chart)
    for axes in (gantt, prices):
        _frame(axes, chart)
    first, *rest = headline(chart)
    waited = ", ".join(f"{rule} {duration(seconds)}" for rule, seconds in waits_by_rule(chart.waits).items())
    rest += [f"submitted {chart.began:%Y-%m-%d %H:%M} UTC" + (f"; waited: {waited}" if waited else "")]
    picture.suptitle("\n".join([first, *rest]), x=0.01, ha="left", fontsize=10)
    picture.legend(handles=_legend(chart), loc="outside lower left", ncols=10, frameon=False, fontsize=8)
    return picture


def _attempts(axes: Axes, chart: Chart) -> None:
    for row, lane in enumerate(chart.lanes):
        _bar(axes, row, lane, chart)
    waiting = len(chart.lanes)
    spans = [(wait.start, wait.end - wait.start) for wait in chart.waits]
    axes.broken_barh(spans, (waiting - 0.15, 0.3), facecolors="#D9D9D9", edgecolor=GREY, hatch="////", linewidth=0)
    for wait in chart.waits:
        if wait.name and wait.end - wait.start >= chart.end * NAMED_WAIT_SHARE:
            middle = (wait.start + wait.end) / 2
            axes.text(middle, waiting + 0.2, wait.name, ha="center", va="top", fontsize=7, color="#404040")
    labels = [f"#{lane.number}  {lane.capacity}  {lane.place}" for lane in chart.lanes]
    axes.set_yticks(range(len(labels) + 1), [*labels, "waiting"])
    axes.set_ylim(waiting + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    if chart.lanes_hidden:
        axes.set_ylabel(f"{chart.lanes_hidden} earlier attempts are not drawn", fontsize=8, color=GREY)


def _bar(axes: Axes, row: int, lane: Lane, chart: Chart) -> None:
    colour = CAPACITIES.get(lane.capacity, GREY)
    for phase in lane.phases:
        training = phase.name == "training"
        axes.broken_barh(
            [(phase.start, phase.end - phase.start)],
            (row - BAR_HEIGHT / 2, BAR_HEIGHT),
            facecolors=colour if training else "white",
            edgecolor=colour,
            hatch=None if training else "....." if phase.name == "starting" else "\\\\\\\\",
            linewidth=0.8,
        )
    shown = -chart.end
    dots = []
    for point in lane.points:
        if point.kind == CHECKPOINT and (point.always or point.at - shown >= chart.end * DOT_SPACING):
            dots.append(point.at)
            shown = point.at
    axes.scatter(dots, [row] * len(dots), s=20, color="white", edgecolors="black", linewidths=0.8, zorder=3)
    notices = [point.at for point in lane.points if point.kind == NOTICE]
    above = [row - BAR_HEIGHT / 2 - 0.1] * len(notices)
    axes.scatter(notices, above, marker="v", s=42, color=VERMILLION, zorder=4)
    if any(point.kind not in (CHECKPOINT, NOTICE) for point in lane.points):
        axes.scatter([lane.end], [row], marker="x", s=36, color=VERMILLION, linewidths=1.8, zorder=4)
    # Beside the bar, on the side that has more room.
    right = chart.end - lane.end >= lane.start
    axes.annotate(
        lane.said,
        (lane.end if right else lane.start, row),
        xytext=(6 if right else -6, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        fontsize=8,
        color="#404040",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        zorder=5,
    )


def _prices(axes: Axes, chart: Chart) -> None:
    on_demand = {series.on_demand for series in chart.series if series.on_demand > 0}
    spot = [series for series in chart.series if series.capacity == "spot" and series.points]
    for colour, series in zip(LINES, spot, strict=False):
        points = [*series.points, (chart.now, series.points[-1][1])]
        at, usd = [point[0] for point in points], [point[1] for point in points]
        axes.step(at, usd, where="post", color=colour, linewidth=1.6, label=short(series.offer))
    for usd_per_hour in sorted(on_demand):
        axes.axhline(usd_per_hour, color=GREY, linestyle=":", linewidth=1.2, label=f"on demand {usd_per_hour:.4g}")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.set_ylabel("USD an hour")
    if chart.series:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, frameon=False, fontsize=8)


def _frame(axes: Axes, chart: Chart) -> None:
    step = tick_seconds(chart.end, MAX_TICKS)
    ticks = [step * number for number in range(int(chart.end / step) + 1)]
    axes.set_xticks(ticks, [duration(tick) for tick in ticks])
    axes.set_xlim(-chart.end * 0.01, chart.end * 1.01)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if chart.deadline_drawn is not None:
        axes.axvline(chart.deadline_drawn, color="black", linewidth=1.6)
        if chart.point_of_no_return is not None and 0 <= chart.point_of_no_return <= chart.end:
            axes.axvline(chart.point_of_no_return, color="black", linewidth=1.0, linestyle="--")
    if chart.now < chart.end:
        axes.axvline(chart.now, color=GREY, linewidth=0.8)


def _legend(chart: Chart) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot: dict[str, Any] = {
        "color": "none",
        "marker": "o",
        "markerfacecolor": "white",
        "markeredgecolor": "black",
        "markersize": 5,
    }
    handles: list[Any] = [Patch(facecolor=BLUE, label="spot"), Patch(facecolor=ORANGE, label="on demand")]
    handles += [
        Patch(facecolor="white", edgecolor=GREY, hatch=".....", label="starting"),
        Patch(facecolor="white", edgecolor=GREY, hatch="\\\\\\\\", label="evaluating, saving"),
        Line2D([], [], label="checkpoint", **dot),
        Line2D(
            [], [], color="none", marker="v", markerfacecolor=VERMILLION, markeredgecolor=VERMILLION, label="notice"
        ),
        Line2D([], [], color="none", marker="x", markeredgecolor=VERMILLION, markeredgewidth=1.8, label="lost"),
    ]
    if chart.now < chart.end:
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="now"))
    if chart.deadline_drawn is not None:
        handles.append(Line2D([], [], color="black", linewidth=1.6, label="deadline"))
        if chart.point_of_no_return is not None:
            handles.append(Line2D([], [], color="black", linewidth=1.0, linestyle="--", label="point of no return"))
    return handles
