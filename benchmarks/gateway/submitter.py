"""Submits jobs at moments that are fixed beforehand, however long the answers take (open loop).

`python -m benchmarks.gateway.submitter URL PER_SECOND SECONDS [KEY ...]`, with the keys in turns, prints how long each
answer took since its moment, the status of each that was refused, and how many of those did not say when to come back.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

from benchmarks.gateway.house import BASE, KEY

JOB = {
    "name": "bot",
    "model": {"base": BASE, "method": "lora", "rank": 8},
    "dataset": {"uri": "dataset://support/1"},
    "hyperparameters": {"n_epochs": 3},
    "budget": {"total_usd": 15},
}

NO_ANSWER = 0  # in the place of a status: the connection was refused, or reset


async def submit(url: str, per_second: float, seconds: float, keys: list[str]) -> dict[str, object]:
    took: list[float] = []
    wrong: list[int] = []
    silent = 0
    body = json.dumps(JOB)
    headers = [{"Authorization": f"Bearer {key}", "Content-Type": "application/json"} for key in keys]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number: int, moment: float) -> None:
            nonlocal silent
            whose = headers[number % len(headers)]
            try:
                async with session.post(f"{url}/v1/jobs", data=body, headers=whose) as answer:
                    await answer.read()
                    status, says_when = answer.status, "Retry-After" in answer.headers
            except aiohttp.ClientError:
                status, says_when = NO_ANSWER, False
            took.append(time.monotonic() - moment)
            if status != 202:
                wrong.append(status)
                silent += not says_when

        begun = time.monotonic() + 0.1
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                moment = begun + number / per_second
                await asyncio.sleep(max(0.0, moment - time.monotonic()))
                group.create_task(one(number, moment))
    return {"milliseconds": [round(value * 1e3, 3) for value in took], "wrong": wrong, "silent": silent}


if __name__ == "__main__":
    asked = submit(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:] or [KEY])
    print(json.dumps(uvloop.run(asked)))
