"""Image classifiers: the answers of transformers and peft, and pictures that are none, too large or too many."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from services.inference import pictures
from services.inference.engine import OverloadedError, PromptError, UnusableWeightsError
from services.inference.image_classifier import ImageClassifier
from services.inference.pictures import MAX_PIXELS, PictureError
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine
from services.inference.turns import Turns
from tests import tiny_images
from tests.tiny_images import LABELS, SIDE

FILES = [tiny_images.picture(label, number) for number, label in enumerate(LABELS)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two whole classifiers, and an adapter with a head of its own on one of them, as the trainer makes it."""
    place = tmp_path_factory.mktemp("classifiers")
    for kind in ("vit", "resnet"):
        tiny_images.build(place / kind, kind=kind)
    torch.manual_seed(6)
    base: Any = _with_labels(place / "vit")
    linear = [name for name, it in base.named_modules() if isinstance(it, torch.nn.Linear)]
    targets = [name for name in linear if name != "classifier"]
    config = LoraConfig(r=4, target_modules=targets, modules_to_save=["classifier"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(place / "adapter")
    about = {"kind": "adapter", "format": "image-classification", "labels": LABELS}
    (place / "adapter" / "sskai.json").write_text(json.dumps(about))
    return {name: place / name for name in ("vit", "resnet", "adapter")}


def _with_labels(folder: Path) -> Any:
    return AutoModelForImageClassification.from_pretrained(
        folder, id2label=dict(enumerate(LABELS)), ignore_mismatched_sizes=True
    )


@pytest.fixture(scope="module")
def vit(folders: dict[str, Path]) -> ImageClassifier:
    return ImageClassifier(folders["vit"], "cpu", 4)


def expected(model: Any, folder: Path, files: list[bytes] = FILES) -> torch.Tensor:
    processor: Any = AutoImageProcessor.from_pretrained(folder)
    images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    with torch.no_grad():
        return torch.softmax(model.eval()(**processor(images=images, return_tensors="pt")).logits, -1)


def test_classifiers_answer_as_transformers_and_peft_do(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(limits=Limits(4, 4, 32, 0), max_context_tokens=64, threads=1, device="cpu")
    for name in ("vit", "resnet"):
        engine.load_base(name, folders[name])
    engine.load_classifier("tuned", folders["vit"], folders["adapter"])
    models = {name: AutoModelForImageClassification.from_pretrained(folders[name]) for name in ("vit", "resnet")}
    models["tuned"] = PeftModel.from_pretrained(_with_labels(folders["vit"]), folders["adapter"])
    for name, model in models.items():
        rows = engine.classify_pictures(name, FILES)
        base = folders["vit" if name == "tuned" else name]
        torch.testing.assert_close(torch.tensor(rows), expected(model, base), atol=1e-4, rtol=0)
        assert engine.picture_shape(name) == (3, SIDE, SIDE)
    assert engine.labels("tuned") == LABELS
    with pytest.raises(PromptError, match="of pictures"):
        engine.classify("vit", ["a text"])
    with pytest.raises(PromptError, match="is a classifier"):
        engine.encode_text("vit", "x")


def test_files_pixels_and_prepared_numbers_mean_the_same(vit: ImageClassifier, folders: dict[str, Path]) -> None:
    images = [Image.open(io.BytesIO(file)).convert("RGB") for file in FILES]
    pixels = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
    processor: Any = AutoImageProcessor.from_pretrained(folders["vit"])
    prepared = processor(images=images, return_tensors="np")["pixel_values"].astype(np.float32)
    rows = vit.classify(FILES)
    for given in (pixels, prepared):
        assert vit.classify(given) == [pytest.approx(row, abs=1e-4) for row in rows]


def test_more_pictures_than_a_pass_has(vit: ImageClassifier) -> None:
    rows = vit.classify(FILES * 7)
    assert len(rows) == 21
    assert rows[20] == pytest.approx(rows[2], abs=1e-5)


def png_of(width: int, height: int) -> bytes:
    """Says that it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    chunks = {b"IHDR": struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b"\0" * 1000)}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in {**chunks, b"IEND": b""}.items())


WRONG = {
    "no picture": (b"not a picture", "cannot be decoded as one of PNG, JPEG, WEBP"),
    "nothing": (b"", "cannot be decoded"),
    "another format": (b"GIF89a" + b"\0" * 100, "cannot be decoded"),
    "cut off": (FILES[0][:200], "cannot be decoded"),
    "a bomb": (png_of(60_000, 60_000), "cannot be decoded"),
    "too many pixels": (png_of(5_001, 5_000), f"25005000 pixels; up to {MAX_PIXELS} are taken"),
    "no pixels at all": (png_of(5_000, 4_000), "cannot be decoded"),
}


@pytest.mark.parametrize(("file", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_picture_that_is_none_is_named(vit: ImageClassifier, file: bytes, words: str) -> None:
    with pytest.raises(PictureError) as caught:
        vit.classify([FILES[0], file])
    assert caught.value.place == 1
    assert words in str(caught.value)


def test_a_picture_is_seen_as_its_camera_was_held() -> None:
    picture, exif, out = Image.new("RGB", (20, 10)), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(out, "JPEG", exif=exif)
    assert pictures.decoded(out.getvalue(), 0).size == (10, 20)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_every_kind_of_pixels_is_understood(vit: ImageClassifier, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (9, 7)).save(out, "PNG")
    assert len(vit.classify([out.getvalue()])[0]) == 5


def test_numbers_that_the_model_does_not_take(vit: ImageClassifier, folders: dict[str, Path]) -> None:
    with pytest.raises(PictureError, match="1 or 3 channels, not 4"):
        vit.classify(np.zeros((1, 4, 8, 8), np.uint8))
    with pytest.raises(PromptError, match="does not take pictures of"):
        vit.classify(np.zeros((1, 3, 8, 8), np.float32))


def test_a_folder_that_cannot_prepare_pictures_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    engine = TransformersEngine(limits=Limits(4, 4, 32, 0), max_context_tokens=64, threads=1, device="cpu")
    for preparing, words in ((None, "has no preprocessor_config.json"), ('{"auto_map": {"a": "b.C"}}', "auto_map")):
        folder = tmp_path / words
        shutil.copytree(folders["vit"], folder)
        (folder / "preprocessor_config.json").unlink()
        if preparing:
            (folder / "preprocessor_config.json").write_text(preparing)
        with pytest.raises(UnusableWeightsError, match=words):
            engine.load_base(words, folder)


def test_one_computes_and_so_many_wait() -> None:
    turns = Turns(0)
    with turns.mine(), pytest.raises(OverloadedError), turns.mine():
        pass
    with turns.mine():
        pass
