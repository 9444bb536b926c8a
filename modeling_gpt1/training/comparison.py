"""
Comparing two texts, learned from text alone: pairs are made of a window's tokens, and nobody labels them.

A small language model hardly looks up whether a word of one text stands in another, and a few thousand labelled pairs
do not teach it: it learns them by heart. Of a pair that was made it is known which tokens of the second text the first
one has, and how much they have in common. The one is asked of the states after half of the layers, so that the other
half can count on it; the other of the last token's final state, which fine-tuning reads as well (section 3.1).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import nn

from ..configuration_gpt1 import GPT1Config
from ..inputs_gpt1 import last_real
from ..modeling_gpt1 import GPT1ForCausalLM, GPT1Model


PAIR_LENGTH = 64  # tokens, the special ones included
SHORTEST_TEXT = 4


class PairMaker:
    """
    Makes pairs of texts of a window's tokens: `_start_ A _delimiter_ B _classify_`.

    A and B have 4 tokens or more each, of any lengths that fit. B has tokens of A and of another place in the window;
    how many of each is drawn for every pair, from none to all. A's stand in their order, or turned, or with neighbours
    exchanged.

    Args:
        config: whose special tokens are taken.
        length: tokens of a pair, the special ones included; shorter ones are padded.
        rarity (`np.ndarray` of shape `(vocab_size,)`): what a token weighs in the overlap of two texts.
    """

    def __init__(self, config: GPT1Config, length: int, rarity: np.ndarray):
        self.config = config
        self.length = length
        self.rarity = rarity

    def __call__(self, count: int, window: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        """
        Makes `count` pairs.

        Returns:
            `pair_ids` (int64 `(count, length)`), padded on the right; `pair_found` (int64 `(count, length)`), for each
            token of B whether A has it, -100 elsewhere; `pair_overlap` (float32 `(count,)`), the part of all tokens
            that both texts have, weighed by their rarity.
        """
        special = self.config
        ids = np.full((count, self.length), special.pad_token_id)
        found = np.full((count, self.length), -100)
        overlap = np.zeros(count, dtype=np.float32)
        longest = max(min((self.length - 3) // 2, len(window) // 2), 1)
        for row in range(count):
            first, second = random.integers(min(SHORTEST_TEXT, longest), longest, size=2, endpoint=True).tolist()
            a, other = (_slice(window, length, random) for length in (first, second))
            order = np.arange(second) * first / second + random.random(second) * random.uniform(0, 4)
            if random.random() < 0.4:
                order += random.uniform(0, first)
            b = np.where(random.random(second) < random.uniform(-0.3, 1.1), a[order.astype(int) % first], other)
            in_a, both = np.isin(b, a), np.concatenate((a, b))
            shared = np.concatenate((np.isin(a, b), in_a))
            overlap[row] = self.rarity[both[shared]].sum() / self.rarity[both].sum()
            pair = [special.bos_token_id, *a, special.sep_token_id, *b, special.cls_token_id]
            ids[row, : len(pair)] = pair
            found[row, first + 2 : len(pair) - 1] = in_a
        return {"pair_ids": ids, "pair_found": found, "pair_overlap": overlap}


def _slice(window: np.ndarray, length: int, random: np.random.Generator) -> np.ndarray:
    start = random.integers(len(window) - length + 1)
    return window[start : start + length]


def rarity(books: Dataset, vocab_size: int) -> np.ndarray:
    """The surprisal, in nats, of each token in what [`encode_books`] gave; each counted once more than it came."""
    counts = np.ones(vocab_size)
    for chunk in books.data.column("input_ids").chunks:
        counts += np.bincount(chunk.flatten().to_numpy(), minlength=vocab_size)
    return -np.log(counts / counts.sum())


class Comparison(nn.Module):
    """
    What reads from a language model's states what [`PairMaker`] knows of a pair, and adds to the model's loss how well
    it can. While it is attached it is a part of the model: trained with it, saved in its checkpoints, and seen by what
    wraps it.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.found = nn.Linear(hidden_size, 1)
        self.overlap = nn.Linear(hidden_size, 1)
        self.pairs: dict[str, torch.Tensor] = {}  # of the call at work
        self.loss: torch.Tensor | None = None  # of the last call, without a gradient

    def attach(self, model: GPT1ForCausalLM) -> None:
        """Lets the model take the pairs beside its windows."""
        model.comparison = self
        self.hooks = (
            model.register_forward_pre_hook(self._take_pairs, with_kwargs=True),
            model.register_forward_hook(self._add_loss, with_kwargs=True),
        )

    def detach(self, model: GPT1ForCausalLM) -> None:
        """Leaves the model what it was."""
        del model.comparison
        for hook in self.hooks:
            hook.remove()

    def _take_pairs(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self.pairs = {name: value for name, value in kwargs.items() if name.startswith("pair_")}
        return args, {name: value for name, value in kwargs.items() if name not in self.pairs}

    def _add_loss(self, model: GPT1ForCausalLM, args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        if self.pairs:
            loss = self(model.model, **self.pairs)
            count = kwargs.get("num_items_in_batch")  # of all batches and devices that make an update
            outputs.loss = outputs.loss + loss * (1 if count is None else kwargs["labels"].numel() / count)
            self.pairs, self.loss = {}, loss.detach()

    def forward(
        self, model: GPT1Model, pair_ids: torch.Tensor, pair_found: torch.Tensor, pair_overlap: torch.Tensor
    ) -> torch.Tensor:
        """
        The cross-entropy of what was found plus ten times the squared error of the overlap, which lies in [0, 1]: a
        scalar. No mask: padding on the right is not seen by the tokens that are read.
        """
        outputs = model(input_ids=pair_ids, output_hidden_states=True, use_cache=False)
        middle = outputs.hidden_states[(len(outputs.hidden_states) - 1) // 2]
        is_read = pair_found >= 0
        logits, answers = self.found(middle).squeeze(-1), pair_found.clamp_min(0).to(middle)
        found = F.binary_cross_entropy_with_logits(logits, answers, weight=is_read.to(middle), reduction="sum")
        last = last_real(is_read) + 1  # the extract token comes after the last that is read
        final = outputs.last_hidden_state[torch.arange(len(pair_ids), device=pair_ids.device), last]
        return found / is_read.sum() + 10 * F.mse_loss(self.overlap(final).squeeze(-1), pair_overlap.to(final))
