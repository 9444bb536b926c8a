"""The paper's figures (tables 2 to 4) beside those of a run."""

from typing import Any

from .tasks import Task


CAVEAT = "The paper's figures are of test sets, reached by a model of 117 million parameters."


def add_paper(task: Task, results: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """
    Adds to the figures of each split, `SPLIT_METRIC`, the paper's as `SPLIT_METRIC_in_paper`, on the same scale.

    Args:
        task: with the paper's figures.
        results: the figures of each split by their names; changed in place.

    Returns:
        A table of both, and what to know of the paper's; empty if there is nothing to compare.
    """
    if task.paper is None:
        return "", ""
    metric, whole = task.paper
    lines = []
    for split, figures in results.items():
        part = split.partition("_")[2]
        published = task.paper_parts.get(part) if part else whole
        name = f"{split}_{metric}"
        if published is not None and name in figures:
            figures[f"{name}_in_paper"] = round(published / 100, 4)
            lines.append(f"{split:<24}{metric:<24}{100 * figures[name]:>7.1f}{published:>7.1f}")
    if not lines:
        return "", ""
    table = "\n".join([f"{'in percent':<48}{'here':>7}{'paper':>7}", *lines])
    return table, " ".join(filter(None, (CAVEAT, task.caveat)))
