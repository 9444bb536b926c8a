"""The 2018 text encoder, derived anew from OpenAI's description over ftfy and spaCy: what the ids should be.

Pure Python and slow on purpose: it shares no code, table or library with `tokenization`.
"""

import json
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import ftfy
import spacy


RESPELLED = [("—", "-"), ("–", "-"), ("―", "-"), ("…", "..."), ("´", "'")]
PUNCTUATION = re.compile("|".join(re.escape(c) + "+" for c in '-~!";?+,)(\\/*[]}{|_'))


def text_standardize(text: str) -> str:
    for old, new in RESPELLED:
        text = text.replace(old, new)
    text = PUNCTUATION.sub(lambda match: f" {match[0]} ", text)
    text = re.sub(r"\s*\n\s*", " \n ", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


class Oracle:
    """Ids and words of the 2018 encoder over a vocabulary and its merges."""

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]]):
        self.vocab = vocab
        self.ranks = {merge: rank for rank, merge in enumerate(merges)}
        self.spacy = spacy.blank("en").tokenizer
        self.pieces = lru_cache(maxsize=1 << 16)(self._pieces)

    @classmethod
    def from_openai(cls, folder: Path) -> "Oracle":
        vocab = json.loads((folder / "encoder_bpe_40000.json").read_text(encoding="utf-8"))
        lines = (folder / "vocab_40000.bpe").read_text(encoding="utf-8").split("\n")[1:]
        return cls(vocab, [tuple(line.split()) for line in lines if line])

    def words(self, text: str) -> list[str]:
        return [token.text.lower() for token in self.spacy(text_standardize(ftfy.fix_text(text)))]

    def repairs_mojibake(self, text: str) -> bool:
        return ftfy.fix_encoding(text) != text

    def _pieces(self, word: str) -> tuple[str, ...]:
        if word == "\n ":  # spaCy keeps the blank after a line break; OpenAI's code mends the symbol that results
            return ("\n</w>",)
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            rank, pair = min((self.ranks.get(pair, 1 << 30), pair) for pair in pairwise(symbols))
            if rank == 1 << 30:
                break
            joined, position = [], 0
            while position < len(symbols):
                if tuple(symbols[position : position + 2]) == pair:
                    joined.append("".join(pair))
                    position += 2
                else:
                    joined.append(symbols[position])
                    position += 1
            symbols = joined
        return tuple(symbols)

    def __call__(self, text: str) -> list[int]:
        return [self.vocab.get(piece, 0) for word in self.words(text) if word for piece in self.pieces(word)]
