"""The list of slow tests names folders, files and tests that exist."""

import re
from pathlib import Path

from conftest import SLOW

TESTS = Path(__file__).parents[1]


def test_slow_folders_files_and_tests_exist():
    for entry in SLOW:
        path, _, name = entry.partition("::")
        assert (TESTS / path).exists(), entry
        if name:
            assert re.search(rf"^def {name}\(", (TESTS / path).read_text(), re.MULTILINE), entry
