"""`harope evaluate geneval` and `dpg`, in this process, with judges that know the answer."""

import json

import pytest

from harope.cli.main import main
from harope.lab.evals.dpg import vqa
from harope.lab.evals.geneval import colors, detectors
from support.judge import KnownColors, KnownDetector, KnownVQA
from support.scorer import save_pixel, write_geneval, write_questions

ONE, TWO = (1, 0, 95), (2, 0, 95)


@pytest.fixture(autouse=True)
def known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(detectors, "Mask2FormerDetector", KnownDetector)
    monkeypatch.setattr(colors, "CLIPColors", KnownColors)
    known = KnownVQA()
    monkeypatch.setattr(vqa, "load_vqa", lambda folder, device: known)
    return known


def geneval(*more):
    return main(["evaluate", "geneval", "drawn", "--detector", "d", "--clip", "c", *more])


def dpg(*more):
    return main(["evaluate", "dpg", "drawn", "--vqa", "v", "--questions", "q.csv", *more])


def one_line(capsys, *words):
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harope: error: ")
    for word in words:
        assert word in line, line


@pytest.fixture
def drawn(tmp_path):
    """Two prompts of two pictures: one dog in each, a second dog in the last of each."""
    folder = write_geneval(tmp_path / "drawn", ["dog", "cat"], (ONE, TWO))
    counting = {"class": "dog", "count": 1}, {"class": "dog", "count": 2}
    metadata = {"tag": "counting", "include": [counting[0]], "exclude": [counting[1]]}
    (folder / "00001/metadata.jsonl").write_text(json.dumps({**metadata, "prompt": "one dog"}))
    return folder


def test_the_table_of_geneval_has_the_tasks_and_the_models(drawn, capsys):
    assert geneval("--json", "scores.json", "--results", "kept") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "drawn: 4 images of 2 prompts"
    cells = {line.split("  ")[0]: line.split() for line in lines}
    assert cells["single_object"][1:3] == ["100.0", "%"]
    assert cells["counting"][1:3] == ["50.0", "%"]
    assert cells["counting"][-3:] == ["1", "of", "2"]
    assert cells["mean of tasks"][3:5] == ["75.0", "%"]
    assert cells["images"][-3:] == ["3", "of", "4"]
    assert cells["prompts, any image"][-3:] == ["2", "of", "2"]
    text = "\n".join(lines)
    assert "KnownDetector  0        Mask2Former swin-s of mmdetection" in text
    assert "not official GenEval numbers" in text
    assert "2 prompts instead of 553, none of two_object, colors, position, color_attr" in text
    values = json.loads((drawn.parent / "scores.json").read_text())
    assert values["overall"] == 0.75
    assert values["official"] is False
    assert [model["kind"] for model in values["models"]] == ["KnownDetector", "KnownColors"]


def test_verdicts_are_kept_as_the_official_file_and_read_from_there(drawn, capsys):
    assert geneval("--results", "kept") == 0
    table = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    first = json.loads((drawn.parent / "kept/results.jsonl").read_text().splitlines()[0])
    assert first["filename"] == "00000/samples/0000.png"
    assert json.loads(first["details"]) == {"dog": [[0.0, 0.0, 10.0, 10.0, 0.95]]}
    assert main(["evaluate", "geneval", "kept/results.jsonl"]) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[1 : len(table) + 1] == table
    assert "the results are those stored in kept/results.jsonl" in again
    assert "official" not in again


def test_thresholds_are_those_of_the_task(drawn, capsys):
    save_pixel(drawn / "00000/samples/0000.png", (1, 0, 50))
    save_pixel(drawn / "00001/samples/0000.png", (1, 0, 50))
    assert geneval() == 0
    text = capsys.readouterr().out
    assert "2 of 2" in next(line for line in text.splitlines() if "single_object" in line)
    assert "0 of 2" in next(line for line in text.splitlines() if line.startswith("counting"))


def test_damaged_pictures_are_counted_and_named(drawn, capsys):
    (drawn / "00000/samples/0001.png").write_text("hello")
    assert geneval() == 2
    one_line(capsys, "00000/samples/0001.png cannot be read", "1 of 4 files are damaged")
    assert geneval("--max-unreadable", "0.25") == 0
    printed = capsys.readouterr()
    assert "drawn: 3 images of 2 prompts" in printed.out
    assert "1 damaged files of drawn were left out: 00000/samples/0001.png" in printed.err


def test_a_picture_that_was_cut_off_is_damaged(drawn, capsys):
    path = drawn / "00001/samples/0001.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert geneval() == 2
    one_line(capsys, "00001/samples/0001.png cannot be read")


def test_control_characters_of_names_do_not_reach_the_terminal(drawn, capsys):
    for prompt in ("00000", "00001"):
        (drawn / prompt / "samples/0002.png\x1b[31m\n").write_text("hello")
    assert geneval() == 2
    one_line(capsys, "0002.png\\x1b[31m", "cannot be read")
    assert geneval("--max-unreadable", "0.5") == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "00000/samples/0002.png\\x1b[31m\\n, 00001" in printed.err
    metadata = json.loads((drawn / "00001/metadata.jsonl").read_text())
    (drawn / "00001/metadata.jsonl").write_text(json.dumps({**metadata, "tag": "new\x1b[31m"}))
    assert geneval("--max-unreadable", "0.5") == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "new\\x1b[31m" in printed.out


def test_bad_folders_of_geneval_are_one_line(drawn, capsys):
    (drawn / "00001/samples/0000.png").unlink()
    assert geneval() == 2
    one_line(capsys, "00001 has 1 images", "1 of 4 images are missing")
    (drawn / "00000/metadata.jsonl").unlink()
    assert main(["evaluate", "geneval", "drawn/00000", "--detector", "d", "--clip", "c"]) == 2
    one_line(capsys, "drawn/00000 does not have GenEval's format")
    assert main(["evaluate", "geneval", "drawn"]) == 2
    one_line(capsys, "geneval requires --detector and --clip")
    assert main(["evaluate", "geneval"]) == 2
    one_line(capsys, "the following arguments are required: folder")
    assert geneval("--batch-size", "0") == 2
    one_line(capsys, "batch_size 0 must be at least 1")


def test_a_refused_command_leaves_no_results(drawn, capsys):
    for prompt in ("00000", "00001"):
        for image in ("0000.png", "0001.png"):
            (drawn / prompt / "samples" / image).write_text("hello")
    assert geneval("--results", "kept", "--max-unreadable", "0.9") == 2
    assert not (drawn.parent / "kept").exists()


def test_results_of_other_models_are_refused(drawn, capsys, monkeypatch):
    assert geneval("--results", "kept") == 0
    capsys.readouterr()
    other = KnownDetector.info.__class__("other", "KnownDetector", "1", "x")
    monkeypatch.setattr(KnownDetector, "info", other)
    assert geneval("--results", "kept") == 2
    one_line(
        capsys, "kept holds results made from something else (detector.folder 'known', not 'other')"
    )


ROWS = [
    ("p1", 1, "0", "entity - whole (dog)"),
    ("p1", 2, "1", "attribute - color (dog, red)"),
    ("p2", 1, "0", "entity - whole (cat)"),
    ("p2", 2, "1", "attribute - color (cat, red)"),
]


@pytest.fixture
def grids(tmp_path):
    """p1: both questions yes in all tiles. p2: 2 alone in three tiles, 1 alone in the last."""
    from PIL import Image

    for item, bits in (("p1", [6] * 4), ("p2", [4, 4, 4, 2])):
        grid = Image.new("RGB", (8, 8))
        for place, value in enumerate(bits):
            left, top = place % 2 * 4, place // 2 * 4
            grid.paste((value, 0, 0), (left, top, left + 4, top + 4))
        (tmp_path / "drawn").mkdir(exist_ok=True)
        grid.save(tmp_path / "drawn" / f"{item}.png")
    write_questions(tmp_path / "q.csv", ROWS)
    return tmp_path / "drawn"


def test_the_table_of_dpg_has_both_numbers_and_the_model(grids, capsys):
    assert dpg("--json", "scores.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "drawn: 2 images of 4 tiles"
    cells = {line.split("  ")[0]: line.split() for line in lines}
    # p1 is left out as scripted. p2: nothing in three tiles, 1 of 2 in the last: 1/8.
    assert cells["DPG-Bench score"][2:4] == ["12.50", "56.25"]
    # As scripted of p2's last tile; corrected of all eight tiles.
    assert cells["entity"][1:3] == ["100.00", "62.50"]
    assert cells["attribute - color"][3:5] == ["0.00", "87.50"]
    text = "\n".join(lines)
    assert "KnownVQA  0        mPLUG large of modelscope" in text
    assert "not official DPG-Bench numbers" in text
    assert "as scripted silently leaves out: p1" in text
    values = json.loads((grids.parent / "scores.json").read_text())
    assert (values["as_scripted"]["score"], values["corrected"]["score"]) == (0.125, 0.5625)


def test_answers_are_kept_and_not_asked_for_again(grids, known, capsys):
    assert dpg("--results", "kept", "--batch-size", "3") == 0
    first, asked = capsys.readouterr().out, known.asked
    assert asked == 2 * 4 * 2
    assert dpg("--results", "kept") == 0
    assert (capsys.readouterr().out, known.asked) == (first, asked)
    write_questions(grids.parent / "q.csv", [*ROWS, ("p2", 3, "0", "other - x (y)")])
    assert dpg("--results", "kept") == 0
    assert known.asked == asked + 4 * 3


def test_bad_input_of_dpg_is_one_line(grids, capsys):
    write_questions(grids.parent / "q.csv", ROWS[:2])
    assert dpg() == 2
    one_line(capsys, "1 images of prompts without questions, first p2.png")
    write_questions(grids.parent / "q.csv", [*ROWS, ("p3", 1, "0", "other - x (y)")])
    assert dpg() == 2
    one_line(capsys, "is missing 1 of 3 images, first that of prompt p3")
    write_questions(grids.parent / "q.csv", ROWS)
    assert dpg("--samples-per-prompt", "2") == 2
    one_line(capsys, "p1.png is 8 x 8 pixels, which is not a grid of 1 x 2 squares")
    (grids / "p2.png").write_bytes(b"damaged")
    assert dpg() == 2
    one_line(capsys, "p2.png cannot be read", "1 of 2 files are damaged")
    assert dpg("--max-unreadable", "0.5") == 0
    printed = capsys.readouterr()
    assert "1 damaged files of drawn were left out: p2.png" in printed.err
    assert "DPG-Bench score    -            100.00" in printed.out
    (grids / "notes.txt").write_text("hello")
    assert dpg() == 2
    one_line(capsys, "notes.txt is not an image")
    (grids.parent / "q.csv").write_text("a,b\n1,2\n")
    assert dpg() == 2
    one_line(capsys, "q.csv has no columns item_id")
    write_questions(grids.parent / "q.csv", ROWS)
    assert main(["evaluate", "dpg", "drawn", "--questions", "q.csv"]) == 2
    one_line(capsys, "dpg requires --vqa")
    assert main(["evaluate", "dpg", "drawn", "--vqa", "v"]) == 2
    one_line(capsys, "the following arguments are required: --questions")


def test_answers_of_the_official_script_are_scored_as_they_stand(grids, capsys):
    lines = [
        f"p2.png, {tile}, Is it so, {number} ?, {answer}\n"
        for tile, answers in (("(0, 0, 4, 4)", ("yes", "no")), ("(4, 0, 8, 4)", ("yes", "yes")))
        for number, answer in enumerate(answers, start=1)
    ]
    (grids.parent / "a_detail.txt").write_text("".join(lines))
    assert main(["evaluate", "dpg", "a_detail.txt", "--questions", "q.csv"]) == 0
    text = capsys.readouterr().out
    assert "DPG-Bench score    75.00        75.00" in text
    assert "attribute - color  100.00       50.00" in text
    assert "the results are those stored in a_detail.txt" in text
    assert "not official" not in text
