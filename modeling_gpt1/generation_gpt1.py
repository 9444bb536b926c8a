"""
Generation of text alone, without special tokens; beyond the model's positions, by a window that slides; from a cache
with room for the tokens to come.
"""

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.generation import (
    GenerationConfig,
    GenerationMixin,
    GenerationMode,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
    SuppressTokensLogitsProcessor,
)

from .configuration_gpt1 import SPECIAL_IDS, GPT1Config
from .inputs_gpt1 import positions_of_tokens


def as_list(token_id: int | list[int] | None) -> list[int]:
    """The ids of a field that holds one, some or none."""
    return token_id if isinstance(token_id, list) else [] if token_id is None else [token_id]


def special_token_ids(config: GPT1Config) -> list[int]:
    """The special tokens, which no text holds."""
    names = ("unk_token_id", *SPECIAL_IDS)
    return [token_id for name in names if (token_id := getattr(config, name)) is not None]


class GrowingLayer(DynamicLayer):
    """
    A layer's keys and values with room for those to come. transformers' own copies them all for each new token, which
    takes an accelerator less time, as long as they are few, than the calls that put one token into its place.
    """

    ROOM = 128  # tokens
    FEW = 2**22  # numbers: 8 MB in bfloat16, 5,000 tokens of a row at 768 a token

    keys: torch.Tensor  # once it is initialised
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As in [`DynamicLayer`]: takes those of the new tokens, `(batch, heads, length, head_dim)`, returns all."""
        few = key_states.device.type != "cpu" and (not self.is_initialized or self.keys.numel() < self.FEW)
        if few or torch.is_grad_enabled():
            return super().update(key_states, value_states, *args, **kwargs)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._append(self.keys, key_states)
        self.values = self._append(self.values, value_states)
        return self.keys, self.values

    def _append(self, past: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        past_length = past.shape[-2] if past.numel() else 0
        length = past_length + new.shape[-2]
        # `past` is the front of a larger tensor, unless something, a beam search for one, has put another in its place
        room = past.stride(1) // past.shape[-1] if past_length else 0
        if length > room or past.is_inference() != torch.is_inference_mode_enabled():
            whole = new.new_empty(*new.shape[:2], length + self.ROOM, new.shape[-1])
            if past_length:
                whole[:, :, :past_length] = past
        else:
            whole = past.as_strided((*past.shape[:2], room, past.shape[-1]), past.stride())
        # For one token, what calls a kernel takes longer than the kernel, and indexing twice as long as `narrow`
        whole.narrow(2, past_length, new.shape[2]).copy_(new)
        return whole.narrow(2, 0, length)


class SuppressTokens(LogitsProcessor):
    """As [`SuppressTokensLogitsProcessor`], which compares the whole vocabulary with its list for each new token."""

    def __init__(self, suppress_tokens: torch.Tensor):
        self.suppress_tokens = suppress_tokens.long()  # an empty list has become floats
        self.by_width: dict[int, torch.Tensor] = {}  # an assistant's vocabulary may be smaller

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        width = scores.shape[-1]
        if width not in self.by_width:
            self.by_width[width] = self.suppress_tokens[self.suppress_tokens < width].to(scores.device)
        return scores.index_fill(-1, self.by_width[width], -float("inf"))


def empty_layers(config: GPT1Config) -> list[Any]:
    """The layers of an empty cache."""
    return with_room(DynamicCache(config=config).layers)


def with_room(layers: list[Any]) -> list[Any]:
    """The same, with room where nothing is in them yet; those of a limited `attention_window` remain transformers'."""
    return [GrowingLayer() if type(layer) is DynamicLayer and not layer.is_initialized else layer for layer in layers]


class EndSeen:
    """Whether a training step held the end token, which a language model then generates."""

    def __init__(self) -> None:
        self.by_device: dict[str, torch.Tensor] = {}  # which replicas of `nn.DataParallel` share
        self.compiled = False  # a compiled step cannot look at the tokens, and so counts as one that did

    def note(self, input_ids: torch.Tensor, end: int | list[int] | None) -> None:
        """Looks for it in the tokens of a step; none waits for the answer."""
        device = str(input_ids.device)
        for token in as_list(end):
            self.by_device[device] = (input_ids == token).any() | self.by_device.get(device, False)

    def __bool__(self) -> bool:
        return self.compiled or any(map(bool, self.by_device.values()))


class GPT1GenerationMixin(GenerationMixin):
    """
    `generate` to any length, and of no special token.

    `generation_config.suppress_tokens` lists the special tokens. The end token is one of them, and no text ends before
    `max_new_tokens`, until the model is taught it: until it is among the tokens of a training step, or a call of
    `generate`, or a `GenerationConfig` of its own, names it (`eos_token_id=...`, or as one that is forced,
    `forced_eos_token_id=...`). An adapter cannot change the list of the model that it is loaded into: there, name it.

    Beyond the model's positions, where a text does not fit any more, the last `window_keep` of
    `max_position_embeddings` tokens are encoded anew, as a text of their own that grows until it does not fit in turn.
    What a token is predicted from thus depends on the length of the text alone.
    """

    config: GPT1Config
    if TYPE_CHECKING:
        forward: Any

        def __getattr__(self, name: str) -> Any:
            """What the model has that this is mixed into."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # transformers asks for it at each new token, and to derive it takes longer than all else that is prepared then
        cls.forward.__signature__ = inspect.signature(cls.forward)

    def suppress_special_tokens(self) -> None:
        """Completes a `generation_config` that does not say which token ends a text, or which never occur in one."""
        if self.generation_config.eos_token_id is None:
            self.generation_config.eos_token_id = self.config.eos_token_id
        if self.generation_config.suppress_tokens is None:
            self.generation_config.suppress_tokens = special_token_ids(self.config)

    def let_end_token_through(self) -> None:
        """Takes the end token off the list if the decoder was trained on it."""
        suppressed = self.generation_config.suppress_tokens
        if suppressed and self.model.trained_on_end:
            ends = as_list(self.config.eos_token_id)
            self.generation_config.suppress_tokens = [token for token in suppressed if token not in ends]

    def adjust_generation_fn(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers: the `generation_config` of a checkpoint, completed where it is older than this."""
        super().adjust_generation_fn(*args, **kwargs)
        self.suppress_special_tokens()

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        self.let_end_token_through()
        names = ("eos_token_id", "forced_bos_token_id", "forced_eos_token_id")
        suppressed = getattr(generation_config, "suppress_tokens", None)
        # With such a list it may be a copy of the model's own, which holds an end token in any case
        of_config = names if suppressed is None else names[1:]
        wanted = {name: getattr(generation_config, name, None) for name in of_config} | kwargs
        named = [token for name in names for token in as_list(wanted.get(name))]
        if suppressed is None:
            suppressed = self.generation_config.suppress_tokens
        if named and suppressed and "suppress_tokens" not in kwargs:
            kwargs["suppress_tokens"] = [token for token in suppressed if token not in named]
            if generation_config is not None:  # transformers completes and checks it before it looks at `kwargs`
                generation_config = copy.copy(generation_config)
                generation_config.suppress_tokens = kwargs["suppress_tokens"]
        return super()._prepare_generation_config(generation_config, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        window_keep: float = 0.5,
        cache: Cache | None = None,  # what transformers calls past_key_values from 5.24 on
        **kwargs: Any,
    ) -> dict[str, Any]:
        """
        As in transformers, with the last window of a text that is longer than the model's positions. `inputs_embeds`
        are the beginning of that text, in place of ids or beside them.

        Raises:
            ValueError: `window_keep`, an argument of `generate`, is not between 0 and 1; assisted generation, which
                adds several tokens at a time, comes to the model's last position; or a text does of which the cache
                holds tokens that are not given.
        """
        if not 0 < window_keep < 1:
            raise ValueError(f"window_keep is the part of a window that is kept, between 0 and 1, not {window_keep}")
        past_key_values = past_key_values if cache is None else cache
        limit = self.config.max_position_embeddings
        whole = attention_mask if attention_mask is not None else kwargs.get("position_ids")
        length = (input_ids if whole is None else whole).shape[1]  # of embeddings and ids
        if length > limit:
            if not is_first_iteration and (next_sequence_length or 1) > 1:
                raise ValueError(f"assisted generation ends at {limit} tokens (max_position_embeddings)")
            step = limit + 1 - max(1, int(window_keep * limit))
            window = length - -(-(length - limit) // step) * step
            cached = 0 if past_key_values is None else past_key_values.get_seq_length()
            if next_sequence_length is None or cached + next_sequence_length != window:
                if (window if inputs_embeds is None else length - inputs_embeds.shape[1]) > input_ids.shape[1]:
                    raise ValueError(
                        f"past {limit} tokens (max_position_embeddings) the last ones are encoded anew: "
                        "pass the whole text beside its past_key_values, not its new tokens alone"
                    )
                next_sequence_length = window
                if isinstance(past_key_values, DynamicCache):
                    past_key_values.layers = empty_layers(self.config)
                elif past_key_values is not None:
                    past_key_values.reset()
                if inputs_embeds is not None:
                    new = input_ids[:, input_ids.shape[1] - (length - inputs_embeds.shape[1]) :]
                    inputs_embeds = torch.cat((inputs_embeds, self.get_input_embeddings()(new)), 1)
                    is_first_iteration = True  # which is when transformers reads embeddings
            kwargs.pop("position_ids", None)  # which count from the beginning of the text
            if attention_mask is not None:
                attention_mask = attention_mask[:, -window:]
                kwargs["position_ids"] = positions_of_tokens(attention_mask)
        return super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length,
            past_key_values,
            attention_mask,
            inputs_embeds,
            is_first_iteration,
            **kwargs,
        )

    def _prepare_cache_for_generation(  # type: ignore[override]  # transformers' own returns None, not the bool it says
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: GenerationMode,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        if max_cache_length > self.config.max_position_embeddings:
            generation_config.prefill_chunk_size = None  # a window is encoded at once
        max_cache_length = min(max_cache_length, self.config.max_position_embeddings)
        super()._prepare_cache_for_generation(
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
        )
        cache = model_kwargs.get("cache", model_kwargs.get("past_key_values"))  # before transformers 5.24
        if type(cache) is DynamicCache and not cache.offloading:
            cache.layers = with_room(cache.layers) or empty_layers(self.config)

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        processors = super()._get_logits_processor(*args, **kwargs)
        for index, processor in enumerate(processors):
            if type(processor) is SuppressTokensLogitsProcessor:
                processors[index] = SuppressTokens(processor.suppress_tokens)
        return processors

    def _get_stopping_criteria(self, *args: Any, **kwargs: Any) -> StoppingCriteriaList:
        criteria = super()._get_stopping_criteria(*args, **kwargs)
        for criterion in criteria:
            if isinstance(criterion, MaxLengthCriteria):
                criterion.max_position_embeddings = None  # it would warn of what does no harm here
        return criteria


__all__ = ["EndSeen", "GPT1GenerationMixin", "GrowingLayer"]
