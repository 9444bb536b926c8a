"""Texts to learn from: files, folders, data sets of the Hub, or what the caller iterates over."""

import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path


TABLES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
TEXTS = (".txt", ".text", ".md")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")  # owner/name, and a configuration after a colon
LINES_AT_A_TIME = 1 << 22  # characters


def read_texts(source: str | PathLike | Iterable[str | PathLike], text_column: str = "text") -> Iterator[str]:
    """The texts of `source`: one path or Hub id; a list of paths that all exist; or texts, as they are.

    Raises `ValueError` for bytes, and as `read_paths` does.
    """
    if isinstance(source, (bytes, bytearray)):
        raise ValueError("a corpus is a path or texts (str), not bytes")
    if isinstance(source, (str, PathLike)):
        return read_paths([source], text_column)
    if isinstance(source, (list, tuple)) and source and all(_exists(item) for item in source):
        return read_paths(source, text_column)
    return iter(source)


def read_paths(paths: Iterable[str | PathLike], text_column: str = "text") -> Iterator[str]:
    """The texts of files, folders (every text or table in them) and Hub data sets (`owner/name[:configuration]`).

    Tables (JSON lines, CSV, Parquet) and data sets give their column `text_column`.

    Raises:
        OSError: a path that is neither there nor the form of a Hub id, or a data set that cannot be reached.
        ValueError: a folder without texts, a file that is not UTF-8, a table without the column.
    """
    for path in paths:
        if not _exists(path):
            if not isinstance(path, str) or not HUB_ID.fullmatch(path):
                raise FileNotFoundError(f"{path}: no such file or folder")
            yield from _data_set(path, text_column)
        elif Path(path).is_dir():
            files = [f for f in sorted(Path(path).rglob("*")) if f.suffix.lower() in (*TEXTS, *TABLES) and f.is_file()]
            if not files:
                raise ValueError(f"{path}: no text in this folder ({' '.join((*TEXTS, *TABLES))})")
            for file in files:
                yield from _file(file, text_column)
        else:
            yield from _file(Path(path), text_column)


def _exists(path: str | PathLike) -> bool:
    if not isinstance(path, (str, PathLike)):
        return False
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it: a text
        return False


def _file(path: Path, text_column: str) -> Iterator[str]:
    if path.suffix.lower() in TABLES:
        options = {"delimiter": "\t"} if path.suffix.lower() == ".tsv" else {}
        yield from _rows(str(path), text_column, TABLES[path.suffix.lower()], data_files=str(path), **options)
        return
    with path.open(encoding="utf-8", newline="") as lines:
        try:
            while block := lines.readlines(LINES_AT_A_TIME):
                yield "".join(block)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error.reason})") from error


def _data_set(name: str, text_column: str) -> Iterator[str]:
    identifier, _, configuration = name.partition(":")
    yield from _rows(name, text_column, identifier, name=configuration or None)


def _rows(label: str, text_column: str, *arguments, **options) -> Iterator[str]:
    from datasets import load_dataset

    try:
        rows = load_dataset(*arguments, split="train", streaming=True, **options)
        first = next(iter(rows), None)
    except Exception as error:  # `datasets` raises a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"{label}: cannot be read as a file or a data set of the Hub: {reason}") from error
    if first is None:
        return
    if text_column not in first:
        raise ValueError(f"{label}: no column {text_column!r}; there are {', '.join(first)}")
    for row in rows:
        if row[text_column] is not None:
            yield row[text_column]
