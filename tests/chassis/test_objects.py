"""The object store's promises on a real S3 server."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sskai.contract import new_id
from sskai.objects import PART_BYTES, AlreadyExistsError, NotFoundError, Objects, ObjectsUnavailableError


@pytest.fixture
def prefix() -> str:
    return new_id("test") + "/"


def test_bytes_files_and_streams_come_back_equal(objects: Objects, prefix: str, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (2 * PART_BYTES // 256) + b"end")
    objects.put_file(prefix + "large", large)
    objects.download(prefix + "large", tmp_path / "back" / "large")
    assert (tmp_path / "back" / "large").read_bytes() == large.read_bytes()
    objects.put_bytes(prefix + "small", b"abc")
    assert objects.get_bytes(prefix + "small") == b"abc"
    assert objects.put_stream(prefix + "stream", (b"ab" for _ in range(3))) == 6
    assert b"".join(objects.open(prefix + "stream", 4)) == b"ababab"
    assert [(info.key, info.bytes) for info in objects.list(prefix)] == [
        (prefix + "large", large.stat().st_size),
        (prefix + "small", 3),
        (prefix + "stream", 6),
    ]
    assert objects.delete(prefix) == 3
    assert objects.list(prefix) == []


def test_of_sixteen_racing_writers_one_wins(objects: Objects, prefix: str) -> None:
    def write(number: int) -> int | None:
        try:
            objects.put_bytes(prefix + "fence", str(number).encode(), if_absent=True)
            return number
        except AlreadyExistsError:
            return None

    with ThreadPoolExecutor(16) as pool:
        winners = [one for one in pool.map(write, range(16)) if one is not None]
    assert len(winners) == 1
    assert objects.get_bytes(prefix + "fence") == str(winners[0]).encode()


def test_a_missing_object_says_which(objects: Objects, prefix: str, tmp_path: Path) -> None:
    for ask in (
        objects.get_bytes,
        lambda key: list(objects.open(key)),
        lambda key: objects.download(key, tmp_path / "x"),
    ):
        with pytest.raises(NotFoundError, match=prefix):
            ask(prefix + "nothing")
    assert not (tmp_path / "x").exists()


def test_nothing_of_a_stream_that_breaks_is_kept(objects: Objects, prefix: str) -> None:
    def breaks() -> object:
        yield b"first"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        objects.put_stream(prefix + "broken", breaks())
    assert objects.list(prefix) == []


def test_a_presigned_url_reads_one_object(objects: Objects, prefix: str) -> None:
    objects.put_bytes(prefix + "mine", b"secret")
    url = objects.presigned_get(prefix + "mine", 60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"secret"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("mine", "other"))


@pytest.mark.parametrize("uri", ["s3://other/key", "http://sskai/key", "s3://sskai/../key", "key"])
def test_a_foreign_uri_is_refused(objects: Objects, uri: str) -> None:
    with pytest.raises(ValueError, match="is not in"):
        objects.key(uri)


def test_a_server_that_is_away_is_unavailable_not_missing() -> None:
    away = Objects("http://127.0.0.1:1", "sskai", "a", "b")
    with pytest.raises(ObjectsUnavailableError):
        away.get_bytes("key")
