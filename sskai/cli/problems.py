"""What goes wrong, as a person reads it, and the exit code that says so to a program. No command prints a stack."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import httpx2
import typer
from rich.markup import escape
from typer.core import TyperGroup

from sskai.cli import common
from sskai.client import SskaiError, UnreachableError
from sskai.client.errors import UNAUTHORISED
from sskai.local.processes import StartError
from sskai.profiles import NotConfiguredError

REFUSED, UNREACHABLE = 1, 3
FORBIDDEN = 403


class Reporting(TyperGroup):
    """The program's root: errors of all commands end here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SskaiError as error:
            code = UNREACHABLE if isinstance(error, UnreachableError) or error.status == UNAUTHORISED else REFUSED
            _say(str(error.problem.get("title") or "Refused"), *_lines(error))
        except NotConfiguredError as error:
            code = UNREACHABLE
            _say("", str(error))
        except httpx2.HTTPError as error:
            code = UNREACHABLE
            _say("The connection broke", repr(error))
        except (StartError, TimeoutError) as error:
            code = REFUSED
            _say(type(error).__name__, str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader of a pipe has left
            code = REFUSED
            _say("", f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(code)


def _lines(error: SskaiError) -> list[str]:
    """The problem document's words, its fields where the words leave them out, and what to do."""
    problem = error.problem
    detail = str(problem.get("detail") or "")
    lines = [detail]
    errors = problem.get("errors")
    if isinstance(errors, list) and len(errors) > 1:
        lines += [_field(each) for each in errors[1:] if isinstance(each, Mapping)]
    field = str(problem.get("field") or "")
    if field and field not in detail:
        lines.append(f"Field: {field}")
    if (advice := problem.get("advice")) and str(advice) not in detail:
        lines.append(str(advice))
    if upload_id := problem.get("upload_id"):
        lines.append(f"What was sent is kept: the same command with --resume {upload_id} sends the rest.")
    if error.status == UNAUTHORISED:
        lines.append("Sign in: `sskai login --url URL --key KEY`, or set SSKAI_GATEWAY_URL and SSKAI_API_KEY.")
    elif isinstance(error, UnreachableError):
        lines.append("Is it running? `sskai status` shows the embedded stack, `sskai whoami` which gateway is meant.")
    return [line for line in lines if line]


def _field(error: Mapping[str, Any]) -> str:
    return f"{error.get('field', '')}: {error.get('message', '')}".strip(": ")


def _say(title: str, *lines: str) -> None:
    first, *rest = lines or ("",)
    head = f"[red]{escape(title)}[/red]: " if title else ""
    common.err.print(f"{head}{escape(first)}", highlight=False, soft_wrap=True)
    for line in rest:
        common.err.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
