"""The paper's figures (tables 2 to 4) beside those of a run."""

from typing import Any

from .tasks import Task


CAVEAT = "The paper's figures are of test sets, reached by a model of 117 million parameters."


def add_paper(task: Task, results: dict[str, dict[str, Any]]) -> str:
    """
    Adds to the figures of each split, `SPLIT_METRIC`, the paper's as `SPLIT_METRIC_in_paper`, on the same scale.

    Args:
        task: with the paper's figures.
        results: the figures of each split by their names; changed in place.

    Returns:
        What to know of the paper's; empty if there is nothing to compare.
    """
    if task.paper is None:
        return ""
    metric, whole = task.paper
    compares = False
    for split, figures in results.items():
        part = split.partition("_")[2]
        published = task.paper_parts.get(part) if part else whole
        name = f"{split}_{metric}"
        if published is not None and name in figures:
            figures[f"{name}_in_paper"] = round(published / 100, 4)
            compares = True
    return " ".join(filter(None, (CAVEAT, task.caveat))) if compares else ""
