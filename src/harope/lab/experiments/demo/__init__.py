"""The demo: train two encodings, sample them and two released models, score all, and report."""

from harope.lab.experiments.demo.main import DemoConfig, run_demo

__all__ = ["DemoConfig", "run_demo"]
