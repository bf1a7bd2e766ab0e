"""Writing a result's folder: the weights, what was asked for beside them, the card, the curve, and what it all is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.trainer import comparison, fingerprints, modelcard, results
from services.trainer.interruption import NoticeError
from services.trainer.loading import Loaded
from services.trainer.patience import Source
from services.trainer.results import DECLARATION, OWN_MODEL, Declaration
from services.trainer.settings import PodSettings
from sskai.events import v1 as events

if TYPE_CHECKING:
    from services.trainer.training import Evaluation, Stoppable  # which imports torch: downloads begin before that

log = structlog.get_logger()


def write(
    folder: Path,
    settings: PodSettings,
    spec: events.JobSpec,
    loaded: Loaded,
    bucket: Source,
    *,
    after: Evaluation,
    stoppable: Stoppable,
) -> None:
    """Raises what `stoppable` raises; an export that cannot be made is told in the card and stops nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    loaded.training.task.weights.write(folder)
    kind = results.kind_of({path.name for path in folder.iterdir()})
    declaration = Declaration(
        kind,
        spec.model.method or "lora",
        spec.model.model_id or spec.model.uri,
        spec.dataset.format,
        tuple(spec.dataset.labels),
    )
    if kind != OWN_MODEL:  # which says of itself what its sources were
        (folder / DECLARATION).write_bytes(declaration.to_json())
    compared = _compared(folder, settings, spec=spec, loaded=loaded, bucket=bucket, stoppable=stoppable)
    exported = _export(folder, kind, spec, loaded.base_folder, stoppable)
    running = loaded.running
    told = modelcard.Training(
        steps=loaded.training.step,
        tokens=running.tokens,
        seconds=running.train_seconds,
        losses=tuple(running.losses()),
        eval_loss_before=running.eval_loss_before,
        eval_loss_after=after.loss,
        accuracy_before=running.eval_accuracy_before,
        accuracy_after=after.accuracy,
        data=loaded.data,
        lineage=tuple(running.lineage),
        versions=loaded.versions,
        exports=exported,
        comparison=compared,
        licence=modelcard.licence_of(loaded.base_folder),
    )
    card = modelcard.write(settings.job_id, spec, loaded.training.recipe, told, kind)
    (folder / "README.md").write_text(card)
    (folder / "training_curve.jsonl").write_bytes(running.curve)


def _compared(
    folder: Path, settings: PodSettings, *, spec: events.JobSpec, loaded: Loaded, bucket: Source, stoppable: Stoppable
) -> str:
    """What the card says of the champion. The figures, and what was trained on, lie beside the weights."""
    from services.trainer import comparing

    rows = comparing.rows_of(loaded, spec, folder.parent)
    if rows.trained is not None:
        (folder / comparison.TRAINED_ROWS).write_text(fingerprints.to_text(rows.trained))
    if not settings.trainer_compare_rows:
        return ""
    order = comparing.Order(
        loaded=loaded,
        spec=spec,
        bucket=bucket,
        folder=folder.parent,
        declared=json.loads((folder / DECLARATION).read_text()),
        rows=settings.trainer_compare_rows,
        seconds=settings.trainer_compare_seconds,
        stoppable=stoppable,
    )
    found = comparing.compare(order, rows)
    if isinstance(found, str):
        whom = f"version {spec.champion.version}" if spec.champion.version else "the base"
        return f"Not compared with {whom}: {found}."
    (folder / comparison.EVALUATION).write_bytes(found.to_json())
    return comparison.sentence(found)


def _export(folder: Path, kind: str, spec: events.JobSpec, base_folder: Path, stoppable: Stoppable) -> dict[str, str]:
    """What became of each export that was asked for: a sentence."""
    wanted = set(spec.exports)
    if not wanted:
        return {}
    from services.trainer import exports
    from services.trainer.training import is_out_of_memory

    told: dict[str, str] = {}
    try:
        with stoppable():
            for name, sentence in exports.write(folder, kind, spec, base_folder, wanted):
                told |= {name: sentence}  # what was made before one that cannot be is told as well
    except NoticeError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            error = MemoryError("it does not fit into this machine's memory")
        missing = sorted(wanted - told.keys())
        told |= dict.fromkeys(missing, f"not made: {error}")
        for name in {exports.MERGED, exports.GGUF} & set(missing):
            shutil.rmtree(folder / name, ignore_errors=True)
        if not isinstance(error, exports.NotExportableError | MemoryError):
            log.exception("export failed")
    log.info("exports", **told)
    return told
