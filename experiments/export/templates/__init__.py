"""The texts of an export that depend on the model, as jinja2 templates."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def write_template(name: str, folder: Path, **content: Any) -> None:
    """Writes the file `name` of an export."""
    texts = FileSystemLoader(Path(__file__).parent)
    templates = Environment(loader=texts, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    (folder / name).write_text(templates.get_template(name).render(content), encoding="utf-8")
