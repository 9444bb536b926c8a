"""
The choices of a multiple choice as one row per example: what all choices begin with is run once.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import BlockMask
from transformers.masking_utils import create_causal_mask

from .configuration_gpt1 import GPT1Config
from .losses_gpt1 import IGNORED, row_terms


def can_pack(config: GPT1Config, kwargs: dict[str, Any]) -> bool:
    """
    Whether packed rows give what separate ones do: not where the caller, by `kwargs` or the configuration, wants each
    row's inner states, nor with a kernel that takes no mask, or may not, nor where what a token sees is not just what
    came before it in its row.
    """
    wants_states = any(
        kwargs.get(name, getattr(config, name)) for name in ("output_hidden_states", "output_attentions")
    )
    takes_mask = config._attn_implementation in ("eager", "sdpa", "flex_attention")
    sees_all = config.is_causal and kwargs.get("is_causal") is not False and config.attention_window is None
    return takes_mask and sees_all and not wants_states and not torch.compiler.is_compiling()


@dataclass
class PackedChoices:
    """
    The choices of each example as one row: their common prefix once, then each choice's own tokens.

    Attributes:
        input_ids, position_ids (`torch.LongTensor` of shape `(batch, packed length)`).
        token_type_ids (`torch.LongTensor` of shape `(batch, packed length)`, *optional*).
        segments (`torch.LongTensor` of shape `(batch, packed length)`):
            0 for the prefix, 1 + the choice for its own tokens, -1 for padding.
        columns (`torch.LongTensor` of shape `(batch, choices, length)`): where each token of the input went.
        real (`torch.BoolTensor` of shape `(batch, choices, length)`): False at the input's padding.
        shared (`torch.BoolTensor` of shape `(batch, choices, length)`): True in the prefix.
        lm_labels (`torch.LongTensor` of shape `(batch, choices, length)`): the labels of L1.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    token_type_ids: torch.Tensor | None
    segments: torch.Tensor
    columns: torch.Tensor
    real: torch.Tensor
    shared: torch.Tensor
    lm_labels: torch.Tensor

    # Packing pays once it drops this part of the tokens: below, longer rows cost attention what the tokens save.
    WORTHWHILE = 0.25

    @classmethod
    def pack(
        cls,
        input_ids: torch.Tensor,
        real: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        lm_labels: torch.Tensor,
    ) -> "PackedChoices | None":
        """Packs inputs of shape `(batch, choices, length)`, padded anywhere; None where it does not pay."""
        batch, choices, length = input_ids.shape
        lengths = real.sum(-1)
        # Rank of each token in its row: the prefix is found whatever the side of the padding.
        positions = real.long().cumsum(-1) - 1
        start = real.int().argmax(-1, keepdim=True)
        left = torch.arange(length, device=input_ids.device)
        # (batch, choices, length): the tokens in order of rank, up to a row's first padding, where the prefix ends
        aligned = (left + start).clamp(max=length - 1)
        same = ((left < lengths[..., None]) & real.gather(-1, aligned)).all(1)
        for tensor in (input_ids, token_type_ids, lm_labels):
            if tensor is not None:
                ranked = tensor.gather(-1, aligned)
                same = same & (ranked == ranked[:, :1]).all(1)
        prefix = same.long().cumprod(-1).sum(-1)  # (batch,)
        prefix = torch.minimum(prefix, lengths.min(1).values - 1).clamp(min=0)[:, None]

        own = lengths - prefix  # (batch, choices)
        packed_length = int((prefix[:, 0] + own.sum(1)).max())
        if packed_length > (1 - cls.WORTHWHILE) * choices * length or not (prefix > 0).all():
            return None
        shared = real & (positions < prefix[..., None])
        offset = own.cumsum(1) - own  # where a choice's own tokens begin, counted from the prefix's end
        columns = torch.where(shared, positions, positions + offset[..., None])
        columns = columns.masked_fill(~real, packed_length)  # a column that is cut off again

        def scatter(values: torch.Tensor, padding: int) -> torch.Tensor:
            row = values.new_full((batch, packed_length + 1), padding)
            return row.scatter_(1, columns.flatten(1), values.flatten(1))[:, :packed_length]

        choice = torch.arange(1, choices + 1, device=input_ids.device)[:, None].expand(batch, choices, length)
        return cls(
            input_ids=scatter(input_ids, 0),
            position_ids=scatter(positions, 0),
            token_type_ids=None if token_type_ids is None else scatter(token_type_ids, 0),
            segments=scatter(choice.masked_fill(shared, 0), -1),
            columns=columns,
            real=real,
            shared=shared,
            lm_labels=lm_labels,
        )

    def attention_mask(self, config: GPT1Config, dtype: torch.dtype) -> torch.Tensor | BlockMask | None:
        """What a token sees, as the configured kernel wants it: what came before in the prefix or its own choice."""

        def sees(
            batch_idx: torch.Tensor, head_idx: torch.Tensor, q_idx: torch.Tensor, kv_idx: torch.Tensor
        ) -> torch.Tensor:
            key_segment = self.segments[batch_idx, kv_idx]
            return (key_segment == 0) | (key_segment == self.segments[batch_idx, q_idx])

        # embeddings whose shape, dtype and device are all that is read of them; no cache
        embeds = torch.empty(*self.segments.shape, 0, dtype=dtype, device=self.segments.device)
        return create_causal_mask(config, embeds, self.segments >= 0, None, and_mask_function=sees)

    def extract_states(self, states: torch.Tensor) -> torch.Tensor:
        """The states `(batch, choices, hidden_size)` at the last token of each choice."""
        last = self.columns.masked_fill(~self.real, -1).amax(-1)
        return states.gather(1, last[..., None].expand(-1, -1, states.shape[-1]))

    def lm_terms(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        The terms of L1 over all rows, as of [`row_terms`]: states, targets and their weights; those inside the prefix
        once for all choices.
        """
        batch, choices, length = self.columns.shape
        _, targets, token_weights = row_terms(states, self.lm_labels.flatten(0, 1), self.real.flatten(0, 1))
        token_weights = token_weights.view(batch, choices, length)
        targets = targets.view(batch, choices, length)
        inside = self.shared & F.pad(self.shared[..., 1:], (0, 1))  # both the state and its target
        # A row is found by its own column: padding may put the same token elsewhere in the other choices' rows.
        total = states.new_zeros(batch, states.shape[1] + 1, dtype=token_weights.dtype)
        total.scatter_add_(1, self.columns.flatten(1), (token_weights * inside).flatten(1))
        token_weights = torch.where(
            inside, total.gather(1, self.columns.flatten(1)).view_as(token_weights), token_weights
        )
        first = torch.arange(choices, device=states.device)[:, None] == 0
        counted = (targets != IGNORED) & (first | ~inside)
        example = torch.arange(batch, device=states.device)[:, None, None].expand_as(counted)
        return states[example[counted], self.columns[counted]], targets[counted], token_weights[counted]


__all__ = ["PackedChoices", "can_pack"]
