"""DPG-Bench (Hu et al. 2024, arXiv 2403.05135)."""
