"""What we rely on of an S3 server: one text for the embedded one and for another (tests/real). `objects` is an empty
bucket on it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sskai.contract import new_id
from sskai.multipart import MAX_PART_NUMBER, MIN_PART_BYTES, Multipart, Writer
from sskai.objectfile import open_object
from sskai.objects import PART_BYTES, AlreadyExistsError, NotFoundError, Objects
from sskai.testing import wait_for

SIZE = 1_000


def put(url: str, data: bytes | None = b"x" * SIZE, method: str = "PUT") -> int:
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class ObjectsContract:
    """Whole objects."""

    @pytest.fixture
    def prefix(self) -> str:
        return new_id("test") + "/"

    def test_bytes_files_and_streams_come_back_equal(self, objects: Objects, prefix: str, tmp_path: Path) -> None:
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

    def test_of_sixteen_racing_writers_one_wins(self, objects: Objects, prefix: str) -> None:
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

    def test_a_missing_object_says_which(self, objects: Objects, prefix: str, tmp_path: Path) -> None:
        for ask in (
            objects.get_bytes,
            lambda key: list(objects.open(key)),
            lambda key: objects.download(key, tmp_path / "x"),
        ):
            with pytest.raises(NotFoundError, match=prefix):
                ask(prefix + "nothing")
        assert not (tmp_path / "x").exists()

    def test_nothing_of_a_stream_that_breaks_is_kept(self, objects: Objects, prefix: str) -> None:
        def breaks() -> object:
            yield b"first"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            objects.put_stream(prefix + "broken", breaks())
        assert objects.list(prefix) == []

    def test_a_presigned_url_reads_one_object(self, objects: Objects, prefix: str) -> None:
        objects.put_bytes(prefix + "mine", b"secret")
        url = objects.presigned_get(prefix + "mine", 60)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"secret"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.replace("mine", "other"))

    def test_what_has_a_kind_is_found_by_its_tag(self, objects: Objects, prefix: str) -> None:
        objects.put_bytes(prefix + "log", b"x", kind="log")
        tags = objects.s3.get_object_tagging(Bucket=objects.bucket, Key=prefix + "log")["TagSet"]
        assert tags == [{"Key": "sskai-kind", "Value": "log"}]

    @pytest.mark.parametrize("uri", ["s3://other/key", "http://sskai/key", "s3://sskai/../key", "key"])
    def test_a_foreign_uri_is_refused(self, objects: Objects, uri: str) -> None:
        with pytest.raises(ValueError, match="is not in"):
            objects.key(uri)


class MultipartContract:
    """Objects in parts, and what a presigned URL of a part lets nobody else do."""

    @pytest.fixture
    def multipart(self, objects: Objects) -> Multipart:
        return Multipart(objects)

    @pytest.fixture
    def prefix(self, objects: Objects, multipart: Multipart) -> Iterator[str]:
        name = new_id("test") + "/"
        yield name
        multipart.abort(name)
        objects.delete(name)

    def test_parts_make_an_object_whatever_order_they_came_in(
        self, objects: Objects, multipart: Multipart, prefix: str
    ) -> None:
        key = prefix + "whole"
        upload_id = multipart.begin(key)
        for number, byte in ((MAX_PART_NUMBER, b"c"), (2, b"b"), (1, b"x"), (1, b"a"), (3, b"unwanted")):
            size = 10 if number == MAX_PART_NUMBER else MIN_PART_BYTES
            multipart.put(key, upload_id, number, byte * size)
        parts = multipart.parts(key, upload_id)
        assert [(part.number, part.bytes) for part in parts][-1] == (MAX_PART_NUMBER, 10)
        multipart.complete(key, upload_id, [part for part in parts if part.number != 3])
        with open_object(objects, key) as file:
            assert file.read(1) == b"a"
            assert file.seek(-11, 2) == objects.size(key) - 11
            assert file.read() == b"b" + b"c" * 10
        with pytest.raises(NotFoundError):
            multipart.parts(key, upload_id)

    def test_what_is_given_up_is_gone(self, multipart: Multipart, prefix: str) -> None:
        key = prefix + "never"
        upload_id = multipart.begin(key)
        multipart.put(key, upload_id, 1, b"x")
        assert multipart.abort(prefix) == 1
        with pytest.raises(NotFoundError):
            multipart.put(key, upload_id, 2, b"x")

    def test_a_writer_makes_an_object_of_any_size(self, objects: Objects, multipart: Multipart, prefix: str) -> None:
        writer, line = Writer(multipart, prefix + "rows"), b"0123456789" * 100_000
        for _ in range(20):
            writer.write(line)
        with pytest.raises(NotFoundError):
            objects.size(prefix + "rows")
        writer.close()
        assert objects.get_bytes(prefix + "rows") == line * 20
        nothing = Writer(multipart, prefix + "nothing")
        nothing.close()
        assert objects.get_bytes(prefix + "nothing") == b""

    def test_a_parts_url_is_good_for_that_part_of_that_size_alone(self, multipart: Multipart, prefix: str) -> None:
        key = prefix + "presigned"
        upload_id = multipart.begin(key)
        url = multipart.presigned(key, upload_id, 1, SIZE)
        assert "X-Amz-Expires=900" in multipart.presigned(key, upload_id, 1, SIZE, seconds=86_400)
        others = {
            "another key": put(url.replace("/presigned", "/another")),
            "another bucket": put(url.replace(f"/{prefix}", f"/other/{prefix}")),
            "another part": put(url.replace("partNumber=1", "partNumber=2")),
            "another upload": put(url.replace(upload_id, multipart.begin(prefix + "other"))),
            "no part at all": put(url.replace(f"uploadId={upload_id}&partNumber=1&", "")),
            "more bytes": put(url, b"x" * (SIZE + 1)),
            "fewer bytes": put(url, b"x" * (SIZE - 1)),
            "reading": put(url, None, "GET"),
            "its head": put(url, None, "HEAD"),
            "deleting": put(url, None, "DELETE"),
            "completing": put(url, b"<x/>", "POST"),
            "listing": put(url.replace(f"/{prefix}presigned", ""), None, "GET"),
            "listing parts": put(url.replace("&partNumber=1", ""), None, "GET"),
            "a longer life": put(url.replace("X-Amz-Expires=900", "X-Amz-Expires=9000")),
            "no signature": put(url.partition("?")[0]),
        }
        assert others == dict.fromkeys(others, 403)
        assert put(url) == 200
        assert [(part.number, part.bytes) for part in multipart.parts(key, upload_id)] == [(1, SIZE)]

    async def test_a_parts_url_ends(self, multipart: Multipart, prefix: str) -> None:
        key = prefix + "expired"
        url = multipart.presigned(key, multipart.begin(key), 1, SIZE, seconds=1)
        await wait_for(lambda: put(url) == 403, pause_seconds=0.2)
