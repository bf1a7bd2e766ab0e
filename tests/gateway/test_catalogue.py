"""Models of a folder: what their files say now, and nothing from outside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from services.gateway.catalogue import Catalogue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    write(tmp_path / "models" / "tiny", layers=2)
    return tmp_path / "models"


def write(model: Path, **config: object) -> None:
    (model / "config.json").write_text(json.dumps(config))


def test_a_changed_file_is_read_again_and_a_removed_one_is_no_model(folder: Path) -> None:
    catalogue = Catalogue({}, folder)
    found = [catalogue.find("tiny") for _ in range(2)]
    assert [model.config_json for model in found if model] == ['{"layers":2}'] * 2
    write(folder / "tiny", layers=3)
    os.utime(folder / "tiny" / "config.json", ns=(1, 1))
    changed = catalogue.find("tiny")
    assert changed is not None
    assert changed.config_json == '{"layers":3}'
    (folder / "tiny" / "config.json").unlink()
    assert catalogue.find("tiny") is None
    assert catalogue.read == {}


@pytest.mark.parametrize("elsewhere", ["..", ".", "", "../models/tiny", "tiny/.", "tiny/../tiny"])
def test_what_lies_elsewhere_is_no_model(folder: Path, elsewhere: str) -> None:
    write(folder.parent, layers=9)
    write(folder, layers=9)
    assert Catalogue({}, folder).find(elsewhere) is None


def test_a_listed_model_without_weights_is_known_by_its_facts(folder: Path) -> None:
    catalogue = Catalogue(
        {"tiny": {"config": {"layers": 1}}, "big": {"config": {"layers": 80}, "hub_id": "a/big"}}, folder
    )
    big, tiny = catalogue.find("big"), catalogue.find("tiny")
    assert big is not None
    assert (big.available, big.config_json, big.hub_id) == (False, '{"layers":80}', "a/big")
    assert tiny is not None
    assert (tiny.available, tiny.config_json) == (True, '{"layers":2}'), "the folder wins over the list"
