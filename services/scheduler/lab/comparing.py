"""Policies against settings: as a table, and as a picture (PNG and SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.scheduler.lab.replaying import GREEDY, LOOKAHEAD, ON_DEMAND, POLICIES, UNIFORM, Result, summary
from services.scheduler.lab.simulator import Work

# Colours that stay apart for colour-blind readers (Okabe and Ito, 2008).
COLOURS = {LOOKAHEAD: "#0072B2", UNIFORM: "#E69F00", GREEDY: "#CC79A7", ON_DEMAND: "#999999"}
NAMES = {LOOKAHEAD: "SSKAI look-ahead", UNIFORM: "Uniform Progress", GREEDY: "greedy", ON_DEMAND: "on-demand"}


def table(results: Sequence[Result], policies: Sequence[str]) -> list[dict[str, Any]]:
    """One row per setting: mean cost over on-demand by policy, the bound, the gap closed, misses."""
    rows = []
    for work, chosen in by_setting(results).items():
        summaries = {name: summary(chosen, name) for name in policies}
        row: dict[str, Any] = {
            "work_hours": work.work_hours,
            "deadline_hours": work.deadline_hours,
            "restart_overhead_hours": work.restart_hours,
            "windows": len(chosen),
        }
        row |= {name: one["mean_cost_over_on_demand"] for name, one in summaries.items()}
        row["omniscient"] = next(iter(summaries.values()))["omniscient_cost_over_on_demand"]
        if LOOKAHEAD in summaries:
            row["gap_closed"] = summaries[LOOKAHEAD].get("gap_to_omniscient_closed")
        row["deadline_misses"] = {name: one["deadline_misses"] for name, one in summaries.items()}
        row["restarts"] = {name: one["restarts"] for name, one in summaries.items()}
        rows.append(row)
    return rows


def by_setting(results: Sequence[Result]) -> dict[Work, list[Result]]:
    """Results by what was asked, in the order of the first of each."""
    found: dict[Work, list[Result]] = {}
    for result in results:
        found.setdefault(result.work, []).append(result)
    return found


def picture(rows: Sequence[dict[str, Any]], policies: Sequence[str], title: str, stem: Path) -> list[Path]:
    """Draw the table as grouped bars with the omniscient bound as a mark; writes STEM.png and STEM.svg."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [name for name in POLICIES if name in policies and name != ON_DEMAND]
    figure, axes = plt.subplots(figsize=(max(7.0, 0.95 * len(rows) + 2), 4.6), layout="constrained")
    width = 0.8 / max(1, len(shown))
    for number, name in enumerate(shown):
        places = [place + (number - (len(shown) - 1) / 2) * width for place in range(len(rows))]
        axes.bar(places, [row[name] for row in rows], width * 0.92, color=COLOURS[name], label=NAMES[name])
    for place, row in enumerate(rows):
        if row["omniscient"] is not None:
            label = "omniscient bound" if place == 0 else "_again"
            axes.hlines(row["omniscient"], place - 0.44, place + 0.44, color="black", linewidth=1.8, label=label)
        missed = [NAMES[name] for name, count in row["deadline_misses"].items() if count]
        if missed:
            axes.text(place, 0.02, f"missed: {', '.join(missed)}", rotation=90, ha="center", va="bottom", fontsize=7)
    axes.axhline(1.0, color=COLOURS[ON_DEMAND], linestyle="--", linewidth=1, label=NAMES[ON_DEMAND])
    axes.set_xticks(
        range(len(rows)),
        [f"{row['deadline_hours']:g} h\n{row['restart_overhead_hours']:g} h" for row in rows],
        fontsize=9,
    )
    axes.set_xlabel("deadline, and restart overhead")
    axes.set_ylabel("mean cost over on-demand")
    axes.set_ylim(0, 1.05)
    axes.set_title(title, fontsize=11)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    written = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in written:
        figure.savefig(path, dpi=144)
    plt.close(figure)
    return written
