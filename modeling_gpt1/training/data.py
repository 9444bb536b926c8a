"""From rows to encoded data sets: read a file, find the columns, check the rows, tokenize."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import (
    ClassLabel,
    Dataset,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers import BatchEncoding, PreTrainedTokenizerBase

from tokenization.table_files import BadRows, Table, TableArguments, open_table, text_of

from .tasks import Task


logger = logging.getLogger(__name__)

MOST_UNKNOWN = 0.01  # the share of <unk> beyond which tokens hardly stand for their text


@dataclass(frozen=True)
class Split:
    """
    The rows of a split as their file has them.

    Attributes:
        columns: the values by column; of classes that a data set numbers, their names.
        name: of the file, or of the split.
        numbers: of each row in its file.
        unit: what a row is there: a row, a line or an entry.
        decimal_comma: whether numbers may be written as 4,5.
        bad_rows: what becomes of rows that cannot be used.
    """

    columns: Mapping[str, Sequence[Any]]
    name: str
    numbers: Sequence[int]
    unit: str = "row"
    decimal_comma: bool = False
    bad_rows: BadRows = field(default_factory=BadRows)

    @classmethod
    def of(cls, rows: Dataset, name: str) -> "Split":
        """The rows of a data set, counted from 1."""

        def values(column: str) -> list[Any]:
            feature = rows.features[column]
            if not isinstance(feature, ClassLabel):
                return rows[column][:]
            return [None if number in (None, -1) else feature.int2str(number) for number in rows[column]]

        return cls({column: values(column) for column in rows.column_names}, name, range(1, len(rows) + 1))

    @classmethod
    def of_table(cls, table: Table, only: set[str] | None = None) -> "Split":
        """The rows of a file, with all columns or `only` those of these names that it has."""
        columns, numbers = table.columns(only)
        return cls(columns, str(table.path), numbers, table.unit, table.decimal_comma, table.bad_rows)

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, index: int) -> str:
        """A row's name in a message."""
        return f"{self.name}, {self.unit} {self.numbers[index]}"

    def keep(self, indices: Sequence[int]) -> "Split":
        """These rows alone. Raises `ValueError` if there are none."""
        if not indices:
            raise ValueError(f"{self.name} has no row that can be used")
        if len(indices) == len(self):
            return self
        columns = {name: [values[index] for index in indices] for name, values in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.numbers[index] for index in indices])


def read_file(path: str | PathLike, tables: TableArguments | None = None) -> Split:
    """
    Reads a CSV, TSV, JSON lines or Parquet file; see [`tokenization.table_files`].

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown ending, an empty file, or one that does not parse; a row that does not fit the others.
    """
    return Split.of_table(open_table(path, tables))


@dataclass(frozen=True)
class Columns:
    """The columns a task is read from: of its text, its label, and a multiple choice's answers."""

    text: tuple[str, ...]
    label: str | None
    choices: tuple[str, ...] = ()


def find_columns(
    task: Task,
    split: Split,
    text_columns: list[str] | None = None,
    label_column: str | None = None,
    choice_columns: list[str] | None = None,
    needs_label: bool = True,
    named_by_flags: bool = True,
) -> Columns:
    """
    Finds a task's columns in a split, by the names given or by the task's own.

    Raises:
        ValueError: a column that is not there, with those that are.
    """

    def find(alternatives: tuple[tuple[str, ...], ...], hint: str) -> tuple[str, ...]:
        for columns in alternatives:
            if set(columns) <= split.columns.keys():
                return columns
        wanted = " or ".join(", ".join(f"'{column}'" for column in columns) for columns in alternatives)
        others = f" ({hint})" if named_by_flags else ""
        raise ValueError(f"{split.name} has no column {wanted}; its columns are {', '.join(split.columns)}{others}")

    if choice_columns and not task.choice_columns:
        raise ValueError("--choice_columns names the answers of a multiple choice, and this is none")
    text = find((tuple(text_columns),) if text_columns else task.text_columns, "--text_columns names others")
    choices: tuple[str, ...] = ()
    if task.choice_columns:
        alternatives = (tuple(choice_columns),) if choice_columns else task.choice_columns
        choices = find(alternatives, "--choice_columns names others")
    label = None
    if needs_label:
        names = (label_column,) if label_column else task.label_columns
        hint = "--label_column names others; rows without a label are for `gpt1 predict --input_file`"
        (label,) = find(tuple((column,) for column in names), hint)
    fewest = len(task.text_columns[0])
    if not choices and not fewest <= len(text) <= 2:
        raise ValueError(
            f"--text_columns takes {'two' if fewest == 2 else 'one or two'} columns here, got {len(text)}"
        )
    return Columns(text, label, choices)


def choices_of(split: Split, columns: Columns, index: int) -> list[Any]:
    """The answers of a row, from one column of lists or from a column each; none where it has no list."""
    if len(columns.choices) > 1:
        return [split.columns[column][index] for column in columns.choices]
    choices = split.columns[columns.choices[0]][index]
    return choices if isinstance(choices, list) else []


def complete_rows(split: Split, columns: Columns) -> Split:
    """
    The rows that have every text, and a label where there is a column for it; the others are bad rows.

    Raises:
        ValueError: a bad row that is not to be skipped, or no row that can be used.
    """
    kept, count = [], None
    for index in range(len(split)):
        problem = next(_missing(split, columns, index), None)
        if problem is None and columns.choices:
            choices = len(choices_of(split, columns, index))
            count = choices if count is None else count
            if choices != count:
                problem = f"all rows must have the same number of choices: {choices} is not {count}"
        if problem is None:
            kept.append(index)
        else:
            split.bad_rows.add(split.place(index), problem)
    return split.keep(kept)


def _missing(split: Split, columns: Columns, index: int) -> Iterator[str]:
    """What a row lacks."""
    cells = ((name, values[index]) for name, values in split.columns.items())
    # with the byte-order mark of the file that it began, it may be
    if len(split.columns) > 1 and all(isinstance(cell, str) and cell.lstrip("\ufeff") == name for name, cell in cells):
        yield "the header again, as in files that were joined"
    labels = [(columns.label, "label")] if columns.label else []
    for column, kind in [*((column, "text") for column in columns.text), *labels]:
        value = split.columns[column][index]
        if text_of(value) is None:
            yield f"column '{column}' holds no {kind}: {_shown(value)}"
    if columns.choices:
        choices = choices_of(split, columns, index)
        if len(choices) < 2 or any(text_of(choice) is None for choice in choices):
            value = choices or split.columns[columns.choices[0]][index]
            yield f"column '{columns.choices[0]}' must hold lists of two or more texts: {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _text(value: Any) -> str:
    """A cell as text. A blank is one too, where a test set has it: each of its rows needs an answer."""
    return text_of(value) or ""


def encode(split: Split, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """
    Tokenizes rows in the task format: `input_ids` and `attention_mask` (of each choice, for a multiple
    choice), and `length` in tokens. What is written like a special token is text as any other. It is done in memory,
    anew each time, so that it is never another file's.
    """
    read: Callable[..., BatchEncoding] = partial(tokenizer.__call__, split_special_tokens=True)
    texts: dict[str, list[Any]] = {
        f"text {i}": list(map(_text, split.columns[column])) for i, column in enumerate(columns.text)
    }
    if columns.choices:
        choices = (choices_of(split, columns, index) for index in range(len(split)))
        texts["choices"] = [list(map(_text, row)) for row in choices]

    def encode_batch(batch: dict[str, list]) -> dict[str, list]:
        choices = batch.pop("choices", None)
        if choices is None:
            encoded = dict(read(*batch.values(), truncation=True, max_length=max_length))
            return encoded | {"length": [len(ids) for ids in encoded["input_ids"]]}
        contexts = list(zip(*batch.values(), strict=True))
        of_choices = [_joined(parts) for parts, options in zip(contexts, choices, strict=True) for _ in options]
        whole = iter(read(of_choices, list(chain.from_iterable(choices)), verbose=False)["input_ids"])
        ids = [list(islice(whole, len(options))) for options in choices]
        for row, options in enumerate(choices):
            if max(map(len, ids[row])) > max_length:
                room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
                context = _fit_context(contexts[row], options, read, room)
                cut = read([context] * len(options), options, truncation=True, max_length=max_length)
                ids[row] = cut["input_ids"]
        return {
            "input_ids": ids,
            "attention_mask": [[[1] * len(choice) for choice in row] for row in ids],
            "length": [max(map(len, row)) for row in ids],
        }

    rows = Dataset.from_dict(texts)
    with without_data_bars(len(rows) <= 1000):  # one batch: the bar would be at its end at once
        return rows.map(encode_batch, batched=True, remove_columns=rows.column_names, desc=f"Tokenizing {split.name}")


@contextmanager
def without_data_bars(hidden: bool) -> Iterator[None]:
    """Without the bars of `datasets`, if `hidden`; afterwards they are as they were."""
    hides = hidden and not are_progress_bars_disabled()
    if hides:
        disable_progress_bars()
    try:
        yield
    finally:
        if hides:
            enable_progress_bars()


def unknown_share(encoded: Dataset, tokenizer: PreTrainedTokenizerBase, name: str) -> float:
    """The share of `<unk>` among the tokens of `input_ids` that are no special ones; above 1 %, with a warning."""
    unknown, counted = 0, 0
    special = [number for number in tokenizer.all_special_ids if number != tokenizer.unk_token_id]
    for ids in encoded.data.column("input_ids").chunks:
        while isinstance(ids, (pa.ListArray, pa.LargeListArray)):
            ids = ids.flatten()
        ids = ids.to_numpy()
        unknown += int((ids == tokenizer.unk_token_id).sum())
        counted += int((~np.isin(ids, special)).sum())
    share = unknown / max(counted, 1)
    if share > MOST_UNKNOWN:
        logger.warning(
            "%s: %.1f %% of the tokens are <unk>, characters that the tokenizer does not know", name, 100 * share
        )
    return share


def _fit_context(
    parts: tuple[str, ...], options: list[str], read: Callable[..., BatchEncoding], max_length: int
) -> str:
    """
    A multiple choice's context as one text (paper, section 3.3: document and question joined), its first part cut at
    the end so that the rest and the longest answer fit into `max_length` tokens. All choices get the same context.
    """

    def count(text: str) -> int:
        return len(read(text, add_special_tokens=False)["input_ids"])

    document, rest = parts[0], " ".join(parts[1:])
    room = max_length - count(rest) - max(map(count, options))
    encoded = read(document, add_special_tokens=False, return_offsets_mapping=True)
    if len(encoded["input_ids"]) > max(room, 0):
        document = document[: encoded["offset_mapping"][room - 1][1]] if room > 0 else ""
    return _joined((document, rest))


def _joined(parts: Iterable[str]) -> str:
    return " ".join(filter(None, parts))
