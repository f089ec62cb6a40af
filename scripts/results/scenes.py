"""Pages on the built-in scenes: the released pair of models, and the accuracy of the reader."""

from importlib.resources import files
from pathlib import Path

from harope.lab.evals.scenes.folder_scores import ceiling_scores, folder_scores, rendered_scores
from harope.lab.evals.scenes.prompts import scene_labels
from harope.lab.metrics.intervals import Scores
from harope.lab.reporting.images import grid_of_files
from harope.lab.reporting.plots import plot_losses, plot_scores
from harope.lab.sampling.class_folder import FolderPlan, read_folder, sample_folder
from harope.lab.sampling.runs import load_generator
from harope.lab.training.logging import read_metrics
from scripts.results.page import COMMAND, PAGES, WORK, Part, score_rows, write_page


def write_scenes() -> None:
    """The released pair on scenes: 300 single objects and 300 pictures of several."""
    labels = scene_labels(rounds=10)
    columns: dict[str, Scores] = {}
    curves, commands = {}, [("encoding", "command")]
    for encoding in ("harope", "axial"):
        folder = Path(str(files("harope.lab").joinpath("checkpoints", f"scenes-dit-{encoding}")))
        plan = FolderPlan(shape=(3, 32, 32), labels=labels, count=len(labels))
        drawn = sample_folder(load_generator(folder), plan, WORK / f"scenes-{encoding}")
        columns[encoding] = folder_scores(drawn)["samples"]
        curves[encoding] = read_metrics(folder)
        _, pictures = read_folder(drawn)
        grid_of_files(pictures[:120], PAGES / f"scenes-{encoding}.png", columns=15)
        commands.append((encoding, f"`{(folder / 'command.txt').read_text().strip()}`"))
    columns["ceiling"] = rendered_scores(list(labels), 32)
    plot_losses(curves, PAGES / "scenes-losses.png")
    plot_scores(columns, PAGES / "scenes-scores.png")
    write_page(
        "scenes",
        "The released pair on scenes",
        f"Made by `{COMMAND} scenes`: 600 samples each, every kind in every colour ten times alone "
        "and ten times in 2 to 6 copies, the same seeds for both. One training each, seed 0: the "
        "intervals (95 %, Wilson) cover the samples, not the training, so a difference between the "
        "columns is no evidence for an encoding. The ceiling is what the reader gives rendered "
        "scenes of the same classes.",
        score_rows(columns),
        "single_object: the kind is there. colors: the kind in its colour. single_exact: and "
        "nothing else in the picture. counting: of 2 to 6, the right number of the kind. exact: "
        "all pictures, everything right.",
        "![scores](scenes-scores.png)",
        "Trained by",
        commands,
        "![losses](scenes-losses.png)",
        "harope: circles, squares, triangles, stars, crosses, each in red, yellow, green, cyan, "
        "blue, purple; then the same in 2 to 6 copies in turn; then both again.",
        "![harope](scenes-harope.png)",
        "axial, the same labels and seeds.",
        "![axial](scenes-axial.png)",
    )


def write_reader() -> None:
    """The scenes reader on rendered scenes, clean and degraded."""
    sections: list[Part] = []
    for size in (32, 64):
        sections += [f"## {size} pixels", score_rows(ceiling_scores(size, count=250))]
    write_page(
        "reader",
        "How well the scenes reader reads",
        f"Made by `{COMMAND} reader`: 250 rendered scenes per task. Exact: the number, all kinds "
        "and all colours are right, centres to 0.03 and radii to 0.02 of the side. Solved: the "
        "scene read satisfies its prompt, which is how a generated picture is scored. Noise is "
        "Gaussian on values in [0, 1]; blur is Gaussian, in pixels. 95 % Wilson intervals.",
        *sections,
    )
