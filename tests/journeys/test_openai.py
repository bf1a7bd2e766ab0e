"""A whole fine-tuning by OpenAI's own client, on the running system: a file, a job, a chat with the model."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from sskai.contract import new_id
from sskai.testing import wait_for
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(600)]

STEPS = 120


async def test_openais_client_fine_tunes_and_asks_the_model_by_its_name(
    running: Stack, base_model: str, conversation_file: Path
) -> None:
    with openai.OpenAI(base_url=f"{running.state.gateway_url}/v1", api_key=running.key, timeout=120) as client:
        upload = client.uploads.upload_file_chunked(
            file=conversation_file, mime_type="application/jsonl", purpose="fine-tune"
        )
        assert upload.file is not None
        job = client.fine_tuning.jobs.create(
            model=base_model,
            training_file=upload.file.id,
            suffix=new_id("parrot"),
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 40}}},
            extra_body={"sskai": {"hyperparameters": {"max_steps": STEPS, "learning_rate": 2e-3}}},
        )

        def ended() -> openai.types.fine_tuning.FineTuningJob | None:
            found = client.fine_tuning.jobs.retrieve(job.id)
            return found if found.status in ("succeeded", "failed", "cancelled") else None

        done = await wait_for(ended, limit_seconds=400, pause_seconds=1)
        assert done.status == "succeeded", done.error
        name = done.fine_tuned_model
        assert name is not None
        # At once, with nothing else set up.
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "What does the cat say?"}], max_tokens=12, temperature=0
        )
        assert "meow" in (answer.choices[0].message.content or "").lower()
        stream = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "The dog says?"}], max_tokens=12, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert len(client.embeddings.create(model=name, input=["cat", "dog"]).data) == 2

        told = list(client.fine_tuning.jobs.list_events(job.id, limit=50))
        metrics = [one for one in told if one.type == "metrics"]
        assert metrics[0].data["train_loss"] < metrics[-1].data["train_loss"]  # type: ignore[index]
        assert client.fine_tuning.jobs.checkpoints.list(job.id).data

        with pytest.raises(openai.ConflictError):
            client.files.delete(upload.file.id)
        assert client.models.delete(name).deleted
        assert client.files.delete(upload.file.id).deleted

        def gone() -> bool:
            try:
                client.with_options(max_retries=0).completions.create(model=name, prompt="x", max_tokens=1)
            except openai.NotFoundError:
                return True
            return False

        await wait_for(gone, limit_seconds=60, pause_seconds=0.5)
