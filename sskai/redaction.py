"""Users' words without what points at a person or opens a door: for what is told of requests, and trained on. Pure."""

from __future__ import annotations

import re

MAX_CHARACTERS = 2_000

_REDACTIONS = (
    # Before the e-mail address, whose rule would leave the user's name of a URL behind.
    (re.compile(r"(?<=://)[^\s/@:]{1,256}:[^\s/@]{1,256}(?=@)"), "[credentials]"),
    (re.compile(r"[^\s@<>\"(),:;\[\]\\]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "[email]"),
    (re.compile(r"\b(?:sk|pk|rk|sskai|ghp|gho|ghs|github_pat|glpat|hf|xox[abprs])[-_][\w-]{8,}"), "[key]"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "[key]"),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*"), "[key]"),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/-]{8,}=*"), r"\1 [key]"),
    # Telephone, card, account and identity numbers: seven digits or more, also in groups.
    (re.compile(r"\+?\d(?:[ .()/-]{0,2}\d){6,}"), "[number]"),
)


def redacted(text: str) -> str:
    """The text without e-mail addresses, keys and long numbers, cut to 2,000 characters.

    Redacted before it is cut: a secret that straddles the limit would no longer look like one.
    """
    clean = text[: 2 * MAX_CHARACTERS].replace("\x00", "")
    for pattern, replacement in _REDACTIONS:
        clean = pattern.sub(replacement, clean)
    return clean[:MAX_CHARACTERS]
