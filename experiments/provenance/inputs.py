"""What a run used beside its recorded code and data: other files, and environment variables that the project reads."""

import ast
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.code.kept import Code
from experiments.code.loading import watch
from experiments.code.portable import portable
from experiments.process.redaction import is_secret_variable, without_credentials
from experiments.recipe import recipes_read
from lightning_modules.images.remembered import cache_folder, known_sha256, remembered

_MOST = 200  # files that are named
_NOISE = ("~/.config/", "~/.cache/matplotlib/", "~/.netrc", "~/.gitconfig", "~/.pg")
_OF_A_STORE = re.compile(r"/(m-)?[0-9a-f]{32}/artifacts/|/code\.git/config$|/owners/[0-9a-f]{16}")
_OUR_OWN = ("WORKBENCH_", "MLFLOW_", "RAY_", "PG", "XDG_")  # variables that the workbench itself reads


def inputs(code: Code) -> dict[str, Any]:
    """Returns what the run has used so far that is not in its record.

    - `files`: [{path, sha256, bytes}], opened by the run or imported by its process, but not part of the code, the data
      or installed packages; the hash is null for a file that is gone or cannot be read.
    - `more_files`: how many more there were.
    - `variables`: {name: value} of the environment variables that the loaded files of the project read; null if one is
      not set, `***` if it looks like a secret. A name that the code computes is not known: `file.py:12` stands for it.
    """
    paths = sorted(
        path for path in {*watch().ran, *watch().read_since(code.since)} if _is_beside_the_record(path, code)
    )
    return {
        "files": [_file(path) for path in paths[:_MOST]],
        "more_files": max(0, len(paths) - _MOST),
        "variables": dict(sorted(_variables(code))),
    }


def merged(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the inputs of a run that several processes have worked on."""
    if before is None:
        return now
    files = {file["path"]: file for file in (*before["files"], *now["files"])}
    return {
        "files": [files[path] for path in sorted(files)],
        "more_files": max(before["more_files"], now["more_files"]),
        "variables": dict(sorted({**before["variables"], **now["variables"]}.items())),
    }


def _is_beside_the_record(path: str, code: Code) -> bool:
    name, watched = code.name_of(path), watch()
    if name is not None and (name in code.tree.files or any(part.startswith(".") for part in name.split("/"))):
        return False
    is_known = any(f"{path}/".startswith(f"{folder}/") for folder in code.without) or Path(path) in recipes_read
    is_temporary = path.startswith(tempfile.gettempdir()) and ("/torchinductor" in path or not Path(path).exists())
    is_own_product = path in watched.written or path.startswith("/tmp/ray/") or _OF_A_STORE.search(path) is not None
    is_cached = Path(path).is_relative_to(cache_folder())
    is_noise = portable(path).startswith(_NOISE) or ".egg-info/" in path
    return not (is_known or is_temporary or is_own_product or is_cached or is_noise)


def _file(path: str) -> dict[str, Any]:
    try:
        return {"path": portable(path), "sha256": known_sha256(Path(path)), "bytes": Path(path).stat().st_size}
    except OSError:
        return {"path": portable(path), "sha256": None, "bytes": None}


def _variables(code: Code) -> Iterator[tuple[str, str | None]]:
    for path, content in watch().ran.items():
        name = code.name_of(path)
        if name is None or content is None or not (b"environ" in content or b"getenv" in content):
            continue
        for line, variable in _asked(content):
            if variable is None:
                yield f"{name}:{line}", None
            elif not variable.startswith(_OUR_OWN):
                value = os.environ.get(variable)
                is_secret = value is not None and is_secret_variable(variable)
                yield variable, "***" if is_secret else value and without_credentials(value)


def _asked(content: bytes) -> list[tuple[int, str | None]]:
    """Returns what `_read_in` yields. A module's text is analysed once on a machine."""
    key = f"variables in a module, version 1: {sha256(content).hexdigest()}, {sys.version_info[:2]}"
    found: list[tuple[int, str | None]] = json.loads(remembered(key, lambda: json.dumps([*_read_in(content)])))
    return found


def _read_in(content: bytes) -> Iterator[tuple[int, str | None]]:
    """Yields each place where a module reads an environment variable, with its name; None if that is computed."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        asked: ast.expr
        match node:
            case ast.Subscript(value=where, slice=asked, ctx=ast.Load()) if _is_environ(where):
                pass
            case ast.Call(func=ast.Attribute(value=where, attr="get" | "pop" | "setdefault"), args=[asked, *_]):
                if not _is_environ(where):
                    continue
            case ast.Call(func=ast.Attribute(attr="getenv") | ast.Name(id="getenv"), args=[asked, *_]):
                pass
            case ast.Compare(left=asked, ops=[ast.In() | ast.NotIn()], comparators=[where]) if _is_environ(where):
                pass
            case _:
                continue
        value = asked.value if isinstance(asked, ast.Constant) else None
        yield node.lineno, value if isinstance(value, str) else None


def _is_environ(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(attr="environ") | ast.Name(id="environ"):
            return True
    return False
