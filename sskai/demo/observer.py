"""Follows the tenant's events, as any outside system would, and waits for what should be seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sskai.client import Client, Document, Event


class NotSeenError(AssertionError):
    """Something that the demo promises did not happen within its limit."""


class Observer:
    """Keeps every event in order. `wait` gives the first that fits, whether it came before or comes later."""

    def __init__(self, client: Client) -> None:
        self._events: list[Event] = []
        self._shown = 0
        self._news = threading.Condition()
        self._failure: Exception | None = None
        threading.Thread(target=self._follow, args=(client,), daemon=True, name="observer").start()

    def _follow(self, client: Client) -> None:
        try:
            for event in client.events(after=0):
                with self._news:
                    self._events.append(event)
                    self._news.notify_all()
        except Exception as error:
            with self._news:
                self._failure = error
                self._news.notify_all()

    def seen(self, kind: str, **fields: Any) -> list[Document]:
        """The data of all events of a kind whose fields are equal, so far."""
        with self._news:
            return [event.data for event in self._events if _fits(event, kind, fields)]

    def wait(
        self,
        kind: str,
        *,
        limit_seconds: float = 60,
        where: Callable[[Document], bool] = lambda _data: True,
        meanwhile: Callable[[Event], None] | None = None,
        **fields: Any,
    ) -> Document:
        """The data of the first event of the kind that fits. `meanwhile` is shown each event once, on the way.

        Raises NotSeenError with the last events when it does not come in time, or when the job failed instead.
        """
        deadline = time.monotonic() + limit_seconds
        looked_at = 0
        while True:
            with self._news:
                while looked_at == len(self._events):
                    left = deadline - time.monotonic()
                    if self._failure is not None:
                        raise NotSeenError(f"the event stream ended: {self._failure!r}") from self._failure
                    if left <= 0 or not self._news.wait(left):
                        recent = [event.type for event in self._events[-12:]]
                        raise NotSeenError(f"no {kind} {fields or ''} within {limit_seconds:g} s; last seen: {recent}")
                event = self._events[looked_at]
                looked_at += 1
            if meanwhile is not None and looked_at > self._shown:
                self._shown = looked_at
                meanwhile(event)
            data = event.data
            if _fits(event, kind, fields) and where(data):
                return data
            if event.type == "JobFailed" and data.get("job_id") == fields.get("job_id"):
                raise NotSeenError(f"the job failed: {data.get('reason')}: {data.get('advice')}")


def _fits(event: Event, kind: str, fields: Document) -> bool:
    return event.type == kind and all(event.data.get(name) == value for name, value in fields.items())
