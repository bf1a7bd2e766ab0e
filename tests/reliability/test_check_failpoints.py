"""What `make check` says of boundaries without failpoints, of failpoints without tests, and of what is no longer so."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from sskai import failpoints
from tests.reliability import boundaries
from tests.reliability.boundaries import Outside
from tools.check_failpoints import ROOT, Tree, problems

SHOP = """
    import socket
    from contextlib import asynccontextmanager

    from services.one import Selling
    from sskai import failpoints

    @failpoints.boundary("shop", ConnectionError, of=Selling)
    class Shop:
        async def sell(self, what: str) -> None: ...
        def close(self) -> None: ...
        def _sold(self) -> int: ...
        @failpoints.stays
        def sign(self) -> str: ...
        @asynccontextmanager
        async def order(self):
            yield
        def beyond(self) -> None: ...
"""
SELLING = """
    class Selling:
        async def sell(self, what: str) -> None: ...
        def sign(self) -> str: ...
        def order(self): ...
"""
TESTS = """
    import pytest
    from tests.reliability.strikes import struck

    POINTS = ["shop.sell", "shop.order.begin"]

    @pytest.fixture
    def broken():
        with faults.armed(Armed({"shop.order.commit": Fault()})):
            yield

    def _strike(point):
        with struck(point, "raise"):
            ...

    @pytest.mark.parametrize("point", POINTS)
    def test_by_a_function(point):
        _strike(point)

    def test_by_a_fixture(broken): ...

    def test_of_something_else():
        assert "shop.order.commit"
"""
TRIED = {
    "tests/test_shop.py::test_by_a_function": ("shop.sell", "shop.order.begin"),
    "tests/test_shop.py::test_by_a_fixture": ("shop.order.commit",),
}
PLAIN = "import json\n"


class Sources:
    """A tree of sources in which all is well, until a test changes it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sskai").mkdir()
        self.write("services/one/__init__.py", SELLING)
        self.write("services/one/shop.py", SHOP)
        self.write("tests/test_shop.py", TESTS)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def problems(
        self,
        outside: Mapping[str, Outside] | None = None,
        crossed: Iterable[str] = (),
        tried: Mapping[str, tuple[str, ...]] = TRIED,
    ) -> str:
        return "\n".join(problems(Tree(self.root), outside or {}, crossed, tried))


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def test_our_own_sources_are_in_order_and_looked_through_quickly() -> None:
    began = time.process_time()
    assert problems(Tree(ROOT), boundaries.OUTSIDE, boundaries.CROSSED, boundaries.TRIED) == []
    assert time.process_time() - began < 10


def test_the_points_that_are_read_are_those_that_are_registered() -> None:
    from services.monitor import sources as _cloud  # noqa: F401 (registers its boundaries, as the others do)
    from services.optimizer import aws as _aws  # noqa: F401
    from services.optimizer import local_prices as _prices  # noqa: F401
    from sskai import bus, database, multipart, objects  # noqa: F401
    from sskai.cluster import ec2_cluster, kubernetes_cluster, local_cluster  # noqa: F401

    ours = [one for one in failpoints.BOUNDARIES if not one.adapter.__module__.startswith("tests.")]
    named = {point for point in failpoints.points() if point.partition(".")[0] in {one.name for one in ours}}
    assert set(Tree(ROOT).points()) == named


def test_a_tree_in_order(sources: Sources) -> None:
    assert sources.problems() == ""
    assert set(Tree(sources.root).points()) == {"shop.sell", "shop.order.begin", "shop.order.commit"}


REACHES = [
    "import socket",
    "from urllib import request",
    "import http.client as web",
    "def late():\n    import boto3",
    "from sqlalchemy.ext.asyncio import create_async_engine",
    "import asyncio\nasyncio.create_subprocess_exec",
    "def past(objects):\n    return objects.s3",
]


@pytest.mark.parametrize("text", REACHES)
def test_a_new_boundary_without_a_failpoint(sources: Sources, text: str) -> None:
    sources.write("services/one/new.py", text)
    assert "services/one/new.py reaches out of the process" in sources.problems()
    known = {"services/one/new.py": Outside("asks nobody", "tests/test_shop.py::test_by_a_fixture")}
    assert sources.problems(known) == ""
    assert sources.problems({"services/one/": Outside("a folder")}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "from botocore.exceptions import ClientError",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aiohttp",
        "import socketserver_of_ours",
        "from sqlalchemy import select",
        "class Own:\n    def __init__(self):\n        self.s3 = 1\n        print(self.s3)",
    ],
)
def test_what_reaches_nowhere(sources: Sources, text: str) -> None:
    sources.write("services/one/new.py", text)
    assert sources.problems() == ""


def test_a_new_failpoint_without_a_test(sources: Sources) -> None:
    sources.write("services/one/shop.py", SHOP + "        def give(self) -> None: ...\n")
    assert sources.problems() == "", "not one of the protocol's"
    sources.write("services/one/__init__.py", SELLING + "        def give(self): ...\n")
    assert sources.problems().startswith("shop.give (services/one/shop.py) is tried by no test")
    assert sources.problems(crossed=["shop.give"]) == ""


Change = Callable[[Sources], str]
STALE: list[tuple[Change, str]] = [
    (lambda it: it.problems({"services/one/shop.py": Outside("why")}), "OUTSIDE['services/one/shop.py'] is not needed"),
    (lambda it: it.problems({"services/one/gone.py": Outside("why")}), "OUTSIDE['services/one/gone.py'] is not needed"),
    (lambda it: it.problems({"sskai/": Outside("why")}), "OUTSIDE['sskai/'] is not needed"),
    (lambda it: it.problems(crossed=["shop.gone"]), "names shop.gone, which no boundary has"),
    (lambda it: it.problems(tried={**TRIED, "tests/test_shop.py::test_gone": ()}), "test_gone, which is not there"),
    (lambda it: it.problems(tried={**TRIED, "tests/test_gone.py::test_a": ()}), "test_a, which is not there"),
]


@pytest.mark.parametrize(("change", "says"), STALE)
def test_an_entry_that_is_stale(sources: Sources, change: Change, says: str) -> None:
    assert says in change(sources)


def test_a_reason_and_its_test_are_asked_for(sources: Sources) -> None:
    sources.write("services/one/new.py", "import socket")
    assert "a reason of one line" in sources.problems({"services/one/new.py": Outside(" ")})
    wrong = Outside("asks nobody", "tests/test_shop.py::broken")
    assert "names tests/test_shop.py::broken, which is not there" in sources.problems({"services/one/new.py": wrong})


def test_a_test_that_does_not_arm_its_point(sources: Sources) -> None:
    by_function, by_fixture = TRIED
    without = "tests/test_shop.py::test_of_something_else"
    tried = {by_function: TRIED[by_function], without: ("shop.order.commit",)}
    assert sources.problems(tried=tried) == f"{without} does not arm shop.order.commit", "to name it is not enough"
    tried = {by_fixture: ("shop.sell", "shop.order.begin", "shop.order.commit")}
    assert sources.problems(tried=tried).splitlines() == [
        f"{by_fixture} does not arm shop.sell",
        f"{by_fixture} does not arm shop.order.begin",
    ]
