"""What the monitor does in a second, and how soon it sees drift. Prints one JSON object.

`python -m benchmarks.monitor [--minutes 10]`. Spans: as `benchmarks/spans.py` says, which measures them alone.

Drift: real questions by topic; a third of a topic is the traffic, two thirds the reference; the delay is the number of
requests after the change until the alarm. In the last line nothing changes: no alarm is right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics

from benchmarks import ledger, spans
from services.monitor.drift import Martingale, Reference, p_value
from sskai.local.postgres import Postgres
from tests.monitor.texts import jokes, questions

ALPHA, BEFORE, LIMIT, REPEATS = 0.01, 20, 300, 20


def drift(usual: str, new: str, new_share: float) -> dict[str, object]:
    delays: list[int] = []
    early = without_alarm = 0
    others = jokes() if new == "jokes" else questions(new)
    for seed in range(REPEATS):
        dice = random.Random(seed)
        texts = questions(usual)
        dice.shuffle(texts)
        cut = len(texts) * 2 // 3
        reference, unseen = Reference.fit(texts[:cut]), texts[cut:]
        test = Martingale()
        for sample in range(1, BEFORE + LIMIT + 1):
            text = dice.choice(others if sample > BEFORE and dice.random() < new_share else unseen)
            score = reference.novelty(text)
            test = test.observe(score, p_value(score, reference.calibration, test.scores, dice.random()))
            if test.capital >= 1 / ALPHA:
                break
        if test.capital < 1 / ALPHA:
            without_alarm += 1
        elif test.samples <= BEFORE:
            early += 1
        else:
            delays.append(test.samples - BEFORE)
    return {
        "usual": usual,
        "new": new,
        "new_share": new_share,
        "reference_texts": cut,
        "median_delay_requests": statistics.median(delays) if delays else None,
        "longest_delay_requests": max(delays, default=None),
        "without_alarm": without_alarm,
        "alarms_before_the_change": early,
        "repeats": REPEATS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.5)
    arguments = parser.parse_args()
    with Postgres.start(durable=True) as server:
        figures, more = asyncio.run(spans.measure(server, arguments.minutes))
        more["ledger"] = asyncio.run(ledger.measure(server.url))
    topics = [("trivia", "jokes"), ("trivia", "psychology"), ("coding", "ai"), ("trivia", "trivia")]
    drifts = [drift(usual, new, share) for usual, new in topics for share in ((1.0, 0.5) if usual != new else (1.0,))]
    print(
        json.dumps(
            {"benchmark": "monitor", "figures": figures, **more, "drift_alpha": ALPHA, "drift": drifts}, indent=2
        )
    )


if __name__ == "__main__":
    main()
