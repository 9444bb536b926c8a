"""Dropout on CPU: its masks, and attention with dropout against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from transformers import StaticCache

from modeling_gpt1 import GPT1ForCausalLM, GPT1ForMaskedLM
from modeling_gpt1.dropout_gpt1 import AttentionWithDropout, GPT1Dropout, dropout_mask


NOTHING = 1e-9  # rounds to no dropout, but takes the way of one


@pytest.fixture(params=[(128, 2**20), (5, 100)], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Blocks larger than the input, and blocks that divide it, the last one smaller."""
    monkeypatch.setattr(AttentionWithDropout, "QUERIES", request.param[0])
    monkeypatch.setattr(AttentionWithDropout, "WEIGHTS", request.param[1])


def heads(*shape: int) -> list[torch.Tensor]:
    return [torch.randn(*shape, dtype=torch.double, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("kind", ["causal", "bias", "none"])
def test_attention_without_dropout_is_pytorchs(blocks, kind):
    inputs = heads(3, 2, 13, 4)
    bias = torch.randn(3, 1, 13, 13).double() if kind == "bias" else None
    got = AttentionWithDropout.apply(*inputs, bias, 0.3, NOTHING, kind == "causal")
    expected = F.scaled_dot_product_attention(*inputs, bias, is_causal=kind == "causal", scale=0.3).transpose(1, 2)
    torch.testing.assert_close(got, expected)
    direction = torch.randn_like(got)
    gradients = (torch.autograd.grad((output * direction).sum(), inputs) for output in (got, expected))
    torch.testing.assert_close(*gradients)


def test_attention_drops_weights(blocks):
    query, key, _ = heads(2, 3, 40, 40)
    weights = (query @ key.transpose(2, 3) / 9).masked_fill(torch.ones(40, 40).triu(1).bool(), -torch.inf).softmax(-1)
    unit = torch.eye(40).double().expand(2, 3, 40, 40)  # as values, they show the weights
    got = AttentionWithDropout.apply(query, key, unit, None, 1 / 9, 0.25, True).transpose(1, 2)
    kept = got != 0
    torch.testing.assert_close(got[kept], (weights / 0.75)[kept])
    seen = weights > 0
    assert abs(kept[seen].double().mean() - 0.75) < 0.03 and not kept[~seen].any()


def test_gradients_of_attention_with_dropout(blocks):
    inputs = heads(2, 2, 11, 3)

    def attend(*inputs):
        torch.manual_seed(0)
        return AttentionWithDropout.apply(*inputs, None, 0.5, 0.3, True)

    assert torch.autograd.gradcheck(attend, inputs)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", [{}, {"attention_window": 4}, {"is_causal": False}], ids=str)
def test_a_training_pass_is_an_evaluation_pass_but_for_what_is_dropped(tiny_config, spread, pad, options, side):
    model_class = GPT1ForMaskedLM if options.get("is_causal") is False else GPT1ForCausalLM
    model = spread(model_class(tiny_config(attention_dropout=NOTHING, **options))).double()
    rows = [torch.randint(1, 90, (length,)).tolist() for length in (12, 5, 9)]
    ids, mask = pad(rows, 14, 99, side)
    real = mask.bool()
    torch.testing.assert_close(model.train()(ids, mask).logits[real], model.eval()(ids, mask).logits[real])
    torch.testing.assert_close(model.train()(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_training_pass_sees_what_the_call_says(tiny_config, spread, is_causal):
    model_class = GPT1ForMaskedLM if is_causal else GPT1ForCausalLM
    model = spread(model_class(tiny_config(attention_dropout=NOTHING))).double()
    ids = torch.randint(1, 90, (2, 12))
    expected = model.eval()(ids, is_causal=is_causal).logits
    torch.testing.assert_close(model.train()(ids, is_causal=is_causal).logits, expected)
    assert not torch.allclose(model.eval()(ids).logits, expected)


def test_a_training_pass_reads_an_empty_static_cache_as_far_as_it_is_filled(tiny_config, spread):
    model = spread(GPT1ForCausalLM(tiny_config(attention_dropout=NOTHING))).double()
    ids = torch.randint(1, 90, (2, 12))
    expected = model.eval()(ids).logits
    cache = StaticCache(config=model.config, max_cache_len=20)
    torch.testing.assert_close(model.train()(ids, past_key_values=cache, use_cache=True).logits, expected)


def test_a_ready_mask_may_be_the_same_for_every_query(blocks, tiny_config, spread):
    model = spread(GPT1ForMaskedLM(tiny_config(attention_dropout=NOTHING))).double()
    ids, mask = torch.randint(1, 90, (2, 13)), torch.rand(2, 1, 1, 13) < 0.7
    mask[..., 0] = True
    torch.testing.assert_close(model.train()(ids, mask).logits, model.eval()(ids, mask).logits)


def test_gradient_checkpointing_drops_the_same(tiny_config):
    kinds = dict.fromkeys(("hidden_dropout", "embedding_dropout", "attention_dropout"), 0.3)
    model = GPT1ForCausalLM(tiny_config(**kinds)).train()
    ids = torch.randint(90, (2, 20))
    gradients = []
    for switch in (model.gradient_checkpointing_disable, model.gradient_checkpointing_enable):
        switch()
        torch.manual_seed(1)
        loss = model(ids, labels=ids).loss
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_part_and_scales_the_rest(dtype, p):
    x = torch.rand(301, 1001, dtype=dtype).add_(1).requires_grad_()
    y = GPT1Dropout(p)(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / (1 - p))
    assert abs((~kept).double().mean().item() - p) < 5 * (p * (1 - p) / x.numel()) ** 0.5
    for axis in (0, 1):  # independent along rows and columns, within four that are drawn together too
        a, b = kept.narrow(axis, 0, 300), kept.narrow(axis, 1, 300)
        together = (a & b).double().mean().item()
        assert abs(together - (1 - p) ** 2) < 5 * ((1 - p) ** 2 / a.numel()) ** 0.5
    y.sum().backward()
    torch.testing.assert_close(x.grad, kept.to(dtype) / torch.tensor(1 - p, dtype=dtype))


def test_dropout_at_its_ends_and_seeded():
    x = torch.randn(50, 3)
    assert torch.equal(GPT1Dropout(0.5).eval()(x), x) and torch.equal(GPT1Dropout(0.0)(x), x)
    assert torch.equal(dropout_mask(x.shape, 1.0, x.dtype), torch.zeros_like(x))
    assert torch.equal(GPT1Dropout(1.0)(x), torch.zeros_like(x))
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(dropout_mask(x.shape, 0.5, x.dtype))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
