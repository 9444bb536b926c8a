"""The model as this processor computes it fastest: the same results, for inference alone, on any processor."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM, GPT1ForSequenceClassification, optimize_for_inference
from modeling_gpt1.processor import (
    ONE_ROW_LAYOUTS,
    Int8Linear,
    PackedLinear,
    compute_dtype,
    has_fast_bfloat16,
    has_packed_layout,
    one_row_layout,
)


# what an x86 processor with AVX2 alone can do, for PyTorch's own kernels, oneDNN's and MKL's
AVX2_ALONE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
TOLERANCE = {torch.float32: 3e-5, torch.bfloat16: 0.1}


@pytest.fixture
def build():
    """Builds the same model at each call, in a dtype."""

    def build(dtype: torch.dtype = torch.float32) -> GPT1ForCausalLM:
        torch.manual_seed(0)
        return GPT1ForCausalLM(GPT1Config(num_hidden_layers=2, vocab_size=1000)).eval().to(dtype)

    return build


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16, torch.float16])
def test_optimized_logits_are_the_same(build, saved, dtype, rows):
    ids = torch.randint(1000, (rows, 12))
    expected = build(saved).float()(ids).logits
    model = optimize_for_inference(build(saved), dtype)
    wanted = saved if dtype == "auto" else getattr(torch, dtype)
    assert model.dtype == compute_dtype(wanted, torch.device("cpu"))
    with torch.inference_mode():
        logits = model(ids).logits.float()
        torch.testing.assert_close(logits, expected, atol=TOLERANCE[model.dtype], rtol=0)
        # token by token, as generation computes them
        cached = model(ids[:, :8], use_cache=True).past_key_values
        steps = [model(ids[:, [i]], past_key_values=cached, use_cache=True).logits.float() for i in range(8, 12)]
    torch.testing.assert_close(torch.cat(steps, 1), expected[:, 8:], atol=TOLERANCE[model.dtype], rtol=0)
    assert model.generate(ids, do_sample=False, min_new_tokens=12, max_new_tokens=12).shape == (rows, 24)


@pytest.mark.parametrize("layout", ONE_ROW_LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_single_row_has_one_product_in_every_layout(dtype, layout):
    if not has_packed_layout(dtype):
        pytest.skip(f"oneDNN has no layout for {dtype} on this processor")
    assert one_row_layout(48, dtype) in ONE_ROW_LAYOUTS
    states, weight, bias = torch.randn(1, 1, 48), torch.randn(80, 48), torch.randn(80)
    lay, multiply = ONE_ROW_LAYOUTS[layout]
    with torch.inference_mode():
        product = multiply(states.to(dtype), lay(weight.to(dtype)), bias.to(dtype)).float()
    expected = torch.nn.functional.linear(states.double(), weight.double(), bias.double())
    assert (product - expected).norm() < (0.02 if dtype == torch.bfloat16 else 1e-5) * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_layout_replaces_every_linear_layer_and_keeps_its_weight(build, dtype):
    if not has_packed_layout(dtype):
        pytest.skip(f"oneDNN has no layout for {dtype} on this processor")
    plain, model = build(dtype), optimize_for_inference(build(dtype), str(dtype).removeprefix("torch."))
    packed = {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
    assert packed.keys() == {name for name, module in plain.named_modules() if type(module) is torch.nn.Linear}
    for name, module in packed.items():
        assert torch.equal(module.weight, plain.get_submodule(name).weight)


def test_8_bit_weights_give_close_logits(build):
    ids = torch.randint(1000, (3, 40))
    full_width = build()
    with torch.inference_mode():
        exact = full_width(ids, labels=ids)
        weight = full_width.lm_head.weight.clone()
        model = optimize_for_inference(full_width, "int8")
        got = model(ids, labels=ids)
    assert 0 < (got.logits - exact.logits).std() < 0.03 * exact.logits.std()
    torch.testing.assert_close(got.loss, exact.loss, atol=0.01, rtol=0)
    torch.testing.assert_close(model.lm_head.weight, weight, atol=weight.abs().max().item() / 250, rtol=0)
    assert all(isinstance(module, Int8Linear) for name, module in model.named_modules() if name.endswith("_proj"))
    assert model.generate(ids[:1], do_sample=False, max_new_tokens=3).shape == (1, 43)


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_an_optimized_model_is_neither_trained_nor_saved(build, tmp_path, dtype):
    model = optimize_for_inference(build(), dtype)
    for refused in (
        model.train,
        model.state_dict,
        lambda: model.save_pretrained(tmp_path / "model"),
        lambda: model.push_to_hub("someone/model"),
    ):
        with pytest.raises(ValueError, match="cannot be trained or saved"):
            refused()
    assert not list(tmp_path.iterdir())
    assert not model.eval().training and not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match="optimized for inference already"):
        optimize_for_inference(model)


def test_what_cannot_be_is_refused(build):
    with pytest.raises(ValueError, match="auto, float32, bfloat16, int8, not float8"):
        optimize_for_inference(build(), "float8")
    with torch.device("meta"):
        model = GPT1ForCausalLM(GPT1Config(num_hidden_layers=1))
    with pytest.raises(ValueError, match="int8 kernels are the CPU's, the model is on meta"):
        optimize_for_inference(model, "int8")


def test_a_layer_with_a_hook_stays_as_it_is(build):
    model = build()
    seen = []
    model.model.layers[1].mlp.up_proj.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    optimize_for_inference(model)(torch.randint(1000, (1, 4)))
    assert seen == [(1, 4, 3072)]


def test_heads_and_double_precision(tiny_config):
    torch.manual_seed(0)
    model = GPT1ForSequenceClassification(tiny_config()).eval().double()
    ids = torch.randint(1, 10, (2, 6))
    expected = model(ids).logits
    assert torch.equal(optimize_for_inference(model)(ids).logits, expected)
    assert model.dtype == torch.float64


def test_the_processor_is_asked_once():
    has_fast_bfloat16.cache_clear()
    first = has_fast_bfloat16()
    assert has_fast_bfloat16() is first and has_fast_bfloat16.cache_info().misses == 1
    assert compute_dtype(torch.bfloat16, torch.device("cuda")) == torch.bfloat16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
def test_memory_that_was_freed_is_used_again():
    """
    In a process of its own, which keeps to it; a tensor of 64 MiB, whose pages are mapped at first touch. Those before
    what is counted: the block that is found again may be the second, where something small lies after the first.
    """
    count = """
import resource, torch
from modeling_gpt1.processor import reuse_freed_memory
def faults():
    for _ in range(4):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
mapped_anew = faults()
reuse_freed_memory()
print(mapped_anew, faults())
"""
    done = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    mapped_anew, used_again = map(int, done.stdout.split())
    assert mapped_anew > 100 and used_again < mapped_anew / 10


def test_all_of_it_without_bfloat16_instructions():
    """This file, and Muon's steps, on what a processor with AVX2 alone has."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        pytest.skip("this processor has nothing to be masked")
    check = "from modeling_gpt1.processor import has_fast_bfloat16; assert not has_fast_bfloat16()"
    environment = os.environ | AVX2_ALONE
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    files = [__file__, str(Path(__file__).with_name("test_optimization.py"))]
    chosen = "optimized or layout or 8_bit or double or muons or matrices"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
