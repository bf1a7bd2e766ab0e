"""Without a key the bucket is opened by whatever boto3 finds: on EKS, the role of the pod's service account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.trainer import credentials
from sskai.cluster import pods
from sskai.objects import Objects
from sskai.settings import Settings


def test_the_role_stays_known_when_the_variables_are_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-account")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/sskai-trainer-pods")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    bucket = Objects("", "bucket", "", "", "eu-west-1")
    for name in ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name)  # as credentials.scrub does before code of a user's runs
    assert bucket.access.role["AWS_WEB_IDENTITY_TOKEN_FILE"] == str(token)  # the writing process is told
    asked: list[dict[str, Any]] = []

    def assume(self: Any, operation: str, about: dict[str, Any]) -> dict[str, Any]:
        asked.append(about)
        keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "secret", "SessionToken": "session"}
        return {"Credentials": keys | {"Expiration": "2099-01-01T00:00:00Z"}}

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", assume)
    url = bucket.presigned_get("key")
    assert url.startswith("https://bucket.s3.eu-west-1.amazonaws.com/key?")
    assert "ASIA" in url
    assert asked[0]["RoleArn"].endswith("sskai-trainer-pods")
    assert asked[0]["WebIdentityToken"] == "a-token-of-the-account"


def test_the_variables_of_a_role_do_not_reach_code_of_users() -> None:
    assert credentials._SECRETS.fullmatch("AWS_WEB_IDENTITY_TOKEN_FILE")
    assert credentials._SECRETS.fullmatch("SSKAI_KAFKA_PASSWORD")


def test_pods_of_an_installation_with_roles_are_told_no_key() -> None:
    told = pods.objects(Settings(objects_url="", objects_region="eu-west-1", objects_access_key=""))
    assert told["SSKAI_OBJECTS_REGION"] == "eu-west-1"
    assert told["SSKAI_OBJECTS_ACCESS_KEY"] == told["SSKAI_OBJECTS_SECRET_KEY"] == ""
