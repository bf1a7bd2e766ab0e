"""Whole weights and GGUF from an adapter: the same model to whoever loads them, and a reason where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, Qwen2Config

from services.trainer import artifacts, export_gguf, modelcard
from services.trainer.exports import NotExportableError
from sskai.objects import Objects
from tests.trainer.attempts import run
from tests.trainer.pods import Job, told

pytestmark = pytest.mark.usefixtures("torch_as_before")
TEXTS = ["Where is my order 7? It has 1234 parts.", "<|im_start|>user\nhello<|im_end|>\n", " The capital's  Ünïcode"]


def fetched(objects: Objects, job: Job, folder: Path) -> Path:
    prefix = f"{job.prefix}/artifact/attempt-00001/"
    for info in objects.list(prefix):
        objects.download(info.key, folder / info.key.removeprefix(prefix))
    return folder


def logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.tensor([tokens])).logits.float()
    return found


def loaded_gguf(path: Path) -> tuple[Any, Any]:
    given = {"gguf_file": path.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **given)
    return model, AutoTokenizer.from_pretrained(path.parent, **given)


def test_merged_weights_and_gguf_say_what_the_adapter_says(objects: Objects, models_dir: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    job = Job(objects, models_dir, total_steps=6)
    job.spec.exports.extend(["merged", "gguf"])
    run(job.settings(), objects, tmp_path / "work")
    (finished,) = told(tmp_path / "work", "AttemptFinished")
    artifacts.verify(objects, finished["artifact_uri"], job.id)
    folder = fetched(objects, job, tmp_path / "result")
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "tiny", local_files_only=True)
    base = AutoModelForCausalLM.from_pretrained(models_dir / "tiny", local_files_only=True)
    tokens = tokenizer(TEXTS[0])["input_ids"]
    plain = logits(base, tokens)
    expected = logits(PeftModel.from_pretrained(base, folder), tokens)
    assert (plain - expected).abs().max() > 0.1

    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", local_files_only=True)
    torch.testing.assert_close(logits(merged, tokens), expected, atol=1e-4, rtol=1e-4)
    again, its_tokenizer = loaded_gguf(folder / "gguf" / "support-bot.gguf")
    torch.testing.assert_close(logits(again, tokens), expected, atol=1e-4, rtol=1e-4)
    for text in TEXTS:
        assert its_tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert its_tokenizer.chat_template == tokenizer.chat_template
    assert its_tokenizer.eos_token == tokenizer.eos_token

    card = (folder / "README.md").read_text()
    assert "- gguf: `gguf/support-bot.gguf`, float32" in card
    assert "- merged: `merged/`" in card
    assert "| learning_rate | 0.005 |" in card
    assert f"job `{job.id}`" in card
    assert "PeftModel.from_pretrained" in card
    metadata = metadata_load(folder / "README.md")
    assert metadata is not None
    assert (metadata["library_name"], metadata["base_model"]) == ("peft", "tiny")
    name, results = model_index_to_eval_results(metadata["model-index"])
    assert (name, results[0].metric_type) == ("support-bot", "loss")
    declared = json.loads((folder / "sskai.json").read_text())
    assert (declared["kind"], declared["format"]) == ("adapter", "messages")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [MistralConfig, Qwen2Config])
def test_other_architectures_come_back_the_same(
    models_dir: Path, tmp_path: Path, kind: Any, dtype: torch.dtype
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "tiny", local_files_only=True)
    tokenizer.save_pretrained(tmp_path / "model")
    config = kind(
        vocab_size=len(tokenizer) + 3,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_theta=50_000.0,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).to(dtype))
    model.save_pretrained(tmp_path / "model")
    words = export_gguf.write(tmp_path / "model", tmp_path / "model.gguf", "model")
    assert words == ("float32" if dtype == torch.float32 else "float16")
    again, _ = loaded_gguf(tmp_path / "model.gguf")
    tokens = tokenizer(TEXTS[0])["input_ids"]
    torch.testing.assert_close(logits(again, tokens), logits(model.float(), tokens), atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_type": "gpt_neox"}, "this is a gpt_neox"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "language models only"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "scaled"),
        ({"vocab_size": 5}, "the model only 5"),
    ],
)
def test_what_gguf_has_no_form_for_is_refused(
    models_dir: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    for path in (models_dir / "tiny").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(NotExportableError, match=why):
        export_gguf.write(tmp_path, tmp_path / "model.gguf", "model")
    assert not (tmp_path / "model.gguf").exists()


def test_a_job_succeeds_without_the_export_that_cannot_be_made(
    objects: Objects, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_gguf, "ARCHITECTURES", {"other": ("llama", True)})
    job = Job(objects, models_dir, total_steps=1)
    job.spec.exports.extend(["gguf", "onnx"])
    run(job.settings(), objects, tmp_path / "work")
    card = job.artifact(1, "README.md").decode()
    assert "- gguf: not made: GGUF is written for other, and this is a llama" in card
    assert "- onnx: not made: only merged and gguf are known" in card
    assert not [info for info in objects.list(f"{job.prefix}/artifact/") if "/gguf/" in info.key]


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, ""),
        ({"config.json": '{"license": "mit"}'}, "mit"),
        ({"README.md": "---\nlicense: apache-2.0\n---\n# x", "config.json": "{}"}, "apache-2.0"),
        ({"README.md": "---\n: [\n---\n", "config.json": "["}, ""),
    ],
)
def test_the_bases_licence_is_what_its_folder_says(tmp_path: Path, files: dict[str, str], licence: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert modelcard.licence_of(tmp_path) == licence
