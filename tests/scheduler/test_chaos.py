"""The scheduler is killed and stopped at random, and the cloud goes away: no job notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scheduler.chaos import Storm, chaos
from tests.scheduler.chaos_checks import Record, false_recoveries, violations

FAULTS = 12
FAILED_STATUS_CALLS = 5  # benchmarks/scheduler_chaos.py waits for 25, which takes the loops' own patience


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_no_kill_and_no_stop_of_the_scheduler_is_noticed_by_a_job(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with chaos(tmp_path) as world:
        away = await world.cloud_away(failed_calls=FAILED_STATUS_CALLS, steps=80)
        assert away.failed_status_calls >= FAILED_STATUS_CALLS
        assert away.relaunches_while_away == 0
        report = await world.blow(Storm(FAULTS))
    assert report.violations == []
    assert report.kills + report.stops == FAULTS
    assert report.jobs >= 6


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1 began 0 1.0", "1 step 1 1.1", "2 began 1 1.2", "2 done 9 1.3"], []),
        (["1 began 0 1.0", "2 began 0 1.1", "1 step 1 1.2"], ["attempt 1 wrote step 1 after attempt 2 had begun"]),
        (["2 began 0 1.0", "1 began 0 1.1"], ["attempt 1 began after attempt 2"]),
        (["1 began 0 1.0", "1 twice 0 1.1"], ["attempt 1 was launched twice"]),
    ],
)
def test_the_judge_sees_what_should_not_be(lines: list[str], said: list[str], tmp_path: Path) -> None:
    (tmp_path / "job_1").mkdir()
    (tmp_path / "job_1" / "log").write_text("\n".join(lines))
    found = violations(Record(submitted={"job_1": 9}), tmp_path)
    # It also misses the job's end, which nobody told.
    assert [what.removeprefix("job_1: ") for what in found][1:] == said


def test_the_judge_sees_work_that_was_done_twice(tmp_path: Path) -> None:
    (tmp_path / "job_1").mkdir()
    (tmp_path / "job_1" / "log").write_text("1 began 0 1.0\n1 done 9 1.1\n2 began 9 1.2\n")
    assert false_recoveries(Record(submitted={"job_1": 9}), tmp_path) == ["job_1: attempt 2"]
