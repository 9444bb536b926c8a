"""
What this processor computes fast, and models in the dtype and layout for it. Nothing of this travels with a
checkpoint; it may use what PyTorch keeps for itself.
"""

import ctypes
import math
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NoReturn, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from .losses_gpt1 import is_plain


Model = TypeVar("Model", bound=PreTrainedModel)
InferenceDtype = Literal["auto", "float32", "bfloat16", "int8"]


@cache
def has_fast_bfloat16() -> bool:
    """
    Whether a matrix product of bfloat16 takes this CPU less time than one of float32. Without instructions for it
    (AVX2 alone) it takes seven times as much. Measured, once, in some 20 milliseconds.
    """
    seconds = {}
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for dtype in (torch.float32, torch.bfloat16):
            states, weight = torch.ones(128, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype)
            seconds[dtype] = min(_seconds_of(partial(torch.matmul, states, weight)) for _ in range(6))
    return seconds[torch.bfloat16] < seconds[torch.float32]


def _seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@cache
def has_packed_layout(dtype: torch.dtype) -> bool:
    """Whether oneDNN has a layout of its own for weights of this kind here: asked with a small one."""
    mkldnn = torch.backends.mkldnn
    if not (mkldnn.is_available() and mkldnn.enabled and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return False
    try:
        _packed(torch.ones(32, 32, dtype=dtype), None)
    except RuntimeError:  # bfloat16 without AVX512
        return False
    return True


def compute_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype to compute in for weights of `dtype`: on a CPU that is slow at 16 bits, float32, which holds them."""
    if device.type != "cpu" or dtype.itemsize != 2 or (dtype == torch.bfloat16 and has_fast_bfloat16()):
        return dtype
    return torch.float32


def device_for(dtype: InferenceDtype = "auto") -> str:
    """The GPU if there is one, but for the CPU's int8."""
    return "cuda" if torch.cuda.is_available() and dtype != "int8" else "cpu"


def reuse_freed_memory() -> None:
    """
    Keeps what this process frees, where its C library is glibc (nothing is changed elsewhere). A training step frees
    what the next one needs again, in blocks so large that glibc has each mapped, and cleared, anew.
    """
    m_trim_threshold, m_mmap_max = -1, -4  # glibc's `malloc.h`
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)  # never


def _linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The product as PyTorch has it; of bfloat16 by its own kernel, whose single row is faster than oneDNN's."""
    if states.dtype != torch.bfloat16:
        return F.linear(states, weight, bias)
    torch._C._set_mkldnn_enabled(False)  # `torch.backends.mkldnn.flags` takes a tenth of the product's time
    try:
        return F.linear(states, weight, bias)
    finally:
        torch._C._set_mkldnn_enabled(True)


def _packed_linear(states: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")


def _packed(weight: torch.Tensor, rows: int | None) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


# How a weight may lie for the product with a single row, and that product
ONE_ROW_LAYOUTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[..., torch.Tensor]]] = {
    "plain": (lambda weight: weight, _linear),
    "transposed": (lambda weight: weight.t().contiguous().t(), _linear),
    "packed": (lambda weight: _packed(weight, None), _packed_linear),
}

MORE_THAN_CACHED = 2**26  # bytes


def _multiply_each(multiply: Callable[..., torch.Tensor], states: torch.Tensor, laid: list[torch.Tensor]) -> None:
    for weight in laid:
        multiply(states, weight, None)


@cache
def one_row_layout(in_features: int, dtype: torch.dtype) -> str:
    """
    The layout by which this processor multiplies a single row of so many numbers fastest. All read the weight once, in
    some layouts at the memory's speed and in others at half of it, and which is best differs from one processor to the
    next and with the length of the row. Measured in turns, once a length, in some 0.2 seconds, with more weights than
    a cache holds.
    """
    shape = 1024, in_features
    count = -(-MORE_THAN_CACHED // (math.prod(shape) * dtype.itemsize))
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        states, weights = torch.ones(1, in_features, dtype=dtype), torch.ones(count, *shape, dtype=dtype)
        runs = {
            name: partial(_multiply_each, multiply, states, [lay(weight) for weight in weights])
            for name, (lay, multiply) in ONE_ROW_LAYOUTS.items()
        }
        rounds = [{name: _seconds_of(run) for name, run in runs.items()} for _ in range(4)]
    return min(runs, key=lambda name: min(seconds[name] for seconds in rounds))


class PackedLinear(nn.Module):
    """
    A linear layer whose weight lies as oneDNN's kernels read it, in place of the layer's own: 1.2 to 2 times as fast
    for 2 to 100 rows, not slower for many. A single row reads another copy of the weight, which is made for the first
    one, as [`one_row_layout`] has it: generation needs it, and classification hardly ever does.

    Args:
        linear (`nn.Linear`): the layer to take the place of.
    """

    ROWS = 16  # that the layout is made for; on AVX2 and on AVX512 it serves 2 to 1,000 as well as any

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.packed = _packed(linear.weight.detach(), self.ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.one_row: tuple[Callable[..., torch.Tensor], torch.Tensor] | None = None  # the product and the weight

    @property
    def weight(self) -> torch.Tensor:
        """What the layer computes with, `(out, in)`."""
        return self.packed.to_dense()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = states.to(self.packed.dtype)  # another under autocast
        if states.numel() != states.shape[-1] or (self.one_row is None and torch.compiler.is_compiling()):
            return _packed_linear(states, self.packed, self.bias)
        if self.one_row is None:
            with torch.inference_mode(False):  # a tensor for any later call
                weight = self.weight
                lay, multiply = ONE_ROW_LAYOUTS[one_row_layout(weight.shape[1], weight.dtype)]
                self.one_row = multiply, lay(weight)
        multiply, weight = self.one_row
        return multiply(states, weight, self.bias)


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


def optimize_for_inference(model: Model, dtype: InferenceDtype = "auto") -> Model:
    """
    The model, changed in place, in the dtype and layout that its device computes fastest; afterwards it can neither be
    trained nor saved. On CPU the linear layers' weights are laid out anew for oneDNN's kernels.

    Args:
        model (`PreTrainedModel`): any model; layers with hooks or a weight elsewhere stay as they are.
        dtype (`str`, defaults to `"auto"`):
            of the weights. "auto" keeps the results: the model's own, and float32 in place of 16 bits on a CPU that is
            slow at these, which "bfloat16" gives there as well. "int8", for the CPU: 8-bit weights in all linear
            layers, the output layer's included, and float32 for the rest.

    Raises:
        ValueError: another `dtype`, "int8" for a model that is not on the CPU, or a model that is optimized already.
    """
    if dtype not in get_args(InferenceDtype):
        raise ValueError(f"dtype is one of {', '.join(get_args(InferenceDtype))}, not {dtype}")
    if dtype == "int8" and model.device.type != "cpu":
        raise ValueError(f"the int8 kernels are the CPU's, the model is on {model.device}: use bfloat16 there")
    if "save_pretrained" in vars(model):
        raise ValueError("the model is optimized for inference already: load it again for another dtype")
    wanted = {"auto": model.dtype, "int8": torch.float32}.get(dtype) or getattr(torch, dtype)
    wanted = compute_dtype(wanted, model.device)
    model.eval().requires_grad_(False).to(wanted)
    layout = Int8Linear if dtype == "int8" else PackedLinear if has_packed_layout(wanted) else None
    if layout is not None:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if type(child) is nn.Linear and is_plain(child) and child.weight.device.type == "cpu":
                    setattr(module, name, layout(child))
    instead = dict.fromkeys(("save_pretrained", "push_to_hub", "state_dict"), _refuse)
    for name, method in {"train": _eval_only(model.train), **instead}.items():
        setattr(model, name, method)
    return model


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError("a model that is optimized for inference cannot be trained or saved: load it again for that")


def _eval_only(train: Callable[[bool], nn.Module]) -> Callable[..., nn.Module]:
    """A model's `train`, for `eval` alone."""
    return lambda mode=True: _refuse() if mode else train(False)


__all__ = ["compute_dtype", "device_for", "has_fast_bfloat16", "optimize_for_inference"]
