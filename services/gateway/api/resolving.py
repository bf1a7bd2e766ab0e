"""From a job file to the specification that the other services work from: names become what they mean."""

from __future__ import annotations

from services.gateway import jobfile
from services.gateway.api.world import World
from services.gateway.jobfile import JobFile, JobFileError
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.values import Model
from sskai.events import v1 as events


async def resolve(job: JobFile, here: World, caller: Principal, library: Library, *, to_run: bool) -> events.JobSpec:
    """The job's specification. A dry run may speak of weights that are not here. Raises JobFileError."""
    field, reference = _model_reference(job)
    model = await find_model(reference, here, caller, library, field=field)
    if to_run:
        if job.model.method == "scratch":
            raise JobFileError("model.method", "scratch can be planned, not run yet: send it to POST /v1/plans")
        require_weights(model, here, field)
        if {"uploaded", "code"} & await library.origins(caller.tenant_id, job.name):
            raise JobFileError("name", f"{job.name!r} is a model that was uploaded: choose another name")
    if job.dataset is None:
        return jobfile.to_spec(job, model, None, here.now())
    dataset = await library.dataset(caller.tenant_id, job.dataset.uri)
    if dataset is None:
        raise JobFileError("dataset.uri", f"{job.dataset.uri!r} is no dataset: GET /v1/datasets lists yours")
    return jobfile.to_spec(job, model, dataset, here.now())


async def find_model(reference: str, here: World, caller: Principal, library: Library, *, field: str) -> Model:
    """What the user named. Raises JobFileError."""
    model = await library.model(caller.tenant_id, reference, here.catalogue)
    if model is None:
        raise JobFileError(field, f"{reference!r} is no model: GET /v1/models lists those that there are")
    return model


def require_weights(model: Model, here: World, field: str) -> None:
    """Raises JobFileError if the model is known by its facts, or by its code, alone."""
    if model.origin == "code":
        raise JobFileError(field, f"{model.id} is code: it has no weights before it was trained")
    if not model.available:
        raise JobFileError(
            field,
            f"{model.model_id!r} has no weights here: put {model.hub_id} into the folder "
            f"{here.settings.models_dir / model.model_id}, or choose a model that is available",
        )


def _model_reference(job: JobFile) -> tuple[str, str]:
    if job.model.base and job.model.artifact:
        raise JobFileError("model", "has both base and artifact: keep one of them")
    if job.model.base:
        return "model.base", job.model.base
    if job.model.artifact:
        return "model.artifact", job.model.artifact
    raise JobFileError("model.base", "is missing: GET /v1/models lists the models that there are")
