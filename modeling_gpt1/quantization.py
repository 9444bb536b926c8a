"""Weights of 8 bits for CPU: a quarter of the memory that a token's computation has to read."""

import warnings

import torch
from torch import nn
from transformers import PreTrainedModel


class Int8Linear(nn.Module):
    """
    A linear layer by torch's dynamically quantized kernels: weights of 8 bits with a scale for each output, states
    rounded to as many bits with one scale for the call, sums in 32 bits.

    Args:
        linear (`nn.Linear`): the layer to take the place of.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()  # (out, in)
        scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny).double() / 127
        with warnings.catch_warnings():  # the kernels have no other way in than this deprecated kind of tensor
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch.quantize_per_channel(weight, scales, torch.zeros(len(scales)).long(), 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack(quantized, bias)

    @property
    def weight(self) -> torch.Tensor:
        """What the layer computes with, `(out, in)` in float32."""
        return torch.ops.quantized.linear_unpack(self.packed)[0].dequantize()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        # one bit less for the states: without VNNI the kernels add pairs of products in 16 bits
        return torch.ops.quantized.linear_dynamic(states, self.packed, reduce_range=True)


def quantize_int8(model: PreTrainedModel) -> PreTrainedModel:
    """
    Puts 8-bit weights into all linear layers of a model on CPU, in place, the output layer's included; the rest
    becomes float32. The model is then for inference alone: it can neither be trained nor saved.

    Raises:
        ValueError: a model that is not on the CPU.
    """
    if model.device.type != "cpu":
        raise ValueError(f"the int8 kernels are the CPU's, the model is on {model.device}: use bfloat16 there")
    model.eval().requires_grad_(False).float()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child))
    return model
