"""The tasks' metrics, in the form of an `evaluate` metric that needs no network, and a report class by class."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)
from transformers import EvalPrediction

from tokenization.pictures import new_figure, save_figure
from tokenization.write_aside import write_object


MOST_NAMED = 40  # classes that a picture has room to name


def _f1(references: np.ndarray, predictions: np.ndarray, classes: int) -> float:
    """F1 of class 1 of two classes, as GLUE has it; of more, the mean over all of them, whichever occur."""
    average, labels = ("binary", None) if classes == 2 else ("macro", range(classes))
    return f1_score(references, predictions, labels=labels, average=average, zero_division=0)


def _correlation(measure: Callable) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlation(references: np.ndarray, predictions: np.ndarray) -> float:
        if not np.isfinite(predictions).all():
            return float("nan")
        # A constant correlates with nothing; scipy's NaN would not be JSON.
        if len(references) < 2 or np.ptp(references) == 0 or np.ptp(predictions) == 0:
            return 0.0
        return measure(predictions, references).statistic

    return correlation


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy_score,
    "f1": _f1,
    "matthews_correlation": matthews_corrcoef,
    "pearson": _correlation(pearsonr),
    "spearmanr": _correlation(spearmanr),
}


class TaskMetrics(evaluate.Metric):
    """
    The named metrics of one task together, between -1 and 1.

    Args:
        names (`tuple[str, ...]`): keys of `METRICS`.
        regression (`bool`): whether references and predictions are numbers rather than class indices.
        classes (`int`): how many classes the task has, whichever of them occur.
    """

    def __init__(self, names: tuple[str, ...], regression: bool = False, classes: int = 2):
        self.names = names
        self.regression = regression
        self.measures = METRICS | {"f1": partial(_f1, classes=classes)}
        super().__init__(config_name="-".join(names), keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("float64" if self.regression else "int64")
        return evaluate.MetricInfo(
            description="Metrics of the GPT-1 paper's tasks: " + ", ".join(self.names),
            citation="",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        pair = np.asarray(references), np.asarray(predictions)
        return {name: float(self.measures[name](*pair)) for name in self.names}

    def of_logits(self, evaluated: EvalPrediction) -> dict[str, float]:
        """What `Trainer` calls: logits of shape `(examples, labels or choices)`, labels of shape `(examples,)`."""
        logits = np.asarray(evaluated.predictions)
        predictions = logits.squeeze(-1) if self.regression else logits.argmax(-1)
        return self.compute(predictions=predictions, references=evaluated.label_ids)


def class_report(
    references: np.ndarray, predictions: np.ndarray, names: Sequence[str], majority: int
) -> dict[str, Any]:
    """
    What a classifier does class by class: precision, recall, F1 and support, the confusion matrix (a row for each true
    class, a column for each predicted one), and the accuracy of always answering `majority`, beside its own.

    Args:
        references, predictions: class indices of shape `(examples,)`.
        names: of the classes.
        majority: the most frequent class of the training data.
    """
    labels = range(len(names))
    figures = precision_recall_fscore_support(references, predictions, labels=labels, zero_division=0)
    return {
        "accuracy": float(accuracy_score(references, predictions)),
        "accuracy_of_majority_class": float(np.mean(np.asarray(references) == majority)),
        "majority_class": names[majority],
        "positive_class": names[1] if len(names) == 2 else None,
        "classes": {
            name: {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}
            for name, precision, recall, f1, support in zip(names, *map(np.ndarray.tolist, figures), strict=True)
        },
        "confusion_matrix": {
            "classes": list(names),
            "true_by_predicted": confusion_matrix(references, predictions, labels=labels).tolist(),
        },
    }


def write_class_report(directory: Path, split: str, report: dict[str, Any]) -> None:
    """Writes a report as `SPLIT_report.json`, and its confusion matrix as a picture if matplotlib is installed."""
    write_object(directory / f"{split}_report.json", report)
    picture = directory / f"{split}_confusion_matrix.png"
    names = report["confusion_matrix"]["classes"]
    matrix = np.asarray(report["confusion_matrix"]["true_by_predicted"])
    size = min(12.0, 3.0 + 0.5 * len(names))
    figure = new_figure(picture.name, figsize=(size + 1, size))
    if figure is None:
        return
    axes = figure.subplots()
    # Coloured by recall, so that a rare class shows as a frequent one does
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) <= MOST_NAMED:
        shown = [name if len(name) <= 20 else name[:19] + "…" for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(len(names)), shown, parse_math=False)
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    save_figure(figure, picture)
