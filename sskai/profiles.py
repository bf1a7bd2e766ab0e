"""Which gateway is spoken to, and by which key: the environment, a stored profile, or this machine's embedded stack.

Profiles stand in `~/.config/sskai/config.toml` (`SSKAI_CONFIG` or `XDG_CONFIG_HOME` move it), for its owner alone:

    default = "acme"
    [profiles.acme]
    url = "https://sskai.acme.example"
    key = "sskai_..."
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from sskai.local.paths import home_folder
from sskai.local.state import read_state, write_privately


class NotConfiguredError(LookupError):
    """There is no gateway to speak to; the message says what to do."""


NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
FIRST = "default"


@dataclass(frozen=True, slots=True)
class Address:
    """`source`: where it comes from, in words."""

    url: str
    key: str
    source: str


@dataclass(slots=True)
class Config:
    """What the file holds. `profiles`: url and key by name."""

    default: str = ""
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)


def config_file() -> Path:
    if named := os.environ.get("SSKAI_CONFIG"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sskai" / "config.toml"


def find(profile: str | None = None) -> Address:
    """The environment wins over a profile, a profile over the embedded stack. NotConfiguredError says what to do."""
    url, key = os.environ.get("SSKAI_GATEWAY_URL"), os.environ.get("SSKAI_API_KEY")
    if url and key and profile is None:
        return Address(url, key, "SSKAI_GATEWAY_URL and SSKAI_API_KEY")
    stored = _stored(profile or os.environ.get("SSKAI_PROFILE"))
    if stored is None:
        stored = _embedded()
    if stored is None:
        raise NotConfiguredError(
            "No gateway: start the embedded stack with `sskai up`, sign in with `sskai login`, or set "
            "SSKAI_GATEWAY_URL and SSKAI_API_KEY."
        )
    if profile is not None:
        return stored
    return Address(url or stored.url, key or stored.key, stored.source)


def read() -> Config:
    """The file's content, empty if there is none. NotConfiguredError if it cannot be understood."""
    try:
        raw = tomllib.loads(config_file().read_text())
        profiles = {
            name: {"url": str(one["url"]), "key": str(one["key"])} for name, one in raw.get("profiles", {}).items()
        }
        return Config(str(raw.get("default", "")), profiles)
    except FileNotFoundError:
        return Config()
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise NotConfiguredError(
            f"{config_file()} cannot be read ({error!r}): mend it, or delete it and log in again"
        ) from error


def store(name: str, url: str, key: str) -> Path:
    """Keep a profile and make it the default. ValueError for a name that cannot be one."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a profile: use letters, digits, `_` and `-`")
    config = read()
    config.profiles[name] = {"url": url.rstrip("/"), "key": key}
    config.default = name
    return _write(config)


def forget(name: str) -> None:
    """NotConfiguredError if there is none of this name."""
    config = read()
    if config.profiles.pop(name, None) is None:
        raise NotConfiguredError(f"There is no profile {name!r}: there are {', '.join(config.profiles) or 'none'}.")
    if config.default == name:
        config.default = next(iter(config.profiles), "")
    _write(config)


def _write(config: Config) -> Path:
    # A JSON text is a TOML basic string, too.
    lines = [f"default = {json.dumps(config.default)}"]
    for name, one in config.profiles.items():
        lines += ["", f"[profiles.{name}]", *(f"{field} = {json.dumps(value)}" for field, value in one.items())]
    path = config_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_privately(path, "\n".join(lines) + "\n")
    return path


def _stored(profile: str | None) -> Address | None:
    config = read()
    name = profile or config.default
    if not name:
        return None
    if name not in config.profiles:
        known = ", ".join(config.profiles) or "none"
        raise NotConfiguredError(
            f"There is no profile {name!r}: there are {known}; `sskai --profile {name} login` makes one."
        )
    one = config.profiles[name]
    return Address(one["url"], one["key"], f"profile {name}")


def _embedded() -> Address | None:
    state = read_state(home_folder())
    if state is None or state.phase != "running":
        return None
    return Address(state.gateway_url, state.admin_key, "the embedded stack of this machine")
