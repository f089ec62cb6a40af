import json


def test_every_run_says_what_its_heads_learned(harope, tmp_path):
    harope("compare", "digits-vit", "--arms", "axial", "harope", "--seeds", "0,1",
           "--controls", "none", "--smoke", "--out", "out")  # fmt: skip
    found = {
        name: json.loads((tmp_path / f"out/runs/{name}/measures.json").read_text())
        for name in ("axial-0", "axial-1", "harope-0", "harope-1")
    }
    for name, values in found.items():
        assert set(values) == {"job", "measures", "heads", "ablations", "curve", "made_on"}
        assert set(values["heads"]["attention_distance"]) == {"images"}
        assert ("singular_values" in values["heads"]) == name.startswith("harope")
        expected = {"next_loss", "top1"} if name.startswith("harope") else set()
        assert set(values["ablations"]) == expected
