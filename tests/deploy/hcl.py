"""deploy/terraform as values: resources, and the statements of IAM policies. Nothing is evaluated: `${var.x}` stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).parents[2] / "deploy" / "terraform"


@dataclass(frozen=True)
class Resource:
    kind: str
    name: str
    file: str  # below deploy/terraform
    body: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}.{self.name}"

    def blocks(self, name: str) -> list[dict[str, Any]]:
        """Of this name, those that a `dynamic` makes included."""
        found = list(self.body.get(name, []))
        for dynamic in self.body.get("dynamic", []):
            found += [made["content"][0] for kind, made in dynamic.items() if kind == name]
        return found


@dataclass(frozen=True)
class Statement:
    """Of a policy. Lists stay text where an expression makes them."""

    file: str
    effect: str
    actions: list[str]
    resources: list[str]
    text: str


def files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.tf") if ".terraform" not in path.parts)


@cache
def parsed() -> dict[str, dict[str, Any]]:
    """Every file, its strings without their quotation marks."""
    return {str(path.relative_to(ROOT)): _bare(hcl2.loads(path.read_text())) for path in files()}


def resources(kind: str = "") -> list[Resource]:
    return [
        Resource(found_kind, name, file, body)
        for file, content in parsed().items()
        for block in content.get("resource", [])
        for found_kind, named in block.items()
        for name, body in named.items()
        if kind in ("", found_kind)
    ]


def statements() -> Iterator[Statement]:
    """Of every policy: what has an Effect. Trust policies too."""
    for path in files():
        text = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
        for match in re.finditer(r"\bEffect\s*=\s*\"(\w+)\"", text):
            statement = _braces_around(text, match.start())
            yield Statement(
                str(path.relative_to(ROOT)),
                match.group(1),
                _values(statement, "Action"),
                _values(statement, "Resource"),
                statement,
            )


def _braces_around(text: str, position: int) -> str:
    begin, depth = position, 1
    while depth:
        begin -= 1
        depth += {"}": 1, "{": -1}.get(text[begin], 0)
    end, depth = begin + 1, 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[begin:end]


def _values(statement: str, key: str) -> list[str]:
    """The strings after `key =`; an expression without any, as it is written."""
    found = re.search(rf"\b{key}\s*=\s*(\[.*?\n\s*\]|\[[^\n]*\]|[^\n,]*)", statement, re.DOTALL)
    if found is None:
        return []
    return re.findall(r'"((?:[^"\\]|\\.)*)"', found.group(1)) or [found.group(1).strip()]


def _bare(value: Any) -> Any:
    match value:
        case dict():
            return {_bare(key): _bare(inner) for key, inner in value.items() if key != "__is_block__"}
        case list():
            return [_bare(inner) for inner in value]
        case str() if len(value) > 1 and value[0] == value[-1] == '"':
            return value[1:-1]
    return value
