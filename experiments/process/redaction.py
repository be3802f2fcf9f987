"""Recognises credentials, which must not appear in anything that leaves the process: terminal, logs, records, pages.

A URL is recognised by its form. But a password may hold any character, and a library may quote a part of it. So the
passwords that this process was given are known, too, and are removed wherever they stand.
"""

import html
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import translate
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TextIO, TypeVar
from urllib.parse import quote, quote_plus, unquote

_FILES = (".env", ".env.*", "*.pem", "*.key", "*id_rsa*", "*credentials*", "*secret*", "*token*", ".netrc")
_SECRET_NAME = re.compile("|".join(map(translate, _FILES)))
_URLS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")  # variables that may hold a URL with a password
_PASSWORDS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "WORKBENCH_TOKEN",
)
_WORDS = r"token|secret|passw|credential|auth|key"
# Everything before the host, except ssh's `git@`: it is not a secret, and the URL does not work without it. Our own
# messages have the placeholder `USER@`.
_USERINFO = re.compile(r"(?<=://)(?!git@|USER@)[^/\s]*@")
# With a slash in the password. What follows the colon must not be a port and the path behind it, which may hold an `@`.
_USERINFO_WITH_SLASH = re.compile(r"""(?<=://)[^/\s:@]*:(?!\d*(?:[/?#\s]|$))[^\s"'<>]*@""")
# An argument that is a URL with a password, or sets an option to one.
_GIVEN = re.compile(r"(?:--[^=\s]*=)?(?:postgres[\w+]*://.*@|[\w+.-]+://[^/?#@:]*:(?!\d*(?:[/?#]|$)).*@)", re.DOTALL)
# The key of a view that MLflow's UI shares is no secret, and the link does not work without it.
_QUERY = re.compile(rf"""([?&](?!viewStateShareKey=)[^=&\s]*(?:{_WORDS})[^=&\s]*=)[^&#\s"'<>]*""", re.IGNORECASE)

_told: dict[str, None] = {}  # URLs that were given in another way than by a variable

_Tree = TypeVar("_Tree", bound=Mapping[str, Any])


def know(url: str) -> None:
    """Tells this module the URL of a database or a server. Call it where it is read, before anything can fail."""
    if "@" in url:
        _told[url] = None


def know_words(words: Iterable[str]) -> None:
    """Tells this module those of a command's arguments that are URLs with a password."""
    for word in filter(_GIVEN.match, words):
        know(word)


def is_secret_file(name: str) -> bool:
    """Whether a file or one of its parent folders has a typical credential name. `tokenizer.py` is not one."""
    name = re.sub(r"token[^/]*\.py$", ".py", name.lower())
    return any(map(_SECRET_NAME.match, PurePath(name).parts))


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable has a typical credential name."""
    return re.search(_WORDS, name, re.IGNORECASE) is not None


def without_credentials(text: str) -> str:
    """Removes user and password from the URLs in `text`, and the values of query fields such as `access_token`.

    Also removes the passwords that this process knows, unless they are short or plain words and stand alone.
    """
    for secret, instead in _known():
        text = text.replace(secret, instead)
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _USERINFO_WITH_SLASH.sub("", _USERINFO.sub("", text)))


def urls_without_credentials(tree: _Tree) -> _Tree:
    """Returns nested fields with every URL in them redacted. Other texts stay as they are."""
    return _redacted(tree)  # type: ignore[no-any-return]


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_redacted, value))
    return without_credentials(value) if isinstance(value, str) and "://" in value else value


def holds_credentials(content: bytes) -> bool:
    """Whether a file's bytes hold a password that this process knows."""
    return any(secret.encode(errors="replace") in content for secret, _ in _known())


@contextmanager
def redacted_streams() -> Iterator[None]:
    """Redacts everything that Python code writes to standard output and standard error inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _RedactedStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _RedactedStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(without_credentials(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _known() -> tuple[tuple[str, str], ...]:
    """Returns every known text to remove, the longest first, and what stands there instead."""
    urls = (*(os.environ.get(name, "") for name in _URLS), *_told)
    return _texts(urls, tuple(os.environ.get(name, "") for name in _PASSWORDS))


@lru_cache(maxsize=8)
def _texts(urls: tuple[str, ...], passwords: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for url in urls:
        for userinfo in _userinfos(url):
            _, colon, password = userinfo.partition(":")
            if colon and password:
                found |= dict.fromkeys((f"{form}@" for form in _forms(userinfo)), "")
                passwords = (*passwords, password)
    for password in passwords:
        found |= {form: "***" for form in _forms(password) if _is_distinctive(form)}
    return tuple(sorted(found.items(), key=lambda each: -len(each[0])))


def _userinfos(url: str) -> set[str]:
    """Returns what may be user and password of a URL whose password may hold `@`, `/`, `?` and `#` as they are."""
    rest = url.partition("://")[2] or url
    ends = {rest.find("@"), re.split(r"[/?#]", rest, maxsplit=1)[0].rfind("@")}
    if not ends - {-1} or re.match(r"[^/?#@]*:[^/?#@]*[/?#]", rest):  # the first of these is in the password
        ends.add(rest.rfind("@"))
    return {rest[:end] for end in ends if end > 0 and rest[:end] != "git"}


def _forms(text: str) -> set[str]:
    """Returns the ways in which a text may be written: as it is, encoded for a URL, in JSON, in HTML, quoted."""
    plain = {text, unquote(text)}
    encoded = {encode(each) for each in plain for encode in (quote, quote_plus, lambda each: quote(each, safe=""))}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), each) for each in encoded}
    written = {form for each in plain for form in (json.dumps(each)[1:-1], repr(each)[1:-1], html.escape(each))}
    return plain | encoded | lower | written


def _is_distinctive(password: str) -> bool:
    """Whether a password can be removed where it stands alone, and nothing else will be removed with it.

    A password such as `mlflow` or `1234` is also part of names, paths and numbers.
    """
    kinds = {"letter" if c.isalpha() else "digit" if c.isdigit() else "other" for c in password}
    return len(password) >= (5 if len(kinds) > 1 else 12)
