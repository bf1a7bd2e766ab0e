"""Events by HTTP to a user's address: signed, tried again, and never into the operator's own network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from services.gateway import webhooks
from services.gateway.tables import DeliveryRow
from services.gateway.webhook_loop import PublicResolver, Sender
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import House, serving

LOOPBACK = webhooks.networks("127.0.0.1")


@dataclass
class Receiver:
    """A user's own server. `statuses`: what it answers, one after the other, then 200."""

    statuses: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hook")
        async def hook(request: Request) -> Response:
            self.heard.append((dict(request.headers), await request.body()))
            status = self.statuses.pop(0) if self.statuses else 200
            return Response(status_code=status, headers={"Location": "/elsewhere"} if status == 302 else {})

        @app.post("/elsewhere")
        async def elsewhere() -> Response:
            raise AssertionError("redirects are not followed")

        return app


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(house: House) -> AsyncIterator[Receiver]:
    """Of the tenant `ann`, on an address that the operator allows."""
    house.world.settings.webhook_allowed_networks = "127.0.0.1"
    one = Receiver()
    async with serving(one.app()) as url:
        one.url = f"{url}/hook"
        yield one


async def breach(house: House, tenant_id: str) -> None:
    await house.bus.publish(
        events.ObjectiveBreached(
            endpoint_id="endpoint_1",
            tenant_id=tenant_id,
            objective="availability",
            breached_at=timestamp(house.world.now()),
        )
    )
    await house.bus.settle()


async def tenant_of(house: House) -> str:
    return str((await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"])


async def made(house: House, receiver: Receiver, **form: Any) -> dict[str, Any]:
    answer = await house.ann.post("/v1/webhooks", json={"url": receiver.url, **form})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def send(house: House) -> None:
    await Sender(house.world.database, house.world.settings).send_due()


async def due_now(house: House) -> None:
    async with house.world.database.transaction() as session:
        await session.execute(
            update(DeliveryRow).where(DeliveryRow.due_at.is_not(None)).values(due_at=house.world.now())
        )


@pytest.mark.asyncio(loop_scope="session")
async def test_an_alert_comes_signed_as_standard_webhooks_says(house: House, receiver: Receiver) -> None:
    webhook = await made(house, receiver, types=["ObjectiveBreached"])
    await breach(house, await tenant_of(house))
    await house.job(house.ann)  # its events are not asked for
    await send(house)
    ((headers, body),) = receiver.heard
    event = json.loads(body)
    assert (event["type"], event["data"]["objective"]) == ("sskai.events.v1.ObjectiveBreached", "availability")
    key = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    shown = (await house.ann.get(f"/v1/webhooks/{webhook['id']}")).json()
    assert "secret" not in shown
    (delivery,) = shown["deliveries"]
    assert (delivery["tries"], delivery["last_status"], delivery["next_try_at"]) == (1, 200, None)
    assert delivery["id"] == headers["webhook-id"]
    await send(house)
    assert len(receiver.heard) == 1


@pytest.mark.asyncio(loop_scope="session")
async def test_what_fails_is_tried_again_later_with_the_same_id(house: House, receiver: Receiver) -> None:
    receiver.statuses = [500, 302]
    webhook = await made(house, receiver)
    assert (await house.ann.post(f"/v1/webhooks/{webhook['id']}/test")).status_code == 202
    for turn in range(1, 4):
        await send(house)
        assert len(receiver.heard) == turn
        await send(house)
        assert len(receiver.heard) == turn, "not before its time"
        await due_now(house)
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    (delivery,) = (await house.ann.get(f"/v1/webhooks/{webhook['id']}")).json()["deliveries"]
    assert (delivery["type"], delivery["tries"], delivery["last_status"]) == ("sskai.webhook.test", 3, 200)


@pytest.mark.asyncio(loop_scope="session")
async def test_one_that_says_gone_is_left_alone(house: House, receiver: Receiver) -> None:
    receiver.statuses = [410]
    webhook = await made(house, receiver, types=["ObjectiveBreached"])
    for _ in range(2):
        await breach(house, await tenant_of(house))
        await send(house)
        await due_now(house)
    assert len(receiver.heard) == 1
    assert (await house.ann.get(f"/v1/webhooks/{webhook['id']}")).json()["disabled_at"]


@pytest.mark.asyncio(loop_scope="session")
async def test_others_events_go_nowhere_and_a_removed_one_gets_nothing(house: House, receiver: Receiver) -> None:
    webhook = await made(house, receiver)
    await house.job(house.bob)
    await send(house)
    assert receiver.heard == []
    await house.ann.post(f"/v1/webhooks/{webhook['id']}/test")
    assert (await house.ann.delete(f"/v1/webhooks/{webhook['id']}")).status_code == 204
    await send(house)
    assert receiver.heard == []


@pytest.mark.asyncio(loop_scope="session")
async def test_an_address_that_is_not_allowed_any_more_is_not_called(house: House, receiver: Receiver) -> None:
    webhook = await made(house, receiver)
    await house.ann.post(f"/v1/webhooks/{webhook['id']}/test")
    house.world.settings.webhook_allowed_networks = ""
    await send(house)
    assert receiver.heard == []
    (delivery,) = (await house.ann.get(f"/v1/webhooks/{webhook['id']}")).json()["deliveries"]
    assert delivery["last_problem"] == "127.0.0.1 is no public address"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("form", "field_", "says"),
    [
        ({"url": "ftp://example.org"}, "url", "must be https"),
        ({"url": "http://example.org/hook"}, "url", "must be https"),
        ({"url": "https://user:word@example.org"}, "url", "must not hold a password"),
        ({"url": "https://169.254.169.254/latest"}, "url", "is no public address"),
        ({"url": "https://[::1]/"}, "url", "is no public address"),
        ({"url": "https://example.org/hook", "types": ["Nothing"]}, "types", "'Nothing' is not in the catalogue"),
    ],
)
async def test_a_webhook_that_cannot_be_is_refused(house: House, form: dict[str, Any], field_: str, says: str) -> None:
    refused = await house.ann.post("/v1/webhooks", json=form)
    assert (refused.status_code, refused.json()["field"]) == (422, field_)
    assert says in refused.json()["detail"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("fd00::1", False),
        ("not an address", False),
    ],
)
def test_which_addresses_are_everybodys(address: str, public: bool) -> None:
    assert webhooks.may_call(address, ()) == public


def test_the_operator_may_allow_more() -> None:
    assert webhooks.may_call("10.1.2.3", webhooks.networks("10.1.0.0/16, fd00::/8"))
    assert not webhooks.may_call("10.2.2.3", webhooks.networks("10.1.0.0/16"))
    with pytest.raises(ValueError, match=r"10\.1"):
        webhooks.networks("10.1")


async def test_a_name_that_leads_home_is_not_followed() -> None:
    resolver = PublicResolver(())
    with pytest.raises(OSError, match="localhost has no public address"):
        await resolver.resolve("localhost", 443)
    assert await PublicResolver(LOOPBACK).resolve("localhost", 443)


@given(st.binary(), st.integers(0, 2**40), st.binary(min_size=24, max_size=64))
def test_a_signature_is_of_all_that_is_signed(body: bytes, at: int, key: bytes) -> None:
    secret = webhooks.SECRET_PREFIX + base64.b64encode(key).decode()
    one = webhooks.signature(secret, "delivery_1", at, body)
    assert one != webhooks.signature(secret, "delivery_2", at, body)
    assert one != webhooks.signature(secret, "delivery_1", at + 1, body)
    assert one != webhooks.signature(secret, "delivery_1", at, body + b".")


def test_it_is_given_up_after_three_days() -> None:
    pauses = [webhooks.pause_seconds(tries) for tries in range(1, 11)]
    assert pauses[-1] is None
    waits = [pause for pause in pauses if pause is not None]
    assert waits == sorted(waits)
    assert 3 <= sum(waits) / 86_400 < 3.5


def test_secrets_differ() -> None:
    assert len({webhooks.new_secret() for _ in range(50)}) == 50
