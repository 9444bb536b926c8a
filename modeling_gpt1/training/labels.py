"""The labels of a task and their numbers: classes, scores, or which of its choices is right."""

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tokenization.table_files import text_of

from ..configuration_gpt1 import GPT1Config
from .data import Columns, Split, choices_of
from .tasks import Task


logger = logging.getLogger(__name__)

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NUMBER_WITH_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
MANY_NUMBERS = 20  # classes beyond which numbers are likelier to be scores
MOST_SHOWN = 20


def label_text(value: Any) -> str | None:
    """A label as text, without blanks around it; a number (not a text) that is whole without decimals."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = text_of(value)
    return None if text is None else text.strip()


def _label(value: Any) -> str:
    """The text of a label that is there: [`complete_rows`] leaves no other."""
    text = label_text(value)
    assert text is not None
    return text


def score_of(text: str, decimal_comma: bool = False) -> float | None:
    """The number that a text is, finite; None for none."""
    if decimal_comma and NUMBER_WITH_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    score = float(text) if NUMBER.fullmatch(text) else math.inf
    return score if math.isfinite(score) else None


def are_scores(texts: Sequence[str]) -> bool:
    """Whether labels are scores: most of them are numbers, and not all of these are whole."""
    scores = [score_of(text, decimal_comma=True) for text in texts]
    numbers = [score for score in scores if score is not None]
    return 2 * len(numbers) > len(texts) and not all(number.is_integer() for number in numbers)


def class_names(config: GPT1Config) -> list[str]:
    """The names of a model's classes, in the order of their numbers."""
    names: dict[Any, str] = config.id2label or {}
    return [names[number] for number in sorted(names)]


class Labels:
    """
    The labels of a task and their numbers.

    Args:
        names (`list[str]`, *optional*): the classes in order; None for a regression or a multiple choice.
        regression (`bool`): whether a label is a number.
        first (`int`): what a numbered answer of a multiple choice counts from.
        numbered (`Sequence[str]`, *optional*): the classes in the order of the numbers that stand for them in files;
            by default that of `names`, and no number stands for any if it is empty.
        other_names (`Mapping[str, str]`, *optional*): what files may call a class, with its name.
    """

    def __init__(
        self,
        names: list[str] | None,
        regression: bool = False,
        first: int = 0,
        numbered: Sequence[str] | None = None,
        other_names: Mapping[str, str] | None = None,
    ):
        self.names = names
        self.regression = regression
        self.first = first
        self._ids = {name: index for index, name in enumerate(names or ())}
        # Files and the Hub number the classes that others name; but where names hold numbers, a number is a name
        if names and not any(re.search(r"\d", name) for name in names):
            order = names if numbered is None else numbered
            self._ids |= {str(index): self._ids[name] for index, name in enumerate(order)}
        self._ids |= {other: self._ids[name] for other, name in (other_names or {}).items()}

    @classmethod
    def of(
        cls,
        task: Task,
        split: Split,
        column: str | None,
        known: list[str] | None = None,
        regression: bool | None = None,
    ) -> "Labels":
        """
        The labels of a training split without bad rows: the model's `known` ones, the task's, or those that occur,
        numbers by size and others by alphabet.

        Args:
            task, split, column: where the labels are.
            known: the classes of a fine-tuned model.
            regression: whether they are scores; None to go by the task, or where it leaves that open by their values.

        Raises:
            ValueError: a model and a task of different labels, or only one label.
        """
        if regression is not None and task.regression not in (None, regression):
            raise ValueError(
                f"--regression {regression}: this task is {'' if task.regression else 'not '}a regression"
            )
        if task.choice_columns:
            return cls(None, first=task.first_label)
        assert column is not None  # which it is where labels are wanted
        texts = [_label(value) for value in split.columns[column]]
        if regression is None:
            regression = are_scores(texts) if task.regression is None else task.regression
        if regression:
            return cls(None, regression=True)
        if known and task.labels and set(known) != set(task.labels):
            raise ValueError(
                f"the model's labels are {', '.join(known)}, the task's {', '.join(task.labels)}; "
                "start from a model without a task head"
            )
        if known:
            return cls(known, numbered=task.labels, other_names=task.other_names)
        if task.labels:
            return cls(list(task.labels), other_names=task.other_names)
        names = set(texts)
        if len(names) < 2:
            raise ValueError(f"the training data has one label only, '{texts[0]}': there is nothing to learn")
        if all(NUMBER.fullmatch(name) for name in names):
            return cls(sorted(names, key=lambda name: (float(name), name)))
        return cls(sorted(names), numbered=())  # no file knows this order

    def numbers(self, split: Split, columns: Columns) -> tuple[Split, list[int | float]]:
        """
        The number of each row's label: a class, a score, or which of its choices is right. A row without a score is a
        bad one: refused, or left out of the split that is returned.

        Raises:
            ValueError: a label that is unknown, with its row and those that are known.
        """
        assert columns.label is not None  # which it is where labels are wanted
        kept: list[int] = []
        numbers: list[int | float] = []
        for index, value in enumerate(split.columns[columns.label]):
            text, place = _label(value), split.place(index)
            if self.regression:
                number = score_of(text, split.decimal_comma)
                if number is None:
                    split.bad_rows.add(place, f"label '{text}' {_no_score(text, split.decimal_comma)}")
                    continue
            elif columns.choices:
                number = self._choice(text, len(choices_of(split, columns, index)), place)
            elif text in self._ids:
                number = self._ids[text]
            else:
                raise ValueError(f"label '{text}' in {place} is unknown; the labels are {_listed(self.names or [])}")
            kept.append(index)
            numbers.append(number)
        return split.keep(kept), numbers

    def _choice(self, text: str, count: int, place: str) -> int:
        letter = len(text) == 1 and "A" <= text.upper() <= "Z"
        index = ord(text.upper()) - ord("A") if letter else int(text) - self.first if text.isdecimal() else -1
        if not 0 <= index < count:
            raise ValueError(f"answer '{text}' in {place} is none of its {count} choices")
        return index

    def summary(self, numbers: Sequence[int | float]) -> str:
        """What there is to learn, in one line: each class with its rows, or the range of the scores."""
        if self.regression:
            return f"a regression: {len(numbers):,} scores from {min(numbers):g} to {max(numbers):g}"
        if self.names is None:
            return f"a multiple choice: {len(numbers):,} rows"
        counts = Counter(numbers)
        return f"{len(self.names)} classes: " + _listed(
            [f"{name} ({counts[index]:,} rows)" for index, name in enumerate(self.names)]
        )

    def warn(self, numbers: Sequence[int | float], name: str, open_task: bool) -> None:
        """
        Warns of classes that training data hardly shows, and, in a task that leaves it open, of many that are numbers.
        """
        if self.names is None:
            return
        counts = Counter(numbers)
        rare = [f"{label} ({counts[index]})" for index, label in enumerate(self.names) if counts[index] < 2]
        if rare:
            logger.warning("%s: classes of fewer than two rows, which cannot be learned: %s", name, _listed(rare))
        if len(numbers) < len(self.names):
            logger.warning("%s: %d rows for %d classes", name, len(numbers), len(self.names))
        if (
            open_task
            and len(self.names) > MANY_NUMBERS
            and all(score_of(label, True) is not None for label in self.names)
        ):
            logger.warning(
                "%s: the labels are %d different numbers, and each becomes a class; --regression True takes them for "
                "scores",
                name,
                len(self.names),
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _no_score(text: str, decimal_comma: bool) -> str:
    if NUMBER_WITH_COMMA.fullmatch(text) and not decimal_comma:
        return (
            "has a decimal comma, which is read only where columns are separated by ';': write "
            f"{text.replace(',', '.')}, or give --regression False for classes"
        )
    return "is not a finite number, and this is a regression (--regression False takes labels for classes)"
