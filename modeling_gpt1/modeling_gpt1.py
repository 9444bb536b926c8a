"""GPT-1: the decoder, the language-modeling heads, the four task heads, and their losses.

`GPT1Model` is equation 2 of the paper; `GPT1ForCausalLM` adds equation 1; the task heads add equations 3 to 5 with the
input transformations of section 3.3, which they find in ordinary encodings by the special tokens.

References:
1. A. Radford, K. Narasimhan, T. Salimans, I. Sutskever: Improving Language Understanding by Generative Pre-Training,
   2018 ("the paper").
2. OpenAI's released code, finetune-transformer-lm ("the original code").
3. transformers' OpenAIGPT* models ("openai-gpt"), whose checkpoints every class here loads.
"""

import copy
import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.import_utils import is_tracing
from transformers.utils.output_capturing import capture_outputs

from .configuration_gpt1 import GPT1Config
from .dropout_gpt1 import GPT1Dropout, attention_with_dropout_forward, eager_attention_forward
from .generation_gpt1 import EndSeen, GPT1GenerationMixin
from .inputs_gpt1 import (
    attention_config,
    attention_mask_for,
    cache_among,
    cache_of,
    check_length,
    choices_shape,
    given,
    kept_positions,
    last_real,
    last_real_state,
    positions_of_tokens,
    real_tokens,
    refuse_checkpointed,
    refuse_unknown,
    seen_and_own,
    swapped_order,
    update_paged_cache,
)
from .losses_gpt1 import (
    GPT1CausalLMOutput,
    GPT1DoubleHeadsOutput,
    GPT1MaskedLMOutput,
    GPT1ModelOutput,
    GPT1TaskOutput,
    embedding_matrix,
    loss_and_logits,
    next_token_targets,
    row_terms,
    token_loss,
    upcast,
)
from .openai_gpt import openai_gpt_arguments
from .packed_choices_gpt1 import PackedChoices, can_pack


logger = logging.get_logger(__name__)
GPT1Class = TypeVar("GPT1Class", bound="GPT1PreTrainedModel")


class GPT1Attention(nn.Module):
    """Masked multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: GPT1Config, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = config.is_causal
        # Where both sides are seen, fused kernels count the token itself. Kept: a configuration takes long to answer
        self.attention_window = config.attention_window and config.attention_window + (not config.is_causal)
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj.adds_to_residual = True  # type: ignore[assignment]  # a mark, which torch allows

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, length, _ = hidden_states.shape
        qkv = self.qkv_proj(hidden_states).view(batch, length, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, head_dim)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        elif "cache" in kwargs:
            key, value = update_paged_cache(key, value, self.layer_idx, kwargs)
        implementation = self.config._attn_implementation
        if implementation == "sdpa" and kwargs.get("output_attentions"):
            implementation = "eager"  # which has weights to give
        dropout = self.attention_dropout if self.training else 0.0
        on_cpu = query.device.type == "cpu" and not torch.compiler.is_compiling()
        if 0 < dropout < 1 and implementation == "sdpa" and on_cpu:
            attend = attention_with_dropout_forward
        else:
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        if on_cpu and length == 1 and key.dtype == torch.bfloat16 and attention_mask is None:
            # the CPU's kernel for a single query takes a third of the time in float32
            query, key, value = query.float(), key.float(), value.float()
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=self.scaling,
            sliding_window=self.attention_window,
            **kwargs,
        )
        return self.o_proj(output.reshape(hidden_states.shape).to(qkv.dtype)), weights


class GPT1MLP(nn.Module):
    """The position-wise feed-forward layer."""

    def __init__(self, config: GPT1Config):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = ACT2FN[config.hidden_act]
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)
        self.down_proj.adds_to_residual = True  # type: ignore[assignment]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act(self.up_proj(hidden_states)))


class GPT1Layer(GradientCheckpointingLayer):
    """One block: n = LN(x + attention(x)), h = LN(n + mlp(n)); with `norm_position="pre"` the norms come first."""

    def __init__(self, config: GPT1Config, layer_idx: int):
        super().__init__()
        self.pre_norm = config.norm_position == "pre"
        self.self_attn = GPT1Attention(config, layer_idx)
        self.attn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = GPT1MLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = GPT1Dropout(config.hidden_dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        normed = self.attn_norm(hidden_states) if self.pre_norm else hidden_states
        # By name, as what wraps an attention looks for them
        attended, _ = self.self_attn(normed, attention_mask=attention_mask, past_key_values=past_key_values, **kwargs)
        if self.pre_norm:
            hidden_states = hidden_states + self.dropout(attended)
            return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))
        hidden_states = self.attn_norm(hidden_states + self.dropout(attended))
        return self.mlp_norm(hidden_states + self.dropout(self.mlp(hidden_states)))


class SinusoidalPositions(nn.Module):
    """Fixed position embeddings: sin(p / 10000^(2i/d)) in even columns, the cosine in odd ones."""

    def __init__(self, config: GPT1Config):
        super().__init__()
        self.hidden_size = config.hidden_size

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        dtype = torch.float if position_ids.device.type == "mps" else torch.double  # which Apple's GPUs have not
        pairs = torch.arange(0, self.hidden_size, 2, device=position_ids.device, dtype=dtype)
        angles = position_ids[..., None] / 10_000.0 ** (pairs / self.hidden_size)  # (batch, length, hidden_size / 2)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class GPT1PreTrainedModel(PreTrainedModel):
    """What all GPT-1 models share: their configuration, their capabilities, initialisation and loading."""

    config: GPT1Config
    config_class = GPT1Config
    to: Any  # whose self a decorator of transformers hides from type checkers
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GPT1Layer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": GPT1Layer, "attentions": GPT1Attention}
    # a language model's checkpoint fits the heads that have no output layer of their own
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]
    # the openai-gpt model whose scores are this one's
    _openai_gpt_head = "OpenAIGPTForSequenceClassification"

    def _init_weights(self, module: nn.Module) -> None:
        """
        | parameters | initial values |
        | --- | --- |
        | linear and embedding weights | N(0, initializer_range) |
        | biases, norm offsets | 0 |
        | norm gains | 1 |
        | `o_proj`, `down_proj` weights of pre-norm blocks | N(0, initializer_range / sqrt(2 * layers)), as in GPT-2 |
        """
        super()._init_weights(module)
        pre_norm = self.config.norm_position == "pre"
        if pre_norm and isinstance(module, nn.Linear) and hasattr(module, "adds_to_residual"):
            std = self.config.initializer_range / (2 * self.config.num_hidden_layers) ** 0.5
            init.normal_(module.weight, mean=0.0, std=std)

    @classmethod
    def from_pretrained(
        cls: type[GPT1Class], pretrained_model_name_or_path: str | os.PathLike | None, *model_args: Any, **kwargs: Any
    ) -> GPT1Class:
        """
        As in transformers. A directory or Hub id that holds an `openai-gpt` checkpoint loads as well: base,
        language-modeling, double-heads or classification, with its head where this class has one like it.
        """
        openai_gpt = openai_gpt_arguments(
            pretrained_model_name_or_path, cls.config_class, cls._openai_gpt_head, cls.can_generate(), kwargs
        )
        source = pretrained_model_name_or_path if openai_gpt is None else None
        try:
            loaded = super().from_pretrained(source, *model_args, **(kwargs if openai_gpt is None else openai_gpt))
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):
                raise
            raise RuntimeError(
                f"the weights of {pretrained_model_name_or_path} are of other sizes than asked for, see above: "
                "pass ignore_mismatched_sizes=True for new ones, such as a new head, or the sizes that they have, "
                "such as num_labels"
            ) from None
        if openai_gpt is not None:  # by which an adapter finds its model
            model = loaded[0] if isinstance(loaded, tuple) else loaded
            model.name_or_path = model.config.name_or_path = str(pretrained_model_name_or_path)
        return loaded


class GPT1Model(GPT1PreTrainedModel):
    """
    The decoder without a head: h_0 = U W_e + W_p, h_l = block(h_{l-1}) (paper, equation 2).

    Args:
        config ([`GPT1Config`]): shape, dropout and options.
    """

    def __init__(self, config: GPT1Config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.position_embedding_type == "learned":
            self.embed_positions: nn.Module = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        else:
            self.embed_positions = SinusoidalPositions(config)
        self.dropout = GPT1Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList([GPT1Layer(config, index) for index in range(config.num_hidden_layers)])
        if config.norm_position == "pre":
            self.norm: nn.Module = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        else:
            self.norm = nn.Identity()
        self.gradient_checkpointing = False
        self.trained_on_end = EndSeen()
        self.post_init()

    def _embed(self, token_ids: torch.Tensor, matrix: torch.Tensor | None = None) -> torch.Tensor:
        try:
            return self.embed_tokens(token_ids) if matrix is None else F.embedding(token_ids, matrix)
        except IndexError:
            raise ValueError(
                f"token ids must lie in [0, {self.config.vocab_size}), the vocabulary; "
                f"got ids from {token_ids.min().item()} to {token_ids.max().item()}"
            ) from None

    def _positions(self, position_ids: torch.Tensor, drop_entries: bool) -> torch.Tensor:
        if drop_entries and self.config.position_embedding_type == "learned":
            return F.embedding(position_ids, self.dropout(self.embed_positions.weight))
        return self.embed_positions(position_ids)

    def _is_right_padded(self, attention_mask: torch.Tensor | None) -> bool:
        """
        Whether padding only ends rows, if there is any, and so comes after all that a causal model's tokens see:
        without a mask for it the fused kernels do half the work.
        """
        if attention_mask is None or not self.config.is_causal:
            return self.config.is_causal
        if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
            return False
        return not is_tracing(attention_mask) and bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> GPT1ModelOutput:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): token ids.
            attention_mask (`torch.Tensor` of shape `(batch, past length + length)`, *optional*):
                1 for a token, 0 for padding, on either side; positions count tokens only. A ready mask of four
                dimensions is used as it is.
            position_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): positions to use instead.
            past_key_values (`Cache`, *optional*): keys and values of the tokens before these.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, length, hidden_size)`, *optional*):
                token embeddings in place of `input_ids`.
            token_type_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                token ids whose embeddings are added, as in `openai-gpt`: speakers or segments.
            use_cache (`bool`, *optional*): return `past_key_values`; `config.use_cache` by default.
            kwargs: as in transformers' `TransformersKwargs`, `output_hidden_states` and `output_attentions` for two.

        Returns:
            [`GPT1ModelOutput`], `last_hidden_state` of shape `(batch, length, hidden_size)`.

        Raises:
            TypeError: an argument that another model takes, or a misspelt one.
            ValueError: neither or both of `input_ids` and `inputs_embeds`, an input that is empty or longer than
                `config.max_position_embeddings`, a token id outside the vocabulary (on CPU), or `output_attentions` of
                an attention other than `"eager"` and `"sdpa"`, which is `"eager"` then.
        """
        past_key_values = cache_among(kwargs, past_key_values)
        if not torch.compiler.is_compiling():
            refuse_unknown(kwargs)
            if self.training and input_ids is not None:
                self.trained_on_end.note(input_ids, self.config.eos_token_id)
        elif self.training:
            self.trained_on_end.compiled = True
        config = attention_config(self.config, kwargs)
        rows = given(input_ids, inputs_embeds)
        length = rows.shape[1]
        past_length = past_key_values.get_seq_length() if past_key_values is not None else 0
        # Packed rows bring their own positions and may be longer than any one text in them.
        packed = position_ids is not None and past_key_values is None
        if not packed and not torch.compiler.is_compiling():
            # an accelerator would have to be waited for, which a static cache asks for its length
            known = not isinstance(past_length, torch.Tensor) or past_length.device.type == "cpu"
            check_length(self.config, length + (int(past_length) if known else 0))

        matrix = None
        if self.config.embedding_dropout_type == "matrix" and self.training:
            matrix = self.dropout(embedding_matrix(self.embed_tokens, self.config.vocab_size, rows.device))
        if inputs_embeds is None:
            inputs_embeds = self._embed(rows, matrix)

        all_seen = past_key_values is None and self._is_right_padded(attention_mask)
        limited, causal_mask = self.config.attention_window is not None, None
        # transformers makes one whenever a graph is compiled, with which attention takes twice the time
        if packed or not all_seen or limited or config._attn_implementation != "sdpa":
            seen = None if all_seen and not packed else attention_mask
            causal_mask = attention_mask_for(config, inputs_embeds, seen, past_key_values, position_ids)
        refuse_checkpointed(self, past_key_values)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
                position_ids = positions_of_tokens(attention_mask)[:, -length:]
            else:
                position_ids = torch.arange(length, device=inputs_embeds.device)[None] + past_length

        try:
            hidden_states = inputs_embeds + self._positions(position_ids, matrix is not None).to(inputs_embeds)
        except IndexError:
            check_length(self.config, int(position_ids.max()) + 1)
            raise
        if token_type_ids is not None:
            hidden_states = hidden_states + self._embed(token_type_ids, matrix)
        if matrix is None:
            hidden_states = self.dropout(hidden_states)
        kwargs |= {"attention_mask": causal_mask, "past_key_values": past_key_values, "position_ids": position_ids}
        for layer in islice(self.layers, self.config.num_hidden_layers):  # a slice would be a module of its own
            hidden_states = layer(hidden_states, **kwargs)
        cache = past_key_values if use_cache else None
        return GPT1ModelOutput(self.norm(hidden_states), cache, token_embeddings=matrix)


class GPT1LanguageModel(GPT1PreTrainedModel):
    """What the language models share: the decoder and the output layer, tied to its token embeddings."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: GPT1Config):
        super().__init__(config)
        self.model = GPT1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _loss_and_logits(
        self,
        outputs: GPT1ModelOutput,
        targets: torch.Tensor | None,
        kept: int | torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None,
        skip_logits: bool | None,
    ) -> tuple[torch.Tensor | None, Any]:
        """The loss of the `kept` states, if there are targets `(batch, length)`, and the logits or what makes them."""
        states = kept_positions(outputs.last_hidden_state, kept)
        head: Callable[[torch.Tensor], torch.Tensor] = self.lm_head
        if outputs.token_embeddings is not None and self.config.tie_word_embeddings:
            head = partial(F.linear, weight=outputs.token_embeddings.to(states.device))
        if targets is None:
            return None, head(states)
        skip_logits = self.training if skip_logits is None else skip_logits
        select = None if self.config.is_causal else True  # a masked LM has few targets
        targets = kept_positions(targets, kept)
        return loss_and_logits(head, states, targets, num_items_in_batch, skip_logits, select)


class GPT1ForCausalLM(GPT1LanguageModel, GPT1GenerationMixin):
    """
    Language modeling: P(u) = softmax(h_n W_e^T), and L1 (paper, equations 1 and 2). Generates with a key-value cache.

    Raises:
        ValueError: a configuration with `is_causal=False`, in which each token would see what it has to predict.
    """

    def __init__(self, config: GPT1Config):
        if not config.is_causal:
            raise ValueError("GPT1ForCausalLM needs is_causal=True; GPT1ForMaskedLM is the model for is_causal=False")
        super().__init__(config)
        self.suppress_special_tokens()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers; the `generation_config` says whether texts end."""
        self.let_end_token_through()
        super().save_pretrained(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool | None = None,
        **kwargs: Any,
    ) -> GPT1CausalLMOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`]:
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                usually `input_ids`; shifted here, -100 ignored; nothing is predicted from padding, nor its token.
            shift_labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                labels that are shifted already, in place of `labels`: where a sequence is split over devices.
            logits_to_keep (`int` or `torch.Tensor`, defaults to 0):
                how many last positions, or which, to compute logits for; 0 is all. See [`kept_positions`].
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                what to divide the summed loss by, in place of the number of targets here; `Trainer` passes the number
                in all the batches that it accumulates.
            skip_logits (`bool`, *optional*):
                with labels, whether to compute logits only when the output is asked for them: the loss alone takes a
                fraction of the memory. By default, while training.

        Returns:
            [`GPT1CausalLMOutput`], `logits` of shape `(batch, length, vocab_size)`.
        """
        past_key_values = cache_among(kwargs, past_key_values)
        # No argument by name: `Trainer` would take it for a label that each batch must have, and evaluate no loss
        targets = kwargs.pop("shift_labels", None)
        if labels is not None and targets is None:
            real = None
            if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
                real = attention_mask[:, -labels.shape[1] :]
            targets = next_token_targets(labels, real, self.config.pad_token_id)
        if targets is not None and use_cache is None:
            use_cache = False
        kwargs |= {"position_ids": position_ids, "inputs_embeds": inputs_embeds, "token_type_ids": token_type_ids}
        kwargs |= {"past_key_values": past_key_values, "use_cache": use_cache, "return_dict": True}
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        loss, logits = self._loss_and_logits(outputs, targets, logits_to_keep, num_items_in_batch, skip_logits)
        return GPT1CausalLMOutput(loss, logits, cache_of(outputs), outputs.hidden_states, outputs.attentions)


class GPT1ForMaskedLM(GPT1LanguageModel):
    """Masked language modeling with the same blocks: every token sees the whole input (`is_causal=False`)."""

    def __init__(self, config: GPT1Config):
        config = copy.deepcopy(config)  # the caller may build a causal model from the same one
        config.is_causal = False
        super().__init__(config)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool | None = None,
        **kwargs: Any,
    ) -> GPT1MaskedLMOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`]:
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                the token to find at each masked position, -100 elsewhere; not shifted.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*), skip_logits (`bool`, *optional*):
                as in [`GPT1ForCausalLM.forward`].

        Returns:
            [`GPT1MaskedLMOutput`], `logits` of shape `(batch, length, vocab_size)`.
        """
        kwargs |= {"use_cache": False, "return_dict": True}
        kwargs |= {"position_ids": position_ids, "inputs_embeds": inputs_embeds, "token_type_ids": token_type_ids}
        outputs = self.model(input_ids, attention_mask=attention_mask, **kwargs)
        loss, logits = self._loss_and_logits(outputs, labels, 0, num_items_in_batch, skip_logits)
        return GPT1MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class GPT1TaskModel(GPT1PreTrainedModel):
    """
    What the task heads share: the linear layer on the extract state, the supervised loss, and the auxiliary one.

    The extract state is the last block's state at the last real token (`_classify_` in the task format), and
    L3 = L2 + lm_coef * L1 (paper, equations 3 to 5). L1 is computed from the same pass, while training only.

    `attention_mask`, 1 for a token and 0 for padding in the tokens' shape, tells where a row ends. `lm_labels` is no
    named parameter because `Trainer` takes every one with "label" in its name for a label that each evaluation batch
    has to bring; to train with it, set `remove_unused_columns=False`.
    """

    # The losses are means over a batch: Trainer has to average them over accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: GPT1Config, num_scores: int | None = None):
        super().__init__(config)
        self.loss_type = "ForSequenceClassification"
        self.model = GPT1Model(config)
        self.dropout = GPT1Dropout(config.classifier_dropout)
        assert config.num_labels is not None
        self.num_labels = config.num_labels
        self.score = nn.Linear(config.hidden_size, config.num_labels if num_scores is None else num_scores)
        self.post_init()

    def _output(
        self,
        outputs: GPT1ModelOutput,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        lm_terms: Callable[[], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] | None,
    ) -> GPT1TaskOutput:
        """
        The head's output with its losses: L2 where there are `labels`, L1 while training.

        Args:
            outputs ([`GPT1ModelOutput`]): of the pass.
            logits (`torch.FloatTensor` of shape `(batch, num_labels or choices)`).
            labels (`torch.Tensor`, *optional*): those of the task.
            lm_terms (`Callable`, *optional*):
                gives the terms of L1: states, the token that each predicts or -100, and its part of the mean.
        """
        task_loss = None if labels is None else self._task_loss(upcast(logits), labels)
        lm_loss = None
        if lm_terms is not None and self._needs_lm_loss():
            states, targets, token_weights = lm_terms()
            weight = outputs.token_embeddings
            if weight is None:
                weight = embedding_matrix(self.model.embed_tokens, self.config.vocab_size, states.device)
            lm_loss = token_loss(states, weight, targets, token_weights)
        loss = self._combine(task_loss, lm_loss)
        return GPT1TaskOutput(loss, logits, outputs.hidden_states, outputs.attentions, task_loss, lm_loss)

    def _needs_lm_loss(self) -> bool:
        """L1 is meant while training, has a weight, and cannot be had from states that saw the next token."""
        weight = self.config.lm_coef if self.config.lm_loss_weighting == "additive" else 1 - self.config.lm_coef
        return self.training and weight != 0 and self.config.is_causal

    def _combine(self, task_loss: torch.Tensor | None, lm_loss: torch.Tensor | None) -> torch.Tensor | None:
        """L3 (paper, equation 5) or its convex form."""
        if task_loss is None and lm_loss is not None and not torch.compiler.is_compiling():
            logger.warning_once(
                "a task head is training without labels: its auxiliary loss is returned as lm_loss, but is part of no "
                "loss. If Trainer's label_smoothing_factor took the labels away, set config.label_smoothing instead"
            )
        if task_loss is None or lm_loss is None:
            return task_loss
        if self.config.lm_loss_weighting == "convex":
            return self.config.lm_coef * task_loss + (1 - self.config.lm_coef) * lm_loss
        return task_loss + self.config.lm_coef * lm_loss

    def _task_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, binary cross-entropy or squared error, by `config.problem_type` or what the labels are."""
        problem = self.config.problem_type
        if problem is None and logits.shape[-1] > 1 and not labels.is_floating_point():
            problem = self.config.problem_type = "single_label_classification"
        if problem == "single_label_classification":
            return self._class_loss(logits, labels)
        return self.loss_function(labels.to(logits), logits, self.config)

    def _class_loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of `scores` `(batch, classes)`; while training, the labels are smoothed if the config asks."""
        smoothing = self.config.label_smoothing if self.training else 0.0
        return F.cross_entropy(scores, labels.flatten().to(scores.device), label_smoothing=smoothing)


class GPT1ForSequenceClassification(GPT1TaskModel):
    """Classification of `start text extract` (paper, section 3.3); regression if `num_labels` is 1; multi-label."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> GPT1TaskOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`]:
            labels (`torch.Tensor`, *optional*):
                class indices of shape `(batch,)`, scores of shape `(batch,)` for a regression, or floats of shape
                `(batch, num_labels)` for several labels at once.
            lm_labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                targets of the auxiliary loss in place of `input_ids`; shifted here, -100 ignored.

        Returns:
            [`GPT1TaskOutput`], `logits` of shape `(batch, num_labels)`.
        """
        past_key_values = cache_among(kwargs, past_key_values)
        real = real_tokens(self.config, input_ids, attention_mask, inputs_embeds)
        seen, real = seen_and_own(real, given(input_ids, inputs_embeds), past_key_values)
        lm_labels = kwargs.pop("lm_labels", None)
        lm_labels = input_ids if lm_labels is None else lm_labels
        kwargs |= {"use_cache": False, "return_dict": True}
        kwargs |= {"position_ids": position_ids, "inputs_embeds": inputs_embeds, "token_type_ids": token_type_ids}
        outputs = self.model(input_ids, attention_mask=seen, past_key_values=past_key_values, **kwargs)
        states = outputs.last_hidden_state
        logits = self.score(self.dropout(last_real_state(states, real)))
        lm_terms = None if lm_labels is None else partial(row_terms, states, lm_labels, real)
        return self._output(outputs, logits, labels, lm_terms)


class GPT1ForEntailment(GPT1ForSequenceClassification):
    """Classification of a pair in one order, `start premise delimiter hypothesis extract` (paper, section 3.3)."""


class GPT1ForSimilarity(GPT1TaskModel):
    """
    Similarity of two texts, symmetric: `start A delimiter B extract` and `start B delimiter A extract` are run, and
    the two extract states added before the linear layer (paper, section 3.3).

    Takes the first order only, as any pair encoding, and builds the second by moving the tokens.
    """

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> GPT1TaskOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`] (`inputs_embeds` and `position_ids` cannot be reordered):
            labels (`torch.Tensor`, *optional*):
                scores of shape `(batch,)` for a regression (`num_labels=1`), or class indices of shape `(batch,)`.
            lm_labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                targets of the auxiliary loss in place of `input_ids`; shifted here, -100 ignored.

        Returns:
            [`GPT1TaskOutput`], `logits` of shape `(batch, num_labels)`; hidden states and attentions,
            if asked for, have `2 * batch` rows: all first orders, then all second ones.

        Raises:
            ValueError: a row without a delimiter token, or `inputs_embeds` or `position_ids`.
        """
        others = [kwargs.pop(name, None) for name in ("inputs_embeds", "position_ids")]
        if input_ids is None or any(other is not None for other in others):
            raise ValueError("GPT1ForSimilarity reorders tokens: it needs input_ids, without position_ids")
        lm_labels = kwargs.pop("lm_labels", None)
        past_key_values = cache_among(kwargs, past_key_values)
        real = real_tokens(self.config, input_ids, attention_mask, None)
        seen, real = seen_and_own(real, input_ids, past_key_values)
        swap = swapped_order(input_ids, real, self.config.sep_token_id)
        if past_key_values is not None:  # both orders have the same past
            rows = torch.arange(len(real), device=real.device).repeat(2)
            past_key_values.reorder_cache(rows)  # type: ignore[arg-type]  # any tensor of whole numbers

        def both(tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat((tensor, tensor.gather(1, swap)))

        kwargs |= {"use_cache": False, "return_dict": True}
        kwargs["token_type_ids"] = None if token_type_ids is None else both(token_type_ids)
        seen = torch.cat((seen, seen))
        outputs = self.model(both(input_ids), attention_mask=seen, past_key_values=past_key_values, **kwargs)
        states, real = outputs.last_hidden_state, torch.cat((real, real))
        logits = self.score(self.dropout(last_real_state(states, real).unflatten(0, (2, -1)).sum(0)))
        lm_terms = partial(row_terms, states, both(input_ids if lm_labels is None else lm_labels), real)
        return self._output(outputs, logits, labels, lm_terms)


class GPT1ForMultipleChoice(GPT1TaskModel):
    """
    One of several answers: one row `start context delimiter answer extract` per choice, one score per row, a softmax
    over the rows (paper, section 3.3).

    The tokens that all choices of an example begin with (the context) are run once: an example becomes one packed row,
    the common prefix followed by what is each choice's own. Positions restart after the prefix and a token sees the
    prefix and its own choice only, so that logits, losses and gradients are those of separate rows.
    """

    _openai_gpt_head = "OpenAIGPTDoubleHeadsModel"

    def __init__(self, config: GPT1Config):
        super().__init__(config, 1)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> GPT1TaskOutput:
        r"""
        Args, with `(batch, choices, length)` in place of [`GPT1Model.forward`]'s `(batch, length)`:
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): the right choice.
            lm_labels (`torch.LongTensor` of shape `(batch, choices, length)`, *optional*):
                targets of the auxiliary loss in place of `input_ids`; shifted here, -100 ignored.

        Returns:
            [`GPT1TaskOutput`], `logits` of shape `(batch, choices)`; hidden states and attentions, if asked
            for, have `batch * choices` rows.

        Raises:
            ValueError: an input without the dimension of the choices.
        """
        shape = choices_shape("GPT1ForMultipleChoice", input_ids, inputs_embeds)
        real = real_tokens(self.config, input_ids, attention_mask, inputs_embeds)
        lm_labels = kwargs.pop("lm_labels", None)
        lm_labels = input_ids if lm_labels is None else lm_labels

        kwargs |= {"use_cache": False, "return_dict": True}
        packed = lm_terms = None
        if position_ids is None and input_ids is not None and lm_labels is not None and can_pack(self.config, kwargs):
            packed = PackedChoices.pack(input_ids, real, token_type_ids, lm_labels)
        if packed is not None:
            outputs = self.model(
                packed.input_ids,
                attention_mask=packed.attention_mask(self.config, self.model.embed_tokens.weight.dtype),
                position_ids=packed.position_ids,
                token_type_ids=packed.token_type_ids,
                **kwargs,
            )
            states = outputs.last_hidden_state.to(packed.columns.device)
            extract = packed.extract_states(states)
            lm_terms = partial(packed.lm_terms, states)
        else:
            mask = real.flatten(0, 1)
            ids, positions, embeds, types, targets = (
                None if tensor is None else tensor.flatten(0, 1)
                for tensor in (input_ids, position_ids, inputs_embeds, token_type_ids, lm_labels)
            )
            kwargs |= {"position_ids": positions, "inputs_embeds": embeds, "token_type_ids": types}
            outputs = self.model(ids, attention_mask=mask, **kwargs)
            states = outputs.last_hidden_state
            extract = last_real_state(states, mask).unflatten(0, shape[:2])
            if targets is not None:
                lm_terms = partial(row_terms, states, targets, mask)

        # One dropout mask for the choices of an example, as in the original code.
        extract = extract * self.dropout(torch.ones_like(extract[:, :1]))  # (batch, choices, hidden_size)
        return self._output(outputs, self.score(extract).squeeze(-1), labels, lm_terms)

    def _task_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self._class_loss(logits, labels)


class GPT1DoubleHeadsModel(GPT1ForCausalLM):
    """
    A language model that also chooses among its rows: the call of `OpenAIGPTDoubleHeadsModel`, for dialogue models.

    Its checkpoints are [`GPT1ForCausalLM`]'s and [`GPT1ForMultipleChoice`]'s as well; the former generates.
    """

    accepts_loss_kwargs = False  # both losses are means over a batch
    _openai_gpt_head = "OpenAIGPTDoubleHeadsModel"

    def __init__(self, config: GPT1Config):
        super().__init__(config)
        self.dropout = GPT1Dropout(config.classifier_dropout)
        self.score = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mc_token_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        mc_labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> GPT1DoubleHeadsOutput:
        r"""
        Args, with `(batch, choices, length)` in place of [`GPT1Model.forward`]'s `(batch, length)`:
            mc_token_ids (`torch.LongTensor` of shape `(batch, choices)`, *optional*):
                where each choice is read; its last real token by default.
            labels (`torch.LongTensor` of shape `(batch, choices, length)`, *optional*): shifted here, -100 ignored.
            mc_labels (`torch.LongTensor` of shape `(batch,)`, *optional*): the right choice.

        Returns:
            [`GPT1DoubleHeadsOutput`]: `loss` of the language model, `mc_loss`, `logits` of shape
            `(batch, choices, length, vocab_size)`, `mc_logits` of shape `(batch, choices)`.

        Raises:
            ValueError: an input without the dimension of the choices.
        """
        shape = choices_shape("GPT1DoubleHeadsModel", input_ids, inputs_embeds)
        ids, mask, types, positions, embeds, targets = (
            None if tensor is None else tensor.flatten(0, 1)
            for tensor in (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, labels)
        )
        kwargs |= {"use_cache": False, "return_dict": True}
        kwargs |= {"position_ids": positions, "inputs_embeds": embeds, "token_type_ids": types}
        outputs = self.model(ids, attention_mask=mask, **kwargs)
        states = outputs.last_hidden_state = outputs.last_hidden_state.unflatten(0, shape[:2])
        if targets is not None:
            targets = next_token_targets(targets, mask, self.config.pad_token_id).view(shape)
        loss, logits = self._loss_and_logits(outputs, targets, 0, None, None)
        if mc_token_ids is None:
            mc_token_ids = last_real(real_tokens(self.config, ids, mask, embeds)).view(shape[:2])
        mc_token_ids = mc_token_ids.to(states.device)
        extract = states.gather(2, mc_token_ids[..., None, None].expand(-1, -1, 1, states.shape[-1])).squeeze(2)
        mc_logits = self.score(extract * self.dropout(torch.ones_like(extract[:, :1]))).squeeze(-1)
        if mc_labels is not None:
            mc_labels = mc_labels.flatten().to(mc_logits.device)
        return GPT1DoubleHeadsOutput(
            loss=loss,
            mc_loss=None if mc_labels is None else F.cross_entropy(upcast(mc_logits), mc_labels),
            logits=logits,
            mc_logits=mc_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


# transformers' Auto classes, by which a checkpoint's copy of this file is loaded where the package is not installed
AUTO_CLASSES: dict[str, tuple[type[GPT1PreTrainedModel], ...]] = {
    "AutoModelForPreTraining": (GPT1ForCausalLM, GPT1DoubleHeadsModel),  # a class's own is the last
    "AutoModel": (GPT1Model,),
    "AutoModelForCausalLM": (GPT1ForCausalLM,),
    "AutoModelForMaskedLM": (GPT1ForMaskedLM,),
    "AutoModelForSequenceClassification": (GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity),
    "AutoModelForMultipleChoice": (GPT1ForMultipleChoice,),
}

__all__ = [
    "AUTO_CLASSES",
    "GPT1PreTrainedModel",
    "GPT1TaskModel",
    "GPT1Model",
    "GPT1ForCausalLM",
    "GPT1ForMaskedLM",
    "GPT1ForSequenceClassification",
    "GPT1ForEntailment",
    "GPT1ForSimilarity",
    "GPT1ForMultipleChoice",
    "GPT1DoubleHeadsModel",
]
