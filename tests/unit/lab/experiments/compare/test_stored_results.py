import json

import pytest

from harope.lab.experiments.compare.job import Job, read_result
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import override

JOB = Job(
    name="axial-0", config=get_recipe("digits-dit").config(), scoring=SampleScoreConfig(samples=3)
)


def stored(folder, **changes):
    path = folder / "measures.json"
    path.write_text(json.dumps({"job": JOB.to_dict(), "measures": {"loss": 1.0}} | changes))
    return path


def test_a_result_is_that_of_its_own_job_alone(tmp_path):
    path = stored(tmp_path)
    other = Job(name=JOB.name, config=override(JOB.config, {"lr": 0.5}), scoring=JOB.scoring)
    assert read_result(path, JOB)["measures"] == {"loss": 1.0}
    assert read_result(path, other) is None


def test_a_result_with_an_old_name_of_a_field_is_read(tmp_path):
    job = JOB.to_dict()
    optimizer = job["config"]["optimizer"]
    optimizer["query_key_rate"] = optimizer.pop("qk_lr_multiplier")
    assert read_result(stored(tmp_path, job=job), JOB) is not None


@pytest.mark.parametrize("job", [None, [], {}, {"name": "x", "config": {}, "drawn": {}}])
def test_a_result_without_a_readable_job_is_not_used(tmp_path, job):
    assert read_result(stored(tmp_path, job=job), JOB) is None


def test_a_result_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "measures.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"measures\.json is not JSON"):
        read_result(path, JOB)


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        (None, "measures: Input should be a valid dictionary"),
        ({"loss": float("nan")}, "measures.loss: Input should be a finite number, got nan"),
        ({"loss": "low"}, "measures.loss: Input should be a valid number"),
    ],
)
def test_metrics_that_are_no_finite_numbers_are_named(measures, words, tmp_path):
    path = stored(tmp_path, measures=measures)
    with pytest.raises(ValueError, match="delete the file and repeat the command") as error:
        read_result(path, JOB)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
