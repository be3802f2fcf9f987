"""Makes text from outside fit to be shown: on a terminal, in a log, in a picture, on a page.

Names come from files, folders and recipes, which may be somebody else's. An escape sequence in one could rewrite the
terminal, and a bidirectional control could make it read as another name. Data and records keep the true name.
"""

import re

NAME, PROSE = 1_000, 4_000  # the most characters that are shown of a name, and of a paragraph
IN_PICTURE = 40
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control characters
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of direction: https://unicode.org/reports/tr9
    r"\u2028\u2029\ufeff\ufff9-\ufffb"  # separators of lines and paragraphs, byte order mark, annotations
    r"\ud800-\udfff]"  # halves of surrogate pairs, which no encoding has
)


def showable(text: str, most: int = NAME) -> str:
    r"""Returns the text in one line, with unsafe characters as escapes such as `\x1b`, cut to `most` characters."""
    shown = _UNSAFE.sub(lambda match: escaped(match[0]), text[:most])
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def showable_lines(text: str, most: int = PROSE) -> str:
    """Like `showable`, but keeps the lines of the text, and cuts each one. A tab becomes spaces."""
    return "\n".join(showable(line.removesuffix("\r").expandtabs(4), most) for line in text.split("\n"))


def in_picture(text: str, most: int = IN_PICTURE) -> str:
    """Like `showable`, for matplotlib, which would read the text between two dollar signs as a formula."""
    shown = showable(text[: most + 1])
    return (shown if len(shown) <= most else shown[:most] + "…").replace("$", r"\$")


def in_markdown(text: str) -> str:
    """Like `showable`, for a description in MLflow: what is markup in Markdown or HTML is shown as it is."""
    shown = showable(text, PROSE).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|~]|(?<=\])\()", r"\\\1", shown)


def is_text(text: str) -> bool:
    """Whether files and databases can hold the text: it has no half of a surrogate pair, and no NUL."""
    return re.search("[\x00\ud800-\udfff]", text) is None


def escaped(text: str) -> str:
    r"""Returns the text with an escape such as `\x1b` or `\u732b` for every character outside of ASCII's letters."""
    return text.encode("unicode_escape").decode()
