"""Which gateway is spoken to: the environment, then a profile, then this machine's stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from sskai import profiles
from sskai.client import Client


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("SSKAI_GATEWAY_URL", "SSKAI_API_KEY", "SSKAI_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSKAI_CONFIG", str(tmp_path / "sskai" / "config.toml"))
    monkeypatch.setenv("SSKAI_HOME", str(tmp_path / "home"))
    return tmp_path / "sskai" / "config.toml"


def test_a_profile_is_kept_for_its_owner_alone_and_found_again(config: Path) -> None:
    profiles.store("acme", "https://acme.example/", 'sskai_"quoted\\')
    profiles.store("other", "https://other.example", "sskai_2")
    assert config.stat().st_mode & 0o777 == 0o600
    assert profiles.find().url == "https://other.example"
    assert profiles.find("acme") == profiles.Address("https://acme.example", 'sskai_"quoted\\', "profile acme")
    profiles.forget("other")
    assert profiles.find().url == "https://acme.example"
    profiles.forget("acme")
    assert profiles.read() == profiles.Config()
    profiles.store("acme", "https://acme.example", "sskai_1")
    assert profiles.find().source == "profile acme"


def test_the_environment_wins_unless_a_profile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.store("acme", "https://acme.example", "sskai_1")
    monkeypatch.setenv("SSKAI_API_KEY", "sskai_of_the_environment")
    assert (profiles.find().url, profiles.find().key) == ("https://acme.example", "sskai_of_the_environment")
    monkeypatch.setenv("SSKAI_GATEWAY_URL", "http://environment")
    assert profiles.find().url == "http://environment"
    assert profiles.find("acme").key == "sskai_1"
    monkeypatch.setenv("SSKAI_PROFILE", "nobody")
    assert profiles.find().url == "http://environment"


def test_what_is_not_there_is_said_with_what_to_do(config: Path) -> None:
    with pytest.raises(LookupError, match="sskai login"):
        profiles.find()
    with pytest.raises(LookupError, match="sskai login"):
        Client()
    with pytest.raises(LookupError, match="there are none"):
        profiles.find("acme")
    with pytest.raises(LookupError, match="there are none"):
        profiles.forget("acme")
    with pytest.raises(ValueError, match="cannot name a profile"):
        profiles.store("a.b", "http://x", "key")
    config.parent.mkdir()
    config.write_text("[profiles\n")
    with pytest.raises(LookupError, match="cannot be read"):
        profiles.find()


def test_the_client_takes_a_profile() -> None:
    profiles.store("acme", "https://acme.example", "sskai_1")
    with Client(profile="acme") as sskai:
        assert sskai.base_url == "https://acme.example"
