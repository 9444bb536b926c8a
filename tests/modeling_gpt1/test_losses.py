"""The language-modeling loss against plain cross-entropy, and logits that are computed only where they are wanted."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from transformers import Trainer, TrainingArguments

from modeling_gpt1 import GPT1ForCausalLM, GPT1ForMaskedLM
from modeling_gpt1.losses_gpt1 import LogitsOnDemand, TokenLoss, loss_and_logits, softmax_loss_, token_loss


def rows_of(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    states = torch.randn(count, 16).to(dtype).requires_grad_()
    weight = torch.randn(150, 16).to(dtype).requires_grad_()
    return states, weight, torch.randint(150, (count,)), torch.rand(count, dtype=torch.float64)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.01), (torch.float16, 2e-3)],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 20, 32, 33, 100, 128, 257])
def test_token_loss_is_a_weighted_cross_entropy(monkeypatch, count, dtype, tolerance):
    """In one block, over one block of 32 and over one chunk; exact but for the dtype's own rounding."""
    monkeypatch.setattr(TokenLoss, "CPU_CHUNK", 128 * dtype.itemsize)
    states, weight, targets, token_weights = rows_of(count, dtype)
    loss = TokenLoss.apply(
        states, weight, targets, token_weights.to(torch.float64 if dtype.itemsize == 8 else torch.float32)
    )
    gradients = torch.autograd.grad(3 * loss, (states, weight))
    exact = [tensor.detach().double().requires_grad_() for tensor in (states, weight)]
    expected = (F.cross_entropy(exact[0] @ exact[1].T, targets, reduction="none") * token_weights).sum()
    assert abs(loss - expected) < tolerance * expected
    for got, want in zip(gradients, torch.autograd.grad(3 * expected, exact), strict=True):
        assert got.dtype == dtype
        assert (got - want).norm() < tolerance * want.norm()


@pytest.mark.parametrize("shape", [(30,), (3, 10)])
def test_rows_that_do_not_count_change_nothing(shape):
    """As accelerators compute them, with no weight, rather than leave them out."""
    states, weight, targets, token_weights = rows_of(30, torch.double)
    targets[::3] = -100
    arguments = states.view(*shape, 16), weight, targets.view(shape), token_weights.view(shape)
    losses = [token_loss(*arguments, select=select) for select in (True, False)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, (states, weight)) for loss in losses]
    torch.testing.assert_close(*gradients)
    assert not gradients[1][0][::3].any()


def test_token_loss_without_targets_is_zero():
    states, weight, targets, token_weights = rows_of(0, torch.double)
    loss = TokenLoss.apply(states, weight, targets, token_weights)
    assert loss == 0
    for gradient, tensor in zip(torch.autograd.grad(loss, (states, weight)), (states, weight), strict=True):
        assert torch.equal(gradient, torch.zeros_like(tensor))


def test_token_loss_gives_its_gradients_more_than_once():
    states, weight, targets, token_weights = rows_of(40, torch.double)
    loss = TokenLoss.apply(states, weight, targets, token_weights)
    first = torch.autograd.grad(loss, (states, weight), retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    torch.testing.assert_close(torch.autograd.grad(2 * loss, (states, weight)), tuple(2 * g for g in kept))
    torch.testing.assert_close(list(first), kept)


def test_token_loss_under_autocast_is_close():
    states, weight, targets, token_weights = rows_of(600, torch.float32)
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = TokenLoss.apply(states, weight, targets, token_weights.float())
        results.append((loss, *torch.autograd.grad(loss, (states, weight))))
    for exact, autocast in zip(*results, strict=True):
        assert autocast.dtype == torch.float32
        assert (autocast - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1ForMaskedLM])
def test_logits_of_a_training_step_come_when_they_are_asked_for(tiny_config, spread, model_class):
    model = spread(model_class(tiny_config()))
    ids = torch.randint(90, (2, 11))
    calls = []
    model.lm_head.register_forward_hook(lambda *_: calls.append(1))  # which makes the head one that is called
    eager = model.eval()(ids, labels=ids)
    model.lm_head._forward_hooks.clear()
    ways = {
        "attribute": lambda output: output.logits,
        "key": lambda output: output["logits"],
        "get": lambda output: output.get("logits"),
        "index": lambda output: output[1],
        "slice": lambda output: output[:2][1],
        "tuple": lambda output: output.to_tuple()[1],
        "dict": lambda output: dict(output)["logits"],
        "items rebuilt": lambda output: type(output)(dict(output.items())).logits,
    }
    for way, ask in ways.items():
        training = model.train()(ids, labels=ids)
        torch.testing.assert_close(training.loss, eager.loss)
        assert training["loss"] is training.loss is training[0] is training.get("loss"), way
        assert training.get("nothing", 3) == 3
        assert callable(training.__dict__["logits"]), "computed before anybody asked"
        torch.testing.assert_close(ask(training), eager.logits, msg=way)
        if way != "items rebuilt":
            assert training.logits is ask(training) or way == "slice", way
    gradients = (
        torch.autograd.grad(output.logits.sum(), model.model.embed_tokens.weight)[0] for output in (training, eager)
    )
    torch.testing.assert_close(*gradients)
    assert len(calls) == 1


def test_float16_keeps_the_gradients_of_small_weights():
    """`GradScaler` scales the loss against their underflow: what is small before `backward` has to outlive that."""
    states, weight, targets, _ = rows_of(200, torch.float16)
    token_weights = torch.full((200,), 1 / 131_072)
    gradients = torch.autograd.grad(2**16 * TokenLoss.apply(states, weight, targets, token_weights), (states, weight))
    exact = [tensor.detach().double().requires_grad_() for tensor in (states, weight)]
    expected = (F.cross_entropy(exact[0] @ exact[1].T, targets, reduction="none") * token_weights).sum()
    for got, want in zip(gradients, torch.autograd.grad(2**16 * expected, exact), strict=True):
        assert (got - want).norm() < 2e-3 * want.norm()


def test_logits_are_not_those_of_later_weights(tiny_config):
    model = GPT1ForCausalLM(tiny_config()).train()
    ids = torch.randint(90, (2, 11))
    output = model(ids, labels=ids)
    output.loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    with pytest.raises(RuntimeError, match="ask before the optimizer's step, or pass skip_logits=False"):
        _ = output.logits


def test_targets_may_lie_on_another_device():
    """As with a model whose last layers are on a second GPU; the meta device refuses what lies elsewhere, too."""
    head, states = torch.nn.Linear(16, 90).to("meta"), torch.zeros(2, 5, 16, device="meta")
    targets, count = torch.zeros(2, 5).long(), torch.tensor(10)
    loss, _ = loss_and_logits(head, states, targets, count, skip_logits=False)
    assert loss.device.type == "meta"
    # a tied output layer is where the embeddings are, and a hook brings the states there
    loss, _ = loss_and_logits(lambda states: head(states.to("meta")), torch.zeros(2, 5, 16), targets, count, False)
    assert loss.device.type == "meta"


def test_without_gradients_none_is_computed(monkeypatch):
    asked, compute = [], TokenLoss._loss_and_gradients
    monkeypatch.setattr(
        TokenLoss, "_loss_and_gradients", lambda *args: asked.append(args[-2:]) or compute(*args)
    )  # for the states, for the weight
    head, states, targets = torch.nn.Linear(16, 90, bias=False), torch.randn(2, 5, 16), torch.randint(90, (2, 5))
    with torch.no_grad():
        expected, _ = loss_and_logits(head, states, targets, None, skip_logits=False)
        loss, _ = loss_and_logits(head, states, targets, None, skip_logits=True)
    torch.testing.assert_close(loss, expected)
    assert asked == [(False, False)]


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_neither_told_nor_told_from(tiny_config, spread, padding, side):
    model = spread(GPT1ForCausalLM(tiny_config())).double()
    ids = torch.randint(1, 90, (2, 9))
    mask = torch.ones_like(ids)
    mask[:, slice(0, padding) if side == "left" else slice(9 - padding, None)] = 0
    ids[mask == 0] = model.config.pad_token_id
    real = ids[mask.bool()].view(2, -1)
    torch.testing.assert_close(model(ids, mask, labels=ids).loss, model(real, labels=real).loss)


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1ForMaskedLM])
def test_trainer_asks_for_no_logits_while_training(tiny_config, tmp_path, monkeypatch, model_class):
    def refuse(self):
        raise AssertionError("logits were computed in a training step")

    monkeypatch.setattr(LogitsOnDemand, "logits", property(refuse, lambda self, value: None))
    model = model_class(tiny_config())
    before = model.model.embed_tokens.weight.detach().clone()
    ids = torch.randint(90, (8, 12))
    args = TrainingArguments(
        tmp_path, max_steps=2, gradient_accumulation_steps=2, use_cpu=True, report_to="none", save_strategy="no"
    )
    Trainer(model, args, train_dataset=[{"input_ids": row, "labels": row} for row in ids]).train()
    assert not torch.equal(model.model.embed_tokens.weight, before)


def test_a_training_step_asks_an_accelerator_for_no_value(tiny_config, monkeypatch):
    """On the meta device there is none to be had; on a GPU, to ask is to wait for all that was queued."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which knows no such device
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    with torch.device("meta"):
        model = GPT1ForCausalLM(tiny_config()).train()
        ids = torch.zeros(2, 8, dtype=torch.long)
        model(ids, labels=ids).loss.backward()
        states, weight, _, token_weights = rows_of(16, torch.float32)
        token_loss(states.view(2, 8, 16), weight, ids, token_weights.view(2, 8)).backward()
    assert states.grad.shape == states.shape and model.lm_head.weight.grad is not None


def test_the_loss_as_a_gpu_computes_it_is_the_same(monkeypatch):
    """By one compiled function, on rows that are filled up to where its products are fast."""
    monkeypatch.setattr("modeling_gpt1.losses_gpt1.fused_softmax_loss", lambda device, vocab_size: softmax_loss_)
    monkeypatch.setattr(TokenLoss, "CPU_CHUNK", 16 * 8)
    monkeypatch.setattr(TokenLoss, "CPU_ALIGNMENT", 64)
    states, weight, targets, token_weights = rows_of(40, torch.double)
    loss = TokenLoss.apply(states, weight, targets, token_weights)
    expected = (F.cross_entropy(states @ weight.T, targets, reduction="none") * token_weights).sum()
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (states, weight))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (states, weight)))
