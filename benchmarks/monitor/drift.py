"""How soon drift is seen, and how seldom where there is none, on real text.

What is known so far goes to standard error.

`shifts`: a reference of 500 texts (of a small topic two thirds); 100 requests like it, then requests of which a share
is of another topic. Topics: what people ask chatbots, and manuals of AWS's services, which differ in subject but not in
style. Every stream of the requests is tested, as it is for an endpoint; the first alarm of any of them counts. Texts of
the topic come once each as long as there are any.

`quiet`: requests and answers of one topic each, every text once, against the training data and, after 200, against the
healthy window, with all their streams. Every alarm is a false one. A run goes on after an alarm as an endpoint does.

The peer is evidently's default for a column of texts (`calculate_text_drift_score`): a domain classifier (TF-IDF and a
linear model) on half of reference and current data, whose AUC on the other half must pass the 95th percentile of a
random classifier's. It is a test of a batch, so it is given each 100 requests. Where evidently is not installed, its
`figures` are null, and `same_method` has those of its classifier built from scikit-learn, with the random classifier's
percentile by the normal limit of the Mann-Whitney statistic.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.figures import Figure, figure
from services.monitor.drift_streams import References, Sample, Window
from services.monitor.drift_texts import Texts
from services.monitor.drift_watch import Alarm, Rules, Watch
from tests.monitor.texts import jokes, manual, questions

RULES = Rules()
REFERENCE_TEXTS, BEFORE, LIMIT = 500, 100, 300
SHARES = (0.1, 0.25, 0.5, 1.0)
RUNS, GOAL_RUNS, GOAL_SHARE = 10, 40, 0.5  # runs of each pair and share; of the share that there is a goal for
QUIET_RUNS, QUIET_SAMPLES = 20, 5_200
BATCH = 100
PEER_RUNS, PEER_QUIET_BATCHES = 10, 400

Batch = Sequence[str]
BatchTest = Callable[[Batch, Batch], bool]


def topics() -> dict[str, list[str]]:
    asked = {f"questions:{topic}": questions(topic) for topic in ("trivia", "psychology")}
    manuals = {f"manual:{service}": manual(service) for service in ("ec2", "quicksight", "sagemaker", "glue")}
    return {**asked, "jokes": jokes(), **manuals}


PAIRS = (
    ("questions:trivia", "jokes"),
    ("questions:trivia", "questions:psychology"),
    ("manual:ec2", "manual:quicksight"),
    ("manual:sagemaker", "manual:glue"),
)


class Endpoint:
    """A version's tests, as the handlers keep them, without a database."""

    def __init__(self, training: Texts) -> None:
        self.references = References(training=training)
        self.watch = Watch().against_training(training)
        self._window: list[Sample] = []

    def take(self, sample: Sample) -> list[Alarm]:
        collected = self.watch.window_samples
        self.watch, alarms = self.watch.observe(sample, 0.0, self.references, RULES)
        if self.watch.window_ready:
            return alarms
        self._window = [*self._window, sample] if self.watch.window_samples > collected else []
        if self.watch.window_full(RULES):
            window = Window.fit([one.input_text for one in self._window], [one.output_text for one in self._window])
            self.references = replace(self.references, window=window)
            self.watch = self.watch.against_window(window)
        return alarms


def split(texts: Sequence[str], dice: random.Random) -> tuple[list[str], Iterator[str]]:
    """A reference, and the other texts without an end: each once in each round."""
    shuffled = list(texts)
    dice.shuffle(shuffled)
    cut = min(REFERENCE_TEXTS, len(shuffled) * 2 // 3)
    return shuffled[:cut], _rounds(shuffled[cut:], dice)


def _rounds(texts: list[str], dice: random.Random) -> Iterator[str]:
    while True:
        yield from dice.sample(texts, len(texts))


def requests(usual: Iterator[str], new: Sequence[str], share: float, dice: random.Random) -> Iterator[str]:
    """BEFORE usual ones, then mixed ones."""
    for number in range(BEFORE + LIMIT):
        yield dice.choice(new) if number >= BEFORE and dice.random() < share else next(usual)


def shift(usual: Sequence[str], new: Sequence[str], share: float, runs: int) -> dict[str, object]:
    delays: list[int] = []
    early, signals = 0, []
    for seed in range(runs):
        dice = random.Random(seed)
        training, unseen = split(usual, dice)
        endpoint = Endpoint(Texts.fit(training))
        for number, text in enumerate(requests(unseen, new, share, dice), 1):
            if alarms := endpoint.take(Sample(f"run_{seed}_{number}", text)):
                signals.append(alarms[0].stream.name)
                early += number <= BEFORE
                if number > BEFORE:
                    delays.append(number - BEFORE)
                break
    return {
        "runs": runs,
        "detected": len(delays),
        "alarms_before_the_change": early,
        "median_delay_requests": statistics.median(delays) if delays else None,
        "p95_delay_requests": float(np.percentile(delays, 95)) if delays else None,
        "first_signals": {name: signals.count(name) for name in sorted(set(signals))},
    }


def quiet(runs: int, samples: int) -> dict[str, object]:
    """False alarms on requests of one manual with answers of another."""
    told: list[str] = []
    largest = 0.0
    started = time.process_time()
    asked, said = manual("ec2"), manual("quicksight")
    for seed in range(runs):
        dice = random.Random(seed)
        training, inputs = split(asked, dice)
        outputs = _rounds(said, dice)
        endpoint = Endpoint(Texts.fit(training))
        for number in range(samples):
            asks, answers = next(inputs), next(outputs)
            sample = Sample(
                inference_id=f"run_{seed}_{number}",
                input_text=asks,
                output_text=answers,
                input_tokens=20 + len(asks) // 4,
                output_tokens=1 + len(answers) // 4,
                mean_logprob=-0.5 - dice.random(),
            )
            told += [f"{alarm.stream.name}@{alarm.reference.value}" for alarm in endpoint.take(sample)]
        largest = max(largest, *(test.capital for test in endpoint.watch.tests.values()))
        _progress({"quiet_samples": (seed + 1) * samples, "false_alarms": told})
    total = runs * samples
    return {
        "samples": total,
        "tests_of_each": len(endpoint.watch.tests),
        "false_alarms": len(told),
        "false_alarms_per_10000": round(len(told) / total * 10_000, 3),
        "by_test": {name: told.count(name) for name in sorted(set(told))},
        "largest_capital_at_an_end": round(largest, 1),
        "cpu_milliseconds_per_sample": round((time.process_time() - started) / total * 1e3, 2),
    }


def peer(is_drift: BatchTest) -> dict[str, object]:
    """The same streams in batches of 100 through a test of batches."""
    texts, shifts = topics(), []
    for usual, new in PAIRS:
        detected = 0
        for seed in range(PEER_RUNS):
            dice = random.Random(seed)
            training, unseen = split(texts[usual], dice)
            after = list(requests(unseen, texts[new], GOAL_SHARE, dice))[BEFORE:]
            detected += any(is_drift(training, after[first : first + BATCH]) for first in range(0, LIMIT, BATCH))
        shifts.append({"usual": usual, "new": new, "runs": PEER_RUNS, "detected_within_300": detected})
        _progress(shifts[-1])
    false_alarms = 0
    for seed in range(PEER_QUIET_BATCHES // 50):
        training, inputs = split(texts["manual:ec2"], random.Random(seed))
        false_alarms += sum(is_drift(training, [next(inputs) for _ in range(BATCH)]) for _ in range(50))
    samples = PEER_QUIET_BATCHES * BATCH
    return {
        "shifts": shifts,
        "quiet_samples": samples,
        "false_alarms": false_alarms,
        "false_alarms_per_10000": round(false_alarms / samples * 10_000, 3),
    }


def evidently_test() -> BatchTest | None:
    """evidently's own function; None: it is not installed."""
    for name in ("evidently.legacy.utils.data_drift_utils", "evidently.utils.data_drift_utils"):
        try:
            module, pandas = importlib.import_module(name), importlib.import_module("pandas")
        except ImportError:
            continue
        return lambda reference, current: bool(
            module.calculate_text_drift_score(pandas.Series(reference), pandas.Series(current), bootstrap=True)[1]
        )
    return None


def domain_classifier(reference: Batch, current: Batch) -> bool:
    """evidently's method and its settings, from scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline

    texts, is_current = [*reference, *current], [0] * len(reference) + [1] * len(current)
    learnt, tested, learnt_is, tested_is = train_test_split(texts, is_current, test_size=0.5, random_state=42)
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, max_df=0.5, stop_words="english"),
        SGDClassifier(alpha=1e-4, max_iter=50, penalty="l1", loss="modified_huber", random_state=42),
    )
    auc = roc_auc_score(tested_is, model.fit(learnt, learnt_is).predict_proba(tested)[:, 1])
    ones = sum(tested_is)
    deviation = math.sqrt((len(tested) + 1) / (12 * ones * (len(tested) - ones)))
    return float(auc) > 0.5 + statistics.NormalDist().inv_cdf(0.95) * deviation


def all_shifts() -> dict[str, object]:
    """Every pair at every share; first those that there is a goal for."""
    texts = topics()
    shifts: list[dict[str, object]] = []
    for share in sorted(SHARES, key=lambda share: share != GOAL_SHARE):
        for usual, new in PAIRS:
            runs = GOAL_RUNS if share == GOAL_SHARE else RUNS
            shifts.append(
                {"usual": usual, "new": new, "new_share": share, **shift(texts[usual], texts[new], share, runs)}
            )
            _progress(shifts[-1])
    at_goal = [int(str(one["detected"])) / GOAL_RUNS for one in shifts if one["new_share"] == GOAL_SHARE]
    return {"least_share_detected_within_300_at_half": min(at_goal), "shifts": shifts}


def against_evidently() -> dict[str, object]:
    own = evidently_test()
    return {
        "installed": own is not None,
        "figures": peer(own) if own else None,
        "same_method": None if own else peer(domain_classifier),
    }


def report() -> dict[str, Any]:
    """Everything, as it was found."""
    return {
        "alpha": RULES.alpha,
        "min_samples": RULES.min_samples,
        "reference_texts": REFERENCE_TEXTS,
        "shifts": all_shifts(),
        "quiet": quiet(QUIET_RUNS, QUIET_SAMPLES),
        "evidently": against_evidently(),
    }


def figures(found: dict[str, Any]) -> list[Figure]:
    """What was promised of it."""
    peer = found["evidently"]["figures"] or found["evidently"]["same_method"]
    least = min(one["detected_within_300"] / one["runs"] for one in peer["shifts"])
    called = "evidently" if found["evidently"]["figures"] else "evidently's method, built from scikit-learn"
    told = {"detected at least": least, "false alarms per 10,000": peer["false_alarms_per_10000"]}
    how = f"{called}: {told}"
    half = found["shifts"]["least_share_detected_within_300_at_half"]
    false = found["quiet"]["false_alarms_per_10000"]
    return [
        figure("detected_within_300_at_half", half, "of runs", 0.95, "higher", peer=called, how=f"worst pair; {how}"),
        figure(
            "false_alarms_per_10000",
            false,
            "alarms",
            1.0,
            "lower",
            peer=called,
            how=f"{found['quiet']['samples']} samples, all streams; {how}",
        ),
    ]


def _progress(known: object) -> None:
    print(json.dumps(known), file=sys.stderr, flush=True)
