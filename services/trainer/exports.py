"""Beside an adapter, on request: whole weights (`merged/`) and GGUF (`gguf/NAME.gguf`), made on the CPU.

A merge holds the base in its own type in memory; GGUF is written a tensor at a time from safetensors.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from services.trainer.results import ADAPTER, TRANSFORMERS
from sskai.events import v1 as events

MERGED, GGUF = "merged", "gguf"
MAX_SHARD = "4GB"


class NotExportableError(Exception):
    """This model has no such form; the text says why."""


def write(
    folder: Path, kind: str, spec: events.JobSpec, base_folder: Path, wanted: Set[str]
) -> Iterator[tuple[str, str]]:
    """(export, what became of it), one after the other. Raises NotExportableError, OSError, MemoryError."""
    if unknown := wanted - {MERGED, GGUF}:
        for name in sorted(unknown):
            yield name, "not made: only merged and gguf are known"
    if not wanted & {MERGED, GGUF}:
        return
    if kind not in (ADAPTER, TRANSFORMERS):
        raise NotExportableError(f"a result of kind {kind} has neither merged weights nor GGUF")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = folder
        if kind == ADAPTER:
            whole = folder / MERGED if MERGED in wanted else Path(scratch)
            merge(folder, base_folder, whole, labels=list(spec.dataset.labels))
        if MERGED in wanted:
            where = "`merged/`" if kind == ADAPTER else "the result itself, which is whole"
            yield MERGED, f"{where}: a folder of transformers"
        if GGUF in wanted:
            from services.trainer import export_gguf

            name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip("-.") or "model"
            target = folder / GGUF / f"{name}.gguf"
            target.parent.mkdir()
            yield GGUF, f"`gguf/{target.name}`, {export_gguf.write(whole, target, spec.name)}"


def merge(adapter: Path, base_folder: Path, target: Path, *, labels: list[str]) -> None:
    """The base with the adapter in its weights, in the base's own type, with its tokenizer."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    kind = AutoModelForCausalLM
    if labels:
        kind = AutoModelForSequenceClassification
        given |= {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "ignore_mismatched_sizes": True}
        given |= {"label2id": {name: index for index, name in enumerate(labels)}}
    with torch.no_grad():
        base = kind.from_pretrained(base_folder, dtype="auto", **given)
        merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    merged.save_pretrained(target, max_shard_size=MAX_SHARD)
    AutoTokenizer.from_pretrained(base_folder, local_files_only=True).save_pretrained(target)


def config_of(folder: Path) -> dict[str, Any]:
    """A transformers folder's config.json."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config
