"""
Update rules that transformers does not have: the original's Adam with its schedule, for those who want its very steps,
and Muon, which learns the same from fewer tokens.

References:
1. OpenAI's released code, finetune-transformer-lm, opt.py and train.py.
2. Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024).
3. Liu et al., Muon is Scalable for LLM Training (2025): the factor by which it shares AdamW's learning rate.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from ..processor import compute_dtype
from .run import RunTrainer


class OriginalAdam(torch.optim.Optimizer):
    r"""
    Adam as in the original code. Update `t` (from 1) of a parameter `p` with gradient `g` is

        m = b1 m + (1 - b1) g
        v = b2 v + (1 - b2) g^2
        r = lr sqrt(1 - b2^t) / (1 - b1^t)
        p = p - r (m / (sqrt(v) + eps) + weight_decay p),   the decay on matrices only.

    `torch.optim.AdamW` divides by `sqrt(v / (1 - b2^t)) + eps` and decays by `lr weight_decay p`. So the original's
    `eps` counts `1 / sqrt(1 - b2^t)` times as much (32 times at the first update), and its decay is scaled by the bias
    correction too: to 0.32 of AdamW's at the first update, 0.15 at the twelfth, 0.31 after 100, 0.80 after 1,000.
    Their schedules differ beside: after a warm-up over the part `w` of the updates the original's rate is `1 - x` when
    the part `x` is done, that of transformers `(1 - x) / (1 - w)`, its warm-up rounded up to whole updates. Measured
    over 50 updates of a toy task with the paper's settings, where parameters moved by up to 1.7e-3: AdamW's ended 2 %
    of their way from the original's (median), which is the schedule's part, and up to 9.5e-4 from it in queries and
    keys, whose first gradients are as small as `eps`; without any `eps` the largest distance is 4.0e-5.

    Args:
        params: parameters or groups of them.
        lr (`float`, defaults to 6.25e-5): the highest learning rate.
        betas (`tuple[float, float]`, defaults to `(0.9, 0.999)`): b1 and b2.
        eps (`float`, defaults to 1e-8).
        weight_decay (`float`, defaults to 0.01): never applied to vectors, whatever their group says.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 6.25e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["m"] = torch.zeros_like(parameter)
                    state["v"] = torch.zeros_like(parameter)
                state["step"] += 1
                rate = group["lr"] * math.sqrt(1 - b2 ** state["step"]) / (1 - b1 ** state["step"])
                state["m"].lerp_(parameter.grad, 1 - b1)
                state["v"].mul_(b2).addcmul_(parameter.grad, parameter.grad, value=1 - b2)
                update = state["m"] / (state["v"].sqrt().add_(group["eps"]))
                if parameter.ndim > 1:
                    update.add_(parameter, alpha=group["weight_decay"])
                parameter.sub_(update, alpha=rate)
        return loss


def warmup_linear(done: float, warmup: float) -> float:
    """The original's factor of the learning rate, `done` and `warmup` being parts of all updates."""
    return (done / warmup if done <= warmup and warmup > 0 else 1.0) * (1 - done)


class OriginalTrainer(RunTrainer):
    """
    `Trainer` with [`OriginalAdam`] and [`warmup_linear`]: learning rate, betas, epsilon, weight decay and warm-up (a
    part of the updates, or a number of them) are taken from the arguments. The gradient's norm is clipped by Trainer,
    to `max_grad_norm / (norm + 1e-6)` of itself where the original takes `max_grad_norm / norm`: parameters differ by
    2e-10 for it after 50 updates with the paper's settings.
    """

    def __init__(self, args: Any, **kwargs: Any):
        settings = {
            "lr": args.learning_rate,
            "betas": (args.adam_beta1, args.adam_beta2),
            "eps": args.adam_epsilon,
        }
        super().__init__(args=args, optimizer_cls_and_kwargs=(OriginalAdam, settings), **kwargs)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The original's schedule, from the first update (none done: a rate of 0, if there is a warm-up)."""
        optimizer = self.optimizer if optimizer is None else optimizer
        if self.lr_scheduler is None:
            assert optimizer is not None
            warmup = self.args.warmup_steps
            warmup = warmup / num_training_steps if warmup >= 1 else warmup
            self.lr_scheduler = LambdaLR(
                optimizer,
                lambda done: warmup_linear(done / num_training_steps, warmup),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler


def orthogonalized(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """
    About `U V^T` of each matrix `U S V^T`, by Newton-Schulz iterations (reference 2) in the dtype that they have.

    Args:
        matrices (`torch.FloatTensor` of shape `(number, rows, columns)`).
        coefficients, steps, eps: of an iteration, how many, and the least norm that a matrix is divided by.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class BatchedMuon(torch.optim.Muon):
    """
    `torch.optim.Muon`, with matrices of one shape made orthogonal together, by a fourteenth of the kernels, and in
    float32 where the processor is slow at bfloat16. State and settings are the same.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault((parameter.shape, parameter.device, parameter.dtype), []).append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]  # all have one
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's
        dtype = compute_dtype(torch.bfloat16, parameters[0].device)
        orthogonal = orthogonalized(
            torch.stack(updates).to(dtype), group["ns_coefficients"], group["ns_steps"], group["eps"]
        ).to(updates[0].dtype)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * 0.2 * math.sqrt(max(parameters[0].shape))
        torch._foreach_add_(parameters, orthogonal.unbind(), alpha=-rate)


class MuonAndAdamW(torch.optim.Optimizer):
    """
    Muon (reference 2) for the matrices of the layers, AdamW for embeddings, heads, biases and gains.

    A matrix moves by its momentum made orthogonal, so that all directions are learned alike fast; times
    `0.2 sqrt(max(rows, columns))`, it moves as far as by AdamW (reference 3), and both have one learning rate.

    Args:
        model (`PreTrainedModel`): whose parameters to train.
        lr (`float`): the highest learning rate.
        weight_decay (`float`, defaults to 0.01): on all parameters but biases and gains.
        **adamw: other arguments of `torch.optim.AdamW`.
    """

    def __init__(self, model: PreTrainedModel, lr: float, weight_decay: float = 0.01, **adamw: Any):
        linear = [module for module in model.base_model.modules() if isinstance(module, nn.Linear)]
        matrices = {module.weight: None for module in linear}  # in their order, as sets are not
        others = [parameter for parameter in model.parameters() if parameter not in matrices]
        groups = [
            {"params": [parameter for parameter in others if parameter.ndim > 1], "weight_decay": weight_decay},
            {"params": [parameter for parameter in others if parameter.ndim < 2], "weight_decay": 0.0},
        ]
        self.muon = BatchedMuon(matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(groups, lr, **adamw)
        super().__init__(self.muon.param_groups + self.adamw.param_groups, {})
        self._share()

    def _share(self) -> None:
        """One state and the same groups, so that whatever keeps or changes them sees an ordinary optimizer."""
        self.muon.state = self.adamw.state = self.state
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = self.muon.step(closure)
        self.adamw.step()
        return loss


class MuonTrainer(RunTrainer):
    """`Trainer` that optimizes by [`MuonAndAdamW`] where its arguments say `muon`."""

    def create_optimizer(self, model: PreTrainedModel | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.args.muon:
            _, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = MuonAndAdamW(model or self.model, weight_decay=self.args.weight_decay, **settings)
        return super().create_optimizer(model)


__all__ = ["MuonAndAdamW", "MuonTrainer", "OriginalAdam", "OriginalTrainer", "warmup_linear"]
