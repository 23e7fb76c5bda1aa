"""What a person sees of a deploy while it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Report:
    """Lines for a terminal, or for the log of a CI run.

    Parameters:
        console: where they are written.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is being done, and then that it has been done."""
        if self._console.is_terminal:
            with self._console.status(escape(text)):
                yield
        else:
            yield
        self.done(text)

    def headline(self, text: str) -> None:
        """Show what begins now."""
        self._console.print(f"[bold]{escape(text)}[/bold]")

    def done(self, text: str) -> None:
        """Show that something has been done, or is as it should be."""
        self._console.print(f"[green]✓[/green] {escape(text)}")

    def problem(self, text: str) -> None:
        """Show that something is not as it should be."""
        self._console.print(f"[red]✗[/red] {escape(text)}")

    def say(self, text: str) -> None:
        """Show a text as it is."""
        self._console.print(escape(text))
