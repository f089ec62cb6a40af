"""The study of docs/results/study.md: its runs, and the script that carries them out."""
