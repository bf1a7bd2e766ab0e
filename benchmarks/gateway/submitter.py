"""Submits jobs at moments that are fixed beforehand, however long the answers take (open loop).

`python -m benchmarks.gateway.submitter URL PER_SECOND SECONDS` prints how long each answer took since its moment.
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


async def submit(url: str, per_second: float, seconds: float) -> dict[str, object]:
    took: list[float] = []
    wrong: list[int] = []
    body, headers = json.dumps(JOB), {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one(moment: float) -> None:
            async with session.post(f"{url}/v1/jobs", data=body) as answer:
                await answer.read()
                took.append(time.monotonic() - moment)
                if answer.status != 202:
                    wrong.append(answer.status)

        begun = time.monotonic() + 0.1
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                moment = begun + number / per_second
                await asyncio.sleep(max(0.0, moment - time.monotonic()))
                group.create_task(one(moment))
    return {"milliseconds": [round(value * 1e3, 3) for value in took], "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(submit(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))))
