"""Texts to learn from: files, folders, data sets of the Hub, or what the caller iterates over."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

from .table_files import KINDS, BadRows, TableArguments, open_table, text_of
from .text_files import read_blocks


logger = logging.getLogger(__name__)

TEXTS = (".txt", ".text", ".md")
# What the tokenizer reads as a line break; `str.splitlines` also breaks at a form feed, for one, which is a blank.
LINE_BREAKS = re.compile("[\n\r\u2028\u2029]")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")  # owner/name, and a configuration after a colon
TRAIN = "train"  # the split that every data set has


def read_texts(source: str | PathLike | Iterable[str | PathLike], text_column: str = "text") -> Iterator[str]:
    """The texts of `source`: one path or Hub id; a list of paths that all exist; or texts, as they are.

    Raises `ValueError` for bytes, and as `read_books` does.
    """
    if isinstance(source, (bytes, bytearray)):
        raise ValueError("a corpus is a path or texts (str), not bytes")
    if isinstance(source, (str, PathLike)):
        return read_paths([source], text_column)
    if isinstance(source, (list, tuple)) and source and all(_exists(item) for item in source):
        return read_paths(source, text_column)
    texts: Iterable[Any] = source
    return iter(texts)


def read_paths(
    paths: Iterable[str | PathLike],
    text_column: str = "text",
    tables: TableArguments | None = None,
    split: str = TRAIN,
) -> Iterator[str]:
    """The texts of [`read_books`], one after the other."""
    return chain.from_iterable(texts for _, texts in read_books(paths, text_column, tables=tables, split=split))


def read_books(
    paths: Iterable[str | PathLike],
    text_column: str = "text",
    encoding_errors: str = "strict",
    tables: TableArguments | None = None,
    split: str = TRAIN,
) -> Iterator[tuple[str, Iterator[str]]]:
    """The books of files, folders (every text or table in them) and Hub data sets (`owner/name[:configuration]`).

    A text file is a book; it comes in blocks of whole lines. Of tables (CSV, TSV, JSON lines, Parquet; see
    [`tokenization.table_files`]) and data sets each row's column `text_column` is one. A row that is blank or null is
    no book: how many there were is said in one line.

    Args:
        paths: where they are.
        text_column: of tables and data sets.
        encoding_errors: what becomes of bytes that are not of the encoding in a text file: as in `bytes.decode`.
        tables: how tables are read; its encoding is that of text files, too.
        split: of data sets of the Hub, where they have it; else what they are trained on.

    Returns:
        The name of each book with its text, to be taken before the next one is.

    Raises:
        OSError: a path that is neither there nor the form of a Hub id, or a data set that cannot be reached.
        ValueError: a folder without texts, a file that is not of its encoding, a table without the column, or with a
            row that does not fit the others.
    """
    tables = tables or TableArguments()
    for path in paths:
        if not _exists(path):
            yield from _texts(str(path), "row", _hub_rows(path, text_column, split), BadRows(tables.skip_bad_rows))
            continue
        for file in files_of(path):
            if file.suffix.lower() in KINDS:
                table = open_table(file, tables)
                yield from _texts(str(file), table.unit, table.column(text_column), table.bad_rows)
            else:
                yield str(file), read_blocks(file, tables.encoding, encoding_errors)


def files_of(path: str | PathLike) -> list[Path]:
    """The texts and tables in a folder, sorted; or the file itself.

    Raises `ValueError` for a folder without any, and for what is neither.
    """
    if not Path(path).is_dir():
        if not Path(path).is_file():  # reading a pipe may wait for ever, and a corpus is read more than once
            raise ValueError(f"{path} is a pipe or a device, neither a file nor a folder")
        return [Path(path)]
    files = [f for f in sorted(Path(path).rglob("*")) if f.suffix.lower() in (*TEXTS, *KINDS) and f.is_file()]
    if not files:
        raise ValueError(f"{path}: no text in this folder ({' '.join((*TEXTS, *KINDS))})")
    return files


def hub_id(path: str | PathLike) -> tuple[str, str | None]:
    """The data set and its configuration that `owner/name[:configuration]` names.

    Raises `FileNotFoundError` for what has not this form.
    """
    if not isinstance(path, str) or not HUB_ID.fullmatch(path):
        raise FileNotFoundError(f"{path}: no such file or folder")
    identifier, _, configuration = path.partition(":")
    return identifier, configuration or None


@contextmanager
def hub_errors(path: str | PathLike) -> Iterator[None]:
    """Raises `OSError`, which names `path`, for whatever goes wrong with a data set of the Hub."""
    try:
        yield
    except Exception as error:  # `datasets` raises a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"{path}: cannot be read as a file or a data set of the Hub: {reason}") from error


def _exists(path: str | PathLike) -> bool:
    if not isinstance(path, (str, PathLike)):
        return False
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it: a text
        return False


def _texts(
    name: str, unit: str, cells: Iterable[tuple[int, Any]], bad_rows: BadRows
) -> Iterator[tuple[str, Iterator[str]]]:
    blank = 0
    for number, cell in cells:
        place, text = f"{name}, {unit} {number}", text_of(cell)
        if text is not None:
            yield place, iter((text,))
        elif isinstance(cell, (str, float, type(None))):
            blank += 1
        else:
            bad_rows.add(place, f"{str(cell)[:60]} is no text")
    bad_rows.report(name)
    if blank:
        logger.warning("%s: %d rows without a text are left out", name, blank)


def _hub_rows(path: str | PathLike, text_column: str, split: str) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    identifier, configuration = hub_id(path)
    with hub_errors(path):
        splits = load_dataset(identifier, streaming=True, name=configuration)
        name = split if split in splits else TRAIN
        if name not in splits:
            raise ValueError(f"it has no split {name!r}; there are {', '.join(splits)}")
        rows = splits[name]
        first = next(iter(rows), None)
    if first is not None and text_column not in first:
        raise ValueError(f"{path}: no column {text_column!r}; there are {', '.join(first)}")
    for number, row in enumerate(rows, 1):
        yield number, row[text_column]
