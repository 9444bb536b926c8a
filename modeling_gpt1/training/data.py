"""From files or the Hub to encoded data sets: read, find the columns, number the labels, tokenize."""

import csv
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from .tasks import Task


# A tab-separated file knows no quoting (GLUE's are full of single quotation marks); "NA" and "null" are words.
_READERS: dict[str, Callable[[str], Dataset]] = {
    ".csv": lambda path: Dataset.from_csv(path, keep_default_na=False),
    ".tsv": lambda path: Dataset.from_csv(path, keep_default_na=False, sep="\t", quoting=csv.QUOTE_NONE),
    ".json": Dataset.from_json,
    ".jsonl": Dataset.from_json,
    ".parquet": Dataset.from_parquet,
}


def read_file(path: str) -> Dataset:
    """
    Reads a CSV, TSV, JSON lines or Parquet file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown ending, an empty file, or one that does not parse.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if file.suffix.lower() not in _READERS:
        raise ValueError(f"{path}: unknown kind of file, expected one of {', '.join(_READERS)}")
    if not file.read_bytes()[:4096].strip():
        raise ValueError(f"{path} is empty")
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what is wrong with a file is said once, below
    datasets.disable_progress_bars()
    try:
        rows = _READERS[file.suffix.lower()](str(file))
    except Exception as error:  # each reader has its own kinds
        raise ValueError(f"{path} cannot be read as {file.suffix[1:].upper()}: {error.__cause__ or error}") from error
    finally:
        datasets.enable_progress_bars()
        datasets.logging.set_verbosity(verbosity)
    if len(rows) == 0:
        raise ValueError(f"{path} is empty: it has column names and no rows")
    return rows


def read_splits(task: Task, files: dict[str, str | None]) -> DatasetDict:
    """
    Reads the splits of `files` (split name to path); without any, the task's data set on the Hub.

    Raises:
        ValueError: no training file where there is another one, or no file and no data set on the Hub.
    """
    files = {split: path for split, path in files.items() if path is not None}
    if files:
        return DatasetDict({split: read_file(path) for split, path in files.items()})
    if not task.hub:
        raise ValueError("this task has no data set on the Hub: give --train_file and --validation_file")
    loaded = datasets.load_dataset(*task.hub)
    return DatasetDict({split: _labelled(task, loaded[name]) for split, name in task.splits.items() if name in loaded})


def _labelled(task: Task, rows: Dataset) -> Dataset:
    """The rows that have a label: the Hub's data sets mark the others -1, often a whole test set."""
    for column in task.label_columns:
        if isinstance(rows.features.get(column), ClassLabel):
            return rows.filter(lambda label: label != -1, input_columns=column)
    return rows


@dataclass(frozen=True)
class Columns:
    """The columns a task is read from: of its text, its label, and a multiple choice's answers."""

    text: tuple[str, ...]
    label: str | None
    choices: tuple[str, ...] = ()


def find_columns(
    task: Task,
    rows: Dataset,
    name: str,
    text_columns: list[str] | None = None,
    label_column: str | None = None,
    choice_columns: list[str] | None = None,
    needs_label: bool = True,
) -> Columns:
    """
    Finds a task's columns in `rows`, by the names given or by the task's own.

    Raises:
        ValueError: a column that is not there, with those that are, or a text column that holds no text.
    """

    def find(alternatives: tuple[tuple[str, ...], ...], flag: str) -> tuple[str, ...]:
        for columns in alternatives:
            if set(columns) <= set(rows.column_names):
                return columns
        wanted = " or ".join(", ".join(f"'{column}'" for column in columns) for columns in alternatives)
        raise ValueError(
            f"{name} has no column {wanted}; its columns are {', '.join(rows.column_names)} ({flag} names others)"
        )

    text = find((tuple(text_columns),) if text_columns else task.text_columns, "--text_columns")
    choices = ()
    if task.choice_columns:
        choices = find((tuple(choice_columns),) if choice_columns else task.choice_columns, "--choice_columns")
    label = None
    if needs_label:
        alternatives = (label_column,) if label_column else task.label_columns
        (label,) = find(tuple((column,) for column in alternatives), "--label_column")
    fewest = len(task.text_columns[0])
    if not choices and not fewest <= len(text) <= 2:
        raise ValueError(
            f"--text_columns takes {'two' if fewest == 2 else 'one or two'} columns here, got {len(text)}"
        )
    for column in (*text, *(choices if len(choices) > 1 else ())):
        if rows.features[column].dtype not in ("string", "large_string"):
            raise ValueError(f"column '{column}' of {name} holds {rows.features[column].dtype}, not text")
        if any(value is None for value in rows[column]):
            raise ValueError(f"column '{column}' of {name} has a row without text")
    return Columns(text, label, choices)


class Labels:
    """
    The labels of a task and their numbers.

    Args:
        names (`list[str]`, *optional*): the classes in order; None for a regression or a multiple choice.
        regression (`bool`): whether a label is a number.
        first (`int`): what a numbered answer of a multiple choice counts from.
    """

    def __init__(self, names: list[str] | None, regression: bool = False, first: int = 0):
        self.names = names
        self.regression = regression
        self.first = first
        self._ids = {name: index for index, name in enumerate(names or ())}

    @classmethod
    def of(cls, task: Task, rows: Dataset, column: str, known: list[str] | None = None) -> "Labels":
        """
        The labels of the training `rows`: the model's `known` ones, the task's, or those that occur, sorted.

        Raises:
            ValueError: a model and a task of different labels, or only one label.
        """
        feature = rows.features[column]
        if task.choice_columns:
            return cls(None, first=task.first_label)
        if task.regression or (task.regression is None and "float" in feature.dtype):
            return cls(None, regression=True)
        if known and task.labels and set(known) != set(task.labels):
            raise ValueError(
                f"the model's labels are {', '.join(known)}, the task's {', '.join(task.labels)}; "
                "start from a model without a task head"
            )
        if known or task.labels:
            return cls(known or list(task.labels))
        names = feature.names if isinstance(feature, ClassLabel) else map(str, sorted(set(rows[column])))
        labels = cls(list(names))
        if len(labels.names) < 2:
            raise ValueError(f"the training data has one label only, '{labels.names[0]}': there is nothing to learn")
        return labels

    def numbers(self, rows: Dataset, columns: Columns, name: str) -> list[int | float]:
        """
        The number of each row's label: a class, a score, or which of its choices is right.

        Raises:
            ValueError: a label that is unknown, with those that are known.
        """
        choices = _choices(rows[:], columns, name) if columns.choices else [None] * len(rows)
        return [
            self._number(value, options, name) for value, options in zip(rows[columns.label], choices, strict=True)
        ]

    def _number(self, value: Any, choices: list[str] | None, name: str) -> int | float:
        if self.regression:
            try:
                return float(value)
            except (TypeError, ValueError):
                raise ValueError(f"label {value!r} in {name} is not a number, and this task is a regression") from None
        if choices is not None:
            text = str(value).strip()
            letter = len(text) == 1 and text.upper().isalpha()
            index = ord(text.upper()) - ord("A") if letter else int(text) - self.first if text.isdigit() else -1
            if not 0 <= index < len(choices):
                raise ValueError(f"answer {value!r} in {name} is none of its {len(choices)} choices")
            return index
        if str(value) in self._ids:
            return self._ids[str(value)]
        # Files and the Hub number the classes that others name.
        if str(value).isdigit() and int(value) < len(self.names):
            return int(value)
        raise ValueError(f"label {value!r} in {name} is unknown; the labels are {', '.join(self.names)}")


def encode(
    rows: Dataset, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str = "the data"
) -> Dataset:
    """
    Tokenizes `rows` in the task format: `input_ids` and `attention_mask` (of each choice, for a multiple choice), and
    `length` in tokens.

    Raises:
        ValueError: a multiple choice with fewer than two answers.
    """

    def encode_batch(batch: dict[str, list]) -> dict[str, list]:
        if not columns.choices:
            encoded = dict(tokenizer(*(batch[c] for c in columns.text), truncation=True, max_length=max_length))
            return encoded | {"length": [len(ids) for ids in encoded["input_ids"]]}
        encoded = {"input_ids": [], "attention_mask": [], "length": []}
        contexts = zip(*(batch[c] for c in columns.text), strict=True)
        for parts, options in zip(contexts, _choices(batch, columns, name), strict=True):
            context = _fit_context(parts, options, tokenizer, max_length)
            rows_of = tokenizer([context] * len(options), options, truncation=True, max_length=max_length)
            encoded["input_ids"].append(rows_of["input_ids"])
            encoded["attention_mask"].append(rows_of["attention_mask"])
            encoded["length"].append(max(map(len, rows_of["input_ids"])))
        return encoded

    return rows.map(encode_batch, batched=True, remove_columns=rows.column_names, desc=f"Tokenizing {name}")


def _choices(batch: dict[str, list], columns: Columns, name: str) -> list[list[str]]:
    """The answers of each example, from one column of lists or from a column each; as many in every example."""
    if len(columns.choices) == 1:
        choices = batch[columns.choices[0]]
    else:
        choices = [list(options) for options in zip(*(batch[c] for c in columns.choices), strict=True)]
    for options in choices:
        if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) for o in options):
            raise ValueError(f"column '{columns.choices[0]}' of {name} must hold lists of two or more texts")
        if len(options) != len(choices[0]):
            raise ValueError(
                f"the rows of {name} must have the same number of choices: {len(choices[0])} is not {len(options)}"
            )
    return choices


def _fit_context(
    parts: tuple[str, ...], options: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> str:
    """
    A multiple choice's context as one text (paper, section 3.3: document and question joined), its first part cut at
    the end so that the rest and the longest answer fit. All choices get the same context.
    """

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    document, rest = parts[0], " ".join(parts[1:])
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - count(rest) - max(map(count, options))
    encoded = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True)
    if len(encoded["input_ids"]) > max(room, 0):
        document = document[: encoded["offset_mapping"][room - 1][1]] if room > 0 else ""
    return " ".join(text for text in (document, rest) if text)
