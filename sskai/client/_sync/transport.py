# Made by `python -m tools.sync_client` of ../_async: edit that.
"""Requests that outlast a restart of the gateway; every resource stands on these ways to ask."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from sskai.client._sync import io
from sskai.client.errors import SskaiError, UnreachableError, problem_of
from sskai.client.patience import Patience
from sskai.client.wire import Lines, Message, late

T = TypeVar("T")

REQUEST_SECONDS = 60.0
# The gateway sends a comment on a silent stream every 10 s: so much silence means that the connection is dead.
STREAM_SILENCE_SECONDS = 35.0
PAGE = 100
MISSING = 404


class Transport:
    """One connection pool. `request`, `pages`, `upload`, `save` and `follow` raise SskaiError."""

    def __init__(
        self, base_url: str, api_key: str, *, retry_seconds: float, transport: httpx2.BaseTransport | None
    ) -> None:
        self._http = httpx2.Client(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}", "User-Agent": "sskai-python"},
            timeout=httpx2.Timeout(REQUEST_SECONDS, connect=5),
            transport=transport,
        )
        self._retry_seconds = retry_seconds

    def close(self) -> None:
        self._http.close()

    def ask(self, _kind: type[T], method: str, path: str, **options: Any) -> T:
        """One request, tried again while it is not the request's fault; `_kind` is the answer's shape."""
        if method == "POST":
            # The same key at every try makes nothing twice.
            options["headers"] = {"Idempotency-Key": secrets.token_hex(16), **(options.get("headers") or {})}
        patience = Patience(self._retry_seconds)
        while True:
            try:
                answer = self._http.request(method, path, **options)
            except httpx2.TransportError as error:
                pause = patience.lost(repr(error))
            else:
                if not answer.is_error:
                    document: T = answer.json() if answer.content else {}
                    return document
                pause = patience.refused(answer)
            io.sleep(pause)

    def upload(
        self, _kind: type[T], path: str, open_body: Callable[[ExitStack], dict[str, Any]], *, timeout_seconds: float
    ) -> T:
        """A POST whose body is read from files anew at every try."""
        own = {"Idempotency-Key": secrets.token_hex(16)}
        patience = Patience(self._retry_seconds)
        while True:
            try:
                with ExitStack() as files:
                    options = open_body(files)
                    options["headers"] = {**own, **options.get("headers", {})}
                    answer = self._http.post(path, timeout=timeout_seconds, **options)
            except httpx2.TransportError as error:
                pause = patience.lost(repr(error))
            else:
                if not answer.is_error:
                    document: T = answer.json()
                    return document
                pause = patience.refused(answer)
            io.sleep(pause)

    def pages(self, _kind: type[T], path: str, **filters: Any) -> Iterator[T]:
        """Every item of a list, page after page."""
        after: str | None = None
        while True:
            wanted = {"limit": PAGE, "after": after, **filters}
            params = {name: value for name, value in wanted.items() if value is not None}
            page = self.ask(dict[str, Any], "GET", path, params=params)
            for item in page["data"]:
                found: T = item
                yield found
            after = page.get("next")
            if after is None:
                return

    def save(self, path: str, params: dict[str, Any], file: Path) -> int:
        """Write an answer into a file as it comes; returns its bytes."""
        timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=5)
        with self._http.stream("GET", path, params=params, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                raise SskaiError(problem_of(answer))
            written = 0
            with file.open("wb") as out:
                for piece in answer.iter_bytes():
                    written += out.write(piece)
            return written

    def follow(self, path: str, params: dict[str, Any], *, after: str | None) -> Iterator[Message]:
        """Server-sent events without end. A lost connection goes on after the last position; leave when you have seen
        the end."""
        patience = Patience(self._retry_seconds)
        timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=5)
        while True:
            wanted = params if after is None else {**params, "after": after}
            try:
                with self._http.stream("GET", path, params=wanted, timeout=timeout) as answer:
                    if answer.is_error:
                        answer.read()
                        pause = patience.refused(answer)
                    else:
                        patience.renew()
                        lines = Lines()
                        for line in answer.iter_lines():
                            message = lines.feed(line)
                            if message is None:
                                continue
                            after = message.id or after
                            if message.data:
                                yield message
                        pause = patience.lost("the stream ended")
            except httpx2.TransportError as error:
                pause = patience.lost(repr(error))
            io.sleep(pause)

    def answer_in_pieces(self, path: str, body: dict[str, Any], *, silence_seconds: float) -> Iterator[str]:
        """The `data` of a streamed answer to a POST. Tried again only before its first word."""
        patience = Patience(self._retry_seconds)
        timeout = httpx2.Timeout(silence_seconds, connect=5)
        while True:
            begun = False
            try:
                with self._http.stream("POST", path, json=body, timeout=timeout) as answer:
                    if answer.is_error:
                        answer.read()
                        pause = patience.refused(answer)
                    else:
                        lines = Lines()
                        for line in answer.iter_lines():
                            message = lines.feed(line)
                            if message is not None and message.data:
                                begun = True
                                yield message.data
                        return
            except httpx2.TransportError as error:
                if begun:
                    raise UnreachableError(f"the answer broke off: {error!r}") from error
                pause = patience.lost(repr(error))
            io.sleep(pause)

    def until(
        self,
        kind: type[T],
        path: str,
        done: Callable[[Any], bool],
        *,
        limit_seconds: float,
        poll_seconds: float,
        first: T | None = None,
        may_be_missing: bool = False,
    ) -> T:
        """What stands there once it is done. TimeoutError after the limit."""
        ends = time.monotonic() + limit_seconds
        document: Any = first
        while document is None or not done(document):
            if document is not None:
                if time.monotonic() > ends:
                    raise late(document, limit_seconds)
                io.sleep(poll_seconds)
            try:
                document = self.ask(kind, "GET", path)
            except SskaiError as error:
                if error.status != MISSING or not may_be_missing:
                    raise
                document = {}
        found: T = document
        return found


class Resource:
    """What is asked for by one name of the client: `client.jobs`."""

    def __init__(self, client: Transport) -> None:
        self._client = client
