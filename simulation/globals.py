"""Time, chance and ids of the services' code, replaced for this process in one place.

The code reads them through names of its modules (`datetime`, `time`, `random`, `secrets`), so each such name is pointed
at the simulated one. A module that takes a function out of them by name could not be reached:
`tests/simulation/test_globals.py` fails on it.
"""

from __future__ import annotations

import random
import secrets
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from types import ModuleType, SimpleNamespace
from typing import Any

from simulation.loop import ACTOR, VirtualLoop

PACKAGES = ("services", "sskai")
EPOCH = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


class Sources:
    """Where the replaced names get their answers. Without a loop (before and after a run) they are the real ones."""

    loop: VirtualLoop | None = None
    dice = random.Random(0)


SOURCES = Sources()


def seconds() -> float:
    """Simulated seconds since EPOCH by the clock of whoever asks."""
    actor = ACTOR.get()
    assert SOURCES.loop is not None
    return SOURCES.loop.time() + (actor.skew_seconds if actor is not None else 0.0)


def true_time() -> datetime:
    """The database's clock, and nobody else's."""
    assert SOURCES.loop is not None
    return EPOCH + timedelta(seconds=SOURCES.loop.time())


class _OfAnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class SimulatedDatetime(datetime, metaclass=_OfAnyDatetime):
    """`datetime`, whose now is the actor's. It makes no instances of its own."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        if SOURCES.loop is None:
            return datetime.now(tz)
        at = EPOCH + timedelta(seconds=seconds())
        return at.astimezone(tz) if tz is not None else at.replace(tzinfo=None)

    @classmethod
    def fromtimestamp(cls, timestamp: float, tz: tzinfo | None = None) -> Any:
        return datetime.fromtimestamp(timestamp, tz)

    @classmethod
    def fromisoformat(cls, text: str) -> Any:
        return datetime.fromisoformat(text)

    @classmethod
    def combine(cls, *arguments: Any, **named: Any) -> Any:
        return datetime.combine(*arguments, **named)

    @classmethod
    def strptime(cls, text: str, form: str) -> Any:
        return datetime.strptime(text, form)  # noqa: DTZ007

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return datetime(*arguments, **named)  # noqa: DTZ001


def _monotonic() -> float:
    """A monotonic clock: no skew, whatever is set."""
    return time.monotonic() if SOURCES.loop is None else SOURCES.loop.time()


def _since_epoch() -> float:
    return time.time() if SOURCES.loop is None else EPOCH.timestamp() + seconds()


def _randbits(bits: int) -> int:
    return SOURCES.dice.getrandbits(bits)


def _token_hex(count: int = 32) -> str:
    return SOURCES.dice.randbytes(count).hex()


def _token_bytes(count: int = 32) -> bytes:
    return SOURCES.dice.randbytes(count)


def _randbelow(limit: int) -> int:
    return SOURCES.dice.randrange(limit)


class _SystemRandom(random.Random):
    """Chance of the system: the seed's."""

    def random(self) -> float:
        return SOURCES.dice.random()

    def getrandbits(self, bits: int, /) -> int:
        return SOURCES.dice.getrandbits(bits)


CHANCE = (
    *("random", "uniform", "randint", "randrange", "choice", "choices", "shuffle", "sample", "gauss", "expovariate"),
    *("getrandbits", "lognormvariate"),
)
_TIME = SimpleNamespace(
    **{name: getattr(time, name) for name in dir(time) if not name.startswith("_")}
    | {
        "time": _since_epoch,
        "time_ns": lambda: int(_since_epoch() * 1_000_000) * 1000,
        "monotonic": _monotonic,
        "perf_counter": _monotonic,
        "process_time": _monotonic,  # work costs no simulated time
    }
)
_SECRETS = SimpleNamespace(
    randbits=_randbits,
    token_hex=_token_hex,
    token_bytes=_token_bytes,
    token_urlsafe=_token_hex,
    randbelow=_randbelow,
    compare_digest=secrets.compare_digest,
)
_RANDOM = SimpleNamespace(
    **{name: (lambda *args, _name=name, **named: getattr(SOURCES.dice, _name)(*args, **named)) for name in CHANCE},
    Random=random.Random,
    SystemRandom=_SystemRandom,
)
REPLACED: dict[str, tuple[Any, Any]] = {
    "datetime": (datetime, SimulatedDatetime),
    "time": (time, _TIME),
    "random": (random, _RANDOM),
    "secrets": (secrets, _SECRETS),
}


def install() -> None:
    """Point every such name of the services' and the chassis' modules at the simulated ones."""
    for module in [one for name, one in sys.modules.items() if name.split(".")[0] in PACKAGES]:
        _install_in(module)


def _install_in(module: ModuleType) -> None:
    for name, (real, simulated) in REPLACED.items():
        if getattr(module, name, None) is real:
            setattr(module, name, simulated)
