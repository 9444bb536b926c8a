"""GPT-1's tokenizer: the words of the 2018 encoder and a BPE of 40,000 merges."""

from .encode import CorpusEncoder
from .tokenization_gpt1 import GPT1Tokenizer
from .train import train_bpe


__all__ = ["CorpusEncoder", "GPT1Tokenizer", "train_bpe"]
