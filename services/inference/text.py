"""From tokens to text, a piece at a time: what streams is letter for letter what a whole answer would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
# A character is at most four bytes of UTF-8, so after four tokens a broken one will not become whole any more.
MAX_HELD_TOKENS = 4


class Detokenizer:
    """Turns tokens into text as they come, holding back characters whose bytes are not all there yet.

    A token's text may depend on the one before it (a leading space), so each new one is decoded together with the last
    ones that were given out, and only the difference counts.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that this token completes, often empty."""
        self._held.append(token)
        text = self._new_text()
        if not text or (text.endswith(REPLACEMENT) and len(self._held) < MAX_HELD_TOKENS):
            return ""
        return self._give(text)

    def flush(self) -> str:
        """The rest, whole or not."""
        return self._give(self._new_text())

    def _new_text(self) -> str:
        before = self._decode(self._context)
        return self._decode([*self._context, *self._held])[len(before) :]

    def _give(self, text: str) -> str:
        if self._held:
            self._context, self._held = self._held, []
        return text


class StopScanner:
    """Lets text through up to the first of the stop texts, and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """What may be shown now. After a stop text was found: nothing more."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = self._possible_beginning()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """What was held back and turned out to be no stop text."""
        shown, self._held = self._held, ""
        return shown

    def _possible_beginning(self) -> int:
        """Length of the longest end of the held text with which a stop text begins."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
