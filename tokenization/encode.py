"""Encode a corpus line by line, each different stretch between two blanks only once.

The words of the 2018 encoder, and so their pieces, depend on the stretch between two blanks that holds them, but for
what `PLAIN` and `DEPENDENT` keep apart. A line with any other stretch goes through the tokenizer whole: the ids are
always the tokenizer's.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from .text_files import join_surrogates
from .tokenization_gpt1 import GPT1Tokenizer


# No other white space, no marks that combine, and nothing that `repair.py` or the degree sign's rule reads with what
# stands beyond a blank: & < > = ^ Â Ã ‚ and control characters
PLAIN = "[!-%'-;?-\\]_-~£ÀÁÄ-ɏ‐-―‘’“”…]*"
# What rules of `english.py` read with the piece before: `x :y`, and the third words of special cases (`I 'd've`)
DEPENDENT = r":|\W?(?:n\W?t|d|ll)\W?ve|\W?d\Wy|\W?ma(?!\w|\Wam)"
INDEPENDENT = re.compile(f"(?!{DEPENDENT}){PLAIN}")
LARGEST_CACHE = 1 << 20  # stretches, which take some 200 MB


class CorpusEncoder:
    """
    The tokenizer for a corpus: the same ids, several times sooner, and nothing but ids.

    Args:
        tokenizer (`GPT1Tokenizer`):
            The tokenizer, as it is now: tokens that are added to it later are not seen.
    """

    def __init__(self, tokenizer: GPT1Tokenizer):
        self._tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = tokenizer.split_special_tokens
        # An added token of several words makes what stands beyond a blank matter everywhere
        self._by_stretch = not any(re.search(r"\s", token) for token in tokenizer.get_added_vocab())
        self._ids: dict[str, Any] = {}  # the tuple of every stretch so far; None for a dependent one

    def __call__(self, lines: Sequence[str]) -> list[list[int]]:
        """
        The ids of every line, as `tokenizer(lines, add_special_tokens=False).input_ids` has them.

        Give it thousands of lines at a time: what is new in them is encoded together, on all threads.
        """
        if not self._by_stretch:
            return self._encode(lines)
        encoded = [self._joined(line) for line in lines]
        new = [index for index, ids in enumerate(encoded) if ids is None]
        self._learn(lines[index] for index in new)
        for index in new:
            encoded[index] = self._joined(lines[index])
        dependent = [index for index in new if encoded[index] is None]
        found = dict(zip(dependent, self._encode([lines[index] for index in dependent]), strict=True))
        return [found[index] if ids is None else ids for index, ids in enumerate(encoded)]

    def _joined(self, line: str) -> list[int] | None:
        try:
            return list(chain.from_iterable(map(self._ids.__getitem__, line.split(" "))))
        except (KeyError, TypeError):  # a stretch is new, or dependent
            return None

    def _learn(self, lines: Iterable[str]) -> None:
        new = set(chain.from_iterable(line.split(" ") for line in lines))
        if len(self._ids) + len(new) > LARGEST_CACHE:
            self._ids.clear()
        new -= self._ids.keys()
        independent = [stretch for stretch in new if INDEPENDENT.fullmatch(stretch)]
        self._ids.update(dict.fromkeys(new))
        self._ids.update(zip(independent, map(tuple, self._encode(independent)), strict=True))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:
            encodings = self._tokenizer.encode_batch_fast(list(map(join_surrogates, texts)), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]
