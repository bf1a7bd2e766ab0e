"""S2: an event that names what another tenant has changes nothing of theirs, in every service, and is set aside."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from services.gateway.budgets import Budgets
from services.gateway.store import Store as GatewayStore
from services.gateway.tables import BudgetRow
from sskai import contract
from sskai.bus import Consumer, Incoming, _Worker
from sskai.database import SERVICES, Database
from sskai.delivery import handle as deliver
from sskai.ownership import Owned
from sskai.testing import envelope, handle, incoming
from tests.security import examples
from tests.security.examples import checksum, of_tenant

OWNER, FORGER = "tenant_owner", "tenant_forger"
# What makes a thing known; in the trainer a job is when it has ended.
FIRST = ("JobSubmitted", "EndpointRequested", "EndpointReady", "EndpointObjectivesSet", "BudgetSet", "JobSucceeded")
# Told of a model's version, a dataset, a trace: other ids, which their tables know with their tenant in the key or the
# query. Nothing of the owner's may change by them, but they are no foreign events by their job or endpoint.
BY_OTHER_IDS = {
    "gateway": {"DatasetValidated", "DatasetRejected", "ModelVersionReady", "ModelVersionRefused"},
    "optimizer": {"EndpointPlanRequested", "PlanReplayRequested", "PlanRequested"},
    "scheduler": {"BudgetSet", "BudgetRemoved"},
    "trainer": set[str](),
    "inference": {"ModelVersionReady", "ModelEvaluated", "BudgetSet", "BudgetRemoved"},
    "monitor": {"DatasetValidated", "ModelVersionReady", "BudgetSet", "BudgetRemoved"},
}


def parts_of(service: str) -> tuple[Any, Any]:
    handlers = importlib.import_module(f"services.{service}.handlers").HANDLERS
    return handlers, importlib.import_module(f"services.{service}.store").Store


def told_of(service: str, tenant_id: str) -> dict[str, Any]:
    """The golden example of every event that the service takes and that names a tenant, all about the same things."""
    handlers, _ = parts_of(service)
    found = {name: of_tenant(name, tenant_id) for name in examples.names()}
    mine = {name: one for name, one in found.items() if type(one) in handlers and contract.tenant_of(one)}
    return dict(sorted(mine.items(), key=lambda item: (item[0] not in FIRST, item[0])))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_forged_event_changes_nothing_and_is_refused(
    service: str, database_of: Callable[[str], AbstractAsyncContextManager[Database]]
) -> None:
    """Each is tried after its owner's own events, and again before each of them: in every state that these make."""
    handlers, store = parts_of(service)
    owners, forged = told_of(service, OWNER), told_of(service, FORGER)
    refused = set[str]()

    async def forge(database: Database, name: str) -> None:
        before = await checksum(database, besides=FORGER)
        told, reason = list[Any](), ""
        try:
            told = await deliver(database, handlers, store, envelope(forged[name]), datetime.now(UTC)) or []
        except contract.ForeignEventError as error:
            refused.add(name)
            reason = str(error)
        assert OWNER not in reason, "it says to whom it belongs"
        assert await checksum(database, besides=FORGER) == before, f"{name} changed what is not its tenant's"
        assert {contract.tenant_of(one) for one in told} <= {FORGER}, f"{name} made somebody speak for the owner"

    by_other_ids = BY_OTHER_IDS[service] | made_elsewhere(service, owners)
    async with database_of(service) as database:
        if service == "gateway":
            await known_to_gateway(database)
        known = False
        for name, event in owners.items():
            known = known or name not in FIRST
            if known and name not in by_other_ids:
                await forge(database, name)
            await handle(handlers, database, store, event)
        for name in forged:
            await forge(database, name)
    assert isinstance(handlers, Owned)
    assert set(forged) - refused <= by_other_ids


async def known_to_gateway(database: Database) -> None:
    """Endpoints and budgets come to it by its own door, not by events."""
    async with database.transaction() as session:
        await GatewayStore(session).add_endpoint(of_tenant("EndpointRequested", OWNER), "support@3")
        told = of_tenant("BudgetSet", OWNER)
        values = {
            name: getattr(told, name) for name in ("budget_id", "tenant_id", "scope", "target", "period", "action")
        }
        row = BudgetRow(**values, amount_nano_usd=1, thresholds=[], set_at=contract.moment(told.set_at))
        await Budgets(session).set(row)


def made_elsewhere(service: str, owners: dict[str, Any]) -> set[str]:
    """Events whose thing the service does not keep by itself, as the examples tell it: nothing there can be owned."""
    handlers, _ = parts_of(service)
    fields = set(handlers.owners)
    return {name for name, event in owners.items() if not any(getattr(event, field, "") for field in fields)}


async def test_the_record_goes_to_the_dead_letters_at_once(
    database_of: Callable[[str], AbstractAsyncContextManager[Database]],
) -> None:
    """With its reason, for whoever reads them; it is not tried five times, and what comes after it goes on."""
    handlers, store = parts_of("scheduler")
    asides: list[tuple[str, str]] = []

    class Publisher:
        async def set_aside(self, _incoming: Incoming, reason: str, detail: str) -> None:
            asides.append((reason, detail))

    async with database_of("scheduler") as database:
        await handle(handlers, database, store, of_tenant("JobSubmitted", OWNER))

        async def take(one: Incoming) -> None:
            event = contract.decode(one.value, one.headers)
            await deliver(database, handlers, store, event, datetime.now(UTC))

        consumer = Consumer("127.0.0.1:1", "scheduler", [], take, Publisher())  # type: ignore[arg-type]
        cancel = of_tenant("JobCancelRequested", FORGER)
        worker = _Worker(consumer, TopicPartition("sskai.jobs.v1", 0))
        assert await worker._handle(incoming(cancel))
        await worker.stop(1)
    [(reason, detail)] = asides
    assert (reason, "is another's" in detail) == ("foreign", True)


def test_metrics_name_no_tenant_user_key_or_job() -> None:
    """What Prometheus shows is everybody's who scrapes."""
    for service in SERVICES:
        for module in ("handlers", "loops", "main"):
            importlib.import_module(f"services.{service}.{module}")
    names_of_labels = {
        (collector.describe()[0].name, label)
        for collector in list(REGISTRY._collector_to_names)
        for label in getattr(collector, "_labelnames", ())
    }
    assert len(names_of_labels) > 10
    # `endpoint` of inference is an id that was drawn at random, for whoever runs the installation.
    forbidden = {"tenant", "tenant_id", "job", "job_id", "key", "key_id", "user", "user_id", "name", "email", "prompt"}
    assert {one for one in names_of_labels if one[1] in forbidden} == set()


def test_every_service_knows_whose_its_things_are() -> None:
    """A service without owners would take anything; its tables need the columns that are asked for."""
    for service in SERVICES:
        handlers, _ = parts_of(service)
        assert isinstance(handlers, Owned), service
        for field, tables in handlers.owners.items():
            for table in tables:
                assert hasattr(table, field), f"{table.__name__} has no {field}"
                assert hasattr(table, "tenant_id")
