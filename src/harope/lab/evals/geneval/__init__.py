"""GenEval (Ghosh et al. 2023, arXiv 2310.11513)."""
