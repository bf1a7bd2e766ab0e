"""Objects in parts on a real S3 server, and what a presigned URL of a part lets nobody else do."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from sskai.contract import new_id
from sskai.multipart import MAX_PART_NUMBER, MIN_PART_BYTES, Multipart, Writer
from sskai.objectfile import open_object
from sskai.objects import NotFoundError, Objects
from sskai.testing import wait_for

SIZE = 1_000


@pytest.fixture
def multipart(objects: Objects) -> Multipart:
    return Multipart(objects)


@pytest.fixture
def prefix(objects: Objects, multipart: Multipart) -> Iterator[str]:
    name = new_id("test") + "/"
    yield name
    multipart.abort(name)
    objects.delete(name)


def put(url: str, data: bytes | None = b"x" * SIZE, method: str = "PUT") -> int:
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_parts_make_an_object_whatever_order_they_came_in(objects: Objects, multipart: Multipart, prefix: str) -> None:
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


def test_what_is_given_up_is_gone(multipart: Multipart, prefix: str) -> None:
    key = prefix + "never"
    upload_id = multipart.begin(key)
    multipart.put(key, upload_id, 1, b"x")
    assert multipart.abort(prefix) == 1
    with pytest.raises(NotFoundError):
        multipart.put(key, upload_id, 2, b"x")


def test_a_writer_makes_an_object_of_any_size(objects: Objects, multipart: Multipart, prefix: str) -> None:
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


def test_a_parts_url_is_good_for_that_part_of_that_size_alone(multipart: Multipart, prefix: str) -> None:
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


async def test_a_parts_url_ends(multipart: Multipart, prefix: str) -> None:
    key = prefix + "expired"
    url = multipart.presigned(key, multipart.begin(key), 1, SIZE, seconds=1)
    await wait_for(lambda: put(url) == 403, pause_seconds=0.2)
