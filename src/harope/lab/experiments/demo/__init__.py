"""The demo: train two encodings, sample them and a released pair, score all four, report."""

from harope.lab.experiments.demo.main import DemoConfig, run_demo

__all__ = ["DemoConfig", "run_demo"]
