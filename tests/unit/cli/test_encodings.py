"""`harope encodings`."""

from harope.cli.main import main
from harope.rope import list_encodings


def test_every_preset_is_listed_with_its_equation(capsys):
    assert main(["encodings"]) == 0
    out = capsys.readouterr().out
    for name in list_encodings():
        assert f"\n{name} " in out
    assert "score q^T A R A^-1 k" in out
    assert "score q^T A^T R A k" in out
