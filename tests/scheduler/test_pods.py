"""When a gang has ended, by those of its members that have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sskai.cluster.pods import Ending, gang_end, lost_members

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def first(code: int | None, seconds: float = 0, *, disrupted: bool = False) -> Ending:
    return Ending(code, NOON + timedelta(seconds=seconds), disrupted)


def other(code: int | None, seconds: float = 0, *, disrupted: bool = False) -> Ending:
    return Ending(code, NOON + timedelta(seconds=seconds), disrupted, first=False)


@pytest.mark.parametrize(
    ("endings", "over"),
    [
        pytest.param([], False, id="all run"),
        pytest.param([first(0)], False, id="one is done and the others are not"),
        pytest.param([first(0), other(0), other(0)], 0, id="all are done"),
        pytest.param([first(0), other(75), other(0)], 75, id="one had only saved"),
        pytest.param([other(None)], False, id="a machine is lost"),
        pytest.param([other(137), other(143)], False, id="two pods were killed"),
        pytest.param([other(1, disrupted=True)], False, id="one broke while its node went"),
        pytest.param([other(None), other(None), first(0)], 0, id="the one that is left is done"),
        pytest.param([other(None), other(0), first(75)], 75, id="those that are left have saved"),
        pytest.param([first(None)], None, id="the first one's machine is lost"),
        pytest.param([first(137)], 137, id="the first one was killed"),
        pytest.param([other(None, 0), first(70, 1)], None, id="the first one broke after a machine was lost"),
        pytest.param([other(70)], 70, id="another one failed by itself"),
        pytest.param([other(None), other(71)], 71, id="the user has to mend something"),
        pytest.param([other(None), other(None), first(None)], None, id="all are lost"),
    ],
)
def test_a_gang_of_three(endings: list[Ending], over: int | bool | None) -> None:
    found = gang_end(endings, 3)
    if over is False:
        assert found is None
    else:
        assert found is not None
        assert found.exit_code == over


def test_who_is_lost_and_since_when() -> None:
    assert lost_members([first(0), other(None, 5), other(137, 9), other(0, 20)]) == (2, NOON + timedelta(seconds=9))
    assert lost_members([Ending(None, None, first=False)]) == (1, None)
    assert lost_members([first(None)]) == (0, None)
