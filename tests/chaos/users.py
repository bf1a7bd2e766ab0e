"""Two tenants who submit jobs over HTTP at a steady rate, cancel some, and ask again until they are answered."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from sskai.client import Client
from sskai.contract import new_id
from sskai.money import NANO_PER_USD
from tests.chaos.process import MODEL
from tests.chaos.stack import Place

TENANTS = ("tenant_chaos_a", "tenant_chaos_b")
# Spent and reserved of each tenant stay below it; what runs at once comes close to it, so that some have to wait.
TENANT_BUDGET_USD = 1.0
SHARE_CANCELLED = 1 / 8
SHARE_WITH_BUDGET = 1 / 4
JOB_BUDGET_USD = 0.05
STEPS = (20, 60)
BATCH_SIZE = 4
CHECKPOINT_INTERVAL_STEPS = 10
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = (0.2, 1.0)
ROWS = 120


@dataclass
class Wish:
    """A job that the gateway took with 202."""

    tenant_id: str
    budget_nano_usd: int | None
    answered_seconds: float  # from the first try to the answer


@dataclass
class Users:
    """`acknowledged` by job."""

    place: Place
    dice: random.Random
    acknowledged: dict[str, Wish] = field(default_factory=dict)
    wanted: int = 0
    refused: list[str] = field(default_factory=list)  # for good: by a status that asking again does not change
    unanswered: int = 0  # tries
    _datasets: dict[str, str] = field(default_factory=dict)  # by tenant
    _keys: dict[str, str] = field(default_factory=dict)
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    def prepare(self, folder: Path) -> None:
        """Before the storm: for each tenant a key, a budget and a dataset."""
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(_row(number)) + "\n" for number in range(ROWS)))
        with Client(self.place.gateway_url, self.place.admin_key) as operator:
            for tenant_id in TENANTS:
                made = operator.keys.create("chaos", tenant_id, scopes=["read", "write", "admin"])
                self._keys[tenant_id] = made["key"]
        for tenant_id, key in self._keys.items():
            with Client(self.place.gateway_url, key) as client:
                client.budgets.put("tenant", TENANT_BUDGET_USD, action="stop")
                data = client.datasets.upload(rows, name="rows")
            self._datasets[tenant_id] = f"dataset://{data['name']}/{data['version']}"

    async def submit(self, seconds: float, jobs_a_minute: float, unended: Callable[[], int], most: int) -> None:
        """For so long, while no more than `most` have not ended; then missing answers are waited for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if unended() + len(self._asking) < most:
                self._begin()
            await asyncio.sleep(60 / jobs_a_minute)
        await self.answered()

    def of_tenants(self) -> list[str]:
        """Each accepted job with its tenant."""
        return [f"{job_id} {wish.tenant_id}" for job_id, wish in self.acknowledged.items()]

    async def upload(self, tenant_id: str, texts: list[str]) -> tuple[int, str]:
        """A dataset: the answer's status and, if it was taken, its id."""
        async with self._http(tenant_id) as http:
            answer = await http.post(
                "/v1/datasets",
                params={"name": new_id("full").replace("_", "-").lower()},
                content="".join(json.dumps({"text": text}) + "\n" for text in texts),
                headers={"Content-Type": "application/jsonl"},
            )
        return answer.status_code, answer.json()["id"] if answer.status_code == 201 else ""

    async def texts(self, tenant_id: str, dataset_id: str) -> list[str]:
        """Of a dataset's first rows, as its preview shows them."""
        async with self._http(tenant_id) as http:
            answer = await http.get(f"/v1/datasets/{dataset_id}/preview", params={"rows": 20})
        return [row["text"] for row in answer.raise_for_status().json()["rows"]]

    async def answered(self) -> None:
        """Every wish has its answer."""
        if self._asking:
            await asyncio.gather(*self._asking)

    def _begin(self) -> None:
        self.wanted += 1
        tenant_id = self.dice.choice(TENANTS)
        budget = JOB_BUDGET_USD if self.dice.random() < SHARE_WITH_BUDGET else None
        job = {
            "kind": "finetune",
            "name": f"chaos-{self.wanted}",
            "model": {"base": MODEL, "method": "lora", "rank": 4},
            "dataset": {"uri": self._datasets[tenant_id]},
            "hyperparameters": {
                "batch_size": BATCH_SIZE,
                "sequence_length": 64,
                "learning_rate": 1e-3,
                "n_epochs": 10,
                "max_steps": self.dice.randint(*STEPS),
            },
            "spot_policy": "spot",
            "checkpoint": {"interval": CHECKPOINT_INTERVAL_STEPS, "keep": 3},
            **({"budget": {"total_usd": budget}} if budget is not None else {}),
        }
        cancel_after = self.dice.uniform(0, 20) if self.dice.random() < SHARE_CANCELLED else None
        task = asyncio.create_task(self._one(tenant_id, job, budget, cancel_after))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _one(self, tenant_id: str, job: dict[str, Any], budget: float | None, cancel_after: float | None) -> None:
        began = time.monotonic()
        answer = await self._ask(tenant_id, "/v1/jobs", job)
        if answer.status_code != 202:
            self.refused.append(f"{answer.status_code} {answer.text[:300]}")
            return
        job_id = answer.json()["id"]
        limit = None if budget is None else round(budget * NANO_PER_USD)
        self.acknowledged[job_id] = Wish(tenant_id, limit, time.monotonic() - began)
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            await self._ask(tenant_id, f"/v1/jobs/{job_id}/cancel", None)

    async def _ask(self, tenant_id: str, path: str, body: dict[str, Any] | None) -> httpx2.Response:
        """One POST, under one Idempotency-Key, until there is an answer that asking again would not change."""
        headers = {"Idempotency-Key": new_id("key")}
        while True:
            try:
                async with self._http(tenant_id) as http:
                    answer = await http.post(path, json=body, headers=headers)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
            except httpx2.TransportError:
                pass
            self.unanswered += 1
            await asyncio.sleep(self.dice.uniform(*PAUSE_SECONDS))

    def _http(self, tenant_id: str) -> httpx2.AsyncClient:
        key = {"Authorization": f"Bearer {self._keys[tenant_id]}"}
        return httpx2.AsyncClient(base_url=self.place.gateway_url, headers=key, timeout=ANSWER_SECONDS)


def _row(number: int) -> dict[str, Any]:
    asked, said = f"What is {number} and one?", f"It is {number + 1}."
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
