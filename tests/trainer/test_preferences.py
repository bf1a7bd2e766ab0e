"""Our loss of preferences is trl's, to the last digits of float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.trainer import finetune
from services.trainer.datasets import PreferenceRow, Row
from services.trainer.domain import Plan, resolve
from services.trainer.randomness import make_deterministic
from sskai.events import v1 as events

pytestmark = pytest.mark.usefixtures("torch_as_before")


def pairs() -> list[PreferenceRow]:
    generator = np.random.default_rng(5)
    found = []
    for number, (prompt, *lengths) in enumerate([(5, 7, 3), (9, 2, 12), (3, 4, 4)], 1):
        asked = generator.integers(3, 300, prompt, dtype=np.int32)
        answers = [generator.integers(3, 300, length, dtype=np.int32) for length in lengths]
        chosen, rejected = (
            Row(number, np.concatenate([asked, answer]), np.arange(prompt + len(answer)) >= prompt)
            for answer in answers
        )
        found.append(PreferenceRow(number, chosen, rejected))
    return found


@pytest.mark.timeout(300)  # importing trl takes its time on a busy machine
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_loss_is_trls(models_dir: Path, tmp_path: Path, beta: float) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    make_deterministic(1)
    base = finetune.load_base(models_dir / "tiny", torch.device("cpu"))
    spec = events.JobSpec(
        model=events.ModelRef(rank=4),
        dataset=events.DatasetRef(format="preference"),
        hyperparameters=events.Hyperparameters(dpo_beta=beta),
    )
    recipe = resolve(spec, Plan(), rows=20, sequence_length=64, parameters=1_000_000)
    rows = pairs()
    task = finetune.Preferences(base, recipe, "tiny", rows, [])
    column: Any = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    arguments = DPOConfig(output_dir=str(tmp_path), beta=beta, report_to=[], use_cpu=True)
    trainer = DPOTrainer(
        model=task.model, args=arguments, train_dataset=Dataset.from_list(column), processing_class=base.tokenizer
    )
    batch = trainer.data_collator(
        [
            {
                "prompt_ids": row.chosen.tokens[~row.chosen.learnt].tolist(),
                "chosen_ids": row.chosen.tokens[row.chosen.learnt].tolist(),
                "rejected_ids": row.rejected.tokens[row.rejected.learnt].tolist(),
            }
            for row in rows
        ]
    )
    # Only now: the adapter as it was, which is none, is what trl keeps as its reference.
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(std=0.2)
        task.model.eval()
        ours = task.loss(rows).item() / len(rows)
    trainer.model.eval()
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, batch).item()
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert abs(ours - np.log(2)) > 1e-3, "a policy that is its reference proves nothing"
