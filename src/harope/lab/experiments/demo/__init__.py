"""The demo: HARoPE in a released model, a training from nothing, and scores, on one page."""

from harope.lab.experiments.demo.config import DemoConfig
from harope.lab.experiments.demo.main import run_demo

__all__ = ["DemoConfig", "run_demo"]
