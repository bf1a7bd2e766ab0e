"""S1: with another tenant's ids every route answers as with nobody's, and nothing of that tenant changes."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tests.gateway.conftest import House
from tests.security import doors
from tests.security.conftest import tenant_of
from tests.security.estate import Estate
from tests.security.examples import checksum

pytestmark = pytest.mark.asyncio(loop_scope="session")

METHODS = {"get", "post", "put", "patch", "delete"}
REFUSED_REFERENCE = {400, 404, 422}  # 400: of OpenAI's routes


@dataclass(frozen=True)
class Try:
    """One request that names something: `ids` stand in it and are the only difference to a request of nobody's ids."""

    method: str
    path: str
    where: str
    url: str
    ids: tuple[str, ...]
    query: dict[str, str]
    body: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path} by {self.where} {self.ids}"


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield method.upper(), path, operation


def named_in_path(path: str) -> list[tuple[str, str]]:
    """Name and kind of each thing that a path names."""
    names = [name for name in re.findall(r"{(\w+)(?::path)?}", path) if name not in doors.CHOICES]
    return [(name, doors.PATH.get(path) or doors.PATH[name]) for name in names]


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)(?::path)?}", lambda match: {**doors.CHOICES, **ids}[match[1]], path)


def body_with(method: str, path: str, field: str, value: str) -> Any:
    body = copy.deepcopy(doors.BODIES[method, path])
    body.update(copy.deepcopy(doors.BESIDE.get((method, path, field), {})))
    place, *rest = field.split(".")
    body = {name: held for name, held in body.items() if held is not None}
    if rest:
        body[place] = {**body[place], rest[0]: value}
    else:
        body[place] = value
    return body


def tries(app: FastAPI, ids: dict[str, list[str]], own: dict[str, str]) -> Iterator[Try]:
    """Everything that can be asked with these ids; `own`: what the asker has, for places beside a reference."""
    for method, path, operation in operations(app):
        named = named_in_path(path)
        body = doors.BODIES.get((method, path))
        for chosen in itertools.product(*(ids[kind] for _, kind in named)) if named else ():
            values = dict(zip([name for name, _ in named], chosen, strict=True))
            yield Try(method, path, "path", filled(path, values), chosen, {}, body)
        mine = filled(path, {name: own.get(kind, "") for name, kind in named})
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query" and (kind := doors.QUERY.get(parameter["name"])):
                for one in ids[kind]:
                    yield Try(method, path, parameter["name"], mine, (one,), {parameter["name"]: one}, body)
        for field, kind in doors.REFERENCES.get((method, path), {}).items():
            for one in ids[kind]:
                yield Try(method, path, field, mine, (one,), {}, body_with(method, path, field, one))


async def answer(client: httpx2.AsyncClient, one: Try) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers, with the ids that were sent taken out."""
    if one.path == "/v1/events":
        async with client.stream("GET", one.url, params={"after": 0, **one.query}) as stream:
            lines = aiter(stream.aiter_lines())
            heard = [await anext(lines) for _ in range(8)]  # the beginning, and what comes of the log before silence
            return stream.status_code, "\n".join(line for line in heard if "data" in line), {}
    content = None if one.body is None else json.dumps(one.body).encode()
    headers = {"Content-Type": "application/json"} if content is not None else {}
    got = await client.request(one.method, one.url, params=one.query, content=content, headers=headers)
    text = got.text
    for each in one.ids:
        text = text.replace(each, "*")
    told = {name: value for name, value in got.headers.items() if name not in ("date", "content-length")}
    told |= {name: "counted" for name in told if "ratelimit" in name}
    return got.status_code, text, told


async def test_with_somebody_elses_ids_every_route_answers_as_with_nobodys(estate: Estate, house: House) -> None:
    ann = await own_things(house)
    before = [await checksum(each, besides=ann) for each in (house.world.database, estate.monitor)]
    own = {kind: named[0] for kind, named in (await of_ann(house)).items()}
    nobodys = {kind: [estate.nobodys(one) for one in named] for kind, named in estate.ids.items()}
    asked = 0
    others = tries(house.app, estate.ids, own)
    for theirs, nobody in zip(others, tries(house.app, nobodys, own), strict=True):
        got = await answer(house.ann, theirs)
        assert got == await answer(house.ann, nobody), f"{theirs}: tells somebody's id from nobody's"
        assert "bobs-" not in got[1], f"{theirs}: {got[1]}"
        if theirs.path in doors.SUMS and theirs.method == "GET":
            assert got[0] == 200, f"{theirs}: {got}"
        elif status := doors.BEFORE.get((theirs.method, theirs.path)):
            assert got[0] == status, f"{theirs}: {got}"
        elif theirs.where == "path":
            assert got[0] == 404, f"{theirs}: {got}"
        else:
            assert got[0] in REFUSED_REFERENCE, f"{theirs}: {got}"
        asked += 1
    assert asked > 100
    after = [await checksum(each, besides=ann) for each in (house.world.database, estate.monitor)]
    assert after == before, "something that is not ann's changed"


async def test_no_list_shows_what_is_somebody_elses(estate: Estate, house: House) -> None:
    await own_things(house)
    theirs = {one for named in estate.ids.values() for one in named}
    listed, shown = 0, []
    for method, path, operation in operations(house.app):
        asked_for = {one["name"] for one in operation.get("parameters", []) if one.get("required")}
        if method != "GET" or "{" in path or asked_for or path in ("/v1/events", "/v1/auth/oidc/callback"):
            continue
        text = (await house.ann.get(path)).text
        shown += [(path, one) for one in (*theirs, "bobs-") if one in text]
        listed += '"data":' in text
    assert shown == []
    assert listed > 12


async def test_the_owner_is_answered_on_the_same_routes(estate: Estate, house: House) -> None:
    """Or the test above would prove nothing: the ids are right, and each route knows what they name."""
    failed = []
    for one in tries(house.app, estate.ids, {kind: named[0] for kind, named in estate.ids.items()}):
        if one.method == "GET" and one.where == "path" and one.path not in doors.NOT_HERE:
            status, text, _ = await answer(house.bob, one)
            if status != 200:
                failed.append((str(one), status, text))
    assert not failed, "\n".join(map(str, failed))


async def test_every_place_that_can_name_something_is_known(running: House) -> None:
    """A route, a parameter or a field that is not in `doors.py` has to get a row there."""
    missing = list[str]()
    document = running.app.openapi()
    for method, path, operation in operations(running.app):
        route = f"{method} {path}"
        named = [name for name in re.findall(r"{(\w+)(?::path)?}", path) if name not in doors.CHOICES]
        unknown = [name for name in named if name not in doors.PATH and path not in doors.PATH]
        missing += [f"{path}: what does {{{name}}} name? (PATH)" for name in unknown]
        asked = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        unknown = sorted(asked - doors.QUERY.keys() - doors.HARMLESS)
        missing += [f"{route}?{name}: does it name something? (QUERY or HARMLESS)" for name in unknown]
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content and (method, path) not in doors.BODIES:
            missing.append(f"{route}: a body that is right (BODIES)")
        references = doors.REFERENCES.get((method, path), {})
        fields = fields_of(content.get("application/json", {}).get("schema", {}), document)
        naming = sorted(one for one in fields - references.keys() if one.rpartition(".")[2] in doors.NAMING)
        missing += [f"{route}: what does the body's {field} name? (REFERENCES)" for field in naming]
        if not (named or references or asked & doors.QUERY.keys() or (method, path) in doors.WITHOUT_NAMES):
            missing.append(f"{route}: nothing is named by it? (WITHOUT_NAMES)")
    assert missing == [], "\n".join(missing)


def fields_of(schema: Any, document: Any, prefix: str = "", depth: int = 0) -> set[str]:
    """The fields of a body, with dots into the objects that it holds."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: set[str] = set()
    for branch in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(branch, []):
            found |= fields_of(one, document, prefix, depth)
    for name, held in schema.get("properties", {}).items():
        below = fields_of(held, document, f"{prefix}{name}.", depth + 1) if depth < 3 else set()
        found |= below or {prefix + name}
    return found


async def own_things(house: House) -> str:
    """Ann has a few things of her own, so that a wrong filter has something to find."""
    await house.dataset(house.ann, "mine")
    return await tenant_of(house.ann)


async def of_ann(house: House) -> dict[str, list[str]]:
    """What stands in the places beside the one that is tried."""
    dataset = (await house.ann.get("/v1/datasets/mine")).json()["id"]
    made = await house.ann.post("/v1/endpoints", json={"name": "mine", "model": "tiny-llama"})
    endpoint = made.json()["id"]
    key = (await house.ann.get("/v1/keys")).json()["data"][0]["id"]
    return {"dataset": [dataset], "endpoint": [endpoint], "endpoint or name": [endpoint], "key": [key]}
