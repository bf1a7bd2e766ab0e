"""Service level objectives: is an endpoint's budget of errors spent too fast? Values in, values out.

An objective promises a share of good answers (`target`) over 30 days; the rest is the budget of errors. The burn rate
of a window is the share of bad answers in it over the share that is allowed: at 1 the budget lasts exactly 30 days. A
rule fires when a long window (it is significant) and a short one (it still goes on) both burn faster than its rate.

Source: Google, The Site Reliability Workbook, chapter 5 "Alerting on SLOs", section 6 "Multiwindow, Multi-Burn-Rate
Alerts": 14.4 over 1 h and 5 min (2 % of the budget), 6 over 6 h and 30 min (5 %), 1 over 3 d and 6 h (10 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.monitor.sketches import Tally, share_above

BUDGET_SECONDS = 30 * 86_400

# A rule that fired lets go only when its short window burns this much slower than the rate: else it would come and go.
RELEASE_FRACTION = 0.8
# Of fewer answers in the long window one bad one would say too much ("low-traffic services" in the same chapter).
MIN_ANSWERS = 20
MIN_BAD_ANSWERS = 2

# What is the asker's fault breaks no promise; these are inference's words (`error.type` of its spans).
ASKERS_FAULTS = frozenset(
    {"refused", "invalid_json_schema", "context_length_exceeded", "model_not_found", "not_a_classifier"}
)

MEASURE_OF = {
    "availability": None,
    "time-to-first-token": "time_to_first_token_seconds",
    "latency": "duration_seconds",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Fires while both windows burn at least at this rate."""

    name: str
    severity: str  # "page" | "ticket"
    burn_rate: float
    long_seconds: int
    short_seconds: int


RULES = (
    Rule("14.4x over 1h and 5m", "page", 14.4, 3_600, 300),
    Rule("6x over 6h and 30m", "page", 6.0, 6 * 3_600, 1_800),
    Rule("1x over 3d and 6h", "ticket", 1.0, 3 * 86_400, 6 * 3_600),
)
_SEVERITIES = ("", "ticket", "page")
PERIODS_SECONDS = tuple(
    sorted({seconds for rule in RULES for seconds in (rule.long_seconds, rule.short_seconds)} | {BUDGET_SECONDS})
)


@dataclass(frozen=True, slots=True)
class Quality:
    """How many answers a window has, and how many of them were bad."""

    answers: int = 0
    bad: int = 0

    @property
    def good_fraction(self) -> float:
        return 1 - self.bad / self.answers if self.answers else 1.0

    def burn_rate(self, target: float) -> float:
        """1: exactly as fast as the budget allows; 0 while nobody asks."""
        return (1 - self.good_fraction) / (1 - target)


def quality(tally: Tally, measure: str | None, at_most: float | None) -> Quality:
    """Of counted answers. Without a limit those with a server error are bad, with one those above it."""
    if measure is None or at_most is None:
        faults = sum(number for kind, number in tally.errors.items() if kind in ASKERS_FAULTS)
        return Quality(tally.spans - faults, tally.failed - faults)
    return Quality(tally.spans, share_above(tally.counts, at_most))


@dataclass(frozen=True, slots=True)
class Told:
    """A breach to be told: the rule that fired, and what its long window showed."""

    rule: Rule
    quality: Quality
    burn_rate: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds now. `breached`: by rule, since when. `told`: a breach that is new, or graver than what was told."""

    breached: dict[str, datetime]
    told: Told | None = None
    recovered_from: datetime | None = None  # when the breach began that is over now


def judge(target: float, observed: Mapping[int, Quality], breached: Mapping[str, datetime], now: datetime) -> Verdict:
    """`observed`: the quality of the last so many seconds, for each of PERIODS_SECONDS. `breached`: the last verdict's.

    One breach is told once, and once more if it becomes a page; it is over when no rule holds any more.
    """
    holding = {
        rule.name: breached.get(rule.name, now)
        for rule in RULES
        if (_goes_on(rule, target, observed) if rule.name in breached else _fires(rule, target, observed))
    }
    before, after = severity(breached), severity(holding)
    if _SEVERITIES.index(after) > _SEVERITIES.index(before):
        rule = next(rule for rule in RULES if rule.name in holding and rule.severity == after)
        long = observed[rule.long_seconds]
        return Verdict(holding, told=Told(rule, long, long.burn_rate(target)))
    if breached and not holding:
        return Verdict(holding, recovered_from=min(breached.values()))
    return Verdict(holding)


def severity(breached: Iterable[str]) -> str:
    """The gravest of the rules that hold; empty if none does."""
    found = {rule.severity for rule in RULES if rule.name in set(breached)}
    return max(found, key=_SEVERITIES.index, default="")


def _fires(rule: Rule, target: float, observed: Mapping[int, Quality]) -> bool:
    long, short = observed[rule.long_seconds], observed[rule.short_seconds]
    enough = long.answers >= MIN_ANSWERS and long.bad >= MIN_BAD_ANSWERS
    return enough and min(long.burn_rate(target), short.burn_rate(target)) >= rule.burn_rate


def _goes_on(rule: Rule, target: float, observed: Mapping[int, Quality]) -> bool:
    """Until the long window has forgotten it, or answers in the short one show that it is over (silence does not)."""
    long, short = observed[rule.long_seconds], observed[rule.short_seconds]
    over = short.answers > 0 and short.burn_rate(target) < RELEASE_FRACTION * rule.burn_rate
    return long.burn_rate(target) >= rule.burn_rate and not over
