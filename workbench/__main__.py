"""`python -m workbench`."""

import sys

from workbench import main

if __name__ == "__main__":
    sys.exit(main())
