"""Image classifiers: what they learn, the same bits after a kill, what transformers makes of the result."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.trainer import artifacts, pictures
from services.trainer.domain import TrainingFailedError
from sskai.objects import Objects
from tests import tiny_images
from tests.tiny_images import LABELS
from tests.trainer.attempts import Ends, KilledError, run
from tests.trainer.pods import Job, curve, told

pytestmark = pytest.mark.usefixtures("torch_as_before")


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    tiny_images.build(folder / "vit")
    tiny_images.build(folder / "resnet", kind="resnet")
    return folder


def job_of(
    objects: Objects, classifiers: Path, *, name: str = "vit", method: str = "lora", flip: bool = False, **plan: Any
) -> Job:
    data = tiny_images.dataset()
    job = Job(objects, classifiers, **({"total_steps": 8, "checkpoint_interval_steps": 2} | plan))
    key = f"tenants/t-1/datasets/{job.id}.zip"
    objects.put_bytes(key, data)
    job.spec.model.uri, job.spec.model.method = f"builtin://{name}", method
    job.spec.hyperparameters.horizontal_flip = flip
    job.spec.dataset.uri = objects.uri(key)
    job.spec.dataset.format = "image-classification"
    job.spec.dataset.sha256 = hashlib.sha256(data).hexdigest()
    job.spec.dataset.eval_fraction = 0.25
    job.spec.dataset.labels.extend(LABELS)
    return job


def result(job: Job, folder: Path, *, attempt: int = 1) -> Path:
    """The result as its users load it."""
    prefix = f"{job.prefix}/artifact/attempt-{attempt:05d}/"
    for info in job.objects.list(prefix):
        job.objects.download(info.key, folder / info.key.removeprefix(prefix))
    return folder


def named(model: Any, processor: Any) -> float:
    """The share of unseen pictures that a model names right."""
    import torch
    from PIL import Image

    model.eval()
    seen = [(label, number) for label in range(len(LABELS)) for number in range(100, 108)]
    images = [Image.open(io.BytesIO(tiny_images.picture(LABELS[label], number))) for label, number in seen]
    with torch.no_grad():
        scores = model(**processor(images=images, return_tensors="pt")).logits
    assert scores.shape == (len(seen), len(LABELS))
    return float((scores.argmax(1) == torch.tensor([label for label, _ in seen])).float().mean())


@pytest.mark.parametrize(
    ("name", "method", "flip"),
    [("vit", "lora", True), pytest.param("vit", "full", False, marks=pytest.mark.heavy), ("resnet", "lora", False)],
)
def test_a_kill_changes_no_bit(
    objects: Objects, classifiers: Path, tmp_path: Path, name: str, method: str, *, flip: bool
) -> None:
    whole = job_of(objects, classifiers, name=name, method=method, flip=flip)
    run(whole.settings(), objects, tmp_path / "whole")
    expected = curve(tmp_path / "whole")
    assert len(expected) == 8

    job = job_of(objects, classifiers, name=name, method=method, flip=flip)
    with pytest.raises(KilledError):
        run(job.settings(1), objects, tmp_path / "1", Ends(20))
    assert 2 < len(curve(tmp_path / "1")) < 8
    run(job.settings(2), objects, tmp_path / "2")
    assert told(tmp_path / "2", "AttemptResumed")[0]["from_step"] > 0
    assert curve(tmp_path / "2") == expected
    weights = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert job.artifact(2, weights) == whole.artifact(1, weights)
    (finished,) = told(tmp_path / "2", "AttemptFinished")
    artifacts.verify(objects, finished["artifact_uri"], job.id)


def test_an_adapter_and_its_head_learn_to_name_classes(objects: Objects, classifiers: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    job = job_of(objects, classifiers, total_steps=60, learning_rate=1e-2, checkpoint_interval_steps=60)
    run(job.settings(), objects, tmp_path / "run")
    folder = result(job, tmp_path / "result")
    # As its card says.
    labels = json.loads((folder / "sskai.json").read_text())["labels"]
    assert labels == list(LABELS)
    base = AutoModelForImageClassification.from_pretrained(
        classifiers / "vit", id2label=dict(enumerate(labels)), ignore_mismatched_sizes=True
    )
    model = PeftModel.from_pretrained(base, folder)
    assert named(model, AutoImageProcessor.from_pretrained(classifiers / "vit")) > 0.9

    card = (folder / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["pipeline_tag"] == "image-classification"
    accuracy = {one["type"]: one["value"] for one in metadata["model-index"][0]["results"][0]["metrics"]}["accuracy"]
    assert accuracy > 0.7
    (line,) = [line for line in card.splitlines() if line.startswith("| accuracy on the held-out rows")]
    before, after = (float(cell) for cell in line.split("|")[2:4])
    assert before < after == pytest.approx(accuracy, abs=1e-4)
    assert "nats per picture" in card
    assert "AutoModelForImageClassification" in card


@pytest.mark.parametrize(("name", "method"), [("vit", "full"), ("resnet", "scratch")])
def test_a_whole_classifier_is_a_folder_of_transformers(
    objects: Objects, classifiers: Path, tmp_path: Path, name: str, method: str
) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    plan = {"total_steps": 60, "learning_rate": 3e-3, "checkpoint_interval_steps": 60, "micro_batch_size": 8}
    job = job_of(objects, classifiers, name=name, method=method, **plan)
    run(job.settings(), objects, tmp_path / "run")
    folder = result(job, tmp_path / "result")
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert named(model, AutoImageProcessor.from_pretrained(folder)) > 0.9


def test_an_adapter_leaves_running_figures_of_its_base_alone(classifiers: Path, objects: Objects) -> None:
    """They are no part of it: whoever loads it has the base's."""
    import torch

    from services.trainer import domain, images
    from services.trainer.domain import Plan
    from services.trainer.pictures import LabelledPicture

    job = job_of(objects, classifiers, name="resnet")
    recipe = domain.resolve(job.spec, Plan(), rows=8, sequence_length=1, parameters=1000)
    base = images.load_base(classifiers / "resnet", torch.device("cpu"), labels=LABELS)
    path = classifiers / "one.png"
    path.write_bytes(tiny_images.picture("rows", 0))
    samples = [LabelledPicture(1, path, 2)] * 2
    task = images.ImageClassifier(base, recipe, "resnet", samples, samples)
    before = {name: value.clone() for name, value in task.model.named_buffers()}
    task.model.train()
    assert task.loss(samples).requires_grad
    assert all(torch.equal(before[name], value) for name, value in task.model.named_buffers())


def test_a_mirrored_picture_is_seen_in_training_alone(classifiers: Path, objects: Objects, tmp_path: Path) -> None:
    import torch

    from services.trainer import domain, images
    from services.trainer.domain import Plan
    from services.trainer.pictures import LabelledPicture

    job = job_of(objects, classifiers, flip=True)
    recipe = domain.resolve(job.spec, Plan(), rows=8, sequence_length=1, parameters=1000)
    base = images.load_base(classifiers / "vit", torch.device("cpu"), labels=LABELS)
    (tmp_path / "one.png").write_bytes(tiny_images.picture("columns", 1))
    samples = [LabelledPicture(1, tmp_path / "one.png", 0)] * 16
    task = images.ImageClassifier(base, recipe, "vit", samples, samples)
    torch.manual_seed(0)
    with torch.no_grad():
        task.model.train()
        trained = {tuple(row) for row in task.scores(samples).round(decimals=4).tolist()}
        task.model.eval()
        evaluated = {tuple(row) for row in task.scores(samples).round(decimals=4).tolist()}
    assert (len(trained), len(evaluated)) == (2, 1)
    assert evaluated < trained


def test_a_folder_that_does_not_say_how_pictures_are_prepared_is_refused(classifiers: Path, tmp_path: Path) -> None:
    import torch

    from services.trainer import images

    tiny_images.build(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text('{"auto_map": {"AutoImageProcessor": "a.B"}}')
    with pytest.raises(TrainingFailedError, match="auto_map"):
        images.load_base(tmp_path / "model", torch.device("cpu"), labels=LABELS)
    known = json.loads((classifiers / "vit" / "preprocessor_config.json").read_text())
    larger = known | {"size": {"height": 64, "width": 64}}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(larger))
    with pytest.raises(TrainingFailedError, match="do not go together"):
        images.load_base(tmp_path / "model", torch.device("cpu"), labels=LABELS)
    (tmp_path / "model" / "preprocessor_config.json").unlink()
    with pytest.raises(TrainingFailedError, match=r"has no preprocessor_config\.json"):
        images.load_base(tmp_path / "model", torch.device("cpu"), labels=LABELS)
    with pytest.raises(TrainingFailedError, match=r"model\.method"):
        images.load_base(classifiers / "vit", torch.device("cpu"), labels=LABELS, method="qlora")


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_rows_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "dataset.zip").write_bytes(tiny_images.dataset(5, top="all/"))
    rows = pictures.in_classes(tmp_path / "dataset.zip", tmp_path / "pictures", LABELS)
    assert [(row.number, row.label) for row in rows] == [(at + 1, at // 5) for at in range(15)]
    assert pictures.decoded(rows[4]).size == (tiny_images.SIDE, tiny_images.SIDE + 8)


def test_a_picture_is_seen_as_its_camera_was_held(tmp_path: Path) -> None:
    from PIL import Image

    picture, exif = Image.new("RGB", (20, 10)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert pictures.decoded(pictures.Picture(1, tmp_path / "a.jpg")).size == (10, 20)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.png": b"x"}, "row 1: a.png: its folder is none of the dataset's classes"),
        ({"rows/a.png": tiny_images.picture("rows", 0), "other/a.png": b"x"}, "row 1: other/a.png: its folder"),
        ({"rows/a.png": b"GIF89a"}, "row 1: a.png: not one of PNG, JPEG, WEBP"),
    ],
)
def test_a_dataset_that_is_wrong_names_its_row(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    (tmp_path / "dataset.zip").write_bytes(zipped(files))
    with pytest.raises(TrainingFailedError, match="dataset") as caught:
        pictures.in_classes(tmp_path / "dataset.zip", tmp_path / "pictures", LABELS)
    assert says in caught.value.detail
