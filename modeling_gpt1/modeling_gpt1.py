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
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation import GenerationMixin, MaxLengthCriteria, StoppingCriteriaList
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    SequenceClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_gpt1 import GPT1Config


logger = logging.get_logger(__name__)

IGNORED = -100  # a label that no loss counts


@dataclass
class GPT1SequenceClassifierOutput(SequenceClassifierOutput):
    """
    Adds to transformers' output:
        task_loss (`torch.FloatTensor` of shape `()`): the supervised loss L2, when `labels` are given.
        lm_loss (`torch.FloatTensor` of shape `()`): the auxiliary language-modeling loss L1, while training.
    """

    task_loss: torch.FloatTensor | None = None
    lm_loss: torch.FloatTensor | None = None


@dataclass
class GPT1MultipleChoiceOutput(MultipleChoiceModelOutput):
    """
    Adds to transformers' output:
        task_loss (`torch.FloatTensor` of shape `()`): the supervised loss L2, when `labels` are given.
        lm_loss (`torch.FloatTensor` of shape `()`): the auxiliary language-modeling loss L1, while training.
    """

    task_loss: torch.FloatTensor | None = None
    lm_loss: torch.FloatTensor | None = None


class LogitsOnDemand:
    """For an output without logits, which nobody may want: `compute_logits` gives them when they are asked for."""

    compute_logits: Callable[[], torch.Tensor] | None = None

    @property
    def logits(self) -> torch.Tensor | None:
        if self.__dict__["logits"] is None and self.compute_logits is not None:
            self.__dict__["logits"] = self.compute_logits()
        return self.__dict__["logits"]

    @logits.setter
    def logits(self, value: torch.Tensor | None) -> None:
        self.__dict__["logits"] = value


class GPT1CausalLMOutput(LogitsOnDemand, CausalLMOutputWithPast):
    """transformers' output; in a training step, the logits are computed only if they are asked for."""


class GPT1MaskedLMOutput(LogitsOnDemand, MaskedLMOutput):
    """transformers' output; in a training step, the logits are computed only if they are asked for."""


class GPT1TaskKwargs(TransformersKwargs, total=False):
    """
    Adds to transformers' keyword arguments:
        lm_labels (`torch.LongTensor`, *optional*): of the shape of `input_ids`.

    It is no named parameter because `Trainer` takes every one with "label" in its name for a label that each
    evaluation batch has to bring. To train with it, set `remove_unused_columns=False`.
    """

    lm_labels: torch.LongTensor | None


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K^T * scaling + mask) V, with the weights: the attention that the fused kernels are held against."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling  # (batch, heads, queries, keys)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32 if scores.dtype.itemsize < 4 else None).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2), weights  # (batch, queries, heads, head_dim)


def kept_by_dropout(
    shape: torch.Size, p: float, dtype: torch.dtype, generator: torch.Generator | None = None
) -> torch.Tensor:
    """
    On CPU, 0 with probability `p`, to the nearest 1 / 65,536, and 1 elsewhere: 16 random bits an element, drawn four
    elements at a time, take a fifth of the time of PyTorch's dropout, which draws each by itself.
    """
    count, dropped = shape.numel(), round(p * 2**16)
    if dropped == 2**16:
        return torch.zeros(shape, dtype=dtype)
    bits = torch.empty(-(-count // 4), dtype=torch.long).random_(-(2**63), None, generator=generator).view(torch.short)
    return bits[:count].ge_(dropped - 2**15).view(shape).to(dtype)


class GPT1Dropout(nn.Dropout):
    """`nn.Dropout` with a faster mask on CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p in (0, 1) or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return x * kept_by_dropout(x.shape, self.p, x.dtype).mul_(1 / (1 - self.p))


def masked_score(dtype: torch.dtype) -> float:
    """Added to a score, it leaves no weight; finite, so that a row of padding, which sees nothing, is no NaN."""
    return torch.finfo(dtype).min / 2


class DroppedAttention(torch.autograd.Function):
    """
    dropout(softmax(Q K^T * scaling + mask)) V on CPU, where PyTorch's fused kernels know no dropout, without ever
    holding all weights.

    A block of queries at a time, against the keys that a causal one can see; the backward pass computes the weights
    again and draws the same dropout again.

    Args of `apply`:
        query, key, value (`torch.FloatTensor` of shape `(batch, heads, queries or keys, head_dim)`).
        bias (`torch.FloatTensor` of shape `(batch or 1, heads or 1, queries, keys)`, *optional*): added to the scores.
        scaling, dropout (`float`).
        causal (`bool`): whether each of as many queries as keys sees no key after its own.

    Returns:
        `torch.FloatTensor` of shape `(batch, queries, heads, head_dim)`.
    """

    QUERIES = 128  # of a block
    WEIGHTS = 2**20  # of a block, about: 2 MB of bfloat16

    @staticmethod
    def forward(ctx, query, key, value, bias, scaling, dropout, causal):
        ctx.seed = int(torch.randint(2**62, ()))
        ctx.options = scaling, dropout, causal
        # what is small is scaled, not the weights; contiguous, a block needs no copy of its own
        query, key, value = (tensor.contiguous() for tensor in (query * scaling, key, value))
        ctx.save_for_backward(query, key, value, bias)
        output = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        with torch.autocast("cpu", enabled=False):
            for batch, rows, keys, weights, kept in DroppedAttention._blocks(ctx, query, key, bias):
                output[batch, rows] = (weights.mul_(kept) @ value[batch, :, keys]).transpose(1, 2)
        return output.mul_(1 / (1 - dropout))

    @staticmethod
    def _blocks(ctx, query, key, bias):
        """For each block: which examples, queries and keys; its attention weights; which of them dropout keeps."""
        _, dropout, causal = ctx.options
        examples, heads, length, _ = query.shape
        generator = torch.Generator().manual_seed(ctx.seed)
        step = min(DroppedAttention.QUERIES, length)
        together = max(1, DroppedAttention.WEIGHTS // (heads * step * key.shape[2]))
        later = query.new_full((step, step), masked_score(query.dtype)).triu(1) if causal else None
        for first in range(0, examples, together):
            batch = slice(first, first + together)
            for start in range(0, length, step):
                rows = slice(start, start + step)
                keys = slice(0, start + step) if causal else slice(None)
                scores = query[batch, :, rows] @ key[batch, :, keys].transpose(2, 3)
                if bias is not None:
                    scores += bias[batch if len(bias) > 1 else slice(None), :, rows, keys]
                if causal:
                    own = scores[..., start:]
                    own += later[: own.shape[2], : own.shape[3]]
                weights = scores.softmax(-1)
                yield batch, rows, keys, weights, kept_by_dropout(weights.shape, dropout, weights.dtype, generator)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        query, key, value, bias = ctx.saved_tensors
        scaling, dropout, _ = ctx.options
        grad_output = grad_output / (1 - dropout)
        grad_query = torch.empty_like(query)
        grad_key, grad_value = (torch.zeros_like(full_precision(tensor)) for tensor in (key, value))
        for batch, rows, keys, weights, kept in DroppedAttention._blocks(ctx, query, key, bias):
            gradient = grad_output[batch, rows].transpose(1, 2)
            grad_weights = (gradient @ value[batch, :, keys].transpose(2, 3)).mul_(kept)
            grad_value[batch, :, keys] += kept.mul_(weights).transpose(2, 3) @ gradient
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_query[batch, :, rows] = grad_scores @ key[batch, :, keys]
            grad_key[batch, :, keys] += grad_scores.transpose(2, 3) @ query[batch, :, rows]
        return grad_query.mul_(scaling), grad_key.to(key.dtype), grad_value.to(value.dtype), None, None, None, None


def dropped_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """[`DroppedAttention`] as the attention of a layer; without a mask, a causal layer sees what came before."""
    bias = attention_mask
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        bias = torch.zeros_like(attention_mask, dtype=query.dtype)
        bias.masked_fill_(~attention_mask, masked_score(query.dtype))
    causal = attention_mask is None and module.is_causal and query.shape[2] == key.shape[2]
    return DroppedAttention.apply(query, key, value, bias, scaling, dropout, causal), None


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
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj.adds_to_residual = True

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
        implementation = self.config._attn_implementation
        dropout = self.attention_dropout if self.training else 0.0
        on_cpu = query.device.type == "cpu" and not torch.compiler.is_compiling()
        if 0 < dropout < 1 and implementation == "sdpa" and on_cpu:
            attend = dropped_attention_forward
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
            sliding_window=self.config.attention_window,
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
        self.down_proj.adds_to_residual = True

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
        if self.pre_norm:
            attended, _ = self.self_attn(self.attn_norm(hidden_states), attention_mask, past_key_values, **kwargs)
            hidden_states = hidden_states + self.dropout(attended)
            return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))
        attended, _ = self.self_attn(hidden_states, attention_mask, past_key_values, **kwargs)
        hidden_states = self.attn_norm(hidden_states + self.dropout(attended))
        return self.mlp_norm(hidden_states + self.dropout(self.mlp(hidden_states)))


class SinusoidalPositions(nn.Module):
    """Fixed position embeddings: sin(p / 10000^(2i/d)) in even columns, the cosine in odd ones."""

    def __init__(self, config: GPT1Config):
        super().__init__()
        self.hidden_size = config.hidden_size

    def forward(self, position_ids: torch.LongTensor) -> torch.Tensor:
        pairs = torch.arange(0, self.hidden_size, 2, device=position_ids.device, dtype=torch.double)
        angles = position_ids[..., None] / 10_000.0 ** (pairs / self.hidden_size)  # (batch, length, hidden_size / 2)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class GPT1PreTrainedModel(PreTrainedModel):
    """What all GPT-1 models share: their configuration, their capabilities, initialisation and loading."""

    config: GPT1Config
    config_class = GPT1Config
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
        if self.config.norm_position == "pre" and getattr(module, "adds_to_residual", False):
            std = self.config.initializer_range / (2 * self.config.num_hidden_layers) ** 0.5
            init.normal_(module.weight, mean=0.0, std=std)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """
        As in transformers. A directory or Hub id that holds an `openai-gpt` checkpoint loads as well: base,
        language-modeling, double-heads or classification, with its head where this class has one like it.
        """
        hub = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
        hub_kwargs = {name: kwargs[name] for name in hub if name in kwargs}
        try:
            config_dict, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub_kwargs)
        except (OSError, TypeError):  # no configuration there: an adapter, or an error that transformers explains
            config_dict = {}
        if config_dict.get("model_type") != "openai-gpt":
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

        if kwargs.get("config") is None:
            config = cls.config_class.from_pretrained(pretrained_model_name_or_path, **hub_kwargs)
            for name in [name for name in kwargs if name != "dtype" and hasattr(config, name)]:
                setattr(config, name, kwargs.pop(name))
            kwargs["config"] = config
        architecture = (config_dict.get("architectures") or [None])[0]
        if architecture not in OPENAI_GPT_ARCHITECTURES:
            architecture = "OpenAIGPTLMHeadModel"
        source, info = getattr(transformers, architecture).from_pretrained(
            pretrained_model_name_or_path, dtype="auto", output_loading_info=True, **hub_kwargs
        )
        if missing := sorted(name for name in info["missing_keys"] if not name.startswith("lm_head.")):
            raise ValueError(
                f"the openai-gpt checkpoint {pretrained_model_name_or_path} lacks {len(missing)} of its parameters, "
                f"{missing[0]} for one"
            )
        state_dict = convert_openai_gpt_state_dict(source.state_dict())
        for_choices = architecture == "OpenAIGPTDoubleHeadsModel"
        if for_choices != issubclass(cls, GPT1ForMultipleChoice) or not scores_alike(config_dict):
            state_dict = {name: tensor for name, tensor in state_dict.items() if not name.startswith("score.")}
        kwargs["state_dict"] = state_dict
        loaded = super().from_pretrained(None, *model_args, **kwargs)
        kwargs["config"].name_or_path = str(pretrained_model_name_or_path)
        return loaded


# Which class here has the head of which openai-gpt model.
OPENAI_GPT_ARCHITECTURES = {
    "OpenAIGPTModel": "GPT1Model",
    "OpenAIGPTLMHeadModel": "GPT1ForCausalLM",
    "OpenAIGPTDoubleHeadsModel": "GPT1ForMultipleChoice",
    "OpenAIGPTForSequenceClassification": "GPT1ForSequenceClassification",
}

# How openai-gpt names each parameter; its Conv1D layers store their weights as (in, out).
_FROM_OPENAI_GPT = (
    (r"^(transformer\.)?tokens_embed\.", "model.embed_tokens."),
    (r"^(transformer\.)?positions_embed\.", "model.embed_positions."),
    (r"^(transformer\.)?h\.(\d+)\.attn\.c_attn\.", r"model.layers.\2.self_attn.qkv_proj."),
    (r"^(transformer\.)?h\.(\d+)\.attn\.c_proj\.", r"model.layers.\2.self_attn.o_proj."),
    (r"^(transformer\.)?h\.(\d+)\.ln_1\.", r"model.layers.\2.attn_norm."),
    (r"^(transformer\.)?h\.(\d+)\.mlp\.c_fc\.", r"model.layers.\2.mlp.up_proj."),
    (r"^(transformer\.)?h\.(\d+)\.mlp\.c_proj\.", r"model.layers.\2.mlp.down_proj."),
    (r"^(transformer\.)?h\.(\d+)\.ln_2\.", r"model.layers.\2.mlp_norm."),
    (r"^multiple_choice_head\.summary\.", "score."),
)


def convert_openai_gpt_state_dict(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters of an `openai-gpt` model under this package's names, projections as `nn.Linear` stores them."""
    converted = {}
    for name, tensor in state_dict.items():
        for pattern, replacement in _FROM_OPENAI_GPT:
            name = re.sub(pattern, replacement, name)
        if re.search(r"_proj\.weight$", name):
            tensor = tensor.t().contiguous()
        converted[name] = tensor
    return converted


def scores_alike(openai_gpt_config: dict) -> bool:
    """Whether the head of an `OpenAIGPTDoubleHeadsModel`, if it is one, is a linear layer on the extract state."""
    options = {"summary_type": "cls_index", "summary_use_proj": True, "summary_proj_to_labels": True}
    same = all(openai_gpt_config.get(name, value) == value for name, value in options.items())
    return same and not openai_gpt_config.get("summary_activation")


def positions_of_tokens(attention_mask: torch.Tensor) -> torch.LongTensor:
    """Positions `(batch, length)` that count the tokens of a mask of that shape, and not its padding."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


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
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        else:
            self.embed_positions = SinusoidalPositions(config)
        self.dropout = GPT1Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList([GPT1Layer(config, index) for index in range(config.num_hidden_layers)])
        if config.norm_position == "pre":
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        else:
            self.norm = nn.Identity()
        self.gradient_checkpointing = False
        self.post_init()

    def dropped_token_embeddings(self) -> torch.Tensor | None:
        """
        The token embedding matrix with entries dropped, `(vocab_size, hidden_size)`, to be used in a whole pass: only
        with `embedding_dropout_type="matrix"`, while training.
        """
        if self.config.embedding_dropout_type == "matrix" and self.training:
            return self.dropout(self.embed_tokens.weight)
        return None

    def _embed(self, token_ids: torch.LongTensor, matrix: torch.Tensor | None = None) -> torch.Tensor:
        try:
            return self.embed_tokens(token_ids) if matrix is None else F.embedding(token_ids, matrix)
        except IndexError:
            raise ValueError(
                f"token ids must lie in [0, {self.config.vocab_size}), the vocabulary; "
                f"got ids from {token_ids.min().item()} to {token_ids.max().item()}"
            ) from None

    def _positions(self, position_ids: torch.LongTensor, drop_entries: bool) -> torch.Tensor:
        if drop_entries and self.config.position_embedding_type == "learned":
            return F.embedding(position_ids, self.dropout(self.embed_positions.weight))
        return self.embed_positions(position_ids)

    def _check_length(self, length: int) -> None:
        if length == 0:
            raise ValueError("the input is empty: it needs a token at least")
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"the input is {length} tokens long, the model takes at most "
                f"{self.config.max_position_embeddings} (max_position_embeddings)"
            )

    def _ends_rows(self, attention_mask: torch.Tensor | None) -> bool:
        """
        Whether padding only ends rows, and so comes after all that a causal model's tokens see: without a mask for it
        the fused kernels do half the work.
        """
        if attention_mask is None or attention_mask.ndim != 2 or not self.config.is_causal:
            return False
        return not torch.compiler.is_compiling() and bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
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
            token_embeddings (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`, *optional*):
                what [`~GPT1Model.dropped_token_embeddings`] gave, where a head needs it too.

        Returns:
            [`BaseModelOutputWithPast`], `last_hidden_state` of shape `(batch, length, hidden_size)`.

        Raises:
            ValueError: neither or both of `input_ids` and `inputs_embeds`, an input that is empty or longer than
                `config.max_position_embeddings`, or a token id outside the vocabulary (on CPU).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        length = (input_ids if input_ids is not None else inputs_embeds).shape[1]
        past_length = past_key_values.get_seq_length() if past_key_values is not None else 0
        # Packed rows bring their own positions and may be longer than any one text in them.
        packed = position_ids is not None and past_key_values is None
        if not packed and not torch.compiler.is_compiling():
            self._check_length(past_length + length)

        matrix = kwargs.pop("token_embeddings", None)
        if matrix is None:
            matrix = self.dropped_token_embeddings()
        if inputs_embeds is None:
            inputs_embeds = self._embed(input_ids, matrix)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)

        create_mask = create_causal_mask if self.config.attention_window is None else create_sliding_window_causal_mask
        causal_mask = create_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=None if past_key_values is None and self._ends_rows(attention_mask) else attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        if position_ids is None:
            if attention_mask is not None and attention_mask.ndim == 2:
                position_ids = positions_of_tokens(attention_mask)[:, -length:]
            else:
                position_ids = torch.arange(length, device=inputs_embeds.device)[None] + past_length

        try:
            hidden_states = inputs_embeds + self._positions(position_ids, matrix is not None).to(inputs_embeds.dtype)
        except IndexError:
            self._check_length(position_ids.max().item() + 1)
            raise
        if token_type_ids is not None:
            hidden_states = hidden_states + self._embed(token_type_ids, matrix)
        if matrix is None:
            hidden_states = self.dropout(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, causal_mask, past_key_values, position_ids=position_ids, **kwargs)
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(hidden_states),
            past_key_values=past_key_values if use_cache else None,
        )


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 as float32, the precision that losses are computed in; others as they are."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def output_weight(lm_head: nn.Linear, embed_tokens: nn.Embedding, matrix: torch.Tensor | None) -> torch.Tensor:
    """The output layer's weight; where it is the token embedding and a pass has dropped entries of that, that one."""
    return lm_head.weight if matrix is None or lm_head.weight is not embed_tokens.weight else matrix


class TokenLoss(torch.autograd.Function):
    """
    sum_i shares_i * -log softmax(states_i W^T)[targets_i], without ever holding all logits.

    A chunk of rows at a time, its logits become the loss and, in place, the gradient of the loss; both gradients are
    thus ready at the end of the forward pass, and memory is one chunk of logits whatever the number of rows. The
    products run in the compute dtype (autocast's, where it is on), the softmax at least in float32.

    Args of `apply`:
        states (`torch.FloatTensor` of shape `(targets, hidden_size)`).
        weight (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`): the output embedding.
        targets (`torch.LongTensor` of shape `(targets,)`).
        shares (`torch.FloatTensor` of shape `(targets,)`): the weight of each target.
    """

    CHUNK = 1024  # rows of a matrix product: 83 MB of bfloat16 logits at 40,338 entries
    CPU_BLOCK = 8  # rows of a softmax on CPU: 1.3 MB of float32, in the cache from one operation to the next

    @staticmethod
    def forward(ctx, states, weight, targets, shares):
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        compute_states, compute_weight = states.to(dtype), weight.to(dtype)
        needs_states, needs_weight = ctx.needs_input_grad[:2]
        grad_states = torch.empty_like(compute_states) if needs_states else None
        product = torch.zeros_like(compute_weight) if needs_weight else None
        grad_weight = product
        if needs_weight and len(states) > TokenLoss.CHUNK:
            grad_weight = torch.zeros_like(full_precision(weight))
        block, some = (TokenLoss.CPU_BLOCK, 512) if device == "cpu" else (TokenLoss.CHUNK, len(weight))
        # Large new tensors cost CPUs more than the work in them: the page faults.
        buffer = compute_states.new_empty(min(TokenLoss.CHUNK, len(states)), len(weight))
        scratch = full_precision(buffer[:0]).new_empty(min(block, len(states)), len(weight))
        loss = shares.new_zeros(())
        with torch.autocast(device, enabled=False):
            for start in range(0, len(states), TokenLoss.CHUNK):
                rows = slice(start, start + TokenLoss.CHUNK)
                chunk = compute_states[rows]
                logits = buffer[: len(chunk)]  # (rows, vocab_size)
                # A CPU is twice as fast at this product (bfloat16) by some columns at a time.
                for columns, part in zip(logits.split(some, dim=1), compute_weight.split(some), strict=True):
                    torch.mm(chunk, part.T, out=columns)
                pieces = (tensor.split(block) for tensor in (logits, targets[rows, None], shares[rows, None]))
                for piece, target, share in zip(*pieces, strict=True):
                    wide = scratch[: len(piece)].copy_(piece)
                    at_target, highest = wide.gather(1, target), wide.amax(1, keepdim=True)
                    total = wide.sub_(highest).exp_().sum(1, keepdim=True)
                    loss += ((highest - at_target + total.log()) * share).sum()
                    if needs_states or needs_weight:
                        # d loss / d logits = shares * (softmax - onehot)
                        wide.mul_(share / total).scatter_add_(1, target, -share.to(wide.dtype))
                        piece.copy_(wide)
                if needs_states:
                    torch.mm(logits, compute_weight, out=grad_states[rows])
                if needs_weight:
                    torch.mm(logits.T, chunk, out=product)
                    if grad_weight is not product:
                        for first in range(0, len(weight), some):
                            grad_weight[first : first + some] += full_precision(product[first : first + some])
        ctx.dtypes = states.dtype, weight.dtype
        ctx.save_for_backward(grad_states, grad_weight)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss):
        grads = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (
            *(None if grad is None else grad.to(dtype, copy=True).mul_(grad_loss) for grad, dtype in grads),
            None,
            None,
        )


def loss_and_logits(
    states: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.LongTensor | None,
    num_items_in_batch: torch.Tensor | int | None,
    skip_logits: bool,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """
    Cross-entropy at the `targets` `(batch, length)` that are not -100, their mean or their sum over
    `num_items_in_batch`; and the logits `(batch, length, vocab_size)`, unless there are targets and they are skipped.
    """
    if targets is None:
        return None, F.linear(states, weight)
    counted = targets != IGNORED
    items = counted.sum() if num_items_in_batch is None else num_items_in_batch
    if skip_logits:
        states, targets = states[counted], targets[counted]
        shares = full_precision(states.new_ones(len(targets))) / items
        return TokenLoss.apply(states, weight, targets, shares), None
    logits = F.linear(states, weight)
    total = F.cross_entropy(full_precision(logits).flatten(0, 1), targets.flatten(), reduction="sum")
    return total / items, logits


class GrowingLayer(DynamicLayer):
    """A layer's keys and values with room for those to come; transformers' own copies them all for each new token."""

    ROOM = 128  # tokens

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As in [`DynamicLayer`]: takes those of the new tokens, `(batch, heads, length, head_dim)`, returns all."""
        if torch.is_grad_enabled():
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
        whole[:, :, past_length:length] = new
        return whole[:, :, :length]


def growing_layers(config: GPT1Config) -> list[DynamicLayer]:
    """The layers of an empty cache; those of a limited `attention_window` remain transformers'."""
    return [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in DynamicCache(config=config).layers]


class PackedForward:
    """
    Stands in for the `forward` of a linear layer while tokens come one by one on CPU. A single row in bfloat16 goes
    through PyTorch's own product of a matrix and a vector, which reads the weight 1.3 to 2 times as fast as oneDNN's.
    For others, after a few calls, the weight is laid out anew for oneDNN's kernels, with the like gain.
    """

    PATIENCE = 8  # calls; the new layout costs as much as it saves in about as many

    def __init__(self, layer: nn.Linear):
        self.layer = layer
        self.calls = 0
        self.weight: torch.Tensor | None = None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        if torch.compiler.is_compiling():
            return F.linear(states, weight, bias)
        if states.numel() == states.shape[-1] and states.dtype == torch.bfloat16:
            torch._C._set_mkldnn_enabled(False)  # `torch.backends.mkldnn.flags` takes a tenth of the product's time
            try:
                return F.linear(states, weight, bias)
            finally:
                torch._C._set_mkldnn_enabled(True)
        self.calls += 1
        if self.weight is None and self.calls > self.PATIENCE:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        if self.weight is None:
            return F.linear(states, weight, bias)
        return torch.ops.mkldnn._linear_pointwise(states, self.weight, bias, "none", [], "")

    @classmethod
    @contextmanager
    def of(cls, model: nn.Module) -> Iterator[None]:
        """While it lasts, the linear layers of `model` do so; weights that are laid out anew take twice the memory."""
        mkldnn = torch.backends.mkldnn
        supported = (
            mkldnn.is_available() and mkldnn.enabled and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        )
        layers = [
            layer
            for layer in model.modules()
            if type(layer) is nn.Linear
            and type(layer.weight) is nn.Parameter
            and "forward" not in vars(layer)
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype in (torch.float32, torch.bfloat16)
        ]
        if not supported or torch.is_autocast_enabled("cpu"):
            layers = []
        for layer in layers:
            layer.forward = cls(layer)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward


class GPT1ForCausalLM(GPT1PreTrainedModel, GenerationMixin):
    """
    Language modeling: P(u) = softmax(h_n W_e^T), and L1 (paper, equations 1 and 2). Generates with a key-value cache.

    Raises:
        ValueError: a configuration with `is_causal=False`, in which each token would see what it has to predict.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: GPT1Config):
        if not config.is_causal:
            raise ValueError("GPT1ForCausalLM needs is_causal=True; GPT1ForMaskedLM is the model for is_causal=False")
        super().__init__(config)
        self.model = GPT1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        r"""
        Args, beside those of [`GPT1Model.forward`]:
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                usually `input_ids`; shifted here, -100 ignored.
            logits_to_keep (`int` or `torch.LongTensor`, defaults to 0):
                how many last positions, or which, to compute logits for; 0 is all.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                what to divide the summed loss by, in place of the number of targets here; `Trainer` passes the number
                in all the batches that it accumulates.
            skip_logits (`bool`, *optional*):
                with `labels`, whether to compute logits only when the output is asked for them: the loss alone takes
                a fraction of the memory. By default, while training.

        Returns:
            [`GPT1CausalLMOutput`], `logits` of shape `(batch, length, vocab_size)`.
        """
        if labels is not None and use_cache is None:
            use_cache = False
        matrix = self.model.dropped_token_embeddings()
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            token_type_ids=token_type_ids,
            use_cache=use_cache,
            token_embeddings=matrix,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        states = outputs.last_hidden_state[:, kept]
        if matrix is None:
            compute_logits = partial(self.lm_head, states)
        else:
            compute_logits = partial(F.linear, states, output_weight(self.lm_head, self.model.embed_tokens, matrix))
        if labels is None:
            loss, logits = None, compute_logits()
        else:
            weight = output_weight(self.lm_head, self.model.embed_tokens, matrix)
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED)[:, kept]
            skip_logits = self.training if skip_logits is None else skip_logits
            loss, logits = loss_and_logits(states, weight, targets, num_items_in_batch, skip_logits)
        output = GPT1CausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        output.compute_logits = compute_logits
        return output

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        is_first_iteration: bool = False,
        window_keep: float = 0.5,
        **kwargs,
    ) -> dict:
        """
        As in transformers, and beyond the model's positions: where a text does not fit any more, the last
        `window_keep` of `max_position_embeddings` tokens are encoded anew, as a text of their own that grows until it
        does not fit in turn. What a token is predicted from thus depends on the length of the text alone.

        Raises:
            ValueError: `window_keep`, an argument of `generate`, is not between 0 and 1; assisted generation, which
                adds several tokens at a time, comes to the model's last position.
        """
        if not 0 < window_keep < 1:
            raise ValueError(f"window_keep is the part of a window that is kept, between 0 and 1, not {window_keep}")
        limit, length = self.config.max_position_embeddings, input_ids.shape[1]
        if length > limit:
            if not is_first_iteration and (next_sequence_length or 1) > 1:
                raise ValueError(f"assisted generation ends at {limit} tokens (max_position_embeddings)")
            step = limit + 1 - max(1, int(window_keep * limit))
            window = length - -(-(length - limit) // step) * step
            cached = 0 if past_key_values is None else past_key_values.get_seq_length()
            if next_sequence_length is None or cached + next_sequence_length != window:
                next_sequence_length = window
                if isinstance(past_key_values, DynamicCache):
                    past_key_values.layers = growing_layers(self.config)
                elif past_key_values is not None:
                    past_key_values.reset()
            kwargs.pop("position_ids", None)  # which count from the beginning of the text
            if attention_mask is not None:
                attention_mask = attention_mask[:, -window:]
                kwargs["position_ids"] = positions_of_tokens(attention_mask)
        return super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length,
            past_key_values,
            attention_mask,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )

    def _prepare_cache_for_generation(
        self, generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
    ) -> None:
        max_cache_length = min(max_cache_length, self.config.max_position_embeddings)
        super()._prepare_cache_for_generation(
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
        )
        cache = model_kwargs.get("past_key_values")
        if type(cache) is DynamicCache and not cache.offloading:
            cache.layers = growing_layers(self.config)

    def _get_stopping_criteria(self, *args, **kwargs) -> StoppingCriteriaList:
        criteria = super()._get_stopping_criteria(*args, **kwargs)
        for criterion in criteria:
            if isinstance(criterion, MaxLengthCriteria):
                criterion.max_position_embeddings = None  # it would warn of what does no harm here
        return criteria

    def _sample(self, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs):
        compiled = self._valid_auto_compile_criteria(kwargs, generation_config)
        with nullcontext() if compiled else PackedForward.of(self):
            return super()._sample(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)


class GPT1ForMaskedLM(GPT1PreTrainedModel):
    """Masked language modeling with the same blocks: every token sees the whole input (`is_causal=False`)."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: GPT1Config):
        config = copy.deepcopy(config)  # the caller may build a causal model from the same one
        config.is_causal = False
        super().__init__(config)
        self.model = GPT1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`]:
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                the token to find at each masked position, -100 elsewhere; not shifted.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*), skip_logits (`bool`, *optional*):
                as in [`GPT1ForCausalLM.forward`].

        Returns:
            [`GPT1MaskedLMOutput`], `logits` of shape `(batch, length, vocab_size)`.
        """
        kwargs["use_cache"] = False
        matrix = kwargs["token_embeddings"] = self.model.dropped_token_embeddings()
        outputs = self.model(input_ids, attention_mask, position_ids, None, inputs_embeds, token_type_ids, **kwargs)
        states = outputs.last_hidden_state
        weight = output_weight(self.lm_head, self.model.embed_tokens, matrix)
        skip_logits = self.training if skip_logits is None else skip_logits
        loss, logits = loss_and_logits(states, weight, labels, num_items_in_batch, skip_logits)
        output = GPT1MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        output.compute_logits = partial(F.linear, states, weight)
        return output


class GPT1TaskModel(GPT1PreTrainedModel):
    """
    What the task heads share: the linear layer on the extract state, the supervised loss, and the auxiliary one.

    The extract state is the last block's state at the last real token (`_classify_` in the task format), and
    L3 = L2 + lm_coef * L1 (paper, equations 3 to 5). L1 is computed from the same pass, while training only.
    """

    # The losses are means over a batch: Trainer has to average them over accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: GPT1Config, num_scores: int):
        super().__init__(config)
        self.loss_type = "ForSequenceClassification"
        self.model = GPT1Model(config)
        self.dropout = GPT1Dropout(config.classifier_dropout)
        self.score = nn.Linear(config.hidden_size, num_scores)
        self.post_init()

    def _real_tokens(
        self,
        input_ids: torch.LongTensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.FloatTensor | None,
    ) -> torch.BoolTensor:
        """Where the input holds tokens, not padding; without a mask, `pad_token_id` tells."""
        if input_ids is not None:
            self.model._check_length(input_ids.shape[-1])
        if attention_mask is not None:
            return attention_mask.bool()
        if input_ids is None:
            if inputs_embeds is None:
                raise ValueError("pass exactly one of input_ids and inputs_embeds")
            return torch.ones(inputs_embeds.shape[:-1], dtype=torch.bool, device=inputs_embeds.device)
        if self.config.pad_token_id is None:
            return torch.ones_like(input_ids, dtype=torch.bool)
        return input_ids != self.config.pad_token_id

    def _needs_lm_loss(self) -> bool:
        """L1 is meant while training, has a weight, and cannot be had from states that saw the next token."""
        weight = self.config.lm_coef if self.config.lm_loss_weighting == "additive" else 1 - self.config.lm_coef
        return self.training and weight != 0 and self.config.is_causal

    def _lm_loss(
        self, states: torch.Tensor, targets: torch.LongTensor, shares: torch.Tensor, matrix: torch.Tensor | None
    ) -> torch.Tensor:
        """
        L1 (paper, equation 1) of states that predict a token each.

        Args:
            states (`torch.FloatTensor` of shape `(targets, hidden_size)`): the last block's states.
            targets (`torch.LongTensor` of shape `(targets,)`): the tokens to predict.
            shares (`torch.FloatTensor` of shape `(targets,)`): each one's share of the mean.
            matrix (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`, *optional*):
                the output embedding; the token embedding by default.
        """
        return TokenLoss.apply(states, self.model.embed_tokens.weight if matrix is None else matrix, targets, shares)

    def _lm_loss_of_rows(
        self, states: torch.Tensor, labels: torch.LongTensor, real: torch.BoolTensor, matrix: torch.Tensor | None
    ) -> torch.Tensor:
        """L1 of rows `(rows, length)`, a mean over each row's targets and then over the rows (the original code)."""
        targets = next_token_targets(labels, real)
        counted = targets != IGNORED
        return self._lm_loss(states[counted], targets[counted], target_shares(targets, states.dtype)[counted], matrix)

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

    def _task_loss(self, logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
        """Cross-entropy, binary cross-entropy or squared error, by `config.problem_type` or what the labels are."""
        if labels is None:
            return None
        logits = full_precision(logits)
        if self.config.num_labels == 1 or self.config.problem_type == "regression" or labels.is_floating_point():
            labels = labels.to(logits.dtype)
        elif self.config.label_smoothing and self.config.problem_type != "multi_label_classification":
            return self._class_loss(logits, labels)
        return self.loss_function(labels, logits, self.config)

    def _class_loss(self, scores: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
        """Cross-entropy of `scores` `(batch, classes)`; while training, the labels are smoothed if the config asks."""
        smoothing = self.config.label_smoothing if self.training else 0.0
        return F.cross_entropy(full_precision(scores), labels, label_smoothing=smoothing)


def next_token_targets(labels: torch.LongTensor, real: torch.BoolTensor) -> torch.LongTensor:
    """What each position of `(rows, length)` has to predict: the next label where both tokens are real, else -100."""
    labels = labels.masked_fill(~real, IGNORED)
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED).masked_fill(~real, IGNORED)


def target_shares(targets: torch.LongTensor, dtype: torch.dtype) -> torch.FloatTensor:
    """Each target's share of a mean over its row's targets and then over the rows that have one: `(rows, length)`."""
    counted = targets != IGNORED
    in_row = counted.sum(-1, keepdim=True).clamp(min=1)
    rows = counted.any(-1).sum().clamp(min=1)
    return full_precision(counted.to(dtype)) / (in_row * rows)


def last_real_state(states: torch.Tensor, real: torch.BoolTensor) -> torch.Tensor:
    """The states `(rows, hidden_size)` at the last real token of each row of `(rows, length, hidden_size)`."""
    last = real.shape[1] - 1 - real.flip(1).int().argmax(1)
    return states[torch.arange(len(states), device=states.device), last]


class GPT1ForSequenceClassification(GPT1TaskModel):
    """Classification of `start text extract` (paper, section 3.3); regression if `num_labels` is 1; multi-label."""

    def __init__(self, config: GPT1Config):
        super().__init__(config, config.num_labels)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[GPT1TaskKwargs],
    ) -> GPT1SequenceClassifierOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`]:
            labels (`torch.Tensor`, *optional*):
                class indices of shape `(batch,)`, scores of shape `(batch,)` for a regression, or floats of shape
                `(batch, num_labels)` for several labels at once.
            lm_labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                targets of the auxiliary loss in place of `input_ids`; shifted here, -100 ignored.

        Returns:
            [`GPT1SequenceClassifierOutput`], `logits` of shape `(batch, num_labels)`.
        """
        real = self._real_tokens(input_ids, attention_mask, inputs_embeds)
        lm_labels = kwargs.pop("lm_labels", None)
        kwargs["use_cache"] = False
        matrix = kwargs["token_embeddings"] = self.model.dropped_token_embeddings()
        outputs = self.model(input_ids, real, position_ids, None, inputs_embeds, token_type_ids, **kwargs)
        states = outputs.last_hidden_state
        logits = self.score(self.dropout(last_real_state(states, real)))

        task_loss = self._task_loss(logits, labels)
        lm_loss = None
        lm_labels = input_ids if lm_labels is None else lm_labels
        if lm_labels is not None and self._needs_lm_loss():
            lm_loss = self._lm_loss_of_rows(states, lm_labels, real, matrix)
        return GPT1SequenceClassifierOutput(
            loss=self._combine(task_loss, lm_loss),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            task_loss=task_loss,
            lm_loss=lm_loss,
        )


class GPT1ForEntailment(GPT1ForSequenceClassification):
    """Classification of a pair in one order, `start premise delimiter hypothesis extract` (paper, section 3.3)."""


class GPT1ForSimilarity(GPT1TaskModel):
    """
    Similarity of two texts, symmetric: `start A delimiter B extract` and `start B delimiter A extract` are run, and
    the two extract states added before the linear layer (paper, section 3.3).

    Takes the first order only, as any pair encoding, and builds the second by moving the tokens.
    """

    def __init__(self, config: GPT1Config):
        super().__init__(config, config.num_labels)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[GPT1TaskKwargs],
    ) -> GPT1SequenceClassifierOutput:
        r"""
        Args, beside those of [`GPT1Model.forward`] (`inputs_embeds` and `position_ids` cannot be reordered):
            labels (`torch.Tensor`, *optional*):
                scores of shape `(batch,)` for a regression (`num_labels=1`), or class indices of shape `(batch,)`.
            lm_labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                targets of the auxiliary loss in place of `input_ids`; shifted here, -100 ignored.

        Returns:
            [`GPT1SequenceClassifierOutput`], `logits` of shape `(batch, num_labels)`; hidden states and attentions,
            if asked for, have `2 * batch` rows: all first orders, then all second ones.

        Raises:
            ValueError: a row without a delimiter token, or `inputs_embeds` or `position_ids`.
        """
        if kwargs.get("inputs_embeds") is not None or kwargs.get("position_ids") is not None:
            raise ValueError("GPT1ForSimilarity reorders tokens: it needs input_ids, without position_ids")
        lm_labels = kwargs.pop("lm_labels", None)
        real = self._real_tokens(input_ids, attention_mask, None)
        swap = swapped_order(input_ids, real, self.config.sep_token_id)

        def both(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else torch.cat((tensor, tensor.gather(1, swap)))

        kwargs["use_cache"] = False
        matrix = kwargs["token_embeddings"] = self.model.dropped_token_embeddings()
        real = torch.cat((real, real))
        outputs = self.model(both(input_ids), real, token_type_ids=both(token_type_ids), **kwargs)
        states = outputs.last_hidden_state
        first, second = last_real_state(states, real).chunk(2)
        logits = self.score(self.dropout(first + second))

        task_loss = self._task_loss(logits, labels)
        lm_loss = None
        if self._needs_lm_loss():
            lm_loss = self._lm_loss_of_rows(states, both(input_ids if lm_labels is None else lm_labels), real, matrix)
        return GPT1SequenceClassifierOutput(
            loss=self._combine(task_loss, lm_loss),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            task_loss=task_loss,
            lm_loss=lm_loss,
        )


def swapped_order(input_ids: torch.LongTensor, real: torch.BoolTensor, sep_token_id: int | None) -> torch.LongTensor:
    """
    Which position each position of `start B delimiter A extract` comes from in `start A delimiter B extract`.

    The first delimiter of a row divides it. Padding on either side stays where it is.

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
    if not is_delimiter.any(1).all():
        raise ValueError(
            f"GPT1ForSimilarity needs pairs with a delimiter token (sep_token_id {sep_token_id}) in every row; "
            "encode them as tokenizer(text, text_pair) with a tokenizer of task_format=True"
        )
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
    start = real.int().argmax(1, keepdim=True)
    extract = start + real.sum(1, keepdim=True) - 1
    delimiter = is_delimiter.int().argmax(1, keepdim=True)
    new_delimiter = start + extract - delimiter  # B, as long as from the delimiter to the extract token, comes first
    source = torch.where(positions < new_delimiter, positions + delimiter - start, positions - new_delimiter + start)
    source = torch.where(positions == new_delimiter, delimiter, source)
    moved = (positions > start) & (positions < extract)
    return torch.where(moved, source, positions)


class GPT1ForMultipleChoice(GPT1TaskModel):
    """
    One of several answers: one row `start context delimiter answer extract` a choice, one score a row, a softmax over
    the rows (paper, section 3.3).

    The tokens that all choices of an example begin with (the context) are run once: an example becomes one packed row,
    the common prefix followed by what is each choice's own. Positions restart after the prefix and a token sees the
    prefix and its own choice only, so that logits, losses and gradients are those of separate rows.
    """

    def __init__(self, config: GPT1Config):
        super().__init__(config, 1)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Unpack[GPT1TaskKwargs],
    ) -> GPT1MultipleChoiceOutput:
        r"""
        Args, with `(batch, choices, length)` in place of [`GPT1Model.forward`]'s `(batch, length)`:
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): the right choice.
            lm_labels (`torch.LongTensor` of shape `(batch, choices, length)`, *optional*):
                targets of the auxiliary loss in place of `input_ids`; shifted here, -100 ignored.

        Returns:
            [`GPT1MultipleChoiceOutput`], `logits` of shape `(batch, choices)`; hidden states and attentions, if asked
            for, have `batch * choices` rows.

        Raises:
            ValueError: an input without the dimension of the choices.
        """
        shape = (input_ids if input_ids is not None else inputs_embeds).shape
        if len(shape) != (3 if input_ids is not None else 4):
            raise ValueError(
                f"GPT1ForMultipleChoice takes input_ids of shape (batch, choices, length), got {tuple(shape)}"
            )
        batch, choices = shape[:2]
        real = self._real_tokens(input_ids, attention_mask, inputs_embeds)
        lm_labels = kwargs.pop("lm_labels", None)
        lm_labels = input_ids if lm_labels is None else lm_labels

        kwargs["use_cache"] = False
        matrix = kwargs["token_embeddings"] = self.model.dropped_token_embeddings()
        packed = None
        if position_ids is None and input_ids is not None and self._can_pack(kwargs):
            packed = PackedChoices.pack(input_ids, real, token_type_ids, lm_labels)
        if packed is not None:
            outputs = self._run_packed(packed, **kwargs)
            extract = packed.extract_states(outputs.last_hidden_state)
        else:

            def rows(tensor: torch.Tensor | None) -> torch.Tensor | None:
                return None if tensor is None else tensor.flatten(0, 1)

            outputs = self.model(
                rows(input_ids),
                rows(real),
                rows(position_ids),
                None,
                rows(inputs_embeds),
                rows(token_type_ids),
                **kwargs,
            )
            extract = last_real_state(outputs.last_hidden_state, rows(real)).unflatten(0, (batch, choices))

        # One dropout mask for the choices of an example, as in the original code.
        extract = extract * self.dropout(torch.ones_like(extract[:, :1]))  # (batch, choices, hidden_size)
        logits = self.score(extract).squeeze(-1)
        task_loss = None if labels is None else self._class_loss(logits, labels)
        lm_loss = None
        if lm_labels is not None and self._needs_lm_loss():
            if packed is not None:
                lm_loss = self._lm_loss(*packed.lm_terms(outputs.last_hidden_state, lm_labels), matrix)
            else:
                lm_loss = self._lm_loss_of_rows(outputs.last_hidden_state, rows(lm_labels), rows(real), matrix)
        return GPT1MultipleChoiceOutput(
            loss=self._combine(task_loss, lm_loss),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            task_loss=task_loss,
            lm_loss=lm_loss,
        )

    def _can_pack(self, kwargs: dict) -> bool:
        """Whether packed rows give what separate ones do: not where the caller wants each row's inner states, nor with
        a kernel that takes no mask, nor where what a token sees is not just what came before it in its row."""
        wants_states = any(
            kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")
        )
        return (
            not wants_states
            and "flash" not in self.config._attn_implementation
            and self.config.is_causal
            and self.config.attention_window is None
            and not torch.compiler.is_compiling()
        )

    def _run_packed(self, packed: "PackedChoices", **kwargs) -> BaseModelOutputWithPast:
        segments = packed.segments
        inputs_embeds = self.model._embed(packed.input_ids, kwargs["token_embeddings"])

        def sees(batch_idx, head_idx, q_idx, kv_idx):
            key_segment = segments[batch_idx, kv_idx]
            return (key_segment == 0) | (key_segment == segments[batch_idx, q_idx])

        attention_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=segments >= 0,
            past_key_values=None,
            and_mask_function=sees,
        )
        return self.model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=packed.position_ids,
            token_type_ids=packed.token_type_ids,
            **kwargs,
        )


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
    """

    input_ids: torch.LongTensor
    position_ids: torch.LongTensor
    token_type_ids: torch.LongTensor | None
    segments: torch.LongTensor
    columns: torch.LongTensor
    real: torch.BoolTensor
    shared: torch.BoolTensor

    # Packing pays once it drops this part of the tokens: below, longer rows cost attention what the tokens save.
    WORTHWHILE = 0.25

    @classmethod
    def pack(
        cls,
        input_ids: torch.LongTensor,
        real: torch.BoolTensor,
        token_type_ids: torch.LongTensor | None,
        lm_labels: torch.LongTensor,
    ) -> "PackedChoices | None":
        """Packs inputs of shape `(batch, choices, length)`, padded on either side; None where it does not pay."""
        batch, choices, length = input_ids.shape
        lengths = real.sum(-1)
        # Rank of each token in its row: the prefix is found whatever the side of the padding.
        positions = real.long().cumsum(-1) - 1
        start = real.int().argmax(-1, keepdim=True)
        left = torch.arange(length, device=input_ids.device)
        aligned = (left + start).clamp(max=length - 1)  # (batch, choices, length): the tokens in order of rank
        same = (left < lengths[..., None]).all(1)
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
        )

    def extract_states(self, states: torch.Tensor) -> torch.Tensor:
        """The states `(batch, choices, hidden_size)` at the last token of each choice."""
        last = self.columns.masked_fill(~self.real, -1).amax(-1)
        return states.gather(1, last[..., None].expand(-1, -1, states.shape[-1]))

    def lm_terms(
        self, states: torch.Tensor, lm_labels: torch.LongTensor
    ) -> tuple[torch.Tensor, torch.LongTensor, torch.Tensor]:
        """The terms of L1 over all rows: states, targets and shares, those inside the prefix once for all choices."""
        batch, choices, length = self.columns.shape
        targets = next_token_targets(lm_labels.flatten(0, 1), self.real.flatten(0, 1))
        shares = target_shares(targets, states.dtype).view(batch, choices, length)
        targets = targets.view(batch, choices, length)
        inside = self.shared & F.pad(self.shared[..., 1:], (0, 1))  # both the state and its target
        # A row is found by its own column: padding may put the same token elsewhere in the other choices' rows.
        total = states.new_zeros(batch, states.shape[1] + 1, dtype=shares.dtype)
        total.scatter_add_(1, self.columns.flatten(1), (shares * inside).flatten(1))
        shares = torch.where(inside, total.gather(1, self.columns.flatten(1)).view_as(shares), shares)
        first = torch.arange(choices, device=states.device)[:, None] == 0
        counted = (targets != IGNORED) & (first | ~inside)
        example = torch.arange(batch, device=states.device)[:, None, None].expand_as(counted)
        return states[example[counted], self.columns[counted]], targets[counted], shares[counted]


# transformers' Auto classes, by which a checkpoint's copy of this file is loaded where the package is not installed
AUTO_CLASSES: dict[str, tuple[type[GPT1PreTrainedModel], ...]] = {
    "AutoModel": (GPT1Model,),
    "AutoModelForCausalLM": (GPT1ForCausalLM,),
    "AutoModelForMaskedLM": (GPT1ForMaskedLM,),
    "AutoModelForSequenceClassification": (GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity),
    "AutoModelForMultipleChoice": (GPT1ForMultipleChoice,),
}

__all__ = [
    "AUTO_CLASSES",
    "GPT1PreTrainedModel",
    "GPT1Model",
    "GPT1ForCausalLM",
    "GPT1ForMaskedLM",
    "GPT1ForSequenceClassification",
    "GPT1ForEntailment",
    "GPT1ForSimilarity",
    "GPT1ForMultipleChoice",
    "convert_openai_gpt_state_dict",
]
