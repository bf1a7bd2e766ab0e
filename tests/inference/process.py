"""The inference service as a child process, spoken to as the gateway would: by events and over HTTP."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI

from sskai import bus, contract
from sskai.events import v1 as events
from sskai.testing import envelope, heard, wait_for

TOKEN = "the-gateways-secret"
TENANT = "tenant_a"


class InferenceProcess:
    def __init__(self, environment: dict[str, str], kafka: str, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._environment = {
            **os.environ,
            **environment,
            "SSKAI_PORT": str(self.port),
            "SSKAI_INTERNAL_TOKEN": TOKEN,
        }
        self.kafka = kafka
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._deployed: set[tuple[str, str]] = set()
        self._clients: list[AsyncOpenAI] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, path: str = "/readyz", limit_seconds: float = 60) -> None:
        """Run it and wait until `path` answers 200."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "services", "inference"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + limit_seconds
        while not self._answers(path):
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.05)

    def _answers(self, path: str) -> bool:
        try:
            return httpx2.get(f"{self.url}{path}", timeout=2).status_code == 200
        except httpx2.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self, limit_seconds: float) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(limit_seconds)

    async def publish(self, *messages: Any) -> None:
        publisher = bus.Publisher(self.kafka, "test")
        await publisher.publish_all([envelope(message) for message in messages])
        await publisher.stop()

    async def told(self, kind: type[Any], endpoint_id: str) -> list[Any]:
        """What the service told of an endpoint."""
        messages = [one.message for one in await heard(self.kafka, contract.topic_of(kind), seconds=0.5)]
        return [one for one in messages if isinstance(one, kind) and one.endpoint_id == endpoint_id]

    async def deploy(
        self,
        name: str,
        *,
        tenant_id: str = TENANT,
        base_uri: str = "builtin://tiny",
        artifact_uri: str = "",
        kind: str = "adapter",
        rate: float = 0,
        limit_seconds: float = 40,
    ) -> str:
        """Ask for an endpoint, once per name, and wait until it is ready; its id."""
        endpoint_id = f"end_{tenant_id}_{name}"
        if (tenant_id, name) not in self._deployed:
            await self.publish(
                events.EndpointRequested(
                    endpoint_id=endpoint_id,
                    tenant_id=tenant_id,
                    name=name,
                    kind=kind,
                    model_id=f"model_{name}" if artifact_uri else "tiny",
                    version=1 if artifact_uri else 0,
                    base_model_id="tiny",
                    base_uri=base_uri,
                    artifact_uri=artifact_uri,
                    sample_rate=rate,
                )
            )
            self._deployed.add((tenant_id, name))

        async def ready() -> bool:
            answer = await self.get(f"/v1/models/{name}", tenant_id=tenant_id)
            return answer.status_code == 200 and answer.json()["state"] == "ready"

        await wait_for(ready, limit_seconds=limit_seconds)
        return endpoint_id

    def client(self, tenant_id: str = TENANT) -> AsyncOpenAI:
        """The official client, with the headers that the gateway adds."""
        headers = {"X-SSKAI-Tenant": tenant_id, "X-SSKAI-Internal": TOKEN}
        client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", default_headers=headers, max_retries=0)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        self._clients.clear()

    async def get(self, path: str, *, tenant_id: str = TENANT) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=10) as client:
            return await client.get(self.url + path, headers={"X-SSKAI-Tenant": tenant_id, "X-SSKAI-Internal": TOKEN})

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = (await self.get("/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))
