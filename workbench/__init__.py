"""The command line: `main` finds the command and prints its errors; then one command a file.

May import every floor below, but only inside functions: `workbench --help` loads the standard library alone. To add a
command, add a file: its name is the command's, and `_command.Command` lists what it defines.
"""

import atexit
import gc
import json
import math
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from experiments.process.setup import prepare_process
from lightning_modules.errors import WorkbenchError
from lightning_modules.log import LOG
from workbench._parser import parse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    # By default Python looks for garbage among all imported objects while torch loads, and again at the exit: half the
    # time of a short command.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    prepare_process()
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        command, args = parse(words)
        with redirect_stdout(sys.stderr):  # standard output is for the result alone, whatever a library prints
            document = command.run(args)
        if as_json:
            print(json.dumps(_finite(document), indent=2))
        else:
            command.show(document, args)
        return command.exit_code(document) if hasattr(command, "exit_code") else 0
    except BrokenPipeError:  # the reader of our output, such as head, has enough
        sys.stderr.close()
        return 0
    except Exception as error:
        return _report(error, as_json)
    except SystemExit:
        raise
    except BaseException:  # KeyboardInterrupt, or the Interrupted that it becomes while a run is open
        LOG.error("interrupted")
        return 130


def _report(error: Exception, as_json: bool) -> int:
    """Prints an error that a user can do something about in one line, any other with its traceback."""
    known = error if isinstance(error, WorkbenchError) else WorkbenchError(f"{type(error).__name__}: {error}")
    if as_json:
        fields = {name: getattr(known, name) or None for name in ("field", "value", "message", "remedy")}
        print(json.dumps({"error": fields}, indent=2, default=str))
    if known is not error:
        traceback.print_exception(error)
    LOG.error(f"error: {error}")
    return known.exit_code


def _finite(document: Any) -> Any:
    """NaN and infinities, which JSON does not have, as null."""
    if isinstance(document, dict):
        return {name: _finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document
