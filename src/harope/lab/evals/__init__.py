"""Benchmarks, one folder or file each."""
