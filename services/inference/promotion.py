"""Whether a new version gets more traffic, the name, or nothing: the steps, and what takes it back. No I/O."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from services.inference.evidence import Interval, bounds
from services.inference.gate import Evaluation, refused


class Mode(StrEnum):
    """What happens by itself with a new version. A worse one is taken back in every mode."""

    SUGGEST = "suggest"  # nothing: it waits, loaded, until somebody promotes it or starts its canary
    APPROVE = "approve"  # it goes through its canary, and waits for somebody's word before it is promoted
    AUTO = "auto"


class Stage(StrEnum):
    """Where a rollout stands."""

    LOADING = "loading"
    SUGGESTED = "suggested"
    CANARY = "canary"
    APPROVAL = "approval"  # every step was passed
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"


NEXT_STAGES: dict[Stage, frozenset[Stage]] = {
    Stage.LOADING: frozenset({Stage.SUGGESTED, Stage.CANARY, Stage.PROMOTED, Stage.ROLLED_BACK}),
    Stage.SUGGESTED: frozenset({Stage.CANARY, Stage.PROMOTED, Stage.ROLLED_BACK}),
    Stage.CANARY: frozenset({Stage.APPROVAL, Stage.PROMOTED, Stage.ROLLED_BACK}),
    Stage.APPROVAL: frozenset({Stage.PROMOTED, Stage.ROLLED_BACK}),
    Stage.PROMOTED: frozenset(),
    Stage.ROLLED_BACK: frozenset(),
}
ENDED = frozenset({Stage.PROMOTED, Stage.ROLLED_BACK})

MAX_STEPS = 20
# Upper edges of the latency histogram: 10 ms to 20 min, each a fifth above the one before.
LATENCY_EDGES = tuple(0.01 * 1.2**step for step in range(65))
ERROR = -1  # the bucket of what was not answered


@dataclass(frozen=True, slots=True)
class Rules:
    """How a new version is judged. `alpha`: of all good versions, at most this share is taken back by bad luck."""

    mode: str = Mode.AUTO
    steps: tuple[float, ...] = (0.05, 0.25, 1.0)
    minimum_requests: int = 50
    minimum_seconds: float = 600.0
    maximum_seconds: float = 86_400.0
    error_tolerance: float = 0.01
    latency_tolerance: float = 0.25
    quality_tolerance: float = 0.02
    shadow_fraction: float = 0.0
    sticky_by_key: bool = False
    alpha: float = 0.05

    def problem(self) -> str:
        """What is wrong with them; empty: nothing."""
        if self.mode not in set(Mode):
            return f"mode {self.mode!r} is none of {', '.join(Mode)}"
        rising = all(0.0 < one < other for one, other in zip(self.steps, self.steps[1:], strict=False))
        if not 1 <= len(self.steps) <= MAX_STEPS or not rising or not self.steps[0] > 0.0 or self.steps[-1] > 1.0:
            return f"steps are 1 to {MAX_STEPS} rising shares, each above 0 and at most 1"
        numbers = (
            self.minimum_seconds,
            self.maximum_seconds,
            self.error_tolerance,
            self.latency_tolerance,
            self.quality_tolerance,
        )
        if not all(math.isfinite(one) and one >= 0 for one in numbers) or not 0.0 <= self.shadow_fraction <= 1.0:
            return "tolerances and seconds are not negative, and the shadow's share is at most 1"
        if self.maximum_seconds < self.minimum_seconds:
            return "maximum_seconds is below minimum_seconds"
        return ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From JSON; what is absent keeps its default."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**{**known, **({"steps": tuple(known["steps"])} if "steps" in known else {})})


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of one version: answers by latency bucket, failures, and feedback, each score of [0, 1]."""

    latencies: Mapping[int, int] = field(default_factory=dict)
    errors: int = 0
    scores: int = 0
    score_sum: float = 0.0

    @property
    def requests(self) -> int:
        return self.errors + self.answers

    @property
    def answers(self) -> int:
        return sum(self.latencies.values())

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    @property
    def mean_score(self) -> float | None:
        return self.score_sum / self.scores if self.scores else None

    def slower_than(self, edge: int) -> int:
        """Answers above the edge of this number."""
        return sum(count for bucket, count in self.latencies.items() if bucket > edge)

    def quantile_seconds(self, share: float) -> float | None:
        """The edge below which this share of the answers lies, at most a fifth too high; None: nothing was answered."""
        left = share * self.answers
        for bucket in sorted(self.latencies):
            left -= self.latencies[bucket]
            if left <= 1e-9:
                return LATENCY_EDGES[min(bucket, len(LATENCY_EDGES) - 1)]
        return None


def bucket_of(seconds: float) -> int:
    """The number of the first edge that is not below."""
    return bisect_left(LATENCY_EDGES, seconds)


class Move(StrEnum):
    STAY = "stay"
    ADVANCE = "advance"  # to the next step
    PASS = "pass"  # the last step was passed  # noqa: S105 (no password)
    ROLL_BACK = "roll-back"


@dataclass(frozen=True, slots=True)
class Verdict:
    move: Move
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rollout is judged by. `requests_in_step`: of the canary."""

    endpoint_answers: bool
    canary_ready: bool
    canary_failure: str
    champion: Figures
    canary: Figures
    seconds_in_step: float
    requests_in_step: int
    evaluations: Sequence[Evaluation] = ()


def judge(rules: Rules, step: int, seen: Seen) -> Verdict:
    """What becomes of a canary now. Safe to be asked after every request: see `evidence.bounds`."""
    if harm := harmed(rules, seen.champion, seen.canary):
        return Verdict(Move.ROLL_BACK, harm)
    late = seen.seconds_in_step > rules.maximum_seconds
    if seen.requests_in_step < rules.minimum_requests or seen.seconds_in_step < rules.minimum_seconds:
        few = f"only {seen.requests_in_step} of {rules.minimum_requests} requests in {rules.maximum_seconds:g} s"
        return Verdict(Move.ROLL_BACK, few) if late else Verdict(Move.STAY, "too little was seen yet")
    if doubt := seems_worse(rules, seen.champion, seen.canary):
        return Verdict(Move.ROLL_BACK, f"{doubt}, and it did not change") if late else Verdict(Move.STAY, doubt)
    return Verdict(Move.PASS if step + 1 >= len(rules.steps) else Move.ADVANCE)


def harmed(rules: Rules, champion: Figures, canary: Figures) -> str:
    """Why the canary is worse for certain, up to `alpha` shared by the three rules; empty: it may be as good."""
    alpha = rules.alpha / 3
    return (
        _more_errors(rules.error_tolerance, champion, canary, alpha)
        or _slower(rules.latency_tolerance, champion, canary, alpha)
        or _less_liked(rules.quality_tolerance, champion, canary, alpha)
    )


def _more_errors(tolerance: float, champion: Figures, canary: Figures, alpha: float) -> str:
    here = bounds(canary.errors, canary.requests, alpha / 2)
    # A champion that was not asked meanwhile is taken to make no errors: all traffic may be with the canary.
    there = bounds(champion.errors, champion.requests, alpha / 2) if champion.requests else Interval(0.0, 0.0)
    if here.low <= there.high + tolerance:
        return ""
    return f"errors: at least {here.low:.1%} of the canary's requests, at most {there.high:.1%} of the champion's"


def _less_liked(tolerance: float, champion: Figures, canary: Figures, alpha: float) -> str:
    here = bounds(canary.score_sum, canary.scores, alpha / 2)
    there = bounds(champion.score_sum, champion.scores, alpha / 2)
    if here.high >= there.low - tolerance:
        return ""
    return f"quality: the canary's mean feedback is at most {here.high:.2f}, the champion's at least {there.low:.2f}"


def _slower(tolerance: float, champion: Figures, canary: Figures, alpha: float) -> str:
    """At most 5 % of the champion's answers are above an edge, and more than 5 % of the canary's above a higher one.

    The edges are looked at all together, so each gets its share of `alpha` (Bonferroni).
    """
    each = alpha / (2 * len(LATENCY_EDGES))
    for edge, seconds in enumerate(LATENCY_EDGES):
        if champion.answers == 0 or bounds(champion.slower_than(edge), champion.answers, each).high > P95_TAIL:
            continue
        allowed = bucket_of(seconds * (1 + tolerance))
        here = bounds(canary.slower_than(allowed), canary.answers, each)
        if allowed < len(LATENCY_EDGES) and here.low > P95_TAIL:
            over = LATENCY_EDGES[allowed]
            return f"latency: the canary's p95 is above {over:.3g} s, the champion's below {seconds:.3g} s"
        return ""  # of higher edges the canary is above even less often
    return ""


P95_TAIL = 0.05


def seems_worse(rules: Rules, champion: Figures, canary: Figures) -> str:
    """Why a canary with enough requests is not promoted yet: what was seen is worse, though it may be chance."""
    failing, normal = canary.error_rate or 0.0, champion.error_rate or 0.0
    if failing > normal + rules.error_tolerance:
        return f"errors: {failing:.1%} of its requests, {normal:.1%} of the champion's"
    ours, theirs = canary.mean_score, champion.mean_score
    if ours is not None and theirs is not None and ours < theirs - rules.quality_tolerance:
        return f"quality: its mean feedback is {ours:.2f}, the champion's {theirs:.2f}"
    ours, theirs = canary.quantile_seconds(0.95), champion.quantile_seconds(0.95)
    # An edge more on either side is what the histogram cannot tell apart.
    if ours is not None and theirs is not None and ours > theirs * (1 + rules.latency_tolerance) * 1.2:
        return f"latency: its p95 is {ours:.3g} s, the champion's {theirs:.3g} s"
    return ""


# The rollout itself


@dataclass(frozen=True, slots=True)
class Rollout:
    """One version's way to an endpoint's name. `step` counts from 0 and matters while its stage is `canary`."""

    rollout_id: str
    endpoint_id: str
    tenant_id: str
    model_id: str
    version: int
    from_version: int
    rules: Rules
    stage: Stage = Stage.LOADING
    step: int = 0
    promote_when_loaded: bool = False  # somebody has said so
    reason: str = ""

    @property
    def canary_id(self) -> str:
        """The endpoint, inside inference, that serves the new version until it has the name."""
        return f"{self.rollout_id}.canary"

    @property
    def ended(self) -> bool:
        return self.stage in ENDED

    @property
    def fraction(self) -> float:
        """The canary's share of the traffic, now."""
        if self.stage == Stage.CANARY:
            return self.rules.steps[self.step]
        return self.rules.steps[-1] if self.stage == Stage.APPROVAL else 0.0

    def to(self, stage: Stage, **changes: Any) -> Self:
        """Raises ValueError: `rollout end_1.v2.1: promoted -> canary`."""
        if stage not in NEXT_STAGES[self.stage]:
            raise ValueError(f"rollout {self.rollout_id}: {self.stage} -> {stage}")
        return replace(self, stage=stage, **changes)

    def loaded(self) -> Self:
        """What follows when the new version can answer."""
        if self.promote_when_loaded:
            return self.to(Stage.PROMOTED, reason="somebody's word")
        return self.to(Stage.SUGGESTED if self.rules.mode == Mode.SUGGEST else Stage.CANARY)

    def after(self, verdict: Verdict) -> Self:
        """The canary after a verdict."""
        if verdict.move == Move.ROLL_BACK:
            return self.to(Stage.ROLLED_BACK, reason=verdict.reason)
        if verdict.move == Move.ADVANCE:
            return replace(self, step=self.step + 1, reason="")
        if verdict.move == Move.PASS and self.rules.mode == Mode.AUTO:
            return self.to(Stage.PROMOTED, reason="every step was passed")
        if verdict.move == Move.PASS:
            return self.to(Stage.APPROVAL, reason="every step was passed: promote it, or roll it back")
        return replace(self, reason=verdict.reason)


def advance(rollout: Rollout, seen: Seen) -> Rollout:
    """A rollout that is under way, where it stands next; itself, if it stays."""
    if not seen.endpoint_answers:
        return rollout.to(Stage.ROLLED_BACK, reason="the endpoint does not answer any more")
    if seen.canary_failure:
        return rollout.to(Stage.ROLLED_BACK, reason=f"the new version cannot be served: {seen.canary_failure}")
    if not rollout.promote_when_loaded and (refusal := refused(seen.evaluations)):
        return rollout.to(Stage.ROLLED_BACK, reason=f"evaluation: {refusal}")
    if not seen.canary_ready:
        return rollout
    if rollout.stage == Stage.LOADING:
        return rollout.loaded()
    if rollout.promote_when_loaded:
        return rollout.to(Stage.PROMOTED, reason="somebody's word")
    if rollout.stage == Stage.CANARY:
        return rollout.after(judge(rollout.rules, rollout.step, seen))
    # What waits for somebody's word waits as long as it does no harm.
    harm = harmed(rollout.rules, seen.champion, seen.canary) if rollout.stage == Stage.APPROVAL else ""
    return rollout.to(Stage.ROLLED_BACK, reason=harm) if harm else rollout
