"""Shadow traffic: some of the champion's requests are answered once more by the version that is tried, for nobody.

A shadow never costs a user anything but the time that the machine is shared: at most a few run at once, what finds no
place is left out, and whatever goes wrong is counted and forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from prometheus_client import Counter

from services.inference.domain import Endpoint
from services.inference.engine import EngineError, Generation, Sampling
from services.inference.fleet import Fleet
from services.inference.router import Router
from services.inference.tally import Tally

LEFT_OUT = Counter("sskai_inference_shadows_left_out", "Shadow requests for which there was no place")
MAX_RUNNING = 2


class Shadows:
    def __init__(self, router: Router, fleet: Fleet, tally: Tally) -> None:
        self._router = router
        self._fleet = fleet
        self._tally = tally
        self._running: set[asyncio.Task[None]] = set()

    def copy(self, champion: Endpoint, inference_id: str, tokens: Sequence[int], sampling: Sampling) -> None:
        """Answer a request that the champion has begun to answer once more, if it is drawn."""
        shadow = self._router.shadow_of(champion, inference_id)
        # Another base reads other tokens.
        if shadow is None or shadow.base_uri != champion.base_uri:
            return
        if len(self._running) >= MAX_RUNNING:
            LEFT_OUT.inc()
            return
        task = asyncio.create_task(self._answer(shadow, inference_id, tokens, sampling))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, shadow: Endpoint, inference_id: str, tokens: Sequence[int], sampling: Sampling) -> None:
        started, answered = time.perf_counter(), True
        try:
            generation = await self._begin(shadow, tokens, sampling)
        except EngineError:  # unloaded meanwhile, or no place in its queue
            LEFT_OUT.inc()
            return
        try:
            async for _ in generation.pieces():
                pass
        except EngineError:
            answered = False
        seconds = time.perf_counter() - started
        self._tally.add(shadow, inference_id, seconds, answered=answered, shadow=True)

    async def _begin(self, shadow: Endpoint, tokens: Sequence[int], sampling: Sampling) -> Generation:
        engine, target = self._fleet.engine, self._fleet.target(shadow)
        if sampling.schema:
            await asyncio.to_thread(engine.check_schema, target.base, sampling.schema)
        return engine.generate(target.base, target.adapter, tokens, sampling)[0]
