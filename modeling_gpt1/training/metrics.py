"""The tasks' metrics, in the form of an `evaluate` metric that needs no network."""

from collections.abc import Callable

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import EvalPrediction


def _f1(references: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1 among two classes, as GLUE has it; the mean over the classes where there are more."""
    two = max(references.max(), predictions.max()) <= 1
    return f1_score(references, predictions, average="binary" if two else "macro", zero_division=0)


def _correlation(measure: Callable) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlation(references: np.ndarray, predictions: np.ndarray) -> float:
        # A constant correlates with nothing; scipy's NaN would not be JSON.
        if len(references) < 2 or np.ptp(references) == 0 or np.ptp(predictions) == 0:
            return 0.0
        return measure(predictions, references).statistic

    return correlation


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
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
    """

    def __init__(self, names: tuple[str, ...], regression: bool = False):
        self.names = names
        self.regression = regression
        super().__init__(config_name="-".join(names), keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("float64" if self.regression else "int64")
        return evaluate.MetricInfo(
            description="Metrics of the GPT-1 paper's tasks: " + ", ".join(self.names),
            citation="",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        return {name: float(METRICS[name](references, predictions)) for name in self.names}

    def of_logits(self, evaluated: EvalPrediction) -> dict[str, float]:
        """What `Trainer` calls: logits of shape `(examples, labels or choices)`, labels of shape `(examples,)`."""
        logits = evaluated.predictions
        predictions = logits.squeeze(-1) if self.regression else logits.argmax(-1)
        return self.compute(predictions=predictions, references=evaluated.label_ids)
