"""Events by HTTP to a user's address: signed, tried again, and never into the operator's own network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from services.gateway import webhooks
from services.gateway.tables import DeliveryRow, WebhookRow
from services.gateway.webhook_loop import PublicResolver, Sender, session_for
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
        ({"url": "file:///etc/passwd"}, "url", "must be https"),
        ({"url": "gopher://example.org:70/_x"}, "url", "must be https"),
        ({"url": "https://2130706433/"}, "url", "is no address"),
        ({"url": "https://0x7f000001/"}, "url", "is no address"),
        ({"url": "https://0177.0.0.1/"}, "url", "is no address"),
        ({"url": "https://012.0.0.1/"}, "url", "is no address"),
        ({"url": "https://127.1/"}, "url", "is no address"),
        ({"url": "https://example.0x7f/"}, "url", "is no address"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "url", "is no public address"),
        ({"url": "https://[::ffff:a9fe:a9fe]/"}, "url", "is no public address"),
        ({"url": "https://[64:ff9b::7f00:1]/"}, "url", "is no public address"),
        ({"url": "https://[fd00:ec2::254]/"}, "url", "is no public address"),
        ({"url": "https://①②⑦.⓪.⓪.①/"}, "url", "is no public address"),
        ({"url": "https://127。0。0。1/"}, "url", "is no public address"),
        ({"url": "https://example.org\\@127.0.0.1/"}, "url", "is no URL"),
        ({"url": "https://example.org@127.0.0.1/"}, "url", "must not hold a password"),
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
        ("fec0::1", False),
        ("2002:a00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::808:808", True),
        ("::a00:1", False),
        ("::ffff:0:a00:1", False),
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


@pytest.mark.parametrize("url", ["https://localhost:{port}/", "https://127.1:{port}/", "https://①②⑦.0.0.1:{port}/"])
async def test_whatever_a_url_was_taken_for_no_packet_goes_to_our_own_addresses(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the check of the URL lets everything through."""
    monkeypatch.setattr(webhooks, "url_problem", lambda *_: "")
    knocked = asyncio.Event()
    listener = await asyncio.start_server(lambda *_: knocked.set(), "127.0.0.1", 0)
    async with listener:
        where = url.format(port=listener.sockets[0].getsockname()[1])
        async with session_for((), 5) as session:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.post(where)
    assert not knocked.is_set()


async def test_a_name_that_means_another_address_from_one_moment_to_the_next_is_connected_to_where_it_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: first a public address, then ours."""
    asked: list[str] = []
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def rebinding(loop: Any, host: str, port: int, **options: Any) -> Any:
        asked.append(host)
        return await real(loop, "192.0.2.1" if len(asked) == 1 else "127.0.0.1", port, **options)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", rebinding)
    with pytest.raises(OSError, match="no public address"):
        await PublicResolver(()).resolve("rebinding.example.org", 443)
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with session_for((), 5) as session:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.post(f"https://rebinding.example.org:{port}/")
    assert asked == ["rebinding.example.org"] * 2, "looked up once for each call, and not again to connect"


@given(st.binary(), st.integers(0, 2**40), st.binary(min_size=24, max_size=64))
def test_a_signature_is_of_all_that_is_signed(body: bytes, at: int, key: bytes) -> None:
    secret = webhooks.SECRET_PREFIX + base64.b64encode(key).decode()
    one = webhooks.signature(secret, "delivery_1", at, body)
    assert one != webhooks.signature(secret, "delivery_2", at, body)
    assert one != webhooks.signature(secret, "delivery_1", at + 1, body)
    assert one != webhooks.signature(secret, "delivery_1", at, body + b".")


def signed_by(receiver: Receiver, secret: str) -> bool:
    headers, body = receiver.heard[-1]
    one = webhooks.signature(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    return one in headers["webhook-signature"].split(" ")


@pytest.mark.asyncio(loop_scope="session")
async def test_for_a_day_after_a_change_both_secrets_sign(house: House, receiver: Receiver) -> None:
    webhook = await made(house, receiver)
    path = f"/v1/webhooks/{webhook['id']}"
    changed = (await house.ann.post(f"{path}/secret")).json()
    assert changed["secret"] != webhook["secret"]
    await house.ann.post(f"{path}/test")
    await send(house)
    assert signed_by(receiver, webhook["secret"])
    assert signed_by(receiver, changed["secret"])
    async with house.world.database.transaction() as session:
        await session.execute(update(WebhookRow).values(previous_secret_until=house.world.now()))
    await house.ann.post(f"{path}/test")
    await send(house)
    assert not signed_by(receiver, webhook["secret"])
    revoked = (await house.ann.post(f"{path}/secret", json={"revoke_previous": True})).json()
    await house.ann.post(f"{path}/test")
    await send(house)
    assert (signed_by(receiver, changed["secret"]), signed_by(receiver, revoked["secret"])) == (False, True)
    assert (await house.bob.post(f"{path}/secret")).status_code == 404


@pytest.mark.asyncio(loop_scope="session")
async def test_a_dead_letter_is_shown_and_can_be_sent_again(house: House, receiver: Receiver) -> None:
    receiver.statuses = [500] * 10
    webhook = await made(house, receiver, types=["ObjectiveBreached"])
    await breach(house, await tenant_of(house))
    path = f"/v1/webhooks/{webhook['id']}/deliveries"
    for _ in range(10):
        await send(house)
        await due_now(house)
    assert len(receiver.heard) == 10
    failed = (await house.ann.get(path, params={"state": "failed"})).json()
    ((delivery,), more) = failed["data"], failed["has_more"]
    assert (delivery["state"], delivery["tries"], delivery["last_status"], more) == ("failed", 10, 500, False)
    assert (await house.ann.get(path, params={"state": "delivered"})).json()["data"] == []
    again = await house.ann.post(f"{path}/{delivery['id']}/replay")
    assert (again.status_code, again.json()["state"]) == (202, "waiting")
    await send(house)
    assert {headers["webhook-id"] for headers, _ in receiver.heard} == {delivery["id"]}
    assert [one["state"] for one in (await house.ann.get(path)).json()["data"]] == ["delivered"]
    assert (await house.ann.post(f"{path}/delivery_other/replay")).status_code == 404
    assert (await house.bob.post(f"{path}/{delivery['id']}/replay")).status_code == 404
    assert (await house.bob.get(path)).status_code == 404


@pytest.mark.asyncio(loop_scope="session")
async def test_what_the_log_holds_can_be_sent_from_a_position_or_a_time_on(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.webhook_store.MAX_REPLAYED", 2)
    await house.job(house.ann)
    for _ in range(3):
        await breach(house, await tenant_of(house))
    webhook = await made(house, receiver, types=["ObjectiveBreached"])
    path = f"/v1/webhooks/{webhook['id']}/replay"
    first = (await house.ann.post(path, json={"after": 0})).json()
    assert (first["deliveries"], first["has_more"]) == (2, True)
    rest = (await house.ann.post(path, json={"after": first["next"]})).json()
    assert (rest["deliveries"], rest["has_more"], rest["next"]) == (1, False, None)
    await send(house)
    told = [json.loads(body)["id"] for _, body in receiver.heard]
    assert (len(told), len(set(told))) == (3, 3)
    since = await house.ann.post(path, json={"after": house.world.now().isoformat()})
    assert since.json()["deliveries"] == 0
    for wrong in (-1, "yesterday", "2026-11-29T12:00:00", None):
        assert (await house.ann.post(path, json={"after": wrong})).status_code == 422
    assert (await house.bob.post(path, json={"after": 0})).status_code == 404


@pytest.mark.asyncio(loop_scope="session")
async def test_a_webhook_is_changed_and_switched_off_and_on(house: House, receiver: Receiver) -> None:
    webhook = await made(house, receiver)
    path = f"/v1/webhooks/{webhook['id']}"
    assert (await house.ann.patch(path, json={"types": ["JobFailed"]})).json()["types"] == ["JobFailed"]
    refused = await house.ann.patch(path, json={"url": "https://10.0.0.1/"})
    assert (refused.status_code, refused.json()["field"]) == (422, "url")
    assert (await house.ann.patch(path, json={"secret": "x"})).status_code == 422
    assert (await house.bob.patch(path, json={"enabled": False})).status_code == 404
    await house.ann.post(f"{path}/test")
    off = (await house.ann.patch(path, json={"enabled": False})).json()
    assert (off["enabled"], off["types"], off["url"]) == (False, ["JobFailed"], receiver.url)
    await due_now(house)
    await send(house)
    assert receiver.heard == []
    assert (await house.ann.post(f"{path}/test")).status_code == 409
    (delivery,) = (await house.ann.get(f"{path}/deliveries", params={"state": "failed"})).json()["data"]
    moved = receiver.url.replace("/hook", "/hook?moved=1")
    assert (await house.ann.patch(path, json={"enabled": True, "url": moved})).json()["enabled"]
    await house.ann.post(f"{path}/deliveries/{delivery['id']}/replay")
    await send(house)
    assert len(receiver.heard) == 1


def test_it_is_given_up_after_three_days() -> None:
    pauses = [webhooks.pause_seconds(tries) for tries in range(1, 11)]
    assert pauses[-1] is None
    waits = [pause for pause in pauses if pause is not None]
    assert waits == sorted(waits)
    assert 3 <= sum(waits) / 86_400 < 3.5


def test_secrets_differ() -> None:
    assert len({webhooks.new_secret() for _ in range(50)}) == 50
