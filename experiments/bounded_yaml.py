"""Reads YAML, for everybody: safely, with the numbers of YAML 1.2, and within bounds, whoever wrote it.

Aliases are where a small file becomes large: ten anchors, each a list of ten of the one before, are 10^10 values. So a
value counts as often as aliases repeat it, and a long text as several.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from lightning_modules.showable import is_text, showable

_CHARACTERS = 1_000_000
_VALUES = 50_000  # with those that aliases repeat; as many different ones are read in some seconds
_TEXT = 100  # characters of a text that count as one more value
_DEPTH = 50


class BadYaml(ValueError):
    """The text is not YAML, or beyond the bounds. The message is one line, with the place in the text."""


def read_yaml_file(path: Path) -> Any:
    """Returns what a file holds. Raises BadYaml, OSError, or UnicodeDecodeError."""
    with path.open(encoding="utf-8") as file:
        return read_yaml(file.read(_CHARACTERS + 1))


def read_yaml(text: str) -> Any:
    """Returns the value of a text: numbers, texts, lists, and mappings whose keys are texts. Raises BadYaml."""
    if len(text) > _CHARACTERS:
        raise BadYaml(f"it has more than {_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise BadYaml(_in_words(error)) from error


def _in_words(error: yaml.YAMLError) -> str:
    """Returns the error with its place in the text, in one line and without the text itself."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character {chr(error.character)!r}, at position {error.position:,}"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
    return ", ".join(filter(None, [error.context, error.problem, place]))


class _Loader(yaml.SafeLoader):
    """Reads numbers as in YAML 1.2, so that 1e-3 is a number and not a string. Counts what it reads."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}  # of the values that are complete, with those in them, by id

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise yaml.composer.ComposerError(None, None, "a value that contains itself", mark)
            self._add(self._sizes[id(node)], mark)
            return node
        before = self._count
        self._depth += 1
        if self._depth > _DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {_DEPTH} values inside each other", mark)
        self._add(1, mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode):
            self._add(len(node.value) // _TEXT, mark)
        self._sizes[id(node)] = self._count - before
        return node

    def _add(self, count: int, mark: yaml.Mark) -> None:
        self._count += count
        if self._count > _VALUES:
            message = f"more than {_VALUES:,} values, counted as often as aliases repeat them"
            raise yaml.composer.ComposerError(None, None, message, mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, OverflowError, TypeError) as error:  # such as a date in month 13
            reason = str(error).partition(":")[0]
            message = f"{showable(str(node.value), 20)!r} is not a value ({reason}; write text in quotes)"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark) from error
        if isinstance(value, str) and not is_text(value):
            message = "a text with NUL or half of a surrogate pair, which no file can hold"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        for key in mapping:
            if not isinstance(key, str):
                message = f"the key {key!r} is not text (write it in quotes)"
                raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
