"""The command line: `main` finds the command and prints its errors; each command has its own file.

May import every floor below, but heavy modules only inside functions: `workbench --help` loads none of them. To add a
command, add a file: it has the command's name, and `_command.Command` lists what it defines.
"""

import atexit
import faulthandler
import gc
import json
import math
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from lightning_modules.errors import WorkbenchError
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
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        command, args = parse(words)  # ends the process if --help or --version is among the words
        from experiments.process.setup import prepare_process

        prepare_process()
        with redirect_stdout(sys.stderr):  # standard output is only for the result, even if a library prints
            document = command.run(args)
        if as_json:
            print(json.dumps(_finite(document), indent=2))
        else:
            command.show(document, args)
        return command.exit_code(document) if hasattr(command, "exit_code") else 0
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        sys.stderr.close()
        return 0
    except Exception as error:
        return _report(error, as_json)
    except SystemExit:
        raise
    except BaseException:  # KeyboardInterrupt, or Interrupted, which replaces it while a run is open
        print("interrupted", file=sys.stderr)
        return 130


def _report(error: Exception, as_json: bool) -> int:
    """Prints an error that a user can fix in one line, any other with its traceback. Returns the exit code."""
    known = error if isinstance(error, WorkbenchError) else WorkbenchError(f"{type(error).__name__}: {error}")
    if as_json:
        fields = {name: getattr(known, name) for name in ("field", "value", "message")}
        fields["remedy"] = known.remedy or None
        print(json.dumps({"error": fields}, indent=2, default=str))
    if known is not error:
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)
    return known.exit_code


def _finite(document: Any) -> Any:
    """Replaces NaN and infinities, which JSON does not have, by null."""
    if isinstance(document, dict):
        return {name: _finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document
