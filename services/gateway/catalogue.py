"""The foundation models that everybody may use: facts from `data/models.json`, weights from a folder.

A folder in `SSKAI_MODELS_DIR` that holds a config.json is a model too, under its own name, so that an operator adds one
by putting it there. What the folder says of its architecture wins over the list: it is what will be loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any

from services.gateway.values import Model

DATA = Path(__file__).parent / "data" / "models.json"
LISTED_AT = datetime(2026, 11, 24, tzinfo=UTC)  # when the list was checked; parameters were counted from its configs


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`listed`: entries of the list by id. `read`: configurations from the disk, and the files' state at that time."""

    listed: dict[str, dict[str, Any]]
    models_dir: Path
    read: dict[str, tuple[tuple[int, int, int], str]] = field(default_factory=dict)

    @classmethod
    def load(cls, models_dir: Path) -> Catalogue:
        return cls({entry["id"]: entry for entry in json.loads(DATA.read_text())}, models_dir)

    def models(self) -> list[Model]:
        """All of them, by id."""
        found = (self.find(name) for name in sorted({*self.listed, *self._folders()}))
        return [model for model in found if model]

    def find(self, model_id: str) -> Model | None:
        """The model of this id. Looks at the disk: weights may be added while the gateway runs."""
        entry = self.listed.get(model_id)
        if entry is None and (model_id in ("", "..") or model_id != Path(model_id).name):
            return None  # it lies elsewhere
        config = self._config(model_id)
        if entry is None and config is None:
            return None
        facts = entry or {}
        return Model(
            model_id=model_id,
            name=model_id,
            version=0,
            origin="builtin",
            base_model_id=model_id,
            base_uri=f"builtin://{model_id}",
            artifact_uri="",
            config_json=_compact(facts["config"]) if config is None else config,
            available=config is not None,
            created_at=LISTED_AT,
            parameters=facts.get("parameters", 0),
            licence=facts.get("licence", ""),
            hub_id=facts.get("hub_id", ""),
        )

    def _config(self, model_id: str) -> str | None:
        """What the model's folder says of it, read again when the file is another; None: it has none."""
        path = self.models_dir / model_id / "config.json"
        try:
            found = path.stat()
        except OSError:
            found = None
        if found is None or not S_ISREG(found.st_mode):
            self.read.pop(model_id, None)
            return None
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        known = self.read.get(model_id)
        if known is None or known[0] != state:
            known = self.read[model_id] = state, _compact(json.loads(path.read_text()))
        return known[1]

    def _folders(self) -> set[str]:
        if not self.models_dir.is_dir():
            return set()
        return {folder.name for folder in self.models_dir.iterdir() if (folder / "config.json").is_file()}


def _compact(config: Any) -> str:
    return json.dumps(config, separators=(",", ":"), sort_keys=True)
