"""Pages on the built-in scenes: the released pair of models, and the accuracy of the reader."""

from harope.lab.evals.scenes import ceiling_scores, folder_scores, rendered_scores, scene_labels
from harope.lab.experiments.demo.parts import RELEASED, released_folder
from harope.lab.metrics.intervals import Scores
from harope.lab.reporting.images import write_image_grid
from harope.lab.reporting.plots import plot_losses, plot_scores
from harope.lab.reporting.tables import score_rows
from harope.lab.sampling.class_folder import FolderPlan, read_folder, sample_folder
from harope.lab.sampling.runs import load_class_generator
from harope.lab.training.logging import read_metrics
from scripts.results.page import COMMAND, PAGES, WORK, Part, write_page


def write_scenes() -> None:
    """Write the page of the released models: scores of 300 single objects and 300 of several."""
    labels = scene_labels(rounds=10)
    columns: dict[str, Scores] = {}
    curves, commands = {}, [("encoding", "command")]
    for encoding in RELEASED:
        folder = released_folder(encoding)
        plan = FolderPlan(shape=(3, 32, 32), labels=labels, count=len(labels))
        samples = sample_folder(load_class_generator(folder), plan, WORK / f"scenes-{encoding}")
        columns[encoding] = folder_scores(samples)["samples"]
        curves[encoding] = read_metrics(folder)
        _, images = read_folder(samples)
        write_image_grid(images[:120], PAGES / f"scenes-{encoding}.png", columns=15)
        commands.append((encoding, f"`{(folder / 'command.txt').read_text().strip()}`"))
    columns["ceiling"] = rendered_scores(list(labels), 32)
    plot_losses(curves, PAGES / "scenes-losses.png")
    plot_scores(columns, PAGES / "scenes-scores.png")
    write_page(
        "scenes",
        "The released models on scenes",
        f"Produced by `{COMMAND} scenes`: 600 samples of each model; every kind in every colour "
        "ten times as a single object and ten times in 2 to 6 copies, with the same seeds for both "
        "models. `harope-v1` is HARoPE as in its first arXiv version. Each encoding was trained "
        "once, with seed 0. The 95 % Wilson intervals cover the "
        "variation of the samples, not of the training, so a difference between the columns is no "
        "evidence for an encoding. The ceiling is the score of rendered scenes of the same "
        "classes.",
        score_rows(columns),
        "single_object: the kind is present. colors: the kind is present in its colour. "
        "single_exact: nothing else is present. counting: the number of 2 to 6 objects is right. "
        "exact: everything is right, in all images.",
        "![scores](scenes-scores.png)",
        "Commands of the trainings:",
        commands,
        "![losses](scenes-losses.png)",
        "Samples of harope-v1: circles, squares, triangles, stars and crosses, each in red, "
        "yellow, green, cyan, blue and purple; then the same in 2 to 6 copies; then all of them "
        "again.",
        "![harope-v1](scenes-harope-v1.png)",
        "Samples of axial, with the same labels and seeds.",
        "![axial](scenes-axial.png)",
    )


def write_reader() -> None:
    """Write the page of the scenes reader: its accuracy on clean and degraded renderings."""
    sections: list[Part] = []
    for size in (32, 64):
        sections += [f"## {size} pixels", score_rows(ceiling_scores(size, count=250))]
    write_page(
        "reader",
        "Accuracy of the scenes reader",
        f"Produced by `{COMMAND} reader`: 250 rendered scenes per task, with 95 % Wilson "
        "intervals. Exact: the number of shapes and all kinds and colours are right, with errors "
        "of at most 0.03 of the image side for centres and 0.02 for radii. Solved: the reading "
        "satisfies its prompt, which is the score of generated images. Noise: standard deviation "
        "of Gaussian noise on values in [0, 1]. Blur: standard deviation of a Gaussian filter in "
        "pixels.",
        *sections,
    )
