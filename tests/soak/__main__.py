"""Inject faults into commands of harope, and print one table: `make soak`."""

import sys

from soak.campaign import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
