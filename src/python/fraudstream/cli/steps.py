"""What a long command does, step by step: shown while it runs, and how long it took."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.progress import SpinnerColumn
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn


class Steps:
    """Times the steps of a command and shows each while it runs.

    Parameters
    ----------
    console
        Where to show them. On a terminal a step moves; elsewhere it is one line when it is done.

    Attributes
    ----------
    seconds
        How long each finished step took, by its name.
    """

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[Callable[[str], None]]:
        """Show and time one step; yields a function that tells its latest news.

        Parameters
        ----------
        name
            Its key in `seconds`.
        doing
            What is done, for people.
        """
        started = time.monotonic()
        news = ""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[news]}"),
        )
        with Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        ) as progress:
            task = progress.add_task(escape(doing), total=None, news="")

            def tell(latest: str) -> None:
                nonlocal news
                news = latest
                progress.update(task, news=escape(latest))

            yield tell
        self.seconds[name] = time.monotonic() - started
        line = f"{doing}: {self.seconds[name]:.1f} s" + (f" ({news})" if news else "")
        self._console.print(f"[green]✓[/green] {escape(line)}", highlight=False)
