"""Tables as plain text and Markdown."""

from collections.abc import Mapping, Sequence

from harope.lab.metrics.intervals import Proportion, Scores


def format_proportion(proportion: Proportion, *, total: bool = True) -> str:
    """Format rate, Wilson's 95 % interval and number of trials: `93.3 % [86.2, 96.9] of 90`.

    Args:
        proportion: Successes and trials.
        total: Whether to include the number of trials.

    Returns:
        The formatted proportion.
    """
    low, high = proportion.interval()
    trials = f" of {proportion.total}" if total else ""
    return f"{100 * proportion.rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]{trials}"


def score_rows(columns: Mapping[str, Scores]) -> list[tuple[str, ...]]:
    """Tabulate scores by model, with one row per score and one column per model.

    Args:
        columns: Scores by name of the model.

    Returns:
        Header and one row per score of any model; a dash where a model has no such score.
    """
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    rows: list[tuple[str, ...]] = [("", *columns)]
    for name in names:
        cells = [format_proportion(s[name]) if name in s else "-" for s in columns.values()]
        rows.append((name, *cells))
    return rows


def scores_table(columns: Mapping[str, Scores]) -> str:
    """Format scores by model as a text table, see `score_rows`.

    Args:
        columns: Scores by name of the model.

    Returns:
        The table.
    """
    return text_table(score_rows(columns))


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as plain text with aligned columns and a rule below the first row.

    Args:
        rows: Rows with the same number of cells; the first has the column titles.

    Returns:
        Lines separated by newlines, without one at the end.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as a Markdown table; the first row has the column titles.

    Args:
        rows: Rows with the same number of cells; the first has the column titles.

    Returns:
        Lines separated by newlines, without one at the end.
    """
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
