"""
Dropout and attention with dropout: in plain operations, and for the CPU masks in a fifth of the time of PyTorch's and
attention that never holds all weights. Elsewhere, and where a graph is compiled, PyTorch's own kernels are fast.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .losses_gpt1 import upcast


def dropout_mask(
    shape: torch.Size, p: float, dtype: torch.dtype, generator: torch.Generator | None = None
) -> torch.Tensor:
    """
    On CPU, 0 with probability `p`, to the nearest 1 / 65,536, and 1 elsewhere: 16 random bits per element, drawn four
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
        if not self.training:
            return x
        if self.p in (0, 1) or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return x * dropout_mask(x.shape, self.p, x.dtype).mul_(1 / (1 - self.p))


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K^T * scaling + mask) V, with the weights: the attention that the fused kernels are held against."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling  # (batch, heads, queries, keys)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, masked_score(scores.dtype))
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(upcast(scores), dim=-1).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2), weights  # (batch, queries, heads, head_dim)


def masked_score(dtype: torch.dtype) -> float:
    """Added to a score, it leaves no weight; finite, so that a row of padding, which sees nothing, is no NaN."""
    return torch.finfo(dtype).min / 2


class AttentionWithDropout(torch.autograd.Function):
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
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        scaling: float,
        dropout: float,
        causal: bool,
    ) -> torch.Tensor:
        ctx.seed = int(torch.randint(2**62, ()))
        ctx.options = scaling, dropout, causal
        # what is small is scaled, not the weights; contiguous, a block needs no copy of its own
        query, key, value = (tensor.contiguous() for tensor in (query * scaling, key, value))
        ctx.save_for_backward(query, key, value, bias)
        output = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        with torch.autocast("cpu", enabled=False):
            for batch, rows, keys, weights, mask in AttentionWithDropout._blocks(ctx, query, key, bias):
                output[batch, rows] = (weights.mul_(mask) @ value[batch, :, keys]).transpose(1, 2)
        return output.mul_(1 / (1 - dropout))

    @staticmethod
    def _blocks(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor | None
    ) -> Iterator[tuple[slice, slice, slice, torch.Tensor, torch.Tensor]]:
        """For each block: which examples, queries and keys; its attention weights; the mask of its dropout."""
        _, dropout, causal = ctx.options
        examples, heads, length, _ = query.shape
        generator = torch.Generator().manual_seed(ctx.seed)
        step = min(AttentionWithDropout.QUERIES, length)
        together = max(1, AttentionWithDropout.WEIGHTS // (heads * step * key.shape[2]))
        later = query.new_full((step, step), masked_score(query.dtype)).triu(1) if causal else None
        for first in range(0, examples, together):
            batch = slice(first, first + together)
            for start in range(0, length, step):
                rows = slice(start, start + step)
                keys = slice(0, start + step) if causal else slice(None)
                scores = query[batch, :, rows] @ key[batch, :, keys].transpose(2, 3)  # (batch, heads, rows, keys)
                if bias is not None:
                    scores += bias[batch if len(bias) > 1 else slice(None), :, rows, keys]
                if later is not None:
                    own = scores[..., start:]
                    own += later[: own.shape[2], : own.shape[3]]
                weights = scores.softmax(-1)
                yield batch, rows, keys, weights, dropout_mask(weights.shape, dropout, weights.dtype, generator)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, bias = ctx.saved_tensors
        scaling, dropout, _ = ctx.options
        grad_output = grad_output / (1 - dropout)
        grad_query = torch.empty_like(query)
        grad_key, grad_value = (torch.zeros_like(upcast(tensor)) for tensor in (key, value))
        for batch, rows, keys, weights, mask in AttentionWithDropout._blocks(ctx, query, key, bias):
            gradient = grad_output[batch, rows].transpose(1, 2)
            grad_weights = (gradient @ value[batch, :, keys].transpose(2, 3)).mul_(mask)
            grad_value[batch, :, keys] += mask.mul_(weights).transpose(2, 3) @ gradient
            grad_scores = softmax_backward(grad_weights, weights)
            grad_query[batch, :, rows] = grad_scores @ key[batch, :, keys]
            grad_key[batch, :, keys] += grad_scores.transpose(2, 3) @ query[batch, :, rows]
        return grad_query.mul_(scaling), grad_key.to(key.dtype), grad_value.to(value.dtype), None, None, None, None


def softmax_backward(gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The gradient at the scores of that at `weights`, their softmax: in place of `gradient`."""
    product = gradient.mul_(weights)
    # the sum of many small numbers is what bfloat16 cannot hold
    total = product.sum(-1, keepdim=True, dtype=torch.float32 if product.dtype.itemsize < 4 else None)
    return product.addcmul_(weights, total.to(product.dtype), value=-1)


def attention_with_dropout_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """[`AttentionWithDropout`] as the attention of a layer; without a mask, a causal layer sees what came before."""
    length = query.shape[2]
    bias = attention_mask
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        bias = torch.zeros_like(attention_mask, dtype=query.dtype)
        bias.masked_fill_(~attention_mask, masked_score(query.dtype))
    if bias is not None:
        bias = bias.expand(-1, -1, length, -1)
    causal = bias is None and length > 1 and bool(module.is_causal if is_causal is None else is_causal)
    if causal:  # a static cache has room behind a prompt
        key, value = key[:, :, :length], value[:, :, :length]
    return AttentionWithDropout.apply(query, key, value, bias, scaling, dropout, causal), None


__all__ = [
    "AttentionWithDropout",
    "GPT1Dropout",
    "attention_with_dropout_forward",
    "dropout_mask",
    "eager_attention_forward",
]
