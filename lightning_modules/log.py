"""The project's only logger. It prints messages for the user to standard error, one line each.

`experiments.process.setup` configures it. A program that does not call this sees only warnings.
"""

import logging

LOG = logging.getLogger("workbench")
