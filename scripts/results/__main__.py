"""Produce a page of docs/results: `python -m scripts.results PAGE`.

Runs and samples are written to `runs/results`; those that exist are resumed or reused.
"""

import argparse

from scripts.results.compare import write_compare
from scripts.results.digits import write_digits
from scripts.results.distances import write_distances
from scripts.results.encodings import write_encodings
from scripts.results.fashion import write_fashion
from scripts.results.flux import write_flux
from scripts.results.gpu import write_gpu
from scripts.results.heads import write_heads_page
from scripts.results.memory import write_memory
from scripts.results.scenes import write_reader, write_scenes
from scripts.results.speed import write_speed
from scripts.results.study import write_study
from scripts.results.text_to_image import write_text_to_image

PAGES = {
    "scenes": write_scenes,
    "reader": write_reader,
    "fashion": write_fashion,
    "distances": write_distances,
    "memory": write_memory,
    "digits": write_digits,
    "text-to-image": write_text_to_image,
    "flux": write_flux,
    "compare": write_compare,
    "heads": write_heads_page,
    "speed": write_speed,
    "gpu": write_gpu,
    "study": write_study,
    "encodings": write_encodings,
}
"""Function that writes each page."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.results", description=__doc__)
    parser.add_argument("page", choices=tuple(PAGES), help="page to produce")
    PAGES[parser.parse_args().page]()
