"""The progress of a command, as a person sees it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Report:
    """Lines for a terminal, or for the log of a CI run.

    Parameters:
        console: receives the lines.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a step while it runs and, unless it raises, as done afterwards."""
        if self._console.is_terminal:
            with self._console.status(escape(text)):
                yield
        else:
            yield
        self.done(text)

    def headline(self, text: str) -> None:
        """Show the title of the next part."""
        self._console.print(f"[bold]{escape(text)}[/bold]")

    def done(self, text: str) -> None:
        """Show a step that is done, or a check that passed."""
        self._console.print(f"[green]✓[/green] {escape(text)}")

    def problem(self, text: str) -> None:
        """Show a problem."""
        self._console.print(f"[red]✗[/red] {escape(text)}")

    def say(self, text: str) -> None:
        """Show a text as it is."""
        self._console.print(escape(text))
