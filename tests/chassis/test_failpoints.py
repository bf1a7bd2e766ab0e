"""Failpoints cost nothing until they are armed, and then do what they say."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from sskai import failpoints, faults
from sskai.cluster.kubernetes_cluster import KubernetesCluster
from sskai.database import Database
from sskai.failpoints import Action
from sskai.faults import Armed, FailpointError, Fault
from sskai.objects import Objects


class AwayError(Exception):
    pass


@failpoints.boundary("example", AwayError)
class Shop:
    def __init__(self) -> None:
        self.sold: list[str] = []

    async def sell(self, what: str) -> None:
        self.sold.append(what)

    def price(self) -> int:
        self.sold.append("price")
        return 3

    def shelf(self) -> Iterator[str]:
        yield "tea"
        yield "cake"

    @asynccontextmanager
    async def order(self) -> AsyncIterator[list[str]]:
        basket: list[str] = []
        yield basket
        self.sold += basket

    @failpoints.stays
    def sign(self) -> str:
        return "open"

    async def close(self) -> None: ...


class Died(BaseException):
    pass


def die() -> None:
    raise Died


def test_nothing_is_wrapped_before_a_test_asks_and_after_it() -> None:
    before = [vars(adapter)[name] for adapter, name in _methods()]
    with faults.armed(Armed()):
        assert all(vars(adapter)[name] is not was for (adapter, name), was in zip(_methods(), before, strict=True))
    assert [vars(adapter)[name] for adapter, name in _methods()] == before


def _methods() -> list[tuple[type, str]]:
    return [(Database, "transaction"), (Objects, "put_bytes"), (KubernetesCluster, "launch"), (Shop, "sell")]


def test_points_are_what_leaves_the_process() -> None:
    points = failpoints.points()
    ours = {name: actions for name, actions in points.items() if name.startswith("example.")}
    contexts = {"example.order.begin", "example.order.commit"}
    assert set(ours) == {"example.sell", "example.price", "example.shelf", *contexts}
    assert Action.SKIP in ours["example.sell"]
    assert Action.SKIP not in ours["example.price"], "what answers something cannot only say that it was done"


@pytest.mark.parametrize(
    ("action", "raises", "sold"),
    [
        (Action.KILL, Died, []),
        (Action.KILL_AFTER, Died, ["tea"]),
        (Action.RAISE, AwayError, []),
        (Action.RAISE_AFTER, AwayError, ["tea"]),
        (Action.HANG, AwayError, []),
        (Action.SKIP, None, []),
        (Action.DELAY, None, ["tea"]),
    ],
)
@pytest.mark.parametrize("by", ["call", "context"])
async def test_what_each_action_does(
    action: Action, raises: type[BaseException] | None, sold: list[str], by: str
) -> None:
    if by == "context" and action is Action.SKIP:
        assert Action.SKIP not in failpoints.points()["example.order.commit"]
        return
    shop = Shop()

    async def sell() -> None:
        if by == "call":
            await shop.sell("tea")
            return
        async with shop.order() as basket:
            basket.append("tea")

    point = "example.sell" if by == "call" else "example.order.commit"
    with faults.armed(Armed({point: Fault(action, seconds=0.01)}, die=die)):
        if raises is None:
            await sell()
        else:
            with pytest.raises(raises):
                await sell()
        assert shop.sold == sold
        await shop.sell("more")
    assert shop.sold[-1] == "more", "a fault strikes once"


@pytest.mark.parametrize(
    ("action", "raises", "read"),
    [
        (Action.KILL, Died, []),
        (Action.KILL_AFTER, Died, ["tea", "cake"]),
        (Action.RAISE, AwayError, []),
        (Action.RAISE_AFTER, AwayError, ["tea", "cake"]),
        (Action.HANG, AwayError, []),
    ],
)
def test_what_is_read_piece_by_piece_fails_while_it_is_read(
    action: Action, raises: type[BaseException], read: list[str]
) -> None:
    found: list[str] = []
    with faults.armed(Armed({"example.shelf": Fault(action, seconds=0.01)}, die=die)):
        with pytest.raises(raises):
            found.extend(Shop().shelf())
        assert found == read
        assert list(Shop().shelf()) == ["tea", "cake"]


async def test_a_crossing_is_told_with_its_caller_also_from_a_thread() -> None:
    seen: list[str] = []
    with faults.armed(Armed(crossed=lambda point: seen.append(str(point)))):
        with faults.within("shop:opening"):
            await asyncio.to_thread(Shop().price)
        with faults.suspended():
            await Shop().sell("tea")
    assert len(seen) == 1
    assert seen[0].startswith("shop:opening/")
    assert seen[0].endswith(">example.price")


def test_the_nth_crossing() -> None:
    shop = Shop()
    with faults.armed(Armed(faults.parse("example.price=raise@3"))):
        assert [shop.price(), shop.price()] == [3, 3]
        with pytest.raises(AwayError, match=r"example\.price"):
            shop.price()


@pytest.mark.parametrize("wrong", ["example.price", "example.price=explode", "a=raise@x", "a=delay:soon"])
def test_a_fault_that_makes_no_sense(wrong: str) -> None:
    with pytest.raises(FailpointError, match="point=action"):
        faults.parse(wrong)


def test_a_process_is_killed_where_its_environment_says() -> None:
    program = (
        "from sskai import faults\n"
        "from tests.chassis.test_failpoints import Shop\n"
        "faults.arm_from_environment()\n"
        "print('before', flush=True); Shop().price(); print('after', flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            faults.VARIABLE: "example.price=kill",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "before\n"), done.stderr
