"""The command line: `sskai up`, `sskai train --data chats.jsonl`, `sskai jobs logs --follow`, ...; `--json` everywhere.

One module for each group of commands; `program.py` puts them together (docs/guides/cli.md).
"""

from sskai.cli.program import app, main

__all__ = ["app", "main"]
