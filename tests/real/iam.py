"""What an IAM policy allows: actions, resources and the conditions that ours use. Deny wins; the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any


def allows(policy: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str | list[str]]) -> bool:
    """Of one call. `context`: the condition keys that the call brings. Raises KeyError for an operator unknown here."""
    effects = {
        statement["Effect"]
        for statement in policy["Statement"]
        if any(_like(action.lower(), pattern.lower()) for pattern in listed(statement["Action"]))
        and any(_like(resource, pattern) for pattern in listed(statement["Resource"]))
        and _meets(statement.get("Condition", {}), context)
    }
    return effects == {"Allow"}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _like(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _meets(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str | list[str]]) -> bool:
    return all(
        _OPERATORS[operator](listed(context[key]) if key in context else None, [str(one) for one in listed(wanted)])
        for operator, asked in conditions.items()
        for key, wanted in asked.items()
    )


def _equals(found: list[str] | None, wanted: list[str]) -> bool:
    return found is not None and any(one in wanted for one in found)


def _matches(found: list[str] | None, wanted: list[str]) -> bool:
    return found is not None and any(_like(one, pattern) for one in found for pattern in wanted)


_OPERATORS = {
    "StringEquals": _equals,
    "ArnEquals": _matches,
    "StringLike": _matches,
    "Bool": _equals,
    "StringEqualsIfExists": lambda found, wanted: found is None or _equals(found, wanted),
    "ForAllValues:StringEquals": lambda found, wanted: all(one in wanted for one in found or []),
}
