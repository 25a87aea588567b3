"""What a run shows while it works: lines, and one progress bar for the task at hand."""

from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Lines and a transient progress bar on a console; without a terminal, lines alone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", visible=False)
        self._what = ""

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def progress(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `what` are made.

        The bar goes when all are, so that libraries can draw their own in between.
        """
        if what != self._what:
            self._what = what
            self._bar.reset(self._task, description=what, total=total, visible=True)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._what = ""
            self._bar.stop()

    def say(self, line: RenderableType) -> None:
        """Print above the bar. Words are printed as they are: they may be a peer's, and what looks
        like rich's markup is none."""
        self._console.print(line, markup=False)
