"""`python -m harope`: the `harope` command."""

import sys

from harope.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
