"""What the person at the terminal sees: live progress on a terminal, plain lines elsewhere, silence for `--json`."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree


class Screen:
    """Steps, lines, tables and one progress bar. With `quiet` everything goes to standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=quiet, highlight=False)
        self.live = self.console.is_terminal
        self._started = time.monotonic()

    def step(self, title: str) -> None:
        elapsed = time.monotonic() - self._started
        self.console.print(f"\n[bold cyan]{title}[/bold cyan] [dim]({elapsed:.0f} s)[/dim]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}")
        sys.stdout.flush()

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        table = Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 1))
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number < 3 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def tree(self, root: Tree) -> None:
        self.console.print(root)

    def training(self, total_steps: int) -> TrainingBar:
        return TrainingBar(self, total_steps)


class TrainingBar:
    """The training's progress: a bar on a terminal, a line every few steps elsewhere."""

    def __init__(self, screen: Screen, total_steps: int) -> None:
        self._screen = screen
        self._total = total_steps
        self._told = -1
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=screen.console,
            disable=not screen.live,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task("training", total=self._total, detail="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: dict[str, Any]) -> None:
        """An AttemptProgressed event's data."""
        step, phase = int(progress.get("step", 0)), progress.get("phase", "")
        loss = f"loss {progress['loss']:.3f}" if progress.get("loss") else phase
        assert self._task is not None
        attempt = f"attempt {progress.get('attempt', 0)}"
        self._bar.update(self._task, completed=step, description=f"{attempt} {phase}", detail=loss)
        if not self._screen.live and phase == "training" and step // 5 != self._told // 5:
            self._screen.say(f"{attempt}: step {step}/{self._total}, {loss}")
            self._told = step

    def say(self, text: str) -> None:
        self._bar.console.print(f"  {text}")
