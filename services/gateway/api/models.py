"""`/v1/models`: foundation models, trained versions, and models of one's own; the list has OpenAI's shape."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway import pipelines, usercode
from services.gateway.aliases import Aliases
from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.etags import NOT_MODIFIED, Conditions, IfMatch, require_match, tagged
from services.gateway.api.world import After, Here, Id, IdempotencyKey, World, key_reused, not_found, page, respond
from services.gateway.deleting import Deleting, InUseError, purge
from services.gateway.jobfile import Form, Name
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.plain import iso
from services.gateway.usercode import Code
from services.gateway.values import Checked, Model
from services.gateway.weights import RefusedError, check_file, check_names, read_config, read_document
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/models", tags=["models"])

MAX_FILES = 64
MAX_LISTED = 1_000
ABANDONED_SECONDS = 86_400.0  # far longer than it takes to store what has been received
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "code": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}


@router.get("")
async def list_models(
    here: Here,
    caller: Caller,
    *,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    after: After = None,
    name: Name | None = None,
    origin: Literal["builtin", "trained", "uploaded", "code"] | None = None,
) -> dict[str, Any]:
    """The tenant's own, newest first, then the foundation models; pages only beyond `limit`."""
    own: list[Model] = []
    async with here.database.transaction() as session:
        library = Library(session)
        last = await library.model(caller.tenant_id, after, here.catalogue) if after is not None else None
        if after is not None and last is None:
            raise not_found("model", after)
        if origin != "builtin" and (last is None or last.origin != "builtin"):
            own = await library.models(caller.tenant_id, limit + 1, after=last, name=name, origin=origin)
    everybodys: list[Model] = []
    if origin in (None, "builtin"):
        passed = last.id if last is not None and last.origin == "builtin" else ""
        found = await asyncio.to_thread(here.catalogue.models)
        everybodys = [one for one in found if one.id > passed and name in (None, one.name)]
    return page([shown(model) for model in (*own, *everybodys)], limit)


@router.get("/{model_id}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_model(model_id: Id, here: Here, caller: Caller, conditions: Conditions) -> Response:
    """One model, by id, `NAME@VERSION` or `NAME` (its newest version)."""
    return tagged(shown(await _find(here, caller, model_id)), conditions)


@router.delete("/{model_id}")
async def delete_model(model_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Delete a version of one's own, as `NAME@VERSION`, with the endpoint that was made for it alone; 409 while
    something else uses it. Its number is not given again."""
    model = await _find(here, caller, model_id)
    if model.origin == "builtin":
        raise Problem(403, "The model is everybody's", f"{model.id} is a foundation model: it stays")
    if model_id != model.id:
        detail = f"say which version, such as {model.id}"
        raise Problem(422, "Which version?", detail, field="model_id")
    try:
        async with here.database.transaction() as session:
            deleting = Deleting(session, here.objects, caller.tenant_id, here.now())
            await tell(session, *await deleting.model(model))
    except InUseError as error:
        raise Problem(409, "The model is in use", f"By {error}: wait for it, or take it away first") from error
    return {"id": model.id, "object": "model", "deleted": True}


async def _find(here: World, caller: Principal, reference: str) -> Model:
    async with here.database.transaction() as session:
        model = await Library(session).model(caller.tenant_id, reference, here.catalogue)
    if model is None:
        raise not_found("model", reference)
    return model


class AliasForm(Form):
    version: Annotated[int, Field(ge=1, le=1_000_000_000)]


@router.get("/{name}/aliases")
async def list_aliases(name: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """What `NAME@champion` and `NAME@challenger` mean now."""
    async with here.database.transaction() as session:
        if await Library(session).model(caller.tenant_id, name, here.catalogue) is None:
            raise not_found("model", name)
        rows = await Aliases(session).of(caller.tenant_id, name)
    return {"object": "list", "data": [_alias(row.name, row.alias, row.version) for row in rows]}


@router.get("/{name}/aliases/{alias}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_alias(
    name: Id, alias: Literal["champion", "challenger"], here: Here, caller: Caller, conditions: Conditions
) -> Response:
    """Which version one of them means."""
    async with here.database.transaction() as session:
        rows = await Aliases(session).of(caller.tenant_id, name)
    row = next((one for one in rows if one.alias == alias), None)
    if row is None:
        raise not_found("alias", f"{name}@{alias}")
    return tagged(_alias(row.name, row.alias, row.version), conditions)


@router.put("/{name}/aliases/{alias}", response_model=dict[str, Any])
async def move_alias(
    name: Id,
    alias: Literal["champion", "challenger"],
    form: AliasForm,
    *,
    here: Here,
    caller: Caller,
    if_match: IfMatch,
) -> Response:
    """Move an alias to a version. Endpoints stay what they are: `PATCH /v1/endpoints/ID` changes those."""
    async with here.database.transaction() as session:
        library = Library(session)
        model = await library.model(caller.tenant_id, f"{name}@{form.version}", here.catalogue, keep=True)
        if model is None:
            raise not_found("model", f"{name}@{form.version}")
        aliases = Aliases(session)
        await aliases.lock(caller.tenant_id, model.name)
        before = next((one.version for one in await aliases.of(caller.tenant_id, name) if one.alias == alias), None)
        require_match(if_match, _alias(model.name, alias, before) if before else None)
        await aliases.move(caller.tenant_id, model.name, alias, (model.model_id, model.version), at=here.now())
        event = events.ModelPromoted(
            model_id=model.model_id,
            tenant_id=caller.tenant_id,
            version=model.version,
            alias=alias,
            previous_version=before or 0,
            promoted_at=timestamp(here.now()),
        )
        await tell(session, event)
    return tagged(_alias(model.name, alias, model.version), [])


def _alias(name: str, alias: str, version: int | None) -> dict[str, Any]:
    return {"object": "model.alias", "model": name, "alias": alias, "version": version, "id": f"{name}@{alias}"}


@router.post("", status_code=201, openapi_extra=_UPLOAD)
async def upload_model(
    request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """A model of one's own: `files` as `save_pretrained()` writes them (config.json, the tokenizer's files and
    *.safetensors; of a diffusers pipeline model_index.json and files named as `unet/config.json`), or `code`, a zip
    with model.py and data.py.

    Every file is checked by its content before one is kept; a pickle is refused whatever its name says. Nothing is run.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Problem(415, "Unsupported media type", "Send multipart/form-data with `name` and `files` or `code`")
    try:
        async with request.form(max_files=MAX_FILES, max_fields=4) as form:
            name = _named(form.get("name"))
            files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
            if isinstance(code := form.get("code"), UploadFile):
                if files:
                    raise Problem(422, "Two models", "Send files or code, not both", field="code")
                found = await asyncio.to_thread(usercode.check, code.file)
                return respond(await _keep_code(here, caller, name, code, found, idempotency_key=idempotency_key))
            checked = await asyncio.to_thread(_check, files)
            return respond(await _keep(here, caller, name, files, checked, idempotency_key=idempotency_key))
    except RefusedError as error:
        raise Problem(422, "The model was refused", str(error), file=error.file, reason=error.reason) from error
    except ClientDisconnect as error:
        raise Problem(400, "The upload broke off", "Send it again") from error
    except KeyReusedError as error:
        raise key_reused(error) from error


def shown(model: Model) -> dict[str, Any]:
    """OpenAI's four fields first, then ours. `parent`: what an adapter stands on."""
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": "sskai" if model.origin == "builtin" else "tenant",
        "model_id": model.model_id,
        "name": model.name,
        "version": model.version,
        "origin": model.origin,
        "parent": model.base_model_id if model.artifact_uri else None,
        "method": model.method or None,
        "available": model.available,
        "task": model.task or None,
        "parameters": model.parameters or None,
        "context_tokens": model.context_tokens,
        "bytes": model.bytes or None,
        "licence": model.licence or None,
        "hub_id": model.hub_id or None,
        "job_id": model.job_id or None,
        "dataset_uri": model.dataset_uri or None,
        "artifact_uri": model.artifact_uri or None,
        "eval_loss_before": model.eval_loss_before,
        "eval_loss_after": model.eval_loss_after,
        "created_at": iso(model.created_at),
    }


def _named(name: object) -> str:
    try:
        return _NAME.validate_python(name, strict=True)
    except ValidationError as error:
        detail = "name: give the model a name of a-z, 0-9, '.', '_' and '-', at most 63 characters"
        raise Problem(422, "The name is not valid", detail, field="name") from error


def _check(files: list[UploadFile]) -> Checked:
    """What a set of files that is a model says of it. Raises RefusedError."""
    by_name = {file.filename or "": file for file in files}
    if len(by_name) < len(files):
        raise RefusedError("files", "a file was sent twice")
    pipeline = pipelines.INDEX in by_name
    (pipelines.check_names if pipeline else check_names)(list(by_name))
    parameters = sum(check_file(name, file.file, file.size or 0) for name, file in by_name.items())

    def read(name: str) -> dict[str, Any]:
        return read_document(name, by_name[name].file, by_name[name].size or 0)

    config = by_name.get("config.json")
    config_json = pipelines.read_config(read) if config is None else read_config(config.file, config.size or 0)
    return Checked(config_json, parameters, sum(file.size or 0 for file in files))


def _store(here: World, model_id: str, files: list[UploadFile]) -> None:
    for file in files:
        file.file.seek(0)
        pieces = iter(lambda: file.file.read(1024 * 1024), b"")  # noqa: B023 (used up before the next turn)
        here.objects.put_stream(f"models/{model_id}/{file.filename}", pieces)


async def _keep(
    here: World,
    caller: Principal,
    name: str,
    files: list[UploadFile],
    checked: Checked,
    *,
    idempotency_key: str | None,
) -> Answer:
    await _require_free(here, caller, name, besides="uploaded")
    model_id = new_id("model")
    async with here.database.transaction() as session:
        # Files of an upload that breaks off are nobody's, and go.
        key = f"models/{model_id}/"
        await purge(session, key, caller.tenant_id, here.now(), in_seconds=ABANDONED_SECONDS)
    await asyncio.to_thread(_store, here, model_id, files)
    async with here.database.transaction() as session:

        async def make() -> Answer:
            model = await Library(session).add_uploaded_model(
                caller.tenant_id,
                name,
                here.now(),
                model_id=model_id,
                uri=here.objects.uri(f"models/{model_id}"),
                checked=checked,
            )
            return Answer(201, shown(model))

        names = sorted(f"{file.filename} {file.size}" for file in files)
        request = digest("POST /v1/models", "\n".join([name, checked.config_json, *names]).encode())
        answer = await once(session, caller.tenant_id, idempotency_key, request, make, now=here.now())
    if answer.replayed:
        await asyncio.to_thread(here.objects.delete, f"models/{model_id}/")
    return answer


async def _keep_code(
    here: World, caller: Principal, name: str, file: UploadFile, code: Code, *, idempotency_key: str | None
) -> Answer:
    await _require_free(here, caller, name, besides="code")
    # Named by its content, and written before the row that makes it visible.
    key = f"tenants/{caller.tenant_id}/code/{code.sha256}.zip"
    await asyncio.to_thread(_store_code, here, key, file)
    async with here.database.transaction() as session:

        async def make() -> Answer:
            model, new = await Library(session).add_code_model(
                caller.tenant_id, name, here.now(), here.objects.uri(key)
            )
            return Answer(201 if new else 200, {**shown(model), "requirements": list(code.requirements)})

        request = digest("POST /v1/models", f"{name} {code.sha256}".encode())
        return await once(session, caller.tenant_id, idempotency_key, request, make, now=here.now())


def _store_code(here: World, key: str, file: UploadFile) -> None:
    file.file.seek(0)
    here.objects.put_stream(key, iter(lambda: file.file.read(1024 * 1024), b""))


async def _require_free(here: World, caller: Principal, name: str, *, besides: str) -> None:
    """A name means models of one kind. Raises Problem."""
    async with here.database.transaction() as session:
        origins = await Library(session).origins(caller.tenant_id, name)
    if here.catalogue.find(name) or origins - {besides}:
        raise Problem(409, "The name is taken", f"{name!r} is another kind of model already: choose another name")
