"""Faster forms of the formulas in `harope.rope`, chosen in `dispatch`."""
