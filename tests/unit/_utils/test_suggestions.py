from harope._utils.suggestions import closest, suggest


def test_the_most_similar_name_is_suggested():
    assert closest("batchsize", ["steps", "batch_size"]) == "batch_size"
    assert suggest("batchsize", ["steps", "batch_size"]) == "did you mean 'batch_size'?"


def test_without_a_similar_name_all_are_listed_or_something_else_is_said():
    assert closest("zzz", ["steps", "seed"]) is None
    assert suggest("zzz", iter(["steps", "seed"])) == "use one of steps, seed"
    assert suggest("zzz", ["steps"], "see the manual") == "see the manual"
