"""What runs experiments: data, training, sampling, metrics, benchmarks, comparisons.

Nothing outside this package and the command line imports it.
"""
