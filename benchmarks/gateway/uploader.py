"""Uploads a dataset that it makes up on the way: `python -m benchmarks.gateway.uploader URL NAME BYTES`."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from benchmarks.gateway.house import KEY, LIMIT_SECONDS

ROWS_IN_A_PIECE = 200
WORDS = "What was asked for is answered in so many words that a row has some two thousand characters. " * 20


def pieces(size: int) -> Iterator[bytes]:
    """Rows that all differ, of `size` bytes in all but for less than one piece."""
    number = sent = 0
    while True:
        rows = range(number, number + ROWS_IN_A_PIECE)
        piece = b"".join(b'{"prompt": "%d?", "completion": "%d %s"}\n' % (n, n, WORDS.encode()) for n in rows)
        if sent + len(piece) > size:
            return
        yield piece
        number, sent = number + ROWS_IN_A_PIECE, sent + len(piece)


def upload(url: str, name: str, size: int) -> dict[str, object]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_SECONDS)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/jsonl"}
    began = time.monotonic()
    connection.request("POST", f"/v1/datasets?name={name}", pieces(size), headers, encode_chunked=True)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    seconds = time.monotonic() - began
    return {"status": answer.status, "bytes": said.get("bytes"), "rows": said.get("rows"), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    print(json.dumps(upload(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
