"""The one logger: what a person at the terminal should know, a line each, on standard error.

`experiments.process.setup` configures it; where nobody does, as in a program of one's own, it stays silent.
"""

import logging

LOG = logging.getLogger("workbench")
