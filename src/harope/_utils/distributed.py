"""This process among others."""

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def this_process() -> PartialState:
    """Its number, device and how many there are; on the CPU where ACCELERATE_USE_CPU says so.

    PartialState alone does not read that variable: every process would do all the work.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
