"""Learn a BPE from text.

The merges of a BPE depend only on how often each word occurs, and a word (but for entities and mojibake that hold
blanks) only on the stretch between two blanks that holds it. So the stretches are counted first, each different one
goes through the rules of `english.py` once, and the trainer gets words with their counts: many times faster than
sending all the text through the rules.

Two trainings give the same merges. `BpeTrainer` by itself does not: where two pairs are equally frequent it takes the
one with the smaller symbol numbers, and it numbers characters in the order of a hash table. Here the symbols that it
starts from are given, in a fixed order.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm

from . import english
from .corpus import read_texts
from .text_files import join_surrogates
from .tokenization_gpt1 import GPT1Tokenizer


UNKNOWN, WORD_END, LINE_BREAK = "<unk>", "</w>", "\n"
BLOCK = 1 << 16  # characters that go through the rules, or to the trainer, at a time
# What str.split takes for blanks, but ftfy removes or, U+0085, replaces
NOT_BLANK = {**dict.fromkeys([0x0B, 0x1C, 0x1D, 0x1E, 0x1F]), 0x85: "..."}
NOT_BLANK_PATTERN = re.compile("[\x0b\x1c-\x1f\x85]")
# Printable ASCII as it is after the change to lower case
ASCII = {chr(code).lower() for code in range(0x21, 0x7F)}


@dataclass
class LearnedBPE:
    """What training found: words and their counts, the alphabet, and the merges in the order they were learned."""

    words: Counter[str]
    alphabet: list[str]
    merges: list[tuple[str, str]]
    min_frequency: int
    bytes_read: int

    def tokenizer(self, task_format: bool = False) -> GPT1Tokenizer:
        """Numbered as OpenAI did: `<unk>`, characters, characters that end a word, merges, the line break."""
        symbols = [UNKNOWN, *self.alphabet, *(character + WORD_END for character in self.alphabet)]
        symbols += [first + second for first, second in self.merges]
        symbols.append(LINE_BREAK + WORD_END)
        vocab = {symbol: index for index, symbol in enumerate(dict.fromkeys(symbols))}
        return GPT1Tokenizer.from_vocabulary(vocab, self.merges, task_format=task_format)


def train_bpe(
    files_or_iterator: str | PathLike | Iterable[str | PathLike],
    num_merges: int = 40_000,
    min_frequency: int = 2,
    task_format: bool = False,
    show_progress: bool = True,
) -> GPT1Tokenizer:
    """Learn a tokenizer from text.

    Args:
        files_or_iterator: a file, a folder, or the id of a data set on the Hub; a list of existing files and folders;
            or any iterable of texts.
        num_merges: how many merges to learn; 0 gives a tokenizer of characters.
        min_frequency: pairs of symbols, and characters, that occur less often are not learned.
        task_format: as in `GPT1Tokenizer`.
        show_progress: whether to draw progress bars.

    Returns:
        The tokenizer. Its vocabulary is `<unk>`, the alphabet (printable ASCII and what else the text holds often
        enough), the alphabet with `</w>`, the merges, and the line break; then the special tokens.

    Raises:
        ValueError: a corpus without words, or one that cannot yield so many merges (it says how many it can).
        OSError: a file that cannot be read.
    """
    return learn(read_texts(files_or_iterator), num_merges, min_frequency, show_progress).tokenizer(task_format)


def learn(
    texts: Iterable[str], num_merges: int = 40_000, min_frequency: int = 2, show_progress: bool = True
) -> LearnedBPE:
    """The words, alphabet and merges of `texts`; arguments and errors as in `train_bpe`."""
    if num_merges < 0:
        raise ValueError(f"num_merges is {num_merges}; it cannot be negative")
    if min_frequency < 1:
        raise ValueError(f"min_frequency is {min_frequency}; it must be at least 1")
    words, bytes_read = count_words(texts, show_progress)
    if not words:
        raise ValueError("the corpus holds no words")
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    known = ASCII | {c for c, count in characters.items() if count >= min_frequency and c != LINE_BREAK}
    alphabet = sorted(known, key=lambda c: (-characters[c], c))
    merges = _merges(words, alphabet, num_merges, min_frequency, show_progress)
    if len(merges) < num_merges:
        raise ValueError(
            f"the corpus yields {len(merges):,} merges of pairs that occur at least {min_frequency} times, "
            f"not {num_merges:,}: ask for fewer, or give it more text"
        )
    return LearnedBPE(words, alphabet, merges, min_frequency, bytes_read)


def count_words(texts: Iterable[str], show_progress: bool = False) -> tuple[Counter[str], int]:
    """How often each word of the 2018 encoder occurs, line breaks left out; and how many bytes were read."""
    stretches: Counter[str] = Counter()
    size = 0
    with tqdm(desc="reading", unit="B", unit_scale=True, disable=not show_progress) as bar:
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"a corpus is made of texts (str), not of {type(text).__name__}")
            if NOT_BLANK_PATTERN.search(text):
                text = text.translate(NOT_BLANK)
            stretches.update(text.split())
            length = len(text.encode("utf-8", "surrogatepass"))
            size += length
            bar.update(length)

    # Stretches that occur equally often share a block of text. Those with "<" stay apart: it keeps entities unread
    together: dict[tuple[int, bool], list[str]] = {}
    for stretch, count in stretches.items():
        together.setdefault((count, "<" in stretch), []).append(stretch)
    rules = english.normalizer()
    words: Counter[str] = Counter()
    with tqdm(desc="words", unit=" stretches", total=len(stretches), disable=not show_progress) as bar:
        for (count, _), group in together.items():
            for block in _blocks(group):
                for word in _normalize(rules, block).split(" "):
                    words[word] += count
                bar.update(len(block))
    del words[""], words[LINE_BREAK]
    return words, size


def _normalize(rules: normalizers.Normalizer, stretches: list[str]) -> str:
    """The words of `stretches`, between blanks."""
    text = " ".join(stretches)
    try:
        return rules.normalize_str(text)
    except UnicodeEncodeError:
        return rules.normalize_str(join_surrogates(text))


def _blocks(stretches: list[str]) -> Iterator[list[str]]:
    block, size = [], 0
    for stretch in stretches:
        block.append(stretch)
        size += len(stretch) + 1
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _merges(
    words: Counter[str], alphabet: list[str], num_merges: int, min_frequency: int, show_progress: bool
) -> list[tuple[str, str]]:
    """The first `num_merges` merges, or as many as there are."""
    if num_merges == 0:
        return []
    symbols = [UNKNOWN, *alphabet, *(character + WORD_END for character in alphabet)]
    trainer = trainers.BpeTrainer(
        vocab_size=len(symbols) + num_merges,
        min_frequency=min_frequency,
        special_tokens=symbols,  # numbered in this order: without it two trainings differ
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        end_of_word_suffix=WORD_END,
        show_progress=show_progress,
    )
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    tokenizer.train_from_iterator(_repeated(words, set(alphabet)), trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in learned[:num_merges]]  # the trainer counts symbols, and two may give one


def _repeated(words: Counter[str], known: set[str]) -> Iterator[list[str]]:
    """Texts in which every word occurs as often as it was counted; those of one or of rare characters cannot merge."""
    texts, block, size = [], [], 0
    for word, count in words.items():
        if len(word) == 1 or not known.issuperset(word):
            continue
        per_block = max(1, BLOCK // (len(word) + 1))
        while count:
            times = min(count, per_block)
            block.append((word + " ") * times)
            size += times * (len(word) + 1)
            count -= times
            if size >= BLOCK:
                texts.append("".join(block))
                block, size = [], 0
                if len(texts) == 64:
                    yield texts
                    texts = []
    yield [*texts, "".join(block)]
