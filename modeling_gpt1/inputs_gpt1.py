"""
What the heads find in ordinary encodings: which tokens are real, where a text ends, and a pair in its other order; and
what is asked of a pass, or wrong with an input.
"""

import copy
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from transformers import __version__
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    create_causal_mask,
    create_sliding_window_causal_mask,
    find_packed_sequence_indices,
    packed_sequence_mask_function,
)
from transformers.utils import TransformersKwargs

from .configuration_gpt1 import GPT1Config


MODELS_ASK_PAGED_CACHES = tuple(map(int, __version__.split(".")[:2])) >= (5, 24)

# By what to tell a misspelt argument from those of transformers and its friends that mean nothing here
ARGUMENTS = (
    "attention_mask",
    "position_ids",
    "past_key_values",
    "inputs_embeds",
    "token_type_ids",
    "labels",
    "use_cache",
)
OTHERS = {
    "labels": "labels are for a model with a head, such as GPT1ForCausalLM",
    "lm_labels": "lm_labels are for the task heads; a language model takes labels",
    "mc_labels": "mc_labels are for GPT1DoubleHeadsModel; GPT1ForMultipleChoice takes labels",
    "mc_token_ids": "mc_token_ids are for GPT1DoubleHeadsModel; the task heads read each row's last real token",
    "num_labels": "num_labels is for the configuration",
    "ignore_index": "labels of -100 are ignored, and no others: there is no ignore_index",
}


def attention_config(config: GPT1Config, kwargs: dict[str, Any]) -> GPT1Config:
    """
    The configuration by which a pass attends: the model's own, or, where `output_attentions` asks for weights that
    PyTorch's fused attention does not keep, that of the plain attention. `kwargs` then says to the layers whether they
    are asked for.

    Raises:
        ValueError: `output_attentions` with another fused attention.
    """
    wanted = kwargs["output_attentions"] = bool(kwargs.get("output_attentions", config.output_attentions))
    if not wanted or "eager" in config._attn_implementation:
        return config
    if config._attn_implementation != "sdpa":
        raise ValueError(
            f"{config._attn_implementation} attention keeps no weights, which output_attentions=True asks for: load "
            'the model with attn_implementation="eager"'
        )
    config = copy.copy(config)
    config._attn_implementation = "eager"
    return config


def attention_mask_for(
    config: GPT1Config,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    past_key_values: Cache | None,
    position_ids: torch.Tensor | None,
) -> Any:
    """
    The mask, in the form that the attention of `config` takes; without an `attention_mask`, texts that are packed into
    a row, as positions tell that begin anew, do not see each other.
    """
    create_mask = create_causal_mask if config.attention_window is None else create_sliding_window_causal_mask
    apart = None
    if not config.is_causal and attention_mask is None and position_ids is not None:
        # transformers looks at the positions of a causal model alone
        texts = find_packed_sequence_indices(position_ids.expand(len(inputs_embeds), -1))
        apart = None if texts is None else packed_sequence_mask_function(texts)
    # By its place, since the cache's name depends on transformers' version
    return create_mask(config, inputs_embeds, attention_mask, past_key_values, position_ids, and_mask_function=apart)


def refuse_checkpointed(decoder: Any, past_key_values: Cache | None) -> None:
    """
    Raises:
        ValueError: the decoder is given a cache while it trains with gradient checkpointing: its layers run twice,
            and would put what they add to the cache there twice.
    """
    trains = past_key_values is not None and decoder.training and torch.is_grad_enabled()
    if trains and decoder.gradient_checkpointing:
        raise ValueError(
            "gradient checkpointing does not go with a given cache (past_key_values), which prefix tuning gives: turn "
            "it off, gradient_checkpointing=False"
        )


def cache_among(kwargs: dict[str, Any], past_key_values: Cache | None) -> Cache | None:
    """
    `past_key_values`, or what `kwargs` has under its name from transformers 5.24 on, which is taken out of them; a
    paged cache, which is no `Cache`, is left to the layers.
    """
    if not isinstance(kwargs.get("cache"), Cache | None):
        return past_key_values
    cache = kwargs.pop("cache", None)
    return past_key_values if cache is None else cache


def cache_of(outputs: Any) -> Cache | None:
    """The keys and values that a model returned, under the one name or the other."""
    return outputs.cache if "cache" in outputs.__dataclass_fields__ else outputs.past_key_values


def update_paged_cache(
    key: torch.Tensor, value: torch.Tensor, layer_idx: int, kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Keys and values `(1, heads, length, head_dim)` with those before them, from the paged cache of continuous batching,
    which is taken out of `kwargs`, an attention's further arguments, and changes them for the attention function.
    Before transformers 5.24 that function asks the cache itself: then all is left as it is.
    """
    if not MODELS_ASK_PAGED_CACHES:
        return key, value
    return kwargs.pop("cache").update(key, value, layer_idx, kwargs)


def refuse_unknown(kwargs: dict[str, Any]) -> None:
    """
    Refuses, among the arguments that no head took, what would be left unheeded where it was meant.

    Raises:
        TypeError: an argument that another model takes, or a misspelt one.
    """
    for name in kwargs.keys() - TransformersKwargs.__annotations__.keys():
        if name in OTHERS:
            raise TypeError(OTHERS[name])
        if similar := get_close_matches(name, ARGUMENTS, n=1, cutoff=0.8):
            raise TypeError(f"unknown argument {name!r}: did you mean {similar[0]!r}?")


def check_length(config: GPT1Config, length: int) -> None:
    """
    Raises:
        ValueError: an empty input, or one that is longer than the model's positions.
    """
    if length == 0:
        raise ValueError("the input is empty: it needs a token at least")
    if length > config.max_position_embeddings:
        raise ValueError(
            f"the input is {length} tokens long, the model takes at most {config.max_position_embeddings} "
            "(max_position_embeddings)"
        )


def given(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
    """
    The one of the two that there is.

    Raises:
        ValueError: neither or both.
    """
    if input_ids is not None and inputs_embeds is None:
        return input_ids
    if inputs_embeds is not None and input_ids is None:
        return inputs_embeds
    raise ValueError("pass exactly one of input_ids and inputs_embeds")


def real_tokens(
    config: GPT1Config,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
) -> torch.Tensor:
    """
    Where an input of shape `(..., length)` holds tokens, not padding; without a mask, `pad_token_id` tells.

    Raises:
        ValueError: neither `input_ids` nor `inputs_embeds`, ids that are none or too many, or a mask that says what
            each token sees: it does not tell where a row ends.
    """
    if input_ids is not None:
        check_length(config, input_ids.shape[-1])
    if attention_mask is not None:
        dimensions = given(input_ids, inputs_embeds).ndim - (inputs_embeds is not None)
        if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != dimensions:
            raise ValueError(
                f"this head takes an attention_mask of {dimensions} dimensions, 1 for a token and 0 for padding, by "
                "which it finds the end of each row"
            )
        return attention_mask.bool()
    if input_ids is None:
        embeds = given(input_ids, inputs_embeds)
        return torch.ones(embeds.shape[:-1], dtype=torch.bool, device=embeds.device)
    if config.pad_token_id is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return input_ids != config.pad_token_id


def seen_and_own(
    real: torch.Tensor, rows: torch.Tensor, past_key_values: Cache | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Which tokens are real of all that are seen and of the rows' own, `(rows, past length + length)` and
    `(rows, length)`, by what [`real_tokens`] gives for either.
    """
    if past_key_values is None:
        return real, real
    length = rows.shape[1]
    missing = past_key_values.get_seq_length() + length - real.shape[1]
    return F.pad(real, (missing, 0), value=True), real[:, -length:]


def positions_of_tokens(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions `(batch, length)` that count the tokens of a mask of that shape, and not its padding."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def kept_positions(tensor: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
    """
    The positions of `(batch, length, ...)` to compute logits for: so many last ones, all if 0; those of an index
    `(kept,)`, or of one for each row, `(batch, kept)`; or where a mask `(batch, length)` is True, as rows of one.
    """
    if isinstance(logits_to_keep, int):
        return tensor[:, -logits_to_keep:]
    if logits_to_keep.ndim != 2:
        return tensor[:, logits_to_keep]
    if logits_to_keep.dtype == torch.bool:
        return tensor[logits_to_keep]
    index = logits_to_keep.long() % tensor.shape[1]
    return tensor.take_along_dim(index[(..., *[None] * (tensor.ndim - 2))], 1)


def last_real(real: torch.Tensor) -> torch.Tensor:
    """The position `(rows,)` of the last real token of each row of `(rows, length)`."""
    return real.shape[1] - 1 - real.flip(1).int().argmax(1)


def last_real_state(states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The states `(rows, hidden_size)` at the last real token of each row of `(rows, length, hidden_size)`."""
    return states[torch.arange(states.shape[0], device=states.device), last_real(real).to(states.device)]


def swapped_order(input_ids: torch.Tensor, real: torch.Tensor, sep_token_id: int | None) -> torch.Tensor:
    """
    Which position each position of `start B delimiter A extract` comes from in `start A delimiter B extract`.

    The first delimiter of a row divides it. Padding stays where it is.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): encoded pairs.
        real (`torch.BoolTensor` of shape `(batch, length)`): False at padding.
        sep_token_id (`int`, *optional*): the delimiter.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`, an index for `gather`.

    Raises:
        ValueError: a row without a delimiter.
    """
    is_delimiter = (input_ids == sep_token_id) & real if sep_token_id is not None else torch.zeros_like(real)
    if not torch.compiler.is_compiling() and not is_delimiter.any(1).all():
        raise ValueError(
            f"GPT1ForSimilarity needs pairs with a delimiter token (sep_token_id {sep_token_id}) in every row; "
            "encode them as tokenizer(text, text_pair) with a tokenizer of task_format=True"
        )
    length = input_ids.shape[1]
    positions = torch.arange(length, device=input_ids.device).expand_as(input_ids)
    rank = real.long().cumsum(1) - 1  # among the real tokens, whose positions are, by rank:
    of_rank = F.pad(torch.zeros_like(positions), (0, 1)).scatter(1, rank.masked_fill(~real, length), positions)
    extract = rank[:, -1:]
    delimiter = rank.gather(1, is_delimiter.int().argmax(1, keepdim=True))
    new_delimiter = extract - delimiter  # B, as long as from the delimiter to the extract token, comes first
    source = torch.where(rank < new_delimiter, rank + delimiter, rank - new_delimiter)
    source = torch.where(rank == new_delimiter, delimiter, source)
    moved = real & (rank > 0) & (rank < extract)
    return torch.where(moved, of_rank.gather(1, source.clamp(0, length)), positions)


def choices_shape(
    name: str, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
) -> tuple[int, int, int]:
    """
    `(batch, choices, length)` of an input to the class `name`.

    Raises:
        ValueError: neither or both of the two, or an input without the dimension of the choices.
    """
    shape = given(input_ids, inputs_embeds).shape
    if len(shape) != (3 if input_ids is not None else 4):
        raise ValueError(f"{name} takes input_ids of shape (batch, choices, length), got {tuple(shape)}")
    return shape[0], shape[1], shape[2]


__all__ = [
    "attention_config",
    "attention_mask_for",
    "cache_among",
    "cache_of",
    "check_length",
    "choices_shape",
    "given",
    "kept_positions",
    "last_real",
    "last_real_state",
    "positions_of_tokens",
    "real_tokens",
    "refuse_checkpointed",
    "refuse_unknown",
    "seen_and_own",
    "swapped_order",
    "update_paged_cache",
]
