"""The project's only logger. It prints messages for the user to standard error, one line each.

`experiments.process.setup` configures it. A program that does not call this sees only warnings.
"""

import logging
from functools import cache

LOG = logging.getLogger("workbench")


@cache  # the trials of a sweep have the same to say
def say_once(message: str, level: int = logging.INFO) -> None:
    """Logs a message the first time that this process says it."""
    LOG.log(level, message)
