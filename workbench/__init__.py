"""The command line: `main` finds the command and prints its errors; each command has its own file.

May import every floor below, but heavy modules only inside functions: `workbench --help` loads none of them. To add a
command, add a file: it has the command's name, and `_command.Command` lists what it defines.
"""

import experiments.code.watched  # noqa: F401  (first: it notes what is loaded from now on)

# isort: split
import atexit
import errno
import faulthandler
import gc
import io
import json
import math
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

from experiments.process.redaction import know_words, redacted_streams
from lightning_modules.errors import InputError, WorkbenchError
from lightning_modules.showable import PROSE, showable
from workbench._command import Document, Stream
from workbench._parser import parse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    # By default Python collects garbage among all imported objects while torch loads, and again at exit. That takes
    # half the time of a short command.
    gc.set_threshold(100_000)
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # if native code crashes Python, names the line that called it
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have characters that a terminal lacks
            with suppress(OSError):
                stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    know_words(words)
    with redacted_streams():
        return _run(words)


def _run(words: list[str]) -> int:
    as_json = "--json" in words
    printed: list[Document] = []
    try:
        command, args = parse(words)  # ends the process if --help or --version is among the words
        if getattr(command, "RECORDS_CODE", False):
            from experiments.code.snapshot import first_snapshot

            first_snapshot()  # before the project's other modules are imported
        from experiments.process.setup import prepare_process

        prepare_process()
        with redirect_stdout(sys.stderr):  # standard output is only for the result, even if a library prints
            document = command.run(args)
        printed.append(document)
        if as_json:
            _print_json(document)
        else:
            command.show(document, args)
        if hasattr(command, "finish"):
            sys.stdout.flush()
            command.finish(args)
        return command.exit_code(document) if hasattr(command, "exit_code") else 0
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        sys.stderr.close()
        return 0
    except Exception as error:
        return _report(error, as_json and not printed)
    except SystemExit:
        raise
    except BaseException:  # KeyboardInterrupt, or Interrupted, which replaces it while a run is open
        print("interrupted", file=sys.stderr)
        return 130


def _report(error: Exception, as_json: bool) -> int:
    """Prints an error that a user can fix in one line, any other with its traceback. Returns the exit code."""
    error = _of_the_words(error) or error
    if as_json:
        print(json.dumps({"error": _as_fields(error)}, indent=2, default=str))
    if not isinstance(error, WorkbenchError):
        traceback.print_exception(error)
    print(f"error: {showable(str(error), PROSE)}", file=sys.stderr)
    return error.exit_code if isinstance(error, WorkbenchError) else WorkbenchError.exit_code


def _of_the_words(error: Exception) -> Exception | None:
    """Returns the error for a word or a file that the system itself refuses, wherever in the code; None for others."""
    message, value = "", None
    if isinstance(error, UnicodeEncodeError):
        message, value = "is not Unicode text: it has half of a surrogate pair", error.object
    elif isinstance(error, OSError) and error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
        message, value = f"the system refuses this path: {error.strerror}", error.filename
    elif isinstance(error, ValueError) and "embedded null" in str(error):
        message = "a path has a NUL"
    return InputError("command line", value, message, "correct it") if message else None


def _as_fields(error: Exception) -> Document:
    """Returns what `--json` prints of an error."""
    known = error if isinstance(error, WorkbenchError) else WorkbenchError(f"{type(error).__name__}: {error}")
    fields = {name: getattr(known, name) for name in ("field", "value", "message")}
    return fields | {"remedy": known.remedy or None}


def _print_json(document: Document) -> None:
    """Prints one JSON document; a list that is still being computed item by item, and whole even if that is ended."""
    (name, value), *_ = document.items() or [("", None)]
    if not isinstance(value, Stream):
        print(json.dumps(_finite(document), indent=2, default=str))
        return
    print(f'{{\n  "{name}": [', end="", flush=True)
    error = ""
    try:
        for number, item in enumerate(value):
            print(f"{',' if number else ''}\n    {_indented(_finite(item), 4)}", end="", flush=True)
    except Exception as failure:
        error = f',\n  "error": {_indented(_as_fields(failure), 2)}'
        raise
    finally:
        print(f"\n  ]{error}\n}}", flush=True)


def _indented(document: Any, width: int) -> str:
    return json.dumps(document, indent=2, default=str).replace("\n", "\n" + " " * width)


def _finite(document: Any) -> Any:
    """Replaces NaN and infinities, which JSON does not have, by null."""
    if isinstance(document, dict):
        return {name: _finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document
