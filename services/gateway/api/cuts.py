"""`POST /v1/datasets/NAME/cut`: the next version from traffic, for who wants to look before anything is trained."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, AwareDatetime, Field

from services.gateway import cutting
from services.gateway.answers import Answer, KeyReusedError, answered, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.datasets import shown
from services.gateway.api.world import Here, Id, IdempotencyKey, World, key_reused, not_found, respond
from services.gateway.cutting import Cut, Cutter, Order, SupersededError
from services.gateway.datasets import MAX_ROWS
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.plain import in_utc
from services.gateway.store import Store
from sskai.delivery import tell
from sskai.http import Problem

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

SHOWN_ROWS = 20


class CutForm(Form):
    endpoint: Annotated[str, Field(min_length=1, max_length=120)]  # its id, or its name
    # Absent: as far back as requests are kept.
    since: Annotated[Annotated[AwareDatetime, AfterValidator(in_utc)] | None, Field(strict=False)] = None
    minimum_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] | None = None  # new ones; absent: as the gateway is set


@router.post("/{dataset_id}/cut", status_code=201)
async def cut_dataset(
    dataset_id: Id,
    form: CutForm,
    here: Here,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="Count and show rows; keep nothing")] = False,
) -> Response:
    """All rows of the newest version of this dataset, and rows made of what the endpoint was asked.

    201 with the new version, 200 if it is a version already (or of a dry run), 422 if there are too few new rows.
    """
    order = await _order(dataset_id, form, here, caller)
    if dry_run:
        return JSONResponse(_previewed(await Cutter(here.database, here.objects, here.settings).look(order)))
    request = digest(f"POST /v1/datasets/{order.parent.name}/cut", form.model_dump_json().encode())
    try:
        async with here.database.transaction() as session:
            before = await answered(session, caller.tenant_id, idempotency_key, request)
        return respond(before or await _cut(order, here, idempotency_key, request))
    except KeyReusedError as error:
        raise key_reused(error) from error
    except SupersededError as error:
        raise Problem(
            409, "There is a newer version", f"It came after {error}, which was cut from: cut again"
        ) from error


async def _order(dataset_id: str, form: CutForm, here: World, caller: Principal) -> Order:
    async with here.database.transaction() as session:
        store = Store(session)
        named = await store.library.dataset(caller.tenant_id, dataset_id)
        newest = await store.library.dataset(caller.tenant_id, named.name) if named else None
        endpoint = await store.endpoint_called(caller.tenant_id, form.endpoint)
    if newest is None:
        raise not_found("dataset", dataset_id)
    if endpoint is None:
        detail = f"endpoint: you have none of the id or name {form.endpoint!r}"
        raise Problem(422, "The endpoint is not there", detail, field="endpoint")
    return Order(
        parent=newest,
        endpoint_id=endpoint.endpoint_id,
        until=here.now(),
        since=form.since,
        minimum_rows=form.minimum_rows or here.settings.traffic_minimum_rows,
    )


async def _cut(order: Order, here: World, idempotency_key: str | None, request: str) -> Answer:
    cut = await Cutter(here.database, here.objects, here.settings).make(order)
    if cut.refusal:
        detail = f"{cut.refusal}: lower minimum_rows, begin earlier, or wait for more feedback"
        raise Problem(422, "There is no new version", detail, counts=cut.counts.as_dict())
    now = here.now()
    async with here.database.transaction() as session:

        async def make() -> Answer:
            dataset, facts = await cutting.keep(cut, Library(session), now)
            await tell(session, *facts)
            return Answer(201 if facts else 200, shown(dataset))

        return await once(session, order.parent.tenant_id, idempotency_key, request, make, now=now)


def _previewed(cut: Cut) -> dict[str, Any]:
    parent = cut.order.parent
    return {
        "object": "dataset.cut",
        "dataset": f"{parent.name}@{parent.version}",
        "format": parent.format,
        "refusal": cut.refusal or None,
        "rows_after": cut.summary.rows if cut.summary else parent.rows,
        "lineage": cut.lineage,
        "rows": [each.row for each in cut.rows[:SHOWN_ROWS]],
    }
