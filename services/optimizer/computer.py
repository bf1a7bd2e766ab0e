"""Knows how fast this computer is where it plays machines: measured once, kept, and measured again after a week."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from services.optimizer.catalogue import MEASURED, THIS_COMPUTER, ThisComputer
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from sskai.database import Database

log = structlog.get_logger()

MEASURED_FOR = timedelta(days=7)
# A process that starts, imports numpy and measures for up to 2 s; much longer: the machine is busy beyond use.
LIMIT_SECONDS = 30


@dataclass
class Computer:
    """`measure_this_computer` is a loop."""

    database: Database
    settings: Settings

    async def measure_this_computer(self) -> None:
        """Unless it was measured within a week with as many threads as a pod has now."""
        threads, now = self.settings.trainer_threads, datetime.now(UTC)
        async with self.database.transaction() as session:
            kept = await Store(session).facts_of(THIS_COMPUTER)
        known = None if kept is None or now - kept.seen_at > MEASURED_FOR else ThisComputer.of(kept.facts)
        if known is not None and known.threads == threads:
            return
        figures = await asyncio.to_thread(_measured, threads)
        if ThisComputer.of(figures) is None:
            raise RuntimeError(f"measured what no computer reaches: {figures}")
        async with self.database.transaction() as session:
            await Store(session).save_machine_facts({THIS_COMPUTER: figures}, MEASURED, now)
        log.info("measured this computer", **figures)


def _measured(threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "services.optimizer.measuring", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
