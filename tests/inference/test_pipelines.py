"""A pipeline in this process: its pictures are diffusers' own, with each adapter and without, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.inference.drawings import Drawing
from services.inference.engine import UnusableWeightsError
from services.inference.manifests import PIPELINE_ADAPTER
from services.inference.pipelines import SCHEDULERS, LeftError, Pipeline
from tests.inference.artefacts import make_picture_adapter

CAT = Drawing("a cat", "a dog", 40, 32, 6, 5.0, 11)

USUAL = ("PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler")  # the others take as long: heavy


def nobody_left() -> bool:
    return False


def drawn(pipeline: Pipeline, adapter: str | None = None, drawing: Drawing = CAT) -> bytes:
    return pipeline.draw(adapter, drawing, nobody_left).rgb


def reference(folder: Path, adapter: Path | None) -> bytes:
    """What diffusers draws by itself."""
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipe.load_lora_weights(adapter)
    asked = {"width": 40, "height": 32, "num_inference_steps": 6, "guidance_scale": 5.0}
    dice = torch.Generator().manual_seed(11)
    image = pipe("a cat", negative_prompt="a dog", generator=dice, output_type="pil", **asked).images[0]
    pixels: bytes = image.tobytes()
    return pixels


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several wait for each other on a machine that does other things, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded(pipeline: Path) -> Pipeline:
    return Pipeline(pipeline, "cpu")


def test_pictures_are_those_of_diffusers(pipeline: Path, picture_adapters: dict[str, Path]) -> None:
    """With two adapters beside each other, in any order, and after both are gone."""
    one = Pipeline(pipeline, "cpu")
    names = {name: one.attach(folder) for name, folder in picture_adapters.items()}
    expected = {name: reference(pipeline, folder) for name, folder in picture_adapters.items()}
    base = reference(pipeline, None)
    assert len({base, *expected.values()}) == 3
    for name in ("stripes", "dots", None, "dots", None, "stripes"):
        assert drawn(one, names[name] if name else None) == (expected[name] if name else base)
    one.detach(names["stripes"])
    assert drawn(one, names["dots"]) == expected["dots"]
    one.detach(names["dots"])
    assert drawn(one) == base
    assert drawn(one, one.attach(picture_adapters["stripes"])) == expected["stripes"]


def test_a_seed_gives_the_same_picture_and_another_another(loaded: Pipeline) -> None:
    other = Drawing("a cat", "a dog", 40, 32, 6, 5.0, 12)
    assert drawn(loaded) == drawn(loaded)
    assert drawn(loaded, None, other) != drawn(loaded)


def test_it_stops_between_two_steps_and_draws_the_next_one(loaded: Pipeline) -> None:
    before, asked = drawn(loaded), 0

    def left_after_three() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with pytest.raises(LeftError):
        loaded.draw(None, CAT, left_after_three)
    assert asked == 3, "of six steps"
    assert drawn(loaded) == before


def test_the_canvas_is_the_pipelines(loaded: Pipeline) -> None:
    canvas = loaded.canvas
    assert (canvas.native, canvas.unit, canvas.least, canvas.most) == (32, 8, 8, 64)
    assert (canvas.fewest_steps, canvas.most_steps, canvas.prompt_tokens) == (1, 150, 16)
    assert loaded.count_tokens("a cat") == 2 + 4
    for side in (canvas.least, canvas.most):
        rgb = drawn(loaded, None, Drawing("a", "", side, canvas.least, canvas.fewest_steps, 1.0, 0))
        assert len(rgb) == side * canvas.least * 3


def changed(pipeline: Path, folder: Path, file: str, **changes: Any) -> Path:
    copy = Path(shutil.copytree(pipeline, folder / "copy"))
    (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | changes))
    return copy


@pytest.mark.parametrize(
    "scheduler", [pytest.param(name, marks=() if name in USUAL else pytest.mark.heavy) for name in SCHEDULERS]
)
def test_every_scheduler_that_is_listed_draws(pipeline: Path, tmp_path: Path, scheduler: str) -> None:
    one = Pipeline(changed(pipeline, tmp_path, "model_index.json", scheduler=["diffusers", scheduler]), "cpu")
    first, *others = (
        drawn(one, None, Drawing("a", "", 8, 8, steps, 2.0, 1)) for steps in (5, 5, one.canvas.fewest_steps)
    )
    assert first in others, "the same steps, the same picture"


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "'FluxPipeline': only StableDiffusionPipeline"),
        ("model_index.json", {"_class_name": ["evil", "Pipeline"]}, "only StableDiffusionPipeline"),
        ("model_index.json", {"scheduler": ["evil", "Scheduler"]}, "the scheduler is 'Scheduler'"),
        ("model_index.json", {"scheduler": None}, "the scheduler is None"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 1}, "too few"),
    ],
)
def test_what_is_no_pipeline_is_refused(
    pipeline: Path, tmp_path: Path, file: str, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises((UnusableWeightsError, ValueError), match=says):
        Pipeline(changed(pipeline, tmp_path, file, **changes), "cpu")


def test_a_pickle_is_never_opened(pipeline: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "copy"))
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(OSError, match="safetensors"):
        Pipeline(copy, "cpu")


def test_weights_that_are_no_numbers_are_refused(pipeline: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "copy"))
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(UnusableWeightsError, match="finite"):
        Pipeline(copy, "cpu")


Tensors = dict[str, torch.Tensor]


def _of_another_layer(tensors: Tensors) -> Tensors:
    return {name.replace("to_q", "to_nothing"): tensor for name, tensor in tensors.items()}


def _of_another_part(tensors: Tensors) -> Tensors:
    return {name.replace("unet.", "text_encoder."): tensor for name, tensor in tensors.items()}


def _of_another_width(tensors: Tensors) -> Tensors:
    return {name: torch.zeros(4, 99) if "to_q.lora.down" in name else tensor for name, tensor in tensors.items()}


def _without_half(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if "to_q.lora.up" not in name}


def _of_no_numbers(tensors: Tensors) -> Tensors:
    return {name: tensor * torch.inf for name, tensor in tensors.items()}


def _with_more(tensors: Tensors) -> Tensors:
    return {**tensors, "unet.conv_in.bias": torch.zeros(8)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_of_another_layer, "no linear layer .*to_nothing"),
        (_of_another_part, "only LoRA on the UNet"),
        (_of_another_width, "to_q.lora_A.weight is of shape"),
        (_without_half, "to_q.lora_B.weight is missing"),
        (_of_no_numbers, "finite"),
        (_with_more, "conv_in.bias"),
        (lambda _: {"unet.x.lora.up.weight": torch.zeros(1)}, "no linear layer 'x'"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_nothing_behind(
    loaded: Pipeline,
    picture_adapters: dict[str, Path],
    tmp_path: Path,
    change: Callable[[Tensors], Tensors],
    says: str,
) -> None:
    before = drawn(loaded)
    source = picture_adapters["stripes"] / PIPELINE_ADAPTER
    save_file(change(load_file(source)), tmp_path / PIPELINE_ADAPTER, metadata=_metadata(source))
    with pytest.raises(UnusableWeightsError, match=says):
        loaded.attach(tmp_path)
    assert drawn(loaded) == before


def _metadata(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        told: dict[str, str] = opened.metadata()
    return told


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unet.r": 0}, "r is 0"),
        ({"unet.peft_type": "LOKR"}, "only LORA"),
        ({"unet.rank_pattern": {"to_q": 8}}, "rank_pattern"),
        ({"unet.bias": "all"}, "bias"),
    ],
)
def test_an_adapter_with_more_than_low_rank_is_refused(
    loaded: Pipeline, picture_adapters: dict[str, Path], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    source = picture_adapters["stripes"] / PIPELINE_ADAPTER
    config = json.dumps(json.loads(_metadata(source)["lora_adapter_metadata"]) | changes)
    save_file(load_file(source), tmp_path / PIPELINE_ADAPTER, metadata={"lora_adapter_metadata": config})
    with pytest.raises(UnusableWeightsError, match=says):
        loaded.attach(tmp_path)


def test_an_adapter_that_says_nothing_of_itself_is_refused(
    loaded: Pipeline, picture_adapters: dict[str, Path], tmp_path: Path
) -> None:
    save_file(load_file(picture_adapters["stripes"] / PIPELINE_ADAPTER), tmp_path / PIPELINE_ADAPTER)
    with pytest.raises(UnusableWeightsError, match="cannot be read"):
        loaded.attach(tmp_path)
    with pytest.raises(UnusableWeightsError, match="cannot be read"):
        loaded.attach(tmp_path / "nowhere")


def test_an_adapter_on_other_layers_than_the_usual_ones(pipeline: Path, tmp_path: Path) -> None:
    adapter = make_picture_adapter(pipeline, tmp_path / "wide", seed=5, r=2, target_modules=["to_q", "ff.net.2"])
    one = Pipeline(pipeline, "cpu")
    assert drawn(one, one.attach(adapter)) == reference(pipeline, adapter)
