"""Where a task's splits come from: files, the folder of its official release, or the Hub."""

import logging
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets

from tokenization.table_files import BadRows, DelimitedTable, JsonTable, Table, TableArguments, open_table
from tokenization.text_files import first_line, read_lines

from .data import Split
from .labels import label_text
from .tasks import HeldOut, Release, Task


logger = logging.getLogger(__name__)


def read_splits(
    task: Task,
    files: dict[str, str | None],
    data_dir: str | None = None,
    tables: TableArguments | None = None,
    only: Container[str] | None = None,
    skip: bool = True,
) -> dict[str, Split]:
    """
    Reads the splits of `files` (split name to path), which may be official ones; or those of the task's release in
    `data_dir`; or, without either, the task's data set on the Hub.

    Args:
        task: whose files they are.
        files: the path of each split, or None.
        data_dir: a folder with the release.
        tables: what is not seen from the files themselves.
        only: of a release, the splits to read; all if None.
        skip: whether rows of official files and of the Hub that do not fit the others are skipped and counted, or
            refused.

    Raises:
        FileNotFoundError: no such file or folder, or a folder without the release.
        ValueError: files and a folder; a file that does not parse; no data set on the Hub.
    """
    tables = tables or TableArguments()
    paths = {split: Path(path) for split, path in files.items() if path is not None}
    if paths and data_dir is not None:
        raise ValueError("--data_dir finds the files by itself: give it or --train_file and its kin")
    if data_dir is not None:
        return _read_release(task, Path(data_dir), tables, only, skip)
    if paths:
        return {split: read_split(task, path, tables, skip) for split, path in paths.items()}
    if not task.hub:
        raise ValueError(
            f"this task has no data set on the Hub: give --train_file{' or --data_dir' * bool(task.release)}"
        )
    loaded = datasets.load_dataset(*task.hub)
    return {
        split: replace(Split.of(loaded[name], f"the {split} split"), bad_rows=BadRows(skip or tables.skip_bad_rows))
        for split, name in task.splits.items()
        if name in loaded and len(loaded[name]) > 0
    }


def find_files(files: dict[str, tuple[str, ...]], folder: Path) -> dict[str, Path]:
    """
    The files of a release in a folder, by split; see `Release.files`.

    Raises:
        FileNotFoundError: no such folder, or none of the files.
        ValueError: several that may be meant.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    found = {split: _first(folder, patterns) for split, patterns in files.items()}
    if not any(found.values()):
        split, patterns = next(iter(files.items()))
        raise FileNotFoundError(
            f"{folder} holds no official file of this task; of the {split} split it is {' or '.join(patterns)}"
        )
    return {split: path for split, path in found.items() if path is not None}


def _first(folder: Path, patterns: Iterable[str]) -> Path | None:
    for pattern in patterns:
        paths = sorted(folder.glob(pattern))
        if len(paths) > 1:
            raise ValueError(f"{folder} holds several files {pattern}: {', '.join(map(str, paths))}")
        if paths:
            return paths[0]
    return None


def _read_release(
    task: Task, folder: Path, tables: TableArguments, only: Container[str] | None, skip: bool
) -> dict[str, Split]:
    release = task.release
    if release is None:
        raise ValueError("--data_dir is for the paper's tasks: this one takes --train_file and its kin")
    files = {split: each for split, each in release.files.items() if only is None or split in only}
    paths = find_files(files, folder)
    splits = {split: read_split(task, path, tables, skip, official=True) for split, path in paths.items()}
    if release.held_out is not None and "train" in splits and "validation" not in splits:
        train, validation = _hold_out(splits["train"], release.held_out, folder)
        splits |= {"train": train} | ({"validation": validation} if validation is not None else {})
    return splits


def _hold_out(split: Split, held_out: HeldOut, folder: Path) -> tuple[Split, Split | None]:
    """The rows that stay for training, and those for validation; None where nothing says which they are."""
    if held_out.rows:
        from sklearn.model_selection import train_test_split

        if len(split) <= held_out.rows:
            raise ValueError(f"{split.name} has {len(split)} rows, of which {held_out.rows} are for validation")
        rows = train_test_split(range(len(split)), test_size=held_out.rows, random_state=held_out.seed)
        return split.keep(rows[0]), split.keep(rows[1])
    path = _first(folder, [held_out.ids])
    ids = {tuple(line.split()) for line in read_lines(path)} if path else set()
    chosen = [key in ids for key in zip(*(split.columns[column] for column in held_out.columns), strict=True)]
    if not any(chosen):
        logger.warning("%s: no %s tells which of its rows are for validation", split.name, held_out.ids)
        return split, None
    rows = [[index for index, each in enumerate(chosen) if each == wanted] for wanted in (False, True)]
    return split.keep(rows[0]), split.keep(rows[1])


def read_split(
    task: Task, path: Path, tables: TableArguments | None = None, skip: bool = True, official: bool = False
) -> Split:
    """
    Reads a split from a file, or from a folder of JSON files.

    In official files a quotation mark is a mark, if tabs separate the fields.

    Args:
        task: whose split it is.
        path: the file or folder.
        tables: what is not seen from the file itself.
        skip: whether rows of official files that do not fit the others are skipped and counted, or refused.
        official: whether it is known to be an official file, whatever it looks like.
    """
    tables = tables or TableArguments()
    release = task.release
    if release is None:
        return Split.of_table(open_table(path, tables))
    if path.is_dir():
        return _read_folder(release, path, tables)
    table = _open(task, release, path, tables, replace(tables, skip_bad_rows=skip or tables.skip_bad_rows), official)
    return Split.of_table(table, _wanted(task, release) if official else None)


def _wanted(task: Task, release: Release) -> set[str]:
    """The columns that a task may be read from, without the parse trees that some files hold besides."""
    names = {name for names in (*task.text_columns, *task.choice_columns, task.label_columns) for name in names}
    return names | {release.id_column} | set(release.held_out.columns if release.held_out else ())


def _open(
    task: Task, release: Release, path: Path, tables: TableArguments, lenient: TableArguments, official: bool
) -> Table:
    ending = path.suffix.lower()
    endings = (".tsv", ".txt", ".csv") if release.further else (".tsv", ".txt")
    if ending not in endings or not path.is_file() or tables.delimiter not in (None, "\t"):
        return open_table(path, lenient if official else tables)
    first = first_line(path, tables.encoding)
    if first.startswith("{"):
        return JsonTable(path, lenient)
    fields = [name.strip() for name in first.split("\t")]
    has_header = any(set(names) <= set(fields) for names in task.text_columns)
    headerless = len(fields) == len(release.columns) and not has_header
    if (official and ending != ".csv") or headerless or ending == ".txt" or release.sign in fields:
        names = list(release.columns) if headerless else None
        further = release.further and headerless
        return DelimitedTable(path, replace(lenient, delimiter="\t"), names, quoted=False, further=further)
    return open_table(path, tables)


def _read_folder(release: Release, folder: Path, tables: TableArguments) -> Split:
    """All JSON objects of the files below a folder, each a row, or as many as its lists in `release.each` are long."""
    rows: list[dict[str, Any]] = []
    for path in sorted(path for path in folder.rglob("*.txt") if not path.name.startswith(".")):
        for _, value in JsonTable(path, tables).rows():
            rows += _each_row(value, release, path)
    if not rows:
        raise ValueError(f"{folder} is empty: it has no .txt file with a JSON object")
    names = {name: None for row in rows for name in row}
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Split(columns, str(folder), range(1, len(rows) + 1), bad_rows=BadRows(skip=True))


def _each_row(value: dict[str, Any], release: Release, path: Path) -> Iterator[dict[str, Any]]:
    lists = {column: value[name] for name, column in release.each.items() if name in value}
    shared = {name: each for name, each in value.items() if name not in release.each}
    if not all(isinstance(each, list) for each in lists.values()) or len({*map(len, lists.values())}) != 1:
        raise ValueError(f"{path}: {', '.join(release.each)} must be lists of one length")
    for number, row in enumerate(zip(*lists.values(), strict=True)):
        name = {release.id_column: f"{value.get(release.id_column, path.name)}-{number}"}
        yield shared | name | dict(zip(lists, row, strict=True))


def labelled_splits(task: Task, splits: dict[str, Split], label_column: str | None = None) -> dict[str, Split]:
    """
    The splits that have labels, in `label_column` or the task's own, without the rows that official files and those of
    the Hub mark as having none; a null is such a mark, and a blank is a label that is missing.

    What is left out is said in one line for each file; a test split may have no label at all.
    """
    if task.release is None:
        return splits
    kept = {}
    for name, split in splits.items():
        columns = (label_column,) if label_column else task.label_columns
        column = next((column for column in columns if column in split.columns), None)
        labels = split.columns[column] if column is not None else [None] * len(split)
        marks = [None if label is None else label_text(label) or "" for label in labels]
        rows = [index for index, mark in enumerate(marks) if mark not in task.release.no_label]
        if name.startswith("test") and (column is None or not rows):
            logger.warning("%s has no labels: `gpt1 predict` writes predictions for it", split.name)
        elif column is None or not rows:
            kept[name] = split  # whose labels are missed where they are looked for
        else:
            kept[name] = split.keep(rows)
            if len(rows) < len(split):
                found = " or ".join(repr(mark) for mark in task.release.no_label if mark in marks)
                logger.warning("%s: %d rows skipped, whose label is %s", split.name, len(split) - len(rows), found)
    return kept
