"""An attempt that begins while the object store is away waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.trainer import patience
from services.trainer.interruption import Interruption, NoticeError
from services.trainer.patience import Patience, PatientSource
from sskai.objects import NotFoundError, ObjectInfo, ObjectsUnavailableError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.001)


class Away:
    """Raises so often, and then answers."""

    def __init__(self, times: int) -> None:
        self.left = times

    def answer(self) -> str:
        if self.left:
            self.left -= 1
            raise ObjectsUnavailableError("away")
        return "here"

    def key(self, uri: str) -> str:
        return uri

    def get_bytes(self, key: str) -> bytes:
        return (key + self.answer()).encode()

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get_bytes(key))

    def list(self, prefix: str) -> list[ObjectInfo]:
        return [ObjectInfo(prefix + self.answer(), 1, "")]


def test_work_is_done_again_until_the_store_is_back() -> None:
    assert Patience(60, check=lambda: None)(Away(3).answer) == "here"


def test_it_has_an_end() -> None:
    with pytest.raises(ObjectsUnavailableError):
        Patience(0.05, check=lambda: None)(Away(10**9).answer)


def test_other_errors_are_not_waited_away() -> None:
    away = Away(0)

    def work() -> None:
        away.left += 1
        raise NotFoundError("jobs/1")

    with pytest.raises(NotFoundError):
        Patience(60, check=lambda: None)(work)
    assert away.left == 1


def test_a_notice_ends_the_wait() -> None:
    interruption, away = Interruption(), Away(10**9)

    def work() -> str:
        interruption._noticed.set()
        return away.answer()

    with pytest.raises(NoticeError):
        Patience(60, interruption.check)(work)


def test_each_read_waits(tmp_path: Path) -> None:
    def source() -> PatientSource:
        return PatientSource(Away(2), Patience(60, check=lambda: None))

    assert source().get_bytes("a-") == b"a-here"
    assert [info.key for info in source().list("a-")] == ["a-here"]
    source().download("a-", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"a-here"
    assert source().key("a-") == "a-"
