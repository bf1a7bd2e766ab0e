"""From a job's specification to a training: a transformers model, pictures, or a model as code.

Each kind fetches and loads what it can before anybody knows where the job goes on; then its `Settle` takes the recipe
that a checkpoint holds (None: the job begins) and the workers that share it, and gives the training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import structlog

from services.trainer import credentials, datasets, domain, encoding, inputs, members, packing, usersource
from services.trainer.domain import Recipe
from services.trainer.interruption import Interruption
from services.trainer.patience import Source
from services.trainer.settings import PodSettings
from sskai.events import v1 as events
from sskai.importing import without_garbage_collection

log = structlog.get_logger()

if TYPE_CHECKING:
    from services.trainer import finetune
    from services.trainer.training import Task, Training
    from services.trainer.workers import Workers


@dataclass(frozen=True)
class Order:
    """The job, and what is at hand for it on this machine."""

    settings: PodSettings
    spec: events.JobSpec
    bucket: Source
    pool: ThreadPoolExecutor
    interruption: Interruption
    folder: Path


@dataclass(frozen=True)
class Ready:
    """A training at its first step, what its data turned out to be, the libraries, and the folder it all began with."""

    training: Training
    data: Mapping[str, int]
    versions: Mapping[str, str]
    base_folder: Path


Settle: TypeAlias = "Callable[[Recipe | None, Workers], Ready]"


def prepare(order: Order) -> Settle:
    """Raises NoticeError, FencedError, TrainingFailedError, ObjectsUnavailableError."""
    if order.spec.model.code_uri:
        return _own_model(order)
    of_pictures = {domain.TEXT_TO_IMAGE: _described_pictures, domain.IMAGE_CLASSIFICATION: _pictures_in_classes}
    return of_pictures.get(order.spec.dataset.format, _transformers_model)(order)


def _fetching(order: Order) -> tuple[Future[Path], Future[Path]]:
    """The dataset and the base model, on their way to this machine while libraries are imported."""
    spec = order.spec
    models_dir = order.settings.models_dir
    return (
        order.pool.submit(inputs.dataset_file, spec.dataset, order.bucket, order.folder),
        order.pool.submit(inputs.model_folder, spec.model, models_dir, order.bucket, order.folder),
    )


def _transformers_model(order: Order) -> Settle:
    """A transformers folder, and a dataset of texts."""
    spec, settings = order.spec, order.settings
    fetching_data, fetching_model = _fetching(order)
    with without_garbage_collection(), _without_scipy():
        from services.trainer import device, finetune
        from services.trainer.training import Training

        order.interruption.check()
        base = finetune.load_base(
            fetching_model.result(),
            device.device_of_this_machine(),
            method=spec.model.method,
            labels=spec.dataset.labels,
            seed=spec.hyperparameters.seed,
            place=members.alone(),
        )
    order.interruption.check()
    with fetching_data.result().open("rb") as lines:
        rows = encoding.encode(lines, spec.dataset.format, base.tokenizer, labels=spec.dataset.labels)

    def settle(saved: Recipe | None, group: Workers) -> Ready:
        recipe, report, chosen, held_out = _settled(order, rows, base, saved)
        task = _task(base, spec, recipe, chosen, held_out)
        _place(task.model, base, settings.planned(), group)
        return Ready(Training(task, recipe, base.device, group), report.to_json(), finetune.versions(), base.folder)

    return settle


def _place(model: Any, base: finetune.Base, plan: domain.Plan, group: Workers) -> None:
    """Of several workers: each holds a part of the model, or the whole of it on its GPU."""
    import torch

    from services.trainer import sharding

    memory = torch.cuda.mem_get_info(base.device)[1] if base.device.type == "cuda" else 0
    weights = list(model.parameters())
    if domain.must_shard(
        plan,
        workers=group.size,
        weight_bytes=sum(each.nbytes for each in weights),
        learnt=sum(each.numel() for each in weights if each.requires_grad),
        memory_bytes=memory,
    ):
        sharding.shard(model, base.device, group)
        log.info("the model is in parts", workers=group.size)
    elif group.size > 1:
        model.to(base.device)


def _task(
    base: finetune.Base, spec: events.JobSpec, recipe: Recipe, chosen: Sequence[Any], held_out: Sequence[Any]
) -> Task:
    from services.trainer import finetune

    kinds: dict[str, Any] = {
        domain.CLASSIFICATION: finetune.Classifier,
        domain.PREFERENCE: finetune.Preferences,
    }
    task: Task = kinds.get(spec.dataset.format, finetune.LanguageModel)(
        base, recipe, spec.model.model_id or spec.model.uri, chosen, held_out
    )
    return task


def _settled(
    order: Order, rows: Sequence[datasets.AnyRow], base: finetune.Base, saved: Recipe | None
) -> tuple[Recipe, datasets.Report, Sequence[Any], Sequence[Any]]:
    """The recipe, what the data is at its length, what is trained on (packed if the recipe says so), and the rest."""
    from services.trainer import finetune
    from services.trainer.device import precision

    spec, plan = order.spec, order.settings.planned()
    length = domain.sequence_length(
        spec,
        plan,
        longest_row_tokens=datasets.longest(rows),
        context_tokens=getattr(base.model.config, "max_position_embeddings", 0) or 0,
    )
    data = datasets.cut(rows, saved.sequence_length if saved else length)

    def resolve(sequences: int) -> Recipe:
        recipe = domain.resolve(
            spec,
            plan,
            rows=len(data.rows),
            sequences=sequences,
            sequence_length=length,
            parameters=base.model.num_parameters(),
            dropout=order.settings.lora_dropout,
            precision=precision(base.device, spec.model.method),
        )
        return domain.resumed(saved, recipe) if saved else recipe

    recipe = resolve(sequences=0)
    chosen, held_out = (datasets.Selected(data.rows, part) for part in domain.split(len(data.rows), recipe))
    if not recipe.packing:
        return recipe, data.report, chosen, held_out
    finetune.require_parts_apart(base)
    packed = packing.Packed(cast("Sequence[datasets.Row]", chosen), recipe.sequence_length)
    return resolve(sequences=len(packed)), replace(data.report, sequences=len(packed)), packed, held_out


def _described_pictures(order: Order) -> Settle:
    """A folder of diffusers, and a zip of pictures with their texts."""
    spec = order.spec
    fetching_data, fetching_model = _fetching(order)
    with without_garbage_collection():
        from services.trainer import device, diffusion, finetune, pictures
        from services.trainer.training import Training

        order.interruption.check()
        base = diffusion.load_base(fetching_model.result(), device.device_of_this_machine(), method=spec.model.method)
    order.interruption.check()
    rows = pictures.described(fetching_data.result(), order.folder / "pictures")

    def settle(saved: Recipe | None, group: Workers) -> Ready:
        recipe = _recipe_of_pictures(order, len(rows), base, saved, device.precision(base.device, spec.model.method))
        chosen, held_out = (datasets.Selected(rows, part) for part in domain.split(len(rows), recipe))
        task = diffusion.TextToImage(base, recipe, chosen, held_out)
        versions = finetune.versions() | diffusion.versions()
        return Ready(Training(task, recipe, base.device, group), {"pictures": len(rows)}, versions, base.folder)

    return settle


def _pictures_in_classes(order: Order) -> Settle:
    """A transformers folder, and a zip with a folder of pictures for each class."""
    spec = order.spec
    fetching_data, fetching_model = _fetching(order)
    with without_garbage_collection(), _without_scipy():
        from services.trainer import device, finetune, images, pictures
        from services.trainer.training import Training

        order.interruption.check()
        base = images.load_base(
            fetching_model.result(),
            device.device_of_this_machine(),
            method=spec.model.method,
            labels=spec.dataset.labels,
            seed=spec.hyperparameters.seed,
        )
    order.interruption.check()
    rows = pictures.in_classes(fetching_data.result(), order.folder / "pictures", spec.dataset.labels)

    def settle(saved: Recipe | None, group: Workers) -> Ready:
        recipe = _recipe_of_pictures(order, len(rows), base, saved, device.precision(base.device, "full"))
        chosen, held_out = (datasets.Selected(rows, part) for part in domain.split(len(rows), recipe))
        task = images.ImageClassifier(base, recipe, spec.model.model_id or spec.model.uri, chosen, held_out)
        versions = finetune.versions() | images.versions()
        return Ready(Training(task, recipe, base.device, group), {"pictures": len(rows)}, versions, base.folder)

    return settle


def _recipe_of_pictures(order: Order, rows: int, base: finetune.Base, saved: Recipe | None, computed_in: str) -> Recipe:
    planned = domain.resolve(
        order.spec,
        order.settings.planned(),
        rows=rows,
        sequence_length=1,
        parameters=base.model.num_parameters(),
        dropout=order.settings.lora_dropout,
        precision=computed_in,
    )
    return domain.resumed(saved, planned) if saved else planned


def _own_model(order: Order) -> Settle:
    """A model as code, checked, with its data."""
    spec, settings = order.spec, order.settings

    def ready() -> usersource.Source:
        source = usersource.fetch(spec.model, order.bucket, order.folder)
        usersource.install(source, allowed=settings.trainer_install_requirements)
        if settings.previous is None or settings.previous.step == 0:
            usersource.check(source)  # else an earlier attempt has trained it
        return source

    making_ready = order.pool.submit(ready)
    with without_garbage_collection():
        import torch

        from services.trainer import device, usercode
        from services.trainer.training import Training
    source = making_ready.result()
    order.interruption.check()
    here = device.device_of_this_machine()
    credentials.scrub(given=[*spec.secrets, *spec.env])
    own = usercode.build(source, spec.hyperparameters.seed, here)
    order.interruption.check()

    def settle(saved: Recipe | None, group: Workers) -> Ready:
        if here.type == "cuda":
            # Of the user's operators some have no deterministic kind on GPUs: that is told, and stops nothing.
            torch.use_deterministic_algorithms(True, warn_only=True)
        planned = usercode.recipe(spec, settings.planned(), own, here)
        recipe = domain.resumed(saved, planned) if saved else planned
        task = usercode.OwnModel(own, recipe, here, source.code, spec.model.code_uri)
        return Ready(Training(task, recipe, here, group), {}, usercode.versions(), source.code)

    return settle


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Where scipy is installed (a user's model may want it) transformers imports it for the losses of detectors: a
    second of each start that no model here has a use for."""
    hidden = "scipy" not in sys.modules
    if hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]  # what importing reads as "is not there"
    try:
        yield
    finally:
        if hidden:
            del sys.modules["scipy"]
