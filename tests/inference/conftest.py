"""A tiny model, two adapters on it, and the whole service as a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects
from tests import tiny_diffusion, tiny_model
from tests.inference.artefacts import Published, make_adapter, make_picture_adapter, publish, upload
from tests.inference.process import InferenceProcess


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of built-in models that holds `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model.build(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def tiny(models_dir: Path) -> Path:
    return models_dir / "tiny"


@pytest.fixture(scope="session")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two PEFT folders by name."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: make_adapter(tiny, folder / name, seed=seed) for seed, name in enumerate(("cats", "dogs"), start=1)}


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image pipeline that may be asked for up to 150 steps."""
    folder = tiny_diffusion.build(tmp_path_factory.mktemp("pipelines") / "painter")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"num_train_timesteps": 1000}))
    return folder


@pytest.fixture(scope="session")
def picture_adapters(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two folders as the trainer writes them, by name; the second is DoRA, rank-stabilised."""
    folder = tmp_path_factory.mktemp("picture_adapters")
    return {
        "stripes": make_picture_adapter(pipeline, folder / "stripes", seed=1),
        "dots": make_picture_adapter(pipeline, folder / "dots", seed=2, use_dora=True, use_rslora=True),
    }


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 server whose address and keys the service can be told."""
    with ObjectStore.start() as store:
        yield store


@pytest.fixture(scope="session")
def objects(object_store: ObjectStore) -> Objects:
    store = object_store
    return Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)


@pytest.fixture(scope="session")
def published(objects: Objects, adapters: dict[str, Path]) -> dict[str, Published]:
    """The adapters in the object store."""
    return {
        name: publish(objects, folder, f"jobs/job_{name}/artifact/attempt-00001") for name, folder in adapters.items()
    }


@pytest.fixture(scope="session")
def uploaded(objects: Objects, pipeline: Path) -> str:
    """The pipeline's URI in the object store."""
    return upload(objects, pipeline, "models/model_painter")


@pytest.fixture(scope="session")
def published_pictures(objects: Objects, picture_adapters: dict[str, Path]) -> dict[str, Published]:
    """The pipeline's adapters in the object store."""
    return {
        name: publish(objects, folder, f"jobs/job_{name}/artifact/attempt-00001")
        for name, folder in picture_adapters.items()
    }


@pytest.fixture(scope="session")
def process(
    postgres: str, kafka: str, object_store: ObjectStore, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InferenceProcess]:
    """The service, started once; small limits, so that they can be reached."""
    url = make_url(postgres)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True) as db:
        db.execute("CREATE DATABASE inference_process")
    environment = {
        "SSKAI_OBJECTS_URL": object_store.url,
        "SSKAI_OBJECTS_BUCKET": object_store.bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": object_store.credentials.access_key,
        "SSKAI_OBJECTS_SECRET_KEY": object_store.credentials.secret_key,
        "SSKAI_DATABASE_URL": url.set(database="inference_process").render_as_string(hide_password=False),
        "SSKAI_KAFKA_BOOTSTRAP": kafka,
        "SSKAI_MODELS_DIR": str(models_dir),
        "SSKAI_CACHE": str(tmp_path_factory.mktemp("cache")),
        "SSKAI_MAX_CONCURRENT_SEQUENCES": "4",
        "SSKAI_MAX_WAITING_SEQUENCES": "4",
        "SSKAI_PREFILL_CHUNK_TOKENS": "32",
        "SSKAI_LOAD_WAIT_SECONDS": "30",
        "SSKAI_IDLE_SECONDS": "600",
        "SSKAI_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path_factory.mktemp("log") / "inference.log"
    running = InferenceProcess(environment, kafka, log)
    running.start()
    yield running
    running.kill()


@pytest.fixture
async def service(process: InferenceProcess, published: dict[str, Published]) -> AsyncIterator[InferenceProcess]:
    """The process with three endpoints of one tenant: the base, and an adapter each for `cats` and `dogs`."""
    async with asyncio.timeout(60):
        await process.deploy("base")
        for name, artefact in published.items():
            await process.deploy(name, artifact_uri=artefact.uri)
    yield process
    await process.close()
