"""The model, its heads and their losses against the NumPy reference (tests/reference.py), in float64."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast, Trainer, TrainingArguments

from modeling_gpt1 import (
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
)


pytestmark = pytest.mark.usefixtures("one_thread")

START, DELIMITER, EXTRACT, PAD = 96, 97, 98, 99  # the last four of the tiny vocabulary
OPTIONS = {
    "paper": {},
    "pre-norm": {"norm_position": "pre"},
    "sinusoidal": {"position_embedding_type": "sinusoidal"},
    "window": {"attention_window": 3},
    "all three": {"norm_position": "pre", "position_embedding_type": "sinusoidal", "attention_window": 4},
}
OPTION_NAMES = (
    "position_embedding_type",
    "is_causal",
    "attention_window",
    "layer_norm_eps",
    "num_attention_heads",
    "norm_position",
    "lm_loss_weighting",
    "lm_coef",
)


def words(count: int) -> list[int]:
    return torch.randint(1, 90, (count,)).tolist()


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def options(model: nn.Module) -> dict:
    return {name: getattr(model.config, name) for name in OPTION_NAMES}


@pytest.fixture
def build(tiny_config, spread):
    def of(model_class, **kwargs):
        return spread(model_class(tiny_config(num_hidden_layers=2, **kwargs))).double().train()

    return of


@pytest.fixture
def padded(pad):
    """Rows of token ids as our models take them, padded to 24."""

    def batch(rows: list[list[int]], side: str = "right") -> dict[str, torch.Tensor]:
        return dict(zip(("input_ids", "attention_mask"), pad(rows, 24, PAD, side), strict=True))

    return batch


class Task:
    """A head's batch of three examples, and the same losses by the reference."""

    def __init__(self, reference, head, pad_rows, side="right", segments=False, **target):
        self.reference, self.head, self.target = reference, head, target
        self.segments = segments
        pairs = [(words(n), words(m)) for n, m in ((3, 7), (0, 4), (9, 1))]
        if head is GPT1ForSequenceClassification:
            self.rows = [[START, *a, *b, EXTRACT] for a, b in pairs]
        elif head is GPT1ForMultipleChoice:
            self.rows = [[START, *a, DELIMITER, *words(n), EXTRACT] for a, _ in pairs for n in (1, 4)]
        else:
            self.rows = [[START, *a, DELIMITER, *b, EXTRACT] for a, b in pairs]
        self.swapped = [[START, *b, DELIMITER, *a, EXTRACT] for a, b in pairs]
        self.batch = pad_rows(self.rows, side)
        self.row_segments = [words(len(row)) for row in self.rows] if segments else [None] * len(self.rows)
        if segments:
            self.batch["token_type_ids"] = pad_rows(self.row_segments, side)["input_ids"]
        if head is GPT1ForMultipleChoice:
            self.batch = {name: tensor.unflatten(0, (3, 2)) for name, tensor in self.batch.items()}
        self.labels = target.get("labels", [1, 0, 1])
        self.batch["labels"] = torch.tensor(self.labels)

    def logits(self, p, o) -> np.ndarray:
        r = self.reference
        if self.head is GPT1ForSimilarity:
            return np.stack([r.compare(p, o, *both) for both in zip(self.rows, self.swapped, strict=True)])
        scores = np.stack([r.classify(p, o, *x) for x in zip(self.rows, self.row_segments, strict=True)])
        return scores.reshape(3, 2) if self.head is GPT1ForMultipleChoice else scores

    def task_loss(self, p, o, smoothing=0.0) -> float:
        loss = self.target.get("loss", "cross_entropy")
        extra = (smoothing,) if loss == "cross_entropy" else ()
        of = getattr(self.reference, loss)
        return np.mean([of(z, y, *extra) for z, y in zip(self.logits(p, o), self.labels, strict=True)])

    def lm_loss(self, p, o) -> float:
        rows = self.rows + (self.swapped if self.head is GPT1ForSimilarity else [])
        segments = self.row_segments if self.segments else [None] * len(rows)
        of = self.reference.language_modeling
        return np.mean([of(p, o, row, None, kinds) for row, kinds in zip(rows, segments, strict=True)])

    def loss(self, p, o, smoothing=0.0) -> float:
        return self.reference.combined(self.task_loss(p, o, smoothing), self.lm_loss(p, o), o)


HEADS = [GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity, GPT1ForMultipleChoice]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("option", OPTIONS)
def test_language_model(build, padded, reference, symbols, agree, option, side):
    model = build(GPT1ForCausalLM, **OPTIONS[option])
    p, o = symbols(arrays(model)), options(model)
    rows, kinds = [words(1), words(7), words(24)], [words(1), words(7), words(24)]
    batch = padded(rows, side)
    for segments in (False, True):
        if segments:
            batch["token_type_ids"] = padded(kinds, side)["input_ids"]
        logits = model(**batch).logits
        for index, row in enumerate(rows):
            expected = reference.token_logits(p, o, row, kinds[index] if segments else None)
            agree(f"logits, {option}", logits[index][batch["attention_mask"][index].bool()], expected)
    targets = [rows[2][0], -100, -100, *rows[2][3:]]
    for labels in (rows[2], targets):
        got = model(torch.tensor([rows[2]]), labels=torch.tensor([labels])).loss
        agree(f"L1 of the language model, {option}", got, reference.language_modeling(p, o, rows[2], labels))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """The words w1, w2, ... to the tiny vocabulary's ids, with a mask token."""
    vocabulary = {"[UNK]": 0} | {f"w{index}": index for index in range(1, 98)} | {"[MASK]": 98, "[PAD]": 99}
    words_only = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words_only.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words_only, unk_token="[UNK]", mask_token="[MASK]", pad_token="[PAD]"
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_masked_language_model_through_the_collator(build, tokenizer, reference, symbols, agree, option):
    model = build(GPT1ForMaskedLM, **OPTIONS[option])
    p, o = symbols(arrays(model)), options(model)
    assert o["is_causal"] is False
    texts = [tokenizer(" ".join(f"w{word}" for word in words(n))) for n in (5, 20, 12)]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.4)(texts)
    rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    targets = [ids[: len(row)].tolist() for ids, row in zip(batch["labels"], rows, strict=True)]
    output = model(**batch)
    for row, got in zip(rows, output.logits, strict=True):
        agree(f"masked LM logits, {option}", got[: len(row)], reference.token_logits(p, o, row))
    agree(f"masked LM loss, {option}", output.loss, reference.masked_modeling(p, o, rows, targets))


def test_masked_language_model_trains_through_trainer(build, tokenizer, tmp_path):
    model = build(GPT1ForMaskedLM)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    texts = [tokenizer(" ".join(f"w{word}" for word in words(12))) for _ in range(8)]
    args = TrainingArguments(tmp_path, max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.4)
    Trainer(model, args, train_dataset=texts, data_collator=collator).train()
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1ForMaskedLM])
def test_trainers_label_smoothing_of_language_models(build, reference, symbols, agree, tmp_path, model_class):
    """Trainer smooths by itself; it has to know that a causal model's labels are shifted."""
    model = build(model_class)
    p, o, row = symbols(arrays(model)), options(model), words(9)
    args = TrainingArguments(tmp_path, label_smoothing_factor=0.2, report_to=[], use_cpu=True)
    ids = torch.tensor([row])
    got = Trainer(model, args).compute_loss(model, {"input_ids": ids, "labels": ids})
    logits = reference.token_logits(p, o, row)
    pairs = zip(logits[:-1], row[1:], strict=True) if o["is_causal"] else zip(logits, row, strict=True)
    expected = np.mean([reference.cross_entropy(z, token, 0.2) for z, token in pairs])
    # Trainer sums in float32
    agree(f"Trainer's label smoothing, {model_class.__name__}", got, expected, 1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("head", HEADS)
def test_heads(build, padded, reference, symbols, agree, head, option, side):
    model = build(head, num_labels=3, **OPTIONS[option])
    p, o = symbols(arrays(model)), options(model)
    task = Task(reference, head, padded, side)
    output = model(**task.batch)
    name = head.__name__
    agree(f"logits, {name}", output.logits, task.logits(p, o))
    agree(f"L2, {name}", output.task_loss, task.task_loss(p, o))
    agree(f"L1 in a task, {name}", output.lm_loss, task.lm_loss(p, o))
    agree(f"L3, {name}", output.loss, task.loss(p, o))
    agree(f"L2, {name}", model.eval()(**task.batch).loss, task.task_loss(p, o))


@pytest.mark.parametrize("head", HEADS)
def test_convex_weighting_and_label_smoothing(build, padded, reference, symbols, agree, head):
    model = build(head, num_labels=3, lm_loss_weighting="convex", lm_coef=0.3, label_smoothing=0.2)
    p, o = symbols(arrays(model)), options(model)
    task = Task(reference, head, padded)
    output = model(**task.batch)
    agree(f"smoothed L2, {head.__name__}", output.task_loss, task.task_loss(p, o, 0.2))
    agree(f"convex L3, {head.__name__}", output.loss, task.loss(p, o, 0.2))
    agree(f"L2, {head.__name__}", model.eval()(**task.batch).loss, task.task_loss(p, o))


@pytest.mark.parametrize("head", [GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForMultipleChoice])
def test_segments_in_the_heads(build, padded, reference, symbols, agree, head):
    model = build(head, num_labels=3)
    p, o = symbols(arrays(model)), options(model)
    task = Task(reference, head, padded, segments=True)
    output = model(**task.batch)
    agree(f"logits with segments, {head.__name__}", output.logits, task.logits(p, o))
    agree(f"L3 with segments, {head.__name__}", output.loss, task.loss(p, o))


@pytest.mark.parametrize("head", [GPT1ForSequenceClassification, GPT1ForSimilarity])
def test_regression_and_several_labels(build, padded, reference, symbols, agree, head):
    model = build(head, num_labels=1, label_smoothing=0.2)  # which is about classes
    task = Task(reference, head, padded, labels=[0.5, -3.25, 2.0], loss="squared_error")
    expected = task.loss(symbols(arrays(model)), options(model))
    agree(f"L3 of a regression, {head.__name__}", model(**task.batch).loss, expected)
    model = build(head, num_labels=3)
    labels = np.array([[1.0, 0, 1], [0, 0, 0], [0, 1, 1]])
    task = Task(reference, head, padded, labels=labels, loss="binary_cross_entropy")
    task.batch["labels"] = torch.tensor(labels)
    expected = task.loss(symbols(arrays(model)), options(model))
    agree(f"L3 of several labels at once, {head.__name__}", model(**task.batch).loss, expected)


def check_gradients(model, loss, of_reference, reference, symbols, agree, name):
    """Each parameter's gradient along one random direction of length 1 against finite differences."""
    loss.backward()
    values = arrays(model)
    generator = np.random.default_rng(0)
    for parameter_name, parameter in model.named_parameters():
        direction = generator.standard_normal(parameter.shape)
        direction /= np.linalg.norm(direction)

        def at(x, parameter_name=parameter_name):
            return of_reference(symbols(values | {parameter_name: x}))

        expected = reference.directional_derivative(at, values[parameter_name], direction)
        agree(f"gradients, {name}", (parameter.grad.numpy() * direction).sum(), expected)


@pytest.mark.parametrize("option", OPTIONS)
def test_gradients_of_the_language_model(build, reference, symbols, agree, option):
    model = build(GPT1ForCausalLM, **OPTIONS[option])
    o, row = options(model), words(9)
    loss = model(torch.tensor([row]), labels=torch.tensor([row])).loss
    check_gradients(
        model, loss, lambda p: reference.language_modeling(p, o, row), reference, symbols, agree, f"L1, {option}"
    )


def test_gradients_of_the_masked_language_model(build, reference, symbols, agree):
    model = build(GPT1ForMaskedLM)
    o, row, labels = options(model), words(9), [-100, 5, -100, -100, 7, 8, -100, -100, 9]
    loss = model(torch.tensor([row]), labels=torch.tensor([labels])).loss
    expected = lambda p: reference.masked_modeling(p, o, [row], [labels])  # noqa: E731
    check_gradients(model, loss, expected, reference, symbols, agree, "masked LM")


@pytest.mark.parametrize("head", HEADS)
def test_gradients_of_the_heads(build, padded, reference, symbols, agree, head):
    model = build(head, num_labels=3, label_smoothing=0.1)
    o, task = options(model), Task(reference, head, padded)
    loss = model(**task.batch).loss
    name = f"L3, {head.__name__}"
    check_gradients(model, loss, lambda p: task.loss(p, o, 0.1), reference, symbols, agree, name)


class DropsByShape(nn.Module):
    """Dropout whose mask depends on the tensor's shape only."""

    def mask(self, shape: torch.Size) -> torch.Tensor:
        return torch.bernoulli(torch.full(shape, 0.7), generator=torch.Generator().manual_seed(sum(shape))) / 0.7

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask(x.shape) if self.training else x


@pytest.mark.parametrize("head", [GPT1ForCausalLM, GPT1ForMaskedLM, *HEADS])
def test_matrix_dropout_is_the_model_with_dropped_embeddings(build, padded, reference, symbols, agree, head):
    """Embedding, positions, segments and output layer use the matrices with the same entries dropped."""
    model = build(head, num_labels=3, embedding_dropout_type="matrix")
    model.model.dropout = drops = DropsByShape()
    values = arrays(model)
    for name in ("model.embed_tokens.weight", "model.embed_positions.weight"):
        values[name] = values[name] * drops.mask(values[name].shape).numpy()
    p, o = symbols(values), options(model)
    name = f"matrix dropout, {head.__name__}"
    if head in HEADS:
        task = Task(reference, head, padded, segments=head is not GPT1ForSimilarity)
        agree(name, model(**task.batch).loss, task.loss(p, o))
    else:
        row = words(20)
        agree(name, model(torch.tensor([row])).logits[0], reference.token_logits(p, o, row))
        row_p = symbols(arrays(model))
        agree(name, model.eval()(torch.tensor([row])).logits[0], reference.token_logits(row_p, o, row))


def test_matrix_dropout_drops_the_given_part_and_activations_are_the_default(build):
    model = build(GPT1ForCausalLM, vocab_size=2000, embedding_dropout_type="matrix", embedding_dropout=0.1)
    weight = model.model.embed_tokens.weight
    ids = torch.tensor([words(5)])
    dropped = model.model(ids).token_embeddings
    kept = dropped != 0
    assert abs(1 - kept.double().mean().item() - 0.1) < 0.01
    torch.testing.assert_close(dropped[kept], weight[kept] / 0.9)
    assert model.eval().model(ids).token_embeddings is None
    assert build(GPT1ForCausalLM, embedding_dropout=0.1).model(ids).token_embeddings is None


def test_training_without_labels_says_that_the_auxiliary_loss_is_lost(build, padded, reference, caplog, monkeypatch):
    from modeling_gpt1 import modeling_gpt1

    monkeypatch.setattr(modeling_gpt1.logger, "warning_once", modeling_gpt1.logger.warning)
    monkeypatch.setattr(modeling_gpt1.logger, "propagate", True)
    model = build(GPT1ForSequenceClassification, num_labels=3)
    task = Task(reference, GPT1ForSequenceClassification, padded)
    model(**task.batch)
    assert "label_smoothing" not in caplog.text
    labels = task.batch.pop("labels")
    model.eval()(**task.batch)
    assert "label_smoothing" not in caplog.text
    assert model.train()(**task.batch).lm_loss is not None and labels is not None
    assert "set config.label_smoothing" in caplog.text
