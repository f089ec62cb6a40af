"""GenEval's summary on verdicts counted by hand."""

import json

import pytest

from harope.lab.evals.geneval.scores import read_records, summarise, write_records


def records(tag: str, prompts: list[str]) -> list[dict]:
    """Verdicts of prompts, as words of 1 and 0."""
    return [
        {
            "filename": f"{tag}{number}/{place}",
            "tag": tag,
            "prompt": f"{tag} {number}",
            "correct": verdict == "1",
            "reason": "",
            "metadata": json.dumps({"tag": tag, "number": number}),
            "details": "{}",
        }
        for number, verdicts in enumerate(prompts)
        for place, verdict in enumerate(verdicts)
    ]


VERDICTS = records("single_object", ["1110", "1111"]) + records("colors", ["0000", "1000", "1100"])


def test_the_summary_counts_as_the_official_one():
    summary = summarise(VERDICTS)
    assert list(summary.tasks) == ["single_object", "colors"]
    assert [score.images.rate for score in summary.tasks.values()] == [7 / 8, 3 / 12]
    assert summary.overall == pytest.approx((7 / 8 + 3 / 12) / 2)
    assert (summary.images.successes, summary.images.total) == (10, 20)
    assert (summary.any_image.successes, summary.any_image.total) == (4, 5)
    assert summary.missing_tasks == ("two_object", "counting", "position", "color_attr")


def test_intervals_are_over_prompts():
    summary = summarise(VERDICTS)
    # Prompts' means 0.75 and 1: 0.875 -+ t(1) 0.17678 / sqrt 2, t(1) = 12.7062 at 95 %.
    prompts = summary.tasks["single_object"].prompts
    assert (prompts.low, prompts.high) == pytest.approx(
        (0.875 - 1.58828, 0.875 + 1.58828), rel=1e-4
    )
    low, high = summary.overall_interval
    # Variances of the two means: 0.03125 / 2 and 0.0625 / 3; their freedom is
    # 0.0364583^2 / (0.015625^2 / 1 + 0.0208333^2 / 2) = 2.88235, t 3.25721.
    assert (low + high) / 2 == pytest.approx(summary.overall)
    assert (high - low) / 2 == pytest.approx(3.25721 * (0.015625 + 0.0208333) ** 0.5 / 2, rel=1e-3)


def test_a_single_prompt_has_no_interval():
    summary = summarise(records("counting", ["10"]))
    assert summary.tasks["counting"].prompts is None
    assert summary.overall_interval is None


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="no images to score"):
        summarise([])


def test_records_are_written_and_read_as_lines_of_the_official_file(tmp_path):
    write_records(VERDICTS, tmp_path / "results.jsonl")
    assert read_records(tmp_path / "results.jsonl") == VERDICTS
    first = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    assert list(first) == [
        "filename", "tag", "prompt", "correct", "reason", "metadata", "details",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["{", "[]", '{"tag": "a"}', '{"tag": "a", "metadata": 3}'])
def test_a_line_that_is_no_verdict_is_named(tmp_path, line):
    path = tmp_path / "results.jsonl"
    write_records(VERDICTS[:1], path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"results\.jsonl line 2 is not a verdict"):
        read_records(path)
