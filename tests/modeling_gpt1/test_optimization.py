"""Update rules: `finetune` against the original's Adam in NumPy (tests/reference.py); Muon by its definition."""

import copy
import json

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hub_upload import write_model_card
from modeling_gpt1 import GPT1ForCausalLM, GPT1ForMaskedLM, GPT1ForSequenceClassification
from modeling_gpt1.cli import main
from modeling_gpt1.training.finetune import FinetuningArguments, TaskArguments, finetune
from modeling_gpt1.training.optimization import MuonAndAdamW, OriginalAdam, orthogonalized, warmup_linear
from tokenization import GPT1Tokenizer


pytestmark = pytest.mark.usefixtures("one_thread")

BATCH, BATCHES, EPOCHS = 4, 5, 10  # 50 updates
ROWS = [{"text": f"number {i} is {w}", "label": w} for i in range(BATCH * BATCHES // 2) for w in ("good", "bad")]


@pytest.fixture
def start(tmp_path, tiny_config, small_vocabulary):
    """Writes a checkpoint without dropout, in a precision that a run keeps, and the toy data."""
    files = [small_vocabulary.directory / name for name in ("vocab.json", "merges.txt")]

    def write(dtype: torch.dtype):
        tokenizer = GPT1Tokenizer.from_openai(*files, task_format=True)
        tokenizer.save_pretrained(tmp_path / "start")
        config = tiny_config(vocab_size=len(tokenizer), num_hidden_layers=2, num_labels=2)
        GPT1ForSequenceClassification(config).to(dtype).save_pretrained(tmp_path / "start")
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        return tokenizer

    return write


def run(tmp_path, name, **settings) -> GPT1ForSequenceClassification:
    """`finetune` over the rows in their order; the model at its end."""
    finetune(
        TaskArguments("classification", model=str(tmp_path / "start"), train_file=str(tmp_path / "train.jsonl")),
        FinetuningArguments(
            output_dir=str(tmp_path / name),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        ),
    )
    return GPT1ForSequenceClassification.from_pretrained(tmp_path / name)


def by_the_reference(tmp_path, reference, tokenizer, **settings) -> list[np.ndarray]:
    """The parameters after the same 50 updates in NumPy, float64."""
    model = GPT1ForSequenceClassification.from_pretrained(tmp_path / "start").double().train()
    o = {"learning_rate": 6.25e-5, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "l2": 0.01, "warmup": 0.002}
    o |= {"max_grad_norm": 1.0} | settings
    parameters = list(model.parameters())
    values = [parameter.detach().numpy() for parameter in parameters]  # shares the model's memory
    moments = [(np.zeros_like(value), np.zeros_like(value)) for value in values]
    total = BATCHES * EPOCHS
    for done in range(total):
        rows = ROWS[done % BATCHES * BATCH :][:BATCH]
        batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
        labels = torch.tensor([["bad", "good"].index(row["label"]) for row in rows])
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()
        gradients = [p.grad.numpy() for p in parameters]
        assert done > 0 or sum((g**2).sum() for g in gradients) > 1, "clipping has to show"
        reference.adam(values, gradients, moments, done, total, o)
    return values


@pytest.mark.parametrize(
    "settings, of_reference",
    [
        ({}, {}),
        (
            {"warmup_steps": 7, "weight_decay": 0.1, "learning_rate": 1e-3},
            {"warmup": 0.14, "l2": 0.1, "learning_rate": 1e-3},
        ),
    ],
)
def test_finetune_takes_the_originals_steps(start, tmp_path, reference, agree, settings, of_reference):
    tokenizer = start(torch.float64)
    expected = by_the_reference(tmp_path, reference, tokenizer, **of_reference)
    model = run(tmp_path, "run", original_adam=True, **settings)
    assert model.dtype == torch.float64
    before = GPT1ForSequenceClassification.from_pretrained(tmp_path / "start").score.weight.detach().numpy()
    assert np.abs(before - expected[-2]).max() > 1e-3
    rate = settings.get("learning_rate", 6.25e-5)
    for parameter, value in zip(model.parameters(), expected, strict=True):
        agree(f"original_adam at {rate:g}: parameters after 50 updates, float64", parameter, value, 1e-8)


def test_finetune_takes_the_originals_steps_in_single_precision(start, tmp_path, reference, agree):
    tokenizer = start(torch.float32)
    expected = by_the_reference(tmp_path, reference, tokenizer)
    model = run(tmp_path, "run", original_adam=True)
    # What the gradient does not determine, the keys' biases, follows the rounding of either precision.
    keys = slice(model.config.hidden_size, 2 * model.config.hidden_size)
    for (name, parameter), value in zip(model.named_parameters(), expected, strict=True):
        got = parameter.detach().numpy().astype(float)
        if name.endswith("qkv_proj.bias"):
            got[keys] = value[keys] = 0
        agree("original_adam: parameters after 50 updates, float32", got, value, 1e-6)


@pytest.mark.parametrize("eps, largest", [(1e-8, 9.5e-4), (1e-16, 4.0e-5)])
def test_adamw_is_as_far_from_the_original_as_documented(start, tmp_path, reference, eps, largest):
    tokenizer = start(torch.float64)
    before = [
        p.detach().numpy() for p in GPT1ForSequenceClassification.from_pretrained(tmp_path / "start").parameters()
    ]
    expected = by_the_reference(tmp_path, reference, tokenizer, eps=eps)
    got = [p.detach().numpy() for p in run(tmp_path, "run", optim="adamw_torch", adam_epsilon=eps).parameters()]
    apart, moved = (
        np.concatenate([np.abs(a - b).ravel() for a, b in zip(x, expected, strict=True)]) for x in (got, before)
    )
    assert apart.max() == pytest.approx(largest, rel=0.1)
    assert moved.max() == pytest.approx(1.7e-3, rel=0.1)
    assert np.median(apart[moved > 1e-9] / moved[moved > 1e-9]) == pytest.approx(0.02, abs=0.005)


def test_one_step_by_hand():
    """The first update: m / sqrt(v) is the gradient's sign, the rate lr sqrt(0.001) / 0.1 for v without correction."""
    matrix = torch.nn.Parameter(torch.tensor([[2.0, -3.0]], dtype=torch.float64))
    vector = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = OriginalAdam([matrix, vector], lr=0.1, weight_decay=0.5, eps=0.0)
    matrix.grad, vector.grad = torch.tensor([[0.3, -7.0]]).double(), torch.tensor([1e-5]).double()
    optimizer.step()
    rate = 0.1 * 0.001**0.5 / 0.1
    expected = [[2.0 - 0.1 - rate * 0.5 * 2.0, -3.0 + 0.1 + rate * 0.5 * 3.0]]
    torch.testing.assert_close(matrix.data, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(vector.data, torch.tensor([1.9], dtype=torch.float64))


def test_goes_on_from_a_saved_state():
    torch.manual_seed(0)
    gradients = torch.randn(6, 4, 3, dtype=torch.float64)
    parameters = [torch.nn.Parameter(torch.ones(4, 3, dtype=torch.float64)) for _ in range(2)]
    optimizers = [OriginalAdam([parameter], lr=0.1) for parameter in parameters]
    for index, gradient in enumerate(gradients):
        if index == 3:
            optimizers[1] = OriginalAdam([parameters[1]], lr=9.0)
            optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(*parameters)


def test_schedule(reference):
    for done in (0.0, 0.001, 0.002, 0.0021, 0.5, 1.0):
        assert warmup_linear(done, 0.002) == reference.warmup_linear(done, 0.002)
    assert warmup_linear(0.001, 0.002) == pytest.approx(0.5 * 0.999)
    assert warmup_linear(0.0, 0.0) == 1.0


def test_original_adam_comes_with_its_schedule(tmp_path, capsys):
    flags = ["--original_adam", "--lr_scheduler_type", "cosine", "--output_dir", str(tmp_path / "run")]
    assert main(["finetune", "--task", "sst2", *flags]) == 1
    assert "linear schedule, not with cosine" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_label_smoothing_keeps_the_auxiliary_loss(start, tmp_path, agree):
    """The factor reaches the head; Trainer does not take the labels away, and the auxiliary loss with them."""
    tokenizer = start(torch.float64)
    trained = run(tmp_path, "run", label_smoothing_factor=0.1, learning_rate=0.0)
    assert trained.config.label_smoothing == 0.1
    trained.train()
    losses = []
    for first in range(0, len(ROWS), BATCH):
        rows = ROWS[first : first + BATCH]
        batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
        output = trained(**batch, labels=torch.tensor([["bad", "good"].index(row["label"]) for row in rows]))
        assert output.lm_loss > 1
        losses.append(output.loss.item())
    reported = json.loads((tmp_path / "run" / "all_results.json").read_text())["train_loss"]
    agree("train_loss of a run with label smoothing", np.array(reported), np.mean(losses), 1e-6)


def test_label_smoothing_of_numbers_is_refused(start, tmp_path):
    start(torch.float32)
    rows = "".join(json.dumps({"text": f"number {i}", "label": i / 7}) + "\n" for i in range(8))
    (tmp_path / "train.jsonl").write_text(rows)
    with pytest.raises(ValueError, match="for classes"):
        run(tmp_path, "run", label_smoothing_factor=0.1)
    assert not (tmp_path / "run").exists()


def test_finetune_takes_muons_steps(start, tmp_path):
    """The same 50 updates, to the last bit, by the optimizer alone; the head's matrix is AdamW's."""
    tokenizer = start(torch.float32)
    model = GPT1ForSequenceClassification.from_pretrained(tmp_path / "start").train()
    optimizer = MuonAndAdamW(model, 1e-3, weight_decay=0.01, fused=True)
    muons = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    assert {name for name, p in model.named_parameters() if p.ndim > 1 and id(p) not in muons} == {
        "score.weight",
        *(name for name, _ in model.named_parameters() if "embed" in name),
    }
    total = BATCHES * EPOCHS
    for done in range(total):
        rows = ROWS[done % BATCHES * BATCH :][:BATCH]
        batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
        labels = torch.tensor([["bad", "good"].index(row["label"]) for row in rows])
        model(**batch, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * ((total - done) / total)
        optimizer.step()
        optimizer.zero_grad()
    trained = run(tmp_path, "run", muon=True, learning_rate=1e-3, warmup_steps=0)
    for parameter, value in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.equal(parameter, value)


@pytest.mark.parametrize(
    "settings, optimizer",
    [({}, "adamw_torch_fused"), ({"muon": True}, "Muon"), ({"original_adam": True}, "Adam as in the original")],
)
def test_the_card_names_the_optimizer(start, tmp_path, settings, optimizer):
    start(torch.float32)
    run(tmp_path, "run", max_steps=1, **settings)
    card = write_model_card(tmp_path / "run").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(f"- optimizer: {optimizer}") for line in card)
    assert "- batch size: 4" in card


@pytest.mark.parametrize("more, message", [("--original_adam", "one of them"), ("--optim=adafactor", "--muon False")])
def test_muon_with_another_optimizer_is_refused(tmp_path, capsys, more, message):
    assert main(["finetune", "--task", "sst2", "--muon", more, "--output_dir", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def with_gradients(model, seed: int):
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1ForMaskedLM])
def test_muon_moves_matrices_alike_in_all_directions_and_the_rest_by_adamw(model_class, tiny_config):
    """`0.2 sqrt(max(m, n))` times the gradient made orthogonal, as far as five Newton-Schulz iterations make it."""
    model = model_class(tiny_config(initializer_range=0.5))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    peer = with_gradients(copy.deepcopy(model), seed=1)
    with_gradients(model, seed=1)
    lr, decay = 1e-2, 0.1
    MuonAndAdamW(model, lr, weight_decay=decay).step()
    decayed = [parameter for parameter in peer.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in peer.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr).step()
    by_adamw = dict(peer.named_parameters())
    matrices = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or "embed" in name:
            assert torch.equal(parameter, by_adamw[name]), name
            continue
        matrices += 1
        moved = before[name] * (1 - lr * decay) - parameter.detach()
        direction = moved / (lr * 0.2 * max(parameter.shape) ** 0.5)
        u, values, v = torch.linalg.svd(parameter.grad, full_matrices=False)
        assert torch.all((torch.linalg.svdvals(direction) - 1).abs() < 0.35), name
        assert torch.nn.functional.cosine_similarity((u @ v).flatten(), direction.flatten(), dim=0) > 0.95, name
    assert matrices == 4 * model.config.num_hidden_layers


def test_muon_goes_on_from_a_saved_state(tiny_config):
    model = GPT1ForCausalLM(tiny_config())
    optimizer = MuonAndAdamW(model, 1e-2)
    for seed in range(6):
        if seed == 3:
            other = copy.deepcopy(model)
            resumed = MuonAndAdamW(other, 9.0)
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        with_gradients(model, seed)
        optimizer.step()
        if seed >= 3:
            with_gradients(other, seed)
            resumed.step()
    for parameter, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, same)


@pytest.mark.parametrize("shape", [(3, 5, 8), (2, 8, 5), (1, 6, 6)])
def test_matrices_are_made_orthogonal_together_as_each_alone(shape):
    """Against reference 2's iteration in NumPy, float64; singular values come near 1."""
    a, b, c = coefficients = 3.4445, -4.7750, 2.0315
    matrices = torch.randn(shape, dtype=torch.float64)
    got = orthogonalized(matrices, coefficients, 5, 1e-7).numpy()
    for matrix, result in zip(matrices.numpy(), got, strict=True):
        x = matrix / np.linalg.norm(matrix)
        for _ in range(5):
            x = a * x + b * (x @ x.T @ x) + c * (x @ x.T @ x @ x.T @ x)
        np.testing.assert_allclose(result, x, atol=1e-12)
        values = np.linalg.svd(result, compute_uv=False)
        assert values.min() > 0.3 and values.max() < 1.3


def torchs_muon(model, lr: float) -> torch.optim.Muon:
    matrices = [module.weight for module in model.base_model.modules() if isinstance(module, torch.nn.Linear)]
    return torch.optim.Muon(matrices, lr, 0.01, adjust_lr_fn="match_rms_adamw")


def test_muons_steps_and_state_are_torchs(tiny_config):
    model = GPT1ForCausalLM(tiny_config(num_hidden_layers=2))
    peer, before = copy.deepcopy(model), copy.deepcopy(model)
    ours, theirs = MuonAndAdamW(model, 1e-2).muon, torchs_muon(peer, 1e-2)
    for seed in range(3):
        for optimizer, trained in ((ours, model), (theirs, peer)):
            with_gradients(trained, seed)
            optimizer.step()
    weights = [torchs_muon(each, 0.0).param_groups[0]["params"] for each in (model, peer, before)]
    for parameter, same, start in zip(*weights, strict=True):
        moved = (same - start).norm()
        assert moved > 0 and (parameter - same).norm() < 0.02 * moved  # two digits of bfloat16, or float32 beside it
        for name, value in theirs.state[same].items():
            assert torch.equal(ours.state[parameter][name], value), name
    assert ours.param_groups[0].keys() >= theirs.param_groups[0].keys()


def test_muons_kernels_do_not_grow_with_the_layers(tiny_config):
    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += "aten" in str(function)
            return function(*args, **kwargs or {})

    calls = []
    for layers in (1, 4):
        model = with_gradients(GPT1ForCausalLM(tiny_config(num_hidden_layers=layers)), seed=1)
        optimizer = MuonAndAdamW(model, 1e-2).muon
        optimizer.step()  # makes the state
        with Count() as count:
            optimizer.step()
        calls.append(count.calls)
    assert calls[0] == calls[1]
