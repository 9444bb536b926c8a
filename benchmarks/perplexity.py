"""Perplexity of a pre-trained model on held-out text, beside a 5-gram model that learned from the same books.

    python benchmarks/perplexity.py --corpus novels/train --held_out novels/valid wikitext2/valid.txt

Both predict the tokens of the same tokenizer, so that their figures compare: nothing is out of their vocabulary. The
model sees windows of 512 tokens that overlap by half, and so at least the 256 tokens before each (but at a text's
beginning); the 5-gram model the four tokens before. It is smoothed by interpolated, modified Kneser-Ney discounting
(Chen and Goodman, 1999), the lowest order by the uniform distribution. A word is what stands between blanks.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from measure import RESULTS, machine

from modeling_gpt1 import GPT1ForCausalLM
from modeling_gpt1.flags import checkpoint
from modeling_gpt1.scoring import surprisals
from modeling_gpt1.training.books import encode_books
from tokenization import GPT1Tokenizer


class KneserNey:
    """
    An n-gram model with interpolated, modified Kneser-Ney smoothing.

    An n-gram is known by a number: its place among the sorted keys `number of its first n - 1 tokens * vocab_size +
    last token`.

    Args:
        tokens (`np.ndarray` of shape `(length,)`): the text to learn from.
        vocab_size (`int`): how many tokens there are.
        order (`int`): tokens of the longest n-grams.
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, order: int = 5):
        self.vocab_size = vocab_size
        tokens = tokens.astype(np.int64)
        self.keys, first, counts = [], [], []
        numbers = [np.zeros(len(tokens) + 1, dtype=np.int64)]  # of the n-gram that begins at each position
        for n in range(1, order + 1):
            keys = numbers[-1][: len(tokens) - n + 1] * vocab_size + tokens[n - 1 :]
            unique, index, inverse, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
            self.keys.append(unique)
            first.append(index)
            counts.append(count)
            numbers.append(inverse)
        # Below the highest order an n-gram counts as often as there are different tokens before it.
        for n in range(1, order):
            counts[n - 1] = np.bincount(numbers[n][first[n] + 1], minlength=len(self.keys[n - 1]))
        self.discounted, self.totals, self.left = [], [], []
        for n in range(1, order + 1):
            of_count = np.bincount(np.minimum(counts[n - 1], 4), minlength=5)[1:5]
            ratio = of_count[0] / max(of_count[0] + 2 * of_count[1], 1)
            steps = [k - (k + 1) * ratio * of_count[k] / max(of_count[k - 1], 1) for k in (1, 2, 3)]
            # Where counts of counts are no help (few single tokens are rare), what is customary
            steps = [step if 0 < step < k else k / 2 for k, step in enumerate(steps, start=1)]
            discount = np.asarray([0, *steps])[np.minimum(counts[n - 1], 3)]
            history, histories = self.keys[n - 1] // vocab_size, len(self.keys[n - 2]) if n > 1 else 1
            self.discounted.append(counts[n - 1] - discount)
            self.totals.append(np.bincount(history, counts[n - 1], histories))
            self.left.append(np.bincount(history, discount, histories))

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """The logarithm of each token's probability after those before it: `(length,)`."""
        tokens = tokens.astype(np.int64)
        probability = np.full(len(tokens), 1 / self.vocab_size)
        history = np.zeros(len(tokens), dtype=np.int64)  # the number of the n - 1 tokens before; -1: never seen
        begins = np.zeros(len(tokens), dtype=np.int64)  # the number of the (n - 1)-gram that begins here
        for n, keys in enumerate(self.keys, start=1):
            known = history >= 0
            key = np.where(known, history * self.vocab_size + tokens, -1)
            place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            seen = keys[place] == key
            total, left = self.totals[n - 1][history], self.left[n - 1][history]
            known &= total > 0
            own = np.where(seen, self.discounted[n - 1][place], 0.0)
            probability = np.where(known, (own + left * probability) / np.where(known, total, 1), probability)
            # The n-gram that begins at each position, and so the history of order n + 1
            begins = np.full(len(tokens), -1)
            begins[: len(tokens) - n + 1] = np.where(seen, place, -1)[n - 1 :]
            history = np.concatenate((np.full(n, -1), begins))[: len(tokens)]
        return np.log(probability)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt1-mini", help="a pre-trained checkpoint (default: gpt1-mini)")
    parser.add_argument("--corpus", nargs="+", required=True, help="what the model was trained on")
    parser.add_argument("--held_out", nargs="+", required=True, help="texts to measure on, each by itself")
    parser.add_argument("--order", type=int, default=5, help="tokens of the longest n-grams (default: 5)")
    parser.add_argument("--output", type=Path, default=RESULTS / "perplexity.json")
    args = parser.parse_args()

    model = GPT1ForCausalLM.from_pretrained(checkpoint(args.model), dtype=torch.float32).eval()
    tokenizer = GPT1Tokenizer.from_pretrained(checkpoint(args.model), task_format=False)
    books = encode_books(args.corpus, tokenizer)
    ngrams = KneserNey(np.concatenate(books.with_format("numpy")["input_ids"]), len(tokenizer), args.order)
    results = {}
    print("| text | tokens | tokens per word | model | n-gram | model, per word | n-gram, per word |")
    print("| --- " * 7 + "|")
    for path in args.held_out:
        held_out = encode_books([path], tokenizer)
        texts = held_out.with_format("numpy")["input_ids"]
        tokens = sum(len(ids) for ids in texts)
        tokens_per_word = tokens / sum(held_out["words"])
        bits = surprisals(model, model.lm_head, [ids.tolist() for ids in texts], batch_size=8)
        losses = {
            "model": np.concatenate([each[1:] for each in bits]).mean() * math.log(2),
            "n-gram": -np.concatenate([ngrams.log_probabilities(ids)[1:] for ids in texts]).mean(),
        }
        results[path] = {"tokens": tokens, "tokens_per_word": tokens_per_word}
        for name, loss in losses.items():
            results[path][f"{name} perplexity"] = math.exp(loss)
            results[path][f"{name} word perplexity"] = math.exp(loss * tokens_per_word)
        row = results[path]
        figures = [row[f"{name} {of}"] for of in ("perplexity", "word perplexity") for name in losses]
        print(
            f"| {path} | {row['tokens']:,} | {row['tokens_per_word']:.3f} | "
            + " | ".join(f"{x:.1f}" for x in figures)
            + " |"
        )
    result = {"machine": machine("cpu"), "order": args.order, "texts": results}
    args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
