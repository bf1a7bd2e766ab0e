"""`/v1/fine_tuning/jobs`: OpenAI's fine-tuning. A job here is a job: `/v1/jobs/ID` shows the rest of it.

When it has succeeded, `fine_tuned_model` answers `/v1/chat/completions` under just that name, unless `sskai.deploy` is
false.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from services.gateway import finetune_view, finetunes
from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.resolving import find_model
from services.gateway.api.submitting import cancel, submit
from services.gateway.api.world import (
    After,
    Here,
    Id,
    IdempotencyKey,
    Limit,
    World,
    key_reused,
    not_found,
    page,
    respond,
    unprocessable,
)
from services.gateway.finetune_store import FineTunes
from services.gateway.finetune_view import CHECKPOINT_PREFIX, EVENT_PREFIX, EVENT_TYPES
from services.gateway.finetunes import FineTuneForm
from services.gateway.jobfile import JobFileError
from services.gateway.keys import Principal
from services.gateway.store import Store
from services.gateway.tables import FineTuneRow, JobRow
from services.gateway.values import Dataset
from sskai.contract import new_id
from sskai.http import Problem

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["OpenAI: fine-tuning"])

_METADATA = re.compile(r"metadata\[(.{1,64})\]")


@router.post("")
async def create_job(
    form: FineTuneForm, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Fine-tune `model` on `training_file`. What is wrong with the request is said now."""
    now = here.now()
    rate: dict[str, str] = {}
    try:
        finetunes.require_supported(form)
        async with here.database.transaction() as session:
            store = Store(session)

            async def make() -> Answer:
                nonlocal rate
                tune, job, rate = await _submit(form, here, caller, store)
                return Answer(200, finetune_view.shown(tune, job, None))

            digested = digest("POST /v1/fine_tuning/jobs", await request.body())
            answer = await once(session, caller.tenant_id, idempotency_key, digested, make, now=now)
    except JobFileError as error:
        raise unprocessable("The job cannot be accepted", error) from error
    except KeyReusedError as error:
        raise key_reused(error) from error
    response = respond(answer)
    response.headers.update(rate)
    return response


@router.get("")
async def list_jobs(
    request: Request,
    here: Here,
    caller: Caller,
    *,
    after: After = None,
    limit: Limit = 20,
    metadata: Annotated[str | None, Query(max_length=4, description="Or `metadata[key]=value`")] = None,
) -> dict[str, Any]:
    """The tenant's fine-tuning jobs, newest first; those with some metadata by `metadata[key]=value`."""
    named = ((_METADATA.fullmatch(key), value) for key, value in request.query_params.items())
    wanted = {match[1]: value for match, value in named if match}
    if any("\0" in text for one in wanted.items() for text in one):
        return page([], limit)  # no metadata has such a character
    async with here.database.transaction() as session:
        found = await FineTunes(session).newest(
            caller.tenant_id, after, limit + 1, metadata=wanted, without_metadata=metadata == "null"
        )
        models = await Store(session).library.models_of_jobs(caller.tenant_id, [job.job_id for _, job in found])
    return page([finetune_view.shown(tune, job, models.get(job.job_id)) for tune, job in found], limit)


@router.get("/{job_id}")
async def get_job(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One job."""
    return await _shown(here, caller, job_id)


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Ask for the job's end: its status is `cancelled` once what runs has stopped."""
    await _find(here, caller, job_id)
    await cancel(here, caller, job_id)
    return await _shown(here, caller, job_id)


@router.post("/{job_id}/pause")
async def pause_job(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Not possible; the answer says what is."""
    await _find(here, caller, job_id)
    detail = (
        "A job cannot be paused: cancel it, or let it go on. It saves checkpoints and survives interruptions itself"
    )
    raise Problem(422, "Not supported", detail)


@router.post("/{job_id}/resume")
async def resume_job(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Not possible; the answer says what is."""
    await _find(here, caller, job_id)
    detail = (
        "A job cannot be resumed by hand: after an interruption it goes on by itself; one that has ended is made anew"
    )
    raise Problem(422, "Not supported", detail)


@router.get("/{job_id}/events")
async def list_events(job_id: Id, here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """What happened to the job, newest first, as long as the event log is kept."""
    await _find(here, caller, job_id)
    before = _position(after)
    async with here.database.transaction() as session:
        rows = await FineTunes(session).log(caller.tenant_id, job_id, before, EVENT_TYPES, limit + 1)
    return page([finetune_view.event(row) for row in rows], limit)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: Id, here: Here, caller: Caller, after: After = None, limit: Limit = 10
) -> dict[str, Any]:
    """The newest 20 checkpoints, newest first: what the job goes on from when its machine is taken."""
    _tune, job = await _find(here, caller, job_id)
    found = finetune_view.checkpoints(job)
    if after is not None:
        step = after.removeprefix(f"{CHECKPOINT_PREFIX}{job_id}_")
        found = [one for one in found if step.isdecimal() and one["step_number"] < int(step)]
    return page(found[: limit + 1], limit)


async def _submit(
    form: FineTuneForm, here: World, caller: Principal, store: Store
) -> tuple[FineTuneRow, JobRow, dict[str, str]]:
    """Raises JobFileError in the request's words."""
    try:
        model = await find_model(form.model, here, caller, store.library, field="model")
        dataset = await store.library.dataset(caller.tenant_id, form.training_file, keep=True)
    except JobFileError as error:
        raise finetunes.in_openais_words(error) from error
    if dataset is None:
        raise JobFileError("training_file", f"{form.training_file!r} is no file: GET /v1/files lists yours")
    method = finetunes.method_of(form, dataset)
    name = finetunes.name_of(form, new_id("ft")[-8:].lower())
    try:
        job, rate = await submit(finetunes.job_file(form, name, model, dataset), here, caller, store, here.now())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise finetunes.in_openais_words(JobFileError(field, first["msg"])) from error
    except JobFileError as error:
        raise finetunes.in_openais_words(error) from error
    tune = FineTuneRow(
        job_id=job.job_id, tenant_id=caller.tenant_id, request=_asked(form, method, dataset), deploy=form.sskai.deploy
    )
    store.session.add(tune)
    await store.session.flush()
    return tune, job, rate


def _asked(form: FineTuneForm, method: str, dataset: Dataset) -> dict[str, Any]:
    return {
        "model": form.model,
        "training_file": dataset.dataset_id,
        "method": method,
        "hyperparameters": finetunes.wishes(form).model_dump(),
        "suffix": form.suffix,
        "metadata": form.metadata,
    }


async def _shown(here: World, caller: Principal, job_id: str) -> dict[str, Any]:
    tune, job = await _find(here, caller, job_id)
    async with here.database.transaction() as session:
        models = await Store(session).library.models_of_jobs(caller.tenant_id, [job_id])
    return finetune_view.shown(tune, job, models.get(job_id))


async def _find(here: World, caller: Principal, job_id: str) -> tuple[FineTuneRow, JobRow]:
    async with here.database.transaction() as session:
        found = await FineTunes(session).get(caller.tenant_id, job_id)
    if found is None:
        raise not_found("fine-tuning job", job_id)
    return found


def _position(after: str | None) -> int | None:
    if after is None:
        return None
    number = after.removeprefix(EVENT_PREFIX)
    if not number.isdecimal() or len(number) > 18:
        raise Problem(422, "No such page", f"after: {after!r} is no event", field="after")
    return int(number)
