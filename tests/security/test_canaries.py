"""S21: no secret stands in a log, a span, an answer, an event or this repository."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from sskai.objects import Objects
from sskai.testing import fresh_database

ROOT = Path(__file__).parents[2]


def canary() -> str:
    return f"canary{secrets.token_hex(12)}"


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_no_canary_comes_out(postgres: str, objects: Objects, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(config))
    hidden = {
        "SSKAI_ADMIN_KEY": f"sskai_{canary()}",
        "SSKAI_INTERNAL_TOKEN": canary(),
        "SSKAI_CLOUD_TOKEN": canary(),
        "SSKAI_SECRET_CANARY": canary(),
        "CANARY_PATH": canary(),
    }
    password = canary()
    async with fresh_database(postgres, "gateway") as database:
        away = make_url(database.url).set(port=1, password=password).render_as_string(hide_password=False)
        environment = {
            **os.environ,
            **hidden,
            "CANARY_DATABASE_URL": away,
            "SSKAI_DATABASE_URL": database.url,
            "SSKAI_OBJECTS_URL": objects.access.url,
            "SSKAI_OBJECTS_BUCKET": objects.bucket,
            "SSKAI_OBJECTS_ACCESS_KEY": objects.access.access_key,
            "SSKAI_OBJECTS_SECRET_KEY": objects.access.secret_key,
            "SSKAI_MODELS_DIR": str(tmp_path),
            "SSKAI_INFERENCE_URL": "http://127.0.0.1:1",
            "SSKAI_OTLP_URL": "http://127.0.0.1:1",
            "SSKAI_INFERENCE_RETRY_SECONDS": "0.1",
            "SSKAI_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1",
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tests.security.canary_flow"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3_000:]
    made = re.findall(r"^CANARY (\S+)$", output, re.MULTILINE)
    output = re.sub(r"^CANARY \S+$", "", output, flags=re.MULTILINE)
    assert len(made) == 2
    for kind in ("ANSWER", "SPAN", "EVENT", "DELIVERY", "REFUSED", "SETTINGS"):
        assert re.search(rf"^{kind} ", output, re.MULTILINE), f"no {kind} was told"
    assert '"level": "' in output, "nothing was logged"
    assert "JobSubmitted" in output
    assert re.search(r"ANSWER GET /v1/jobs 5\d\d", output), "the database was away"
    shown = [name for name, secret in {**hidden, "password": password}.items() if secret in output]
    shown += [secret[:8] for secret in (*made, objects.access.secret_key) if secret in output]
    lines = [line[:500] for line in output.splitlines() if any(one in line for one in (*hidden.values(), *made))]
    assert shown == [], "\n".join(lines)


PATTERNS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\n[A-Za-z0-9+/=]{20}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}",
    "a token of Slack": r"\bxox[abprs]-[A-Za-z0-9-]{20}",
    "a token of Hugging Face": r"\bhf_[A-Za-z]{34}\b",
    "a key of OpenAI": r"\bsk-[A-Za-z0-9]{40}",
    "a key of ours": r"\bsskai_[A-Za-z0-9]{32,}\b",
    "a webhook's secret": r"\bwhsec_[A-Za-z0-9+/]{40,}",
    "a signed token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
    "a password in an address": r"://[a-z]+:(?!sskai@|[\"'$<{%]|password|secret|hunter2|me@|x@|pw|p@)[^\s@/:\"'`{}$]{8,}@",
}
# Known to everybody: AWS's own example.
PUBLIC = {"AKIAIOSFODNN7EXAMPLE"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_the_repository_holds_no_secret() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    found = []
    for path in tracked():
        if path.is_file() and path.stat().st_size < 2_000_000:
            text = path.read_bytes().decode(errors="ignore")
            for name, pattern in PATTERNS.items():
                hits = {match[0] for match in re.finditer(pattern, text)} - PUBLIC
                found += [(str(path.relative_to(ROOT)), name, hit[:30]) for hit in hits]
    assert found == []


def test_the_patterns_find_what_they_name() -> None:
    examples = {
        "a private key": "-----BEGIN PRIVATE KEY-----\n" + "A" * 20,
        "a key of AWS": "AKIA" + "Q" * 16,
        "a key of ours": "sskai_" + "a1" * 20,
        "a webhook's secret": "whsec_" + "Ab" * 22,
        "a password in an address": "postgres" + "://me:correcthorse" + "@db",
    }
    for name, text in examples.items():
        assert re.search(PATTERNS[name], text), name
