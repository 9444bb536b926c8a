"""Books as windows of contiguous tokens (paper, section 4.1), encoded once and mapped from disk.

The encoded books are an Arrow data set in the cache of `datasets`, whose name is a hash of the text and the tokenizer:
the same text is not encoded twice, and a text that changed is encoded anew. Nothing but the windows that are read is
ever in memory.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, List, Value
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import HfApi
from tqdm import tqdm

from tokenization import CorpusEncoder, GPT1Tokenizer
from tokenization.corpus import LINE_BREAKS, TRAIN, files_of, hub_errors, hub_id, read_books
from tokenization.table_files import TableArguments

from .data import without_data_bars


logger = logging.getLogger(__name__)

# A longer book is kept in parts, so that reading one into Arrow takes little memory.
LONGEST_PART = 1 << 20  # tokens
SHORTEST_REPEAT = 16  # tokens

_FEATURES = Features(
    {
        "book": Value("string"),
        "input_ids": List(Value("int32")),
        "words": Value("int64"),
        "digest": Value("string"),
    }
)


def encode_books(
    paths: Sequence[str | PathLike],
    tokenizer: GPT1Tokenizer,
    text_column: str = "text",
    encoding_errors: str = "strict",
    cache_dir: str | None = None,
    tables: TableArguments | None = None,
    split: str = TRAIN,
) -> Dataset:
    """
    Encodes the books of `paths` (see [`tokenization.corpus.read_books`]), or finds them encoded.

    Args:
        paths: text files, folders, tables, Hub data sets.
        tokenizer: encodes them, without special tokens.
        text_column: of tables and data sets.
        encoding_errors: `"strict"`, or `"replace"` for texts that are not wholly of their encoding.
        cache_dir: where the encoded books are kept; the cache of `datasets` by default.
        tables: how tables are read, and the encoding of texts.
        split: of data sets of the Hub, where they have it.

    Returns:
        A row per book, or a part of a very long one: `book`, its name; `input_ids`, int32; `words`, how many words
        between blanks its text has; `digest`, a hash of the ids. Books without a word are left out, with a warning.

    Raises:
        OSError, ValueError: as `read_books`; or no book holds a word.
    """
    try:
        with without_data_bars(True):  # which count rows: ours counts tokens
            return Dataset.from_generator(
                _encoded,
                features=_FEATURES,
                cache_dir=cache_dir,
                fingerprint=fingerprint(paths, tokenizer, text_column, encoding_errors, tables),
                writer_batch_size=16,  # rows in memory; by default 1,000, which are gigabytes
                gen_kwargs={
                    "paths": tuple(paths),
                    "tokenizer": tokenizer,
                    "text_column": text_column,
                    "encoding_errors": encoding_errors,
                    "tables": tables,
                    "split": split,
                },
            )
    except DatasetGenerationError as error:  # what a reader said, wrapped
        raise error.__cause__ from None


def fingerprint(
    paths: Sequence[str | PathLike],
    tokenizer: GPT1Tokenizer,
    text_column: str,
    encoding_errors: str,
    tables: TableArguments | None = None,
    split: str = TRAIN,
) -> str:
    """A hash of what the encoded books depend on: files' names and bytes, or a data set's commit on the Hub."""
    tables = tables or TableArguments()
    reading = (text_column, encoding_errors, tables.delimiter, tables.encoding, tables.skip_bad_rows, LONGEST_PART)
    digest = hashlib.sha256(repr(reading).encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for path in paths:
        if not Path(path).exists():
            identifier, configuration = hub_id(path)
            with hub_errors(path):
                commit = HfApi().dataset_info(identifier).sha
            digest.update(f"{identifier} {configuration} {split} {commit}".encode())
            continue
        for file in files_of(path):
            digest.update(f"{file} {file.stat().st_size}".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()[:32]


def _encoded(
    paths: Sequence[str | PathLike],
    tokenizer: GPT1Tokenizer,
    text_column: str,
    encoding_errors: str,
    tables: TableArguments | None,
    split: str,
) -> Iterator[dict]:
    encode = CorpusEncoder(tokenizer)
    line_break: Any = tokenizer.convert_tokens_to_ids("\n</w>")  # one token's
    found = False
    with tqdm(desc="Encoding", unit=" tokens", unit_scale=True) as bar:
        for book, texts in read_books(paths, text_column, encoding_errors, tables, split):
            ids: list[int] = []
            words, parts = 0, 0
            for text in texts:
                words += len(text.split())
                before = len(ids)
                # Line by line: the same ids as at once. A line break is a word, and empty lines are none.
                for line in encode(LINE_BREAKS.split(text)):
                    if line:
                        ids += line
                        ids.append(line_break)
                bar.update(len(ids) - before)
                while len(ids) > LONGEST_PART:
                    yield _row(book, ids[:LONGEST_PART], words)
                    ids, words, parts = ids[LONGEST_PART:], 0, parts + 1
            if len(ids) > 1:
                yield _row(book, ids[:-1], words)  # the last line break ends nothing
            elif parts == 0:
                logger.warning("%s holds no text and is left out", book)
                continue
            found = True
    if not found:
        raise ValueError(f"there is no text in {', '.join(map(str, paths))}")


def _row(book: str, ids: list[int], words: int) -> dict:
    # The ids stay a list: of an array the writer would make a list of NumPy numbers, five times as large.
    digest = hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).hexdigest()
    return {"book": book, "input_ids": ids, "words": words, "digest": digest}


def in_both(books: Dataset, others: Dataset) -> list[str]:
    """The names of the `others` that are, to the token, among the `books`: held-out text that is not held out."""
    known = set(books["digest"])
    return [book for book, digest in zip(others["book"], others["digest"], strict=True) if digest in known]


class BookWindows(torch.utils.data.Dataset):
    """
    Windows of contiguous tokens, none across two books: `{"input_ids": int64 array of at most `length`}`.

    To train, a book's windows begin at an offset that is drawn anew for each epoch, and all windows are shuffled: both
    are functions of `seed` and epoch alone, on any number of processes, interrupted or not, if they are read in
    sequence (`train_sampling_strategy="sequential"`). There are as many in every epoch. A book shorter than a window
    is one, as it is.

    Args:
        books: what [`encode_books`] gave.
        length: tokens of a window.
        seed: of the offsets and the order. None, to evaluate, for the windows in order, from each book's first token
            to its last: a book's last window begins where it is as long as the others, so that a mean over windows is
            one over tokens.
        repeats (`float`, defaults to 0): the share of training windows in which a span of tokens is said again (see
            [`repeat_span`]), which teaches a small model to look up what it has read.
        make_pairs: what makes pairs of texts of a training window's tokens and its random numbers, if given (see
            [`PairMaker`]): further arrays of the window's dictionary.

    Attributes:
        tokens: how many each book has.
        tokens_per_word: how many a word between blanks has.
    """

    def __init__(
        self,
        books: Dataset,
        length: int,
        seed: int | None = None,
        repeats: float = 0.0,
        make_pairs: Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]] | None = None,
    ):
        self.books = books
        self.length = length
        self.seed = seed
        self.repeats = repeats
        self.make_pairs = make_pairs
        self.tokens = pc.list_value_length(books.data.column("input_ids")).to_numpy().astype(np.int64)
        self.tokens_per_word = float(self.tokens.sum() / sum(books["words"]))
        counts = np.maximum(self.tokens // length, 1) if seed is not None else -(-self.tokens // length)
        self.first = np.concatenate(([0], np.cumsum(counts)))  # the first window of each book
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws the offsets and the order of an epoch; `Trainer` calls it."""
        self.epoch = epoch
        self.offsets = np.zeros_like(self.tokens)
        self.order = np.arange(len(self))
        if self.seed is not None:
            random = np.random.default_rng((self.seed, epoch))
            counts = np.diff(self.first)
            self.offsets = random.integers(np.maximum(self.tokens - counts * self.length, 0) + 1)
            random.shuffle(self.order)

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        window = self.order[index]
        book = np.searchsorted(self.first, window, side="right") - 1
        start = self.offsets[book] + (window - self.first[book]) * self.length
        start = max(min(start, self.tokens[book] - self.length), 0)
        ids = self.books.data.fast_slice(book, 1)["input_ids"].chunk(0).flatten().slice(start, self.length)
        ids = ids.to_numpy().astype(np.int64)
        if self.seed is None or not (self.make_pairs or self.repeats):
            return {"input_ids": ids}
        random = np.random.default_rng((self.seed, self.epoch, window))
        pairs = {} if self.make_pairs is None else self.make_pairs(ids, random)
        if self.repeats and random.random() < self.repeats:
            repeat_span(ids, random)
        return {"input_ids": ids, **pairs}


def repeat_span(ids: np.ndarray, random: np.random.Generator) -> None:
    """Says a span of a window again, in place of what stood somewhere after it; of any length, at any distance."""
    longest = len(ids) // 2
    if longest < SHORTEST_REPEAT:
        return
    length = random.integers(SHORTEST_REPEAT, longest + 1)
    first = random.integers(len(ids) - 2 * length + 1)
    again = random.integers(first + length, len(ids) - length + 1)
    ids[again : again + length] = ids[first : first + length]
