"""Real parts for the tests, started once per session: Apache Kafka, PostgreSQL and an S3 server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
from hypothesis import settings

from sskai import broker_admin, contract
from sskai.database import Database
from sskai.local.kafka import Kafka
from sskai.local.objectstore import ObjectStore
from sskai.local.postgres import Postgres
from sskai.objects import Objects
from sskai.testing import fresh_database

# Machines are shared: how long an example takes says nothing about the code. Speed is a matter of benchmarks/.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The bootstrap address of a broker that has every topic of the contract."""
    with Kafka.start() as broker:
        asyncio.run(broker_admin.create_topics(broker.bootstrap, [*contract.TOPICS, contract.OTLP_TOPIC]))
        yield broker.bootstrap


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with Postgres.start() as server:
        yield server.url


@pytest.fixture(scope="session")
def objects() -> Iterator[Objects]:
    """An empty bucket on a real S3 server."""
    with ObjectStore.start() as store:
        yield Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)


@pytest.fixture
def database_of(postgres: str) -> Callable[[str], AbstractAsyncContextManager[Database]]:
    """`async with database_of("scheduler") as database:` a fresh one with the service's schema."""
    return partial(fresh_database, postgres)


@pytest.fixture
async def database(request: pytest.FixtureRequest, postgres: str) -> AsyncIterator[Database]:
    """A fresh database of the service whose tests these are: the module says `SERVICE = "scheduler"`."""
    async with fresh_database(postgres, request.module.SERVICE) as fresh:
        yield fresh
