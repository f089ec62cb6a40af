"""Commands of `harope` one after another in the same processes: `torchrun many.py COMMANDS.json`.

Starting processes takes longer than small trainings, so one group of processes does several.
"""

import json
import sys

from harope.cli.main import main

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        if code := main(words):
            sys.exit(code)
