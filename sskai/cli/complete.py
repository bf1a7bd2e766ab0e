"""Names that a shell offers at TAB: from the gateway, within a second, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sskai import profiles as stored
from sskai.cli import common
from sskai.client import Client

SECONDS = 1.0
NAMES = 50


def _offered(path: str, names: Callable[[dict[str, Any]], list[tuple[str, str]]]) -> Callable[[str], list[Any]]:
    def complete(incomplete: str) -> list[tuple[str, str]]:
        try:
            found = common.address()
            with Client(found.url, found.key, retry_seconds=0) as client:
                page = client.request("GET", path, params={"limit": NAMES}, timeout=SECONDS)
            offered = [each for item in page["data"] for each in names(item)]
        except Exception:
            return []  # a shell that waits for its user is no place for an error
        return [*dict.fromkeys(each for each in offered if each[0].startswith(incomplete))]

    return complete


def _job(item: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["id"], f"{item['name']}, {item['state']}"), (item["name"], "the newest of this name")]


def _endpoint(item: dict[str, Any]) -> list[tuple[str, str]]:
    if item["state"] == "deleted":
        return []
    return [(item["name"], f"{item['model']}, {item['state']}"), (item["id"], item["name"])]


def _dataset(item: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f"{item['name']}@{item['version']}", f"{item['rows']} rows"), (item["name"], "its newest version")]


jobs = _offered("/v1/jobs", _job)
endpoints = _offered("/v1/endpoints", _endpoint)
datasets = _offered("/v1/datasets", _dataset)
models = _offered("/v1/models", lambda item: [(item["id"], str(item.get("task") or ""))])
keys = _offered("/v1/keys", lambda item: [(item["id"], item["name"])])
webhooks = _offered("/v1/webhooks", lambda item: [(item["id"], item["url"])])


def profiles(incomplete: str) -> list[str]:
    try:
        return [name for name in stored.read().profiles if name.startswith(incomplete)]
    except stored.NotConfiguredError:
        return []
