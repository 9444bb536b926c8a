"""
The language-modeling losses: L1 (paper, equation 1) without ever holding all logits, the targets of a row and their
weights; and the models' outputs, with logits that are computed only when somebody asks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
)
from transformers.models.openai.modeling_openai import OpenAIGPTDoubleHeadsModelOutput
from transformers.utils import ModelOutput, logging


logger = logging.get_logger(__name__)

IGNORED = -100  # a label that no loss counts


def upcast(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 as float32, the precision that losses are computed in; others as they are."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def softmax_loss_(logits: torch.Tensor, targets: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
    """
    sum_i token_weights_i * -log softmax(logits_i)[targets_i]; in place of the logits, its gradient there:
    token_weights * (softmax - onehot).

    Args:
        logits (`torch.FloatTensor` of shape `(rows, vocab_size)`).
        targets (`torch.LongTensor` of shape `(rows, 1)`), token_weights (`torch.FloatTensor` of shape `(rows, 1)`).
    """
    wide = upcast(logits)
    log_probabilities = wide - wide.logsumexp(1, keepdim=True)
    loss = -(log_probabilities.gather(1, targets) * token_weights).sum()
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets
    logits.copy_(token_weights * (log_probabilities.exp() - is_target.to(wide.dtype)))
    return loss


@cache
def fused_softmax_loss(device: torch.device, vocab_size: int) -> Callable[..., torch.Tensor] | None:
    """
    [`softmax_loss_`] as compiled for a GPU, which reads the logits twice and writes them once, where a chain of
    operations passes over them in float32 some ten times. None where there is no compiler for it.
    """
    if device.type != "cuda":
        return None
    compiled = torch.compile(softmax_loss_)
    try:
        one = torch.ones((1, 1), device=device)
        compiled(torch.zeros((1, vocab_size), device=device), one.long(), one)
    except RuntimeError as error:  # Triton, or the C compiler that it calls, is missing
        logger.warning("the loss runs without its fused kernel: %s", str(error).strip().partition("\n")[0])
        return None
    return compiled


class TokenLoss(torch.autograd.Function):
    """
    sum_i token_weights_i * -log softmax(states_i W^T)[targets_i], without ever holding all logits.

    A chunk of rows at a time, its logits become the loss and, in place, the gradient of the loss; both gradients are
    thus ready at the end of the forward pass, and memory is one chunk of logits whatever the number of rows. The
    products run in the compute dtype (autocast's, where it is on), the softmax at least in float32. A backward pass
    hands the gradients over, since a copy of one as large as the vocabulary costs; where the graph is retained, the
    next one computes them anew.

    Args of `apply`:
        states (`torch.FloatTensor` of shape `(targets, hidden_size)`).
        weight (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`): the output embedding.
        targets (`torch.LongTensor` of shape `(targets,)`).
        token_weights (`torch.FloatTensor` of shape `(targets,)`): the weight of each target in the sum.
    """

    CHUNK = 4096  # rows of a matrix product: 330 MB of bfloat16 logits at 40,338 entries
    CPU_CHUNK = 2048  # bytes of a column, 512 rows of float32 or 1,024 of bfloat16: new memory costs CPUs time
    ALIGNMENT = 64  # entries: a product whose rows begin off these takes a GPU 2.5 times as long
    CPU_ALIGNMENT = 1
    CPU_BLOCK = 8  # rows of a softmax on CPU: 1.3 MB of float32, in the cache from one operation to the next

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, token_weights: torch.Tensor
    ) -> torch.Tensor:
        # Gradients are of weights up to 1 until `backward`: float16 has no room for those of a 16,384th, and what a
        # loss is scaled by against that comes to them there only.
        ctx.largest = F.pad(token_weights, (0, 1)).amax().clamp(min=torch.finfo(token_weights.dtype).tiny)
        token_weights = token_weights / ctx.largest
        device = states.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        ctx.dtypes = states.dtype, weight.dtype
        ctx.save_for_backward(states, weight, targets, token_weights)
        loss, *ctx.gradients = TokenLoss._loss_and_gradients(
            states, weight, targets, token_weights, ctx.dtype, *ctx.needs_input_grad[:2]
        )
        return loss * ctx.largest

    @staticmethod
    def _loss_and_gradients(
        states: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        token_weights: torch.Tensor,
        dtype: torch.dtype,
        needs_states: bool,
        needs_weight: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """The loss and its gradients at states and weight, with products in `dtype`."""
        device = states.device.type
        vocab_size, alignment = len(weight), TokenLoss.CPU_ALIGNMENT if device == "cpu" else TokenLoss.ALIGNMENT
        compute_states, compute_weight = states.to(dtype), weight.to(dtype)
        if vocab_size % alignment:  # rows of zeros, which leave zeros beside the logits and their gradient
            compute_weight = F.pad(compute_weight, (0, 0, 0, -vocab_size % alignment))
        grad_states = torch.empty_like(compute_states) if needs_states else None
        empty = torch.empty_like if len(states) else torch.zeros_like
        product = empty(compute_weight) if needs_weight else None
        grad_weight = product
        if device == "cpu":
            size, block, some = TokenLoss.CPU_CHUNK // dtype.itemsize, TokenLoss.CPU_BLOCK, 512
        else:
            size, block, some = TokenLoss.CHUNK, TokenLoss.CHUNK, len(compute_weight)
        if needs_weight and len(states) > size and dtype.itemsize < 4:  # too few digits to add chunks up in
            grad_weight = torch.zeros_like(compute_weight, dtype=torch.float32)
        fused = fused_softmax_loss(states.device, vocab_size)
        # One for all chunks: large new tensors cost CPUs more than the work in them, the page faults.
        buffer = compute_states.new_empty(min(size, len(states)), len(compute_weight))
        scratch = upcast(buffer[:0]).new_empty(0 if fused else min(block, len(states)), vocab_size)
        loss = token_weights.new_zeros(())
        with torch.autocast(device, enabled=False):
            for start in range(0, len(states), size):
                rows = slice(start, start + size)
                chunk = compute_states[rows]
                logits = buffer[: len(chunk)]  # (rows, vocab_size, or a little more)
                # A CPU is twice as fast at this product (bfloat16) by some columns at a time.
                for columns, part in zip(logits.split(some, dim=1), compute_weight.split(some), strict=True):
                    torch.mm(chunk, part.T, out=columns)
                rows_of = logits[:, :vocab_size], targets[rows, None], token_weights[rows, None]
                pieces = (tensor.split(block) for tensor in rows_of)
                for piece, target, token_weight in zip(*pieces, strict=True):
                    if fused:
                        loss += fused(piece, target, token_weight)
                        continue
                    wide = piece if piece.dtype == scratch.dtype else scratch[: len(piece)].copy_(piece)
                    at_target, highest = wide.gather(1, target), wide.amax(1, keepdim=True)
                    total = wide.sub_(highest).exp_().sum(1, keepdim=True)
                    loss += ((highest - at_target + total.log()) * token_weight).sum()
                    if needs_states or needs_weight:
                        # d loss / d logits = token_weight * (softmax - onehot)
                        wide.mul_(token_weight / total).scatter_add_(1, target, -token_weight.to(wide.dtype))
                        if wide is not piece:
                            piece.copy_(wide)
                if grad_states is not None:
                    torch.mm(logits, compute_weight, out=grad_states[rows])
                if product is not None:
                    product.addmm_(logits.T, chunk, beta=float(grad_weight is product and start > 0))
                    if grad_weight is not None and grad_weight is not product:
                        for whole, part in zip(grad_weight.split(some), product.split(some), strict=True):
                            whole += upcast(part)
        return loss, grad_states, None if grad_weight is None else grad_weight[:vocab_size]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            states, weight, targets, token_weights = ctx.saved_tensors
            _, *gradients = TokenLoss._loss_and_gradients(
                states, weight, targets, token_weights, ctx.dtype, *ctx.needs_input_grad[:2]
            )
        scale = grad_loss * ctx.largest
        of_dtypes = zip(gradients, ctx.dtypes, strict=True)
        scaled = (None if gradient is None else gradient.to(dtype).mul_(scale) for gradient, dtype in of_dtypes)
        return *scaled, None, None


def is_plain(module: nn.Linear | nn.Embedding) -> bool:
    """
    Whether a module does nothing but use its own parameters, so that these may be read in place of a call: no adapter
    or quantized layer in its place, no hook or replaced `forward`, and the weight not elsewhere: on the meta device
    (offloaded), partitioned (ZeRO-3) or a sharded or quantized tensor.
    """
    kind = type(module)
    if kind not in (nn.Linear, nn.Embedding) or "forward" in vars(module):
        return False
    if module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks:
        return False
    if kind is nn.Linear:
        shape = (module.out_features, module.in_features)
    elif module.max_norm is None:
        shape = (module.num_embeddings, module.embedding_dim)
    else:
        return False
    weight = module.weight
    return type(weight) is nn.Parameter and tuple(weight.shape) == shape and not weight.is_meta


def embedding_matrix(embed_tokens: nn.Embedding, vocab_size: int, device: torch.device) -> torch.Tensor:
    """The token embeddings `(vocab_size, hidden_size)` as the module gives them, whatever has been put around it."""
    if is_plain(embed_tokens):
        return embed_tokens.weight
    return embed_tokens(torch.arange(vocab_size, device=device)[None])[0]  # one row, as hooks know embeddings


def token_loss(
    states: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    token_weights: torch.Tensor,
    select: bool | None = None,
) -> torch.Tensor:
    """
    The weighted sum of the cross-entropies at the targets that are not -100.

    Args:
        states (`torch.FloatTensor` of shape `(..., hidden_size)`).
        weight (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`): the output embedding.
        targets (`torch.LongTensor` of shape `(...)`): the token that each state predicts, or -100.
        token_weights (`torch.FloatTensor` of shape `(...)` or `()`): the weight of each target, or of all.
        select (`bool`, *optional*):
            whether to compute the counted rows alone. By default on CPU only: to find them, an accelerator stops its
            queue of kernels, for which few rows are too low a price.
    """
    token_weights, weight = token_weights.expand(targets.shape), weight.to(states.device)
    if not torch.is_grad_enabled():  # a Function is told of a parameter that it needs a gradient all the same
        weight = weight.detach()
    if torch.compiler.is_compiling():  # which makes one kernel of the softmax, the loss and their gradients
        losses = F.cross_entropy(
            upcast(F.linear(states, weight)).flatten(0, -2), targets.flatten(), reduction="none", ignore_index=IGNORED
        )
        return (losses * token_weights.flatten()).sum()
    counted = targets != IGNORED
    if states.device.type == "cpu" if select is None else select:
        return TokenLoss.apply(states[counted], weight, targets[counted], token_weights[counted])
    token_weights = (token_weights * counted).flatten()
    return TokenLoss.apply(states.flatten(0, -2), weight, targets.clamp(min=0).flatten(), token_weights)


def loss_and_logits(
    head: Callable[[torch.Tensor], torch.Tensor],
    states: torch.Tensor,
    targets: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None,
    skip_logits: bool,
    select: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor | Callable[[], torch.Tensor]]:
    """
    The cross-entropy of a language model's output layer, and its logits.

    Args:
        head: the output layer, from states to logits.
        states (`torch.FloatTensor` of shape `(..., length, hidden_size)`).
        targets (`torch.LongTensor` of shape `(..., length)`): the token that each state predicts, -100 ignored.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*): what divides the sum; the targets' number by default.
        skip_logits (`bool`): whether a plain head's loss is computed without them.
        select (`bool`, *optional*): as in [`token_loss`].

    Returns:
        The loss, and the logits `(..., length, vocab_size)` or, where they were skipped, a function that computes
        them.
    """
    targets = targets.to(states.device)
    if num_items_in_batch is None:
        num_items_in_batch = (targets != IGNORED).sum().clamp(min=1)
    elif isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(states.device)
    can_skip = skip_logits and not torch.compiler.is_compiling()
    if can_skip and isinstance(head, nn.Linear) and is_plain(head) and head.bias is None:
        token_weights = upcast(states.new_ones(())) / num_items_in_batch
        loss = token_loss(states, head.weight, targets, token_weights, select)
        if getattr(head, "_is_fsdp_managed_module", False):  # the whole weight is there during the pass alone
            return loss, head(states)
        weight, version = head.weight, 0 if head.weight.is_inference() else head.weight._version

        def logits_of_this_step() -> torch.Tensor:
            if version != (0 if weight.is_inference() else weight._version):
                raise RuntimeError(
                    "the logits of a training step are computed when they are asked for, and the weights have changed "
                    "since: ask before the optimizer's step, or pass skip_logits=False"
                )
            return head(states)

        return loss, logits_of_this_step
    logits = head(states)
    targets = targets.to(logits.device)  # where a tied output layer is, with the embeddings, of a model on two devices
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(logits.device)
    total = F.cross_entropy(upcast(logits).flatten(0, -2), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    return total / num_items_in_batch, logits


def next_token_targets(
    labels: torch.Tensor, real: torch.Tensor | None = None, pad_token_id: int | None = None
) -> torch.Tensor:
    """
    What each position of `(rows, length)` has to predict: the next label; -100 at padding, where `real` is 0, and
    where the next label is padding's own `pad_token_id`, as in a copy of the input.
    """
    if real is None:
        return F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    padding = real.to(labels.device) == 0
    if pad_token_id is not None:
        labels = labels.masked_fill(padding & (labels == pad_token_id), IGNORED)
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED).masked_fill(padding, IGNORED)


def mean_over_rows(targets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weights `(rows, length)` of a mean over each row's targets and then over the rows that have one."""
    counted = targets != IGNORED
    in_row = counted.sum(-1, keepdim=True).clamp(min=1)
    rows = counted.any(-1).sum().clamp(min=1)
    return upcast(counted.to(dtype)) / (in_row * rows)


def row_terms(
    states: torch.Tensor, labels: torch.Tensor, real: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    The terms of L1 over rows, a mean over each row's targets and then over the rows, as in the original code.

    Args:
        states (`torch.FloatTensor` of shape `(rows, length, hidden_size)`).
        labels (`torch.LongTensor` of shape `(rows, length)`): the rows' tokens, or labels in their place.
        real (`torch.BoolTensor` of shape `(rows, length)`): False at padding.

    Returns:
        The states, the target of each or -100, and the weights of the targets, for [`token_loss`].
    """
    targets = next_token_targets(labels.masked_fill(~real, IGNORED), real).to(states.device)
    return states, targets, mean_over_rows(targets, states.dtype)


@dataclass
class GPT1ModelOutput(BaseModelOutputWithPast):
    """
    Adds to transformers' output:
        token_embeddings (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`):
            with `embedding_dropout_type="matrix"`, while training, the token embeddings of this pass, entries of which
            are dropped: an output layer that is tied to them uses the same.
    """

    last_hidden_state: torch.FloatTensor  # there always is one
    token_embeddings: torch.Tensor | None = None


@dataclass
class GPT1TaskOutput(SequenceClassifierOutput):
    """
    Adds to transformers' output:
        task_loss (`torch.FloatTensor` of shape `()`): the supervised loss L2, when `labels` are given.
        lm_loss (`torch.FloatTensor` of shape `()`): the auxiliary language-modeling loss L1, while training.
    """

    task_loss: torch.Tensor | None = None
    lm_loss: torch.Tensor | None = None


class LogitsOnDemand(ModelOutput):
    """
    An output whose `logits` may be given as a function, called once, when the logits are first asked for: as an
    attribute, by key, by index, by `get`, or in a tuple.

    The function stands among the items until then, so that what rebuilds an output from its items (mixed precision,
    FSDP) carries it along.
    """

    @property
    def logits(self) -> torch.Tensor | None:
        logits = self.__dict__["logits"]
        if callable(logits):
            logits = self["logits"] = logits()
        return logits

    @logits.setter
    def logits(self, value: torch.Tensor | Callable[[], torch.Tensor] | None) -> None:
        self.__dict__["logits"] = value

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, int):
            key = list(self.keys())[key]
        return self.logits if key == "logits" and "logits" in self else super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


class GPT1CausalLMOutput(LogitsOnDemand, CausalLMOutputWithPast):
    """transformers' output; in a training step, the logits are computed only if they are asked for."""


class GPT1DoubleHeadsOutput(LogitsOnDemand, OpenAIGPTDoubleHeadsModelOutput):
    """openai-gpt's output; in a training step, the language model's logits are computed only if they are asked for."""


class GPT1MaskedLMOutput(LogitsOnDemand, MaskedLMOutput):
    """transformers' output; in a training step, the logits are computed only if they are asked for."""


__all__ = [
    "IGNORED",
    "GPT1CausalLMOutput",
    "GPT1DoubleHeadsOutput",
    "GPT1MaskedLMOutput",
    "GPT1ModelOutput",
    "GPT1TaskOutput",
    "TokenLoss",
    "embedding_matrix",
    "is_plain",
    "loss_and_logits",
    "next_token_targets",
    "row_terms",
    "token_loss",
    "upcast",
]
