"""A progress bar on standard error: on a terminal, or as one element of a notebook's cell."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn

_WIDTH = 160  # characters of a line in a notebook, which scrolls where it is narrower


class Bar(Progress):
    """A progress bar. `below`: what is shown on the lines below it."""

    below: Sequence[RenderableType] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from self.below


def progress_bar(*columns: ProgressColumn, **options: Any) -> Bar | None:
    """Returns a bar of these columns; None if there is neither a terminal nor a notebook to show it."""
    console = Console(stderr=True)
    if console.is_jupyter:
        return NotebookProgress(*columns, console=console)
    has_terminal = console.is_terminal and console.file.isatty()  # what a notebook's kernel starts has FORCE_COLOR set
    return Bar(*columns, console=console, **options) if has_terminal else None


class NotebookProgress(Bar):
    """A bar in the output of a notebook's cell, redrawn in place by `refresh`. Rich's own needs ipywidgets."""

    _shown: Any = None

    def start(self) -> None:
        from IPython.display import DisplayHandle

        self._shown = DisplayHandle()
        self._shown.display(self._drawn(), raw=True)

    def stop(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        if self._shown is not None:
            self._shown.update(self._drawn(), raw=True)

    def _drawn(self) -> dict[str, str]:
        """Returns the bar as HTML, and as text for what shows no HTML."""
        drawn = Console(file=StringIO(), record=True, width=_WIDTH, force_jupyter=False, color_system="truecolor")
        drawn.print(self.get_renderable())
        html = drawn.export_html(inline_styles=True, code_format="<pre>{code}</pre>", clear=False)
        return {"text/plain": drawn.export_text().rstrip(), "text/html": html}
