"""From a job file to the specification that the other services work from: names become what they mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from services.gateway import endpointfile, jobspec
from services.gateway.api.world import World, not_found
from services.gateway.endpointfile import EndpointFile, ServedModelForm
from services.gateway.endpoints import EndpointState
from services.gateway.jobfile import JobFile, JobFileError, ModelForm
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.store import Store
from services.gateway.tables import EndpointRow
from services.gateway.values import IMAGE_CLASSIFICATION, TEXT_TO_IMAGE, Dataset, Model
from sskai.events import v1 as events
from sskai.http import Problem

# Tasks whose answers no plan counts in tokens, in words.
WITHOUT_TOKENS = {IMAGE_CLASSIFICATION: "an image classifier", TEXT_TO_IMAGE: "of a pipeline"}

BaseIsRunning: TypeAlias = Callable[[str, str], Awaitable[bool]]  # of a tenant, by the base's id


async def resolve(job: JobFile, here: World, caller: Principal, library: Library, *, to_run: bool) -> events.JobSpec:
    """The job's specification. A dry run may speak of weights that are not here. Raises JobFileError."""
    field, reference = _model_reference(job.model)
    model = await find_model(reference, here, caller, library, field=field, keep=to_run)
    weights_uri = ""
    if code := await code_of(model, here, caller, library):
        model, weights_uri = code, model.artifact_uri
    if to_run:
        jobspec.require_trainable(job)
        if model.origin != "code":
            require_weights(model, here, field)
    dataset: Dataset | None = None
    champion: Model | None = None
    is_taken = False
    if job.dataset is None:
        if to_run:
            champion, is_taken = await library.champion(caller.tenant_id, job.name)
    else:
        if to_run:
            dataset, (champion, is_taken) = await library.to_train(caller.tenant_id, job.dataset.uri, job.name)
        else:
            dataset = await library.dataset(caller.tenant_id, job.dataset.uri)
        if dataset is None:
            raise JobFileError("dataset.uri", f"{job.dataset.uri!r} is no dataset: GET /v1/datasets lists yours")
    spec = jobspec.to_spec(job, model, dataset, here.now(), weights_uri=weights_uri)
    if not to_run:
        return spec
    spec = jobspec.trainable_spec(spec)
    if is_taken:
        raise JobFileError("name", f"{spec.name!r} is a model that was uploaded: choose another name")
    # The version that the result will be measured against.
    jobspec.set_champion(spec, champion)
    return spec


async def resolve_endpoint(
    file: EndpointFile, here: World, caller: Principal, library: Library, *, base_is_running: BaseIsRunning
) -> events.EndpointSpec:
    """The specification of an endpoint that is to be planned; its weights need not be here. Raises JobFileError."""
    field, reference = _model_reference(file.model)
    model = await find_model(reference, here, caller, library, field=field)
    await require_servable(model, here, caller, library, field, planned=True)
    base = model
    if model.artifact_uri:
        base = await find_model(model.base_model_id, here, caller, library, field=field)
    running = await base_is_running(caller.tenant_id, base.base_model_id)
    return endpointfile.to_spec(file, model, base, base_is_running=running)


async def find_model(
    reference: str, here: World, caller: Principal, library: Library, *, field: str, keep: bool = False
) -> Model:
    """What the user named; `keep`: it cannot be deleted until the transaction ends. Raises JobFileError."""
    model = await library.model(caller.tenant_id, reference, here.catalogue, keep=keep)
    if model is None:
        raise JobFileError(field, f"{reference!r} is no model: GET /v1/models lists those that there are")
    return model


async def code_of(model: Model, here: World, caller: Principal, library: Library) -> Model | None:
    """The model as code that a trained version came from; None: it is no such version."""
    if not model.artifact_uri:
        return None
    base = await library.model(caller.tenant_id, model.base_model_id, here.catalogue)
    return base if base is not None and base.origin == "code" else None


async def require_servable(
    model: Model, here: World, caller: Principal, library: Library, field: str, *, planned: bool
) -> None:
    """Raises JobFileError for a model as code that was not trained. `planned`: with replicas, of which each is planned
    by the tokens that it answers."""
    base: Model | None = model
    if model.artifact_uri:
        base = await library.model(caller.tenant_id, model.base_model_id, here.catalogue)
    if base is None:
        return
    if base.origin == "code" and not model.artifact_uri:
        raise JobFileError(field, f"{model.id} is code: train it, and serve the version that comes of it")
    what = "code" if base.origin == "code" else WITHOUT_TOKENS.get(base.task)
    if planned and what:
        raise JobFileError(field, f"{model.id} is {what}: it is served without replicas, as kind adapter or serverless")


def require_weights(model: Model, here: World, field: str) -> None:
    """Raises JobFileError if the model is known by its facts alone."""
    if not model.available:
        raise JobFileError(
            field,
            f"{model.model_id!r} has no weights here: put {model.hub_id} into the folder "
            f"{here.settings.models_dir / model.model_id}, or choose a model that is available",
        )


def _model_reference(form: ModelForm | ServedModelForm) -> tuple[str, str]:
    if form.base and form.artifact:
        raise JobFileError("model", "has both base and artifact: keep one of them")
    if form.base:
        return "model.base", form.base
    if form.artifact:
        return "model.artifact", form.artifact
    raise JobFileError("model.base", "is missing: GET /v1/models lists the models that there are")


async def find_endpoint(store: Store, caller: Principal, endpoint: str, *, living: bool = False) -> EndpointRow:
    """By its id or its name. `living`: one that can still be changed. Raises Problem."""
    row = await store.endpoint_called(caller.tenant_id, endpoint)
    if row is None:
        raise not_found("endpoint", endpoint)
    if living and row.state in (EndpointState.DELETING, EndpointState.DELETED):
        raise Problem(409, "The endpoint is gone", f"It is {row.state}: make another one")
    return row
