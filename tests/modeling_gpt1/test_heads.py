"""The task heads and their losses, against plain loops over single texts."""

import copy
import itertools
import json
import re

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AttentionInterface,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)
from transformers.debug_utils import DebugUnderflowOverflow

from modeling_gpt1 import (
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1Model,
)
from modeling_gpt1.packed_choices_gpt1 import PackedChoices
from tokenization import GPT1Tokenizer


START, DELIMITER, EXTRACT, PAD = 96, 97, 98, 99  # the last four of the tiny vocabulary
HEADS = [GPT1ForSequenceClassification, GPT1ForEntailment, GPT1ForSimilarity, GPT1ForMultipleChoice]


def words(count: int) -> list[int]:
    return torch.randint(1, 90, (count,)).tolist()


def pair(first: list[int], second: list[int]) -> list[int]:
    return [START, *first, DELIMITER, *second, EXTRACT]


@pytest.fixture
def head(tiny_config, spread):
    def build(head_class, **kwargs):
        return spread(head_class(tiny_config(**kwargs))).double().eval()

    return build


def extract_state(model, row: list[int]) -> torch.Tensor:
    """The state at the end of one unpadded text."""
    return model.model(torch.tensor([row])).last_hidden_state[0, -1]


def lm_loss_of(model, row: list[int]) -> torch.Tensor:
    """The mean of -log P(next token) over one unpadded text."""
    states = model.model(torch.tensor([row])).last_hidden_state[0]
    log_probabilities = (states @ model.model.embed_tokens.weight.T).log_softmax(-1)
    return torch.stack([-log_probabilities[i, row[i + 1]] for i in range(len(row) - 1)]).mean()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("head_class", [GPT1ForSequenceClassification, GPT1ForEntailment])
def test_classification_reads_the_last_real_token(head, pad, head_class, side, with_mask):
    model = head(head_class, num_labels=3)
    rows = [[START, *words(n), EXTRACT] for n in (0, 4, 11)]
    ids, mask = pad(rows, 20, PAD, side)
    logits = model(ids, attention_mask=mask if with_mask else None).logits
    expected = torch.stack([model.score(extract_state(model, row)) for row in rows])
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_similarity_adds_both_orders(head, pad, side):
    model = head(GPT1ForSimilarity, num_labels=2)
    texts = [(words(n), words(m)) for n, m in ((3, 7), (5, 5), (0, 4), (6, 0), (1, 12))]
    ids, mask = pad([pair(a, b) for a, b in texts], 20, PAD, side)
    swapped, swapped_mask = pad([pair(b, a) for a, b in texts], 20, PAD, side)
    logits = model(ids, attention_mask=mask).logits
    expected = torch.stack(
        [model.score(extract_state(model, pair(a, b)) + extract_state(model, pair(b, a))) for a, b in texts]
    )
    torch.testing.assert_close(logits, expected)
    assert torch.equal(logits, model(swapped, attention_mask=swapped_mask).logits)
    assert torch.equal(logits, model(ids).logits)


def with_holes(ids: torch.Tensor, mask: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows `(..., tokens)` spread over `(..., length)`, in their order, with padding anywhere between them."""
    holed = torch.full((*ids.shape[:-1], length), PAD), torch.zeros(*ids.shape[:-1], length, dtype=torch.long)
    for index in itertools.product(*map(range, ids.shape[:-1])):
        real = ids[index][mask[index].bool()]
        places = torch.randperm(length)[: len(real)].sort().values
        holed[0][index][places], holed[1][index][places] = real, 1
    return holed


@pytest.mark.parametrize("head_class", HEADS)
def test_padding_between_tokens_changes_nothing(head, pad, head_class):
    model = head(head_class)
    if head_class is GPT1ForMultipleChoice:
        ids, mask = pad_choices(pad, choices_of([[3, 1, 6], [2, 2, 4]], prefix=15), 24, "right")
    else:
        ids, mask = pad([pair(words(n), words(m)) for n, m in ((3, 7), (5, 5), (0, 4), (6, 0))], 14, PAD, "right")
    torch.testing.assert_close(model(*with_holes(ids, mask, 31)).logits, model(ids, mask).logits)


def test_choices_pack_with_padding_between_context_and_answers(head):
    """As where each field is padded by itself before they are joined."""
    model, context = head(GPT1ForMultipleChoice), [START, *words(12), DELIMITER]
    answers = [[*words(3), EXTRACT] for _ in range(3)]
    ran = []
    model.model.register_forward_pre_hook(lambda _, args: ran.append(args[0].shape))
    holed, whole = (
        model(torch.tensor([[[*context, *gap, *answer] for answer in answers]])).logits for gap in ([PAD] * 5, [])
    )
    torch.testing.assert_close(holed, whole)
    assert ran == [(1, 14 + 3 * 4)] * 2


@pytest.mark.parametrize("head_class", HEADS)
def test_a_cache_may_be_none(head, head_class):
    ids = torch.tensor([[pair([5], [6]), pair([5], [7])]])
    model, ids = head(head_class), ids if head_class is GPT1ForMultipleChoice else ids[0]
    assert torch.equal(model(ids, cache=None).logits, model(ids).logits)


def test_similarity_needs_a_delimiter_in_every_row(head):
    model = head(GPT1ForSimilarity)
    with pytest.raises(ValueError, match="delimiter"):
        model(torch.tensor([pair([1], [2]), [START, 1, 2, 3, EXTRACT]]))
    with pytest.raises(ValueError, match="input_ids"):
        model(torch.tensor([pair([1], [2])]), inputs_embeds=torch.zeros(1, 5, 32))
    with pytest.raises(ValueError, match="input_ids"):
        model(inputs_embeds=torch.zeros(1, 5, 32))


@pytest.mark.parametrize("head_class", HEADS)
def test_a_head_tells_how_many_labels_it_has(head, head_class):
    assert head(head_class, num_labels=4).num_labels == 4


@pytest.mark.parametrize("head_class", HEADS)
def test_an_empty_input_has_no_state_to_classify(head, head_class):
    shape = (1, 2, 0) if head_class is GPT1ForMultipleChoice else (1, 0)
    with pytest.raises(ValueError, match="the input is empty"):
        head(head_class)(torch.zeros(shape, dtype=torch.long))


def choices_of(counts: list[list[int]], prefix: int) -> list[list[list[int]]]:
    """Examples of as many choices as `counts` has entries, each with an answer of that many words."""
    examples = []
    for answers in counts:
        context = words(prefix)
        examples.append([pair(context, words(n)) for n in answers])
    return examples


def pad_choices(pad, examples, length, side):
    ids, mask = pad([row for example in examples for row in example], length, PAD, side)
    shape = (len(examples), len(examples[0]), length)
    return ids.view(shape), mask.view(shape)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_multiple_choice_packs_without_a_difference(head, pad, monkeypatch, side, implementation):
    model = head(GPT1ForMultipleChoice).train()
    model.set_attn_implementation(implementation)
    examples = choices_of([[3, 1, 6], [2, 2, 9], [1, 1, 1]], prefix=15)
    examples[1][2] = examples[1][0] + []  # the same answer twice
    ids, mask = pad_choices(pad, examples, 30, side)
    labels = torch.tensor([2, 0, 1])
    runs = []
    for worthwhile in (PackedChoices.WORTHWHILE, 2.0):  # as it is; never
        monkeypatch.setattr(PackedChoices, "WORTHWHILE", worthwhile)
        model.zero_grad()
        ran = []
        hook = model.model.layers[0].register_forward_pre_hook(lambda _, args, ran=ran: ran.append(args[0].shape))
        output = model(ids, attention_mask=mask, labels=labels)
        hook.remove()
        output.loss.backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        runs.append((ran, output.logits, output.task_loss, output.lm_loss, gradients))
    (packed_rows, *packed), (flat_rows, *flat) = runs
    assert packed_rows[0][0] == 3 and flat_rows[0][:2] == (9, 30), "the first run packs, the second does not"
    torch.testing.assert_close(packed, flat)

    expected = torch.stack([torch.stack([model.score(extract_state(model, r))[0] for r in e]) for e in examples])
    torch.testing.assert_close(packed[0], expected)
    torch.testing.assert_close(packed[1], F.cross_entropy(expected, labels))
    lm_loss = torch.stack([lm_loss_of(model, row) for example in examples for row in example]).mean()
    torch.testing.assert_close(packed[2], lm_loss)


def test_packed_choices_under_flex_attention(tiny_config, spread, pad):
    model = spread(GPT1ForMultipleChoice(tiny_config(num_hidden_layers=1, hidden_size=64))).eval()
    ids, mask = pad_choices(pad, choices_of([[3, 1, 6], [2, 2, 9]], prefix=15), 30, "left")
    with torch.no_grad():
        expected = model(ids, attention_mask=mask).logits
        model.set_attn_implementation("flex_attention")
        got = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_choices_are_not_packed_for_an_attention_that_may_take_no_mask(head, pad):
    """transformers makes none for one that is registered without a way to."""
    model = head(GPT1ForMultipleChoice)
    ids, mask = pad_choices(pad, choices_of([[3, 1, 6], [2, 2, 9]], prefix=15), 30, "right")
    expected = model(ids, attention_mask=mask).logits
    AttentionInterface.register("mine", AttentionInterface()["sdpa"])
    model.set_attn_implementation("mine")
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, expected)


def test_packed_choices_equal_flat_rows_on_real_stories(tiny_config, spread, data_dir):
    """In float32: logits to 1e-5, gradients to 1e-4."""
    path = data_dir / "tasks" / "mctest" / "train.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open(encoding="utf-8") as lines:
        stories = [json.loads(line) for line in itertools.islice(lines, 0, 8, 4)]
    tokenizer = GPT1Tokenizer(task_format=True)
    contexts = [f"{story['article']} {story['question']}" for story in stories for _ in story["options"]]
    options = [option for story in stories for option in story["options"]]
    batch = tokenizer(contexts, options, truncation="only_first", max_length=512, padding=True, return_tensors="pt")
    ids, mask = (batch[name].view(2, 4, -1) for name in ("input_ids", "attention_mask"))
    model = spread(GPT1ForMultipleChoice(tiny_config(vocab_size=len(tokenizer), max_position_embeddings=512))).train()
    runs = []
    flat_positions = torch.arange(ids.shape[-1]).expand_as(ids)  # given, they keep rows apart
    for positions in (None, flat_positions):
        output = model(ids, mask, positions, labels=torch.tensor([1, 3]))
        runs.append((output, torch.autograd.grad(output.loss, list(model.parameters()))))
    (packed, packed_gradients), (flat, flat_gradients) = runs
    torch.testing.assert_close(packed.logits, flat.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(packed.loss, flat.loss)
    torch.testing.assert_close(packed_gradients, flat_gradients, atol=1e-4, rtol=0)


def test_multiple_choice_packs_rows_that_together_exceed_the_limit(head, pad):
    model = head(GPT1ForMultipleChoice)
    examples = choices_of([[30, 28, 29, 27]], prefix=30)  # 64 tokens at most a row, 32 + 4 * 31 packed
    ids, mask = pad_choices(pad, examples, 64, "right")
    expected = torch.stack([model.score(extract_state(model, row))[0] for row in examples[0]])
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[0], expected)


def test_multiple_choice_without_a_common_prefix(head, pad):
    model = head(GPT1ForMultipleChoice)
    examples = [[[*words(8), EXTRACT], [*words(5), EXTRACT]], [[EXTRACT], [5, EXTRACT]]]
    ids, mask = pad_choices(pad, examples, 10, "right")
    expected = [[model.score(extract_state(model, row))[0] for row in example] for example in examples]
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, torch.tensor(expected).double())
    by_embeddings = model(inputs_embeds=model.model.embed_tokens(ids), attention_mask=mask).logits
    torch.testing.assert_close(by_embeddings, model(ids, attention_mask=mask).logits)


def test_a_replica_packs_choices(head, pad):
    """`nn.DataParallel`'s have no parameters of their own: tensors stand in their place."""

    def replicate(module):
        replica = module._replicate_for_data_parallel()
        for name, parameter in module._parameters.items():
            setattr(replica, name, parameter)
        replica._modules = {name: replicate(child) for name, child in module.named_children()}
        return replica

    model = head(GPT1ForMultipleChoice)
    ids, mask = pad_choices(pad, choices_of([[3, 1, 6], [2, 2, 4]], prefix=15), 24, "right")
    assert torch.equal(replicate(model)(ids, mask).logits, model(ids, mask).logits)


def test_multiple_choice_dropout_is_shared_by_the_choices(tiny_config, pad):
    model = GPT1ForMultipleChoice(tiny_config(classifier_dropout=0.5)).train()
    same = pair(words(10), words(3))
    ids = torch.tensor([[same, same, same]])
    logits = torch.stack([model(ids).logits[0] for _ in range(20)])
    torch.testing.assert_close(logits[:, 0], logits[:, 1])
    assert logits[:, 0].unique().numel() > 10


def test_multiple_choice_refuses_flat_rows(head):
    with pytest.raises(ValueError, match=r"\(batch, choices, length\), got \(2, 5\)"):
        head(GPT1ForMultipleChoice)(torch.ones(2, 5, dtype=torch.long))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("weighting", ["additive", "convex"])
def test_auxiliary_loss_is_in_training_only(head, pad, side, weighting):
    model = head(GPT1ForSequenceClassification, num_labels=3, lm_coef=0.3, lm_loss_weighting=weighting)
    rows = [[START, *words(n), EXTRACT] for n in (1, 4, 11)]
    ids, mask = pad(rows, 20, PAD, side)
    labels = torch.tensor([0, 2, 1])
    evaluated = model(ids, attention_mask=mask, labels=labels)
    assert evaluated.lm_loss is None and evaluated.loss == evaluated.task_loss
    trained = model.train()(ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(trained.task_loss, F.cross_entropy(trained.logits, labels))
    torch.testing.assert_close(trained.lm_loss, torch.stack([lm_loss_of(model, row) for row in rows]).mean())
    weights = {"additive": (1, 0.3), "convex": (0.3, 0.7)}[weighting]
    torch.testing.assert_close(trained.loss, weights[0] * trained.task_loss + weights[1] * trained.lm_loss)
    model.config.lm_coef = {"additive": 0.0, "convex": 1.0}[weighting]
    assert model(ids, attention_mask=mask, labels=labels).lm_loss is None


def test_auxiliary_loss_of_a_pair_covers_both_orders(head, pad):
    model = head(GPT1ForSimilarity, num_labels=1).train()
    texts = [(words(3), words(7)), (words(5), words(1))]
    ids, mask = pad([pair(a, b) for a, b in texts], 16, PAD, "right")
    output = model(ids, attention_mask=mask, labels=torch.tensor([1.5, 3.0]))
    rows = [pair(a, b) for a, b in texts] + [pair(b, a) for a, b in texts]
    torch.testing.assert_close(output.lm_loss, torch.stack([lm_loss_of(model, row) for row in rows]).mean())


@pytest.mark.parametrize("head_class", HEADS)
def test_lm_labels_replace_the_targets(head, pad, head_class):
    model = head(head_class).train()
    row = pair(words(6), words(5))
    lm_labels = torch.tensor(row).clone()
    lm_labels[:4] = -100
    ids, labels = torch.tensor([row]), torch.tensor([0])
    if head_class is GPT1ForMultipleChoice:
        ids = torch.stack((ids, ids.clone()), 1)
        ids[0, 1, -2] = 5
        lm_labels = lm_labels.expand(1, 2, -1).clone()
        lm_labels[0, 1, 7] = -100  # within the common prefix
    else:
        lm_labels = lm_labels[None]
    output = model(ids, labels=labels, lm_labels=lm_labels)

    def expected(row, labels):
        states = model.model(row[None]).last_hidden_state[0]
        losses = F.cross_entropy(states[:-1] @ model.model.embed_tokens.weight.T, labels[1:], reduction="none")
        return losses[labels[1:] != -100].mean()

    rows, targets = ids.flatten(0, -2), lm_labels.flatten(0, -2)
    if head_class is GPT1ForSimilarity:
        order = [0, *range(8, 13), 7, *range(1, 7), 13]
        rows, targets = torch.cat((rows, rows[:, order])), torch.cat((targets, targets[:, order]))
    torch.testing.assert_close(
        output.lm_loss, torch.stack([expected(r, t) for r, t in zip(rows, targets, strict=True)]).mean()
    )


def test_kinds_of_problem(head):
    ids = torch.tensor([[START, *words(3), EXTRACT]] * 2)
    regression = head(GPT1ForSequenceClassification, num_labels=1)
    for labels in (torch.tensor([1.5, 2.0]), torch.tensor([1, 2])):
        output = regression(ids, labels=labels)
        torch.testing.assert_close(output.loss, (output.logits[:, 0] - labels).square().mean())
    several = head(GPT1ForSequenceClassification, num_labels=3)
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    output = several(ids, labels=labels)
    assert several.config.problem_type == "multi_label_classification"
    torch.testing.assert_close(output.loss, F.binary_cross_entropy_with_logits(output.logits, labels.double()))


@pytest.mark.parametrize("head_class", [GPT1ForSequenceClassification, GPT1ForSimilarity])
@pytest.mark.parametrize("training", [True, False])
def test_a_kind_of_problem_that_is_chosen_later(head, head_class, training):
    """After construction, and whatever the dtype of the labels."""
    ids = torch.tensor([pair(words(3), words(2)), pair(words(1), words(4))])

    def output(problem, num_labels, labels):
        model = head(head_class, num_labels=num_labels)
        model.config.problem_type = problem
        return model.train(training)(ids, labels=labels)

    for labels in (torch.tensor([[1.0, 0, 1], [0, 0, 1]]), torch.tensor([[1, 0, 1], [0, 0, 1]])):
        result = output("multi_label_classification", 3, labels)
        expected = F.binary_cross_entropy_with_logits(result.logits, labels.double())
        torch.testing.assert_close(result.task_loss, expected)
    for num_labels, labels in ((3, torch.tensor([2, 0])), (1, torch.tensor([0, 0])), (2, torch.tensor([[1], [0]]))):
        result = output("single_label_classification", num_labels, labels)
        torch.testing.assert_close(result.task_loss, F.cross_entropy(result.logits, labels.flatten()))
    for num_labels, labels in ((1, torch.tensor([2, 0])), (3, torch.rand(2, 3)), (1, torch.rand(2).bfloat16())):
        result = output("regression", num_labels, labels)
        torch.testing.assert_close(result.task_loss, (result.logits - labels.view(2, -1).double()).square().mean())


def batch_for(head_class, size: int, pad) -> dict[str, torch.Tensor]:
    """Encoded examples whose label is seen in their words."""
    rows, labels = [], []
    for index in range(size):
        label = index % 2
        first, second = [10 + index, 20 + label, 30], [40 + index]
        labels.append(label)
        if head_class is GPT1ForMultipleChoice:
            rows += [pair([10 + index, 30, 31, 32, 33], [60 + (choice == label)]) for choice in range(2)]
        elif head_class is GPT1ForSequenceClassification:
            rows.append([START, *first, EXTRACT])
        else:
            rows.append(pair(first, second))
    ids, mask = pad(rows, 12, PAD, "right")
    if head_class is GPT1ForMultipleChoice:
        ids, mask = ids.view(size, 2, -1), mask.view(size, 2, -1)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(labels)}


@pytest.mark.parametrize("head_class", HEADS)
def test_every_parameter_moves_and_a_batch_of_eight_is_learned(tiny_config, pad, head_class):
    model = head_class(tiny_config(num_labels=2)).train()
    before = copy.deepcopy(dict(model.named_parameters()))
    batch = batch_for(head_class, 8, pad)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        output = model(**batch)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if output.task_loss < 0.01:
            break
    model.eval()
    assert model(**batch).loss < 0.05
    for name, parameter in model.named_parameters():
        unused = torch.zeros_like(parameter, dtype=torch.bool)
        if "embed_positions" in name:
            unused[12:] = True
        assert not torch.equal(parameter[~unused], before[name][~unused]), name


@pytest.mark.parametrize("head_class", HEADS)
def test_accumulated_batches_equal_one_batch(tiny_config, pad, tmp_path, head_class):
    batch = batch_for(head_class, 8, pad)
    examples = [{name: values[index] for name, values in batch.items()} for index in range(8)]
    weights = []
    for size, steps in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        model = head_class(tiny_config(num_labels=2))
        arguments = TrainingArguments(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=3,
            learning_rate=1e-2,
            optim="sgd",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            train_sampling_strategy="sequential",
        )
        Trainer(model, arguments, train_dataset=examples).train()
        weights.append(dict(model.named_parameters()))
    for name, parameter in weights[0].items():
        torch.testing.assert_close(parameter, weights[1][name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("head_class", [GPT1ForCausalLM, *(head for head in HEADS if head is not GPT1ForEntailment)])
def test_compiled_training_on_batches_of_other_lengths(tiny_config, head_class):
    """One graph, whole, whatever lengths come, and the same loss and gradients."""
    model = head_class(tiny_config(num_labels=2, num_hidden_layers=1)).double().train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch._dynamo.reset()
    for length in (9, 12, 17):
        mask = torch.ones(2, length, dtype=torch.long)
        mask[0, -3:] = 0
        ids = torch.randint(1, 90, (2, length))
        ids[:, 4] = DELIMITER
        if head_class is GPT1ForMultipleChoice:
            ids, mask = (tensor[:, None].repeat(1, 3, 1) for tensor in (ids, mask))
        labels = ids.masked_fill(mask == 0, -100) if head_class is GPT1ForCausalLM else torch.tensor([0, 1])
        losses = [m(ids, attention_mask=mask, labels=labels, use_cache=False).loss for m in (model, compiled)]
        gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(gradients[1], gradients[0])


def test_a_training_batch_without_labels_is_refused(tiny_config, pad, tmp_path):
    batch = batch_for(GPT1ForSequenceClassification, 2, pad)
    examples = [{name: batch[name][i] for name in ("input_ids", "attention_mask")} for i in range(2)]
    arguments = TrainingArguments(tmp_path, max_steps=1, use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="did not return a loss"):
        Trainer(GPT1ForSequenceClassification(tiny_config()), arguments, train_dataset=examples).train()


@pytest.mark.parametrize("head_class", HEADS)
def test_saved_heads_load_through_their_auto_class(tiny_config, pad, tmp_path, head_class):
    model = head_class(tiny_config(num_labels=2)).eval()
    model.save_pretrained(tmp_path)
    many = head_class is GPT1ForMultipleChoice
    loaded = (AutoModelForMultipleChoice if many else AutoModelForSequenceClassification).from_pretrained(tmp_path)
    assert type(loaded) is head_class
    batch = batch_for(head_class, 4, pad)
    assert torch.equal(loaded.eval()(**batch).logits, model(**batch).logits)
    GPT1Model.from_pretrained(tmp_path)


MODELS = [GPT1Model, GPT1ForCausalLM, GPT1ForMaskedLM, *HEADS, GPT1DoubleHeadsModel]
MISTAKES = {
    "label": "unknown argument 'label': did you mean 'labels'?",
    "attention_masks": "unknown argument 'attention_masks': did you mean 'attention_mask'?",
    "token_types_ids": "unknown argument 'token_types_ids': did you mean 'token_type_ids'?",
    "past_key_value": "unknown argument 'past_key_value': did you mean 'past_key_values'?",
    "mc_labels": "mc_labels are for GPT1DoubleHeadsModel; GPT1ForMultipleChoice takes labels",
    "mc_token_ids": "mc_token_ids are for GPT1DoubleHeadsModel; the task heads read each row's last real token",
    "lm_labels": "lm_labels are for the task heads; a language model takes labels",
    "labels": "labels are for a model with a head, such as GPT1ForCausalLM",
}
TAKEN = {
    "labels": MODELS[1:],
    "lm_labels": HEADS,
    "mc_labels": [GPT1DoubleHeadsModel],
    "mc_token_ids": [GPT1DoubleHeadsModel],
}


@pytest.mark.parametrize("head_class", MODELS)
def test_an_argument_that_would_go_unheeded_is_refused(head, head_class):
    model = head(head_class)
    ids = torch.tensor([pair(words(3), words(4))])
    if head_class in (GPT1ForMultipleChoice, GPT1DoubleHeadsModel):
        ids = ids.expand(1, 2, -1)
    for name, message in MISTAKES.items():
        if head_class not in TAKEN.get(name, []):
            with pytest.raises(TypeError, match=re.escape(message)):
                model(ids, **{name: ids})
    # what transformers' own code may pass
    model(ids, num_items_in_batch=3, output_hidden_states=True, return_dict=True, cache_position=None, task_ids=None)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("head_class", MODELS)
def test_a_search_for_overflow_goes_through(head, head_class, implementation):
    """It takes the size of all that a module is given by position, which a mask of truth values has not."""
    model = head(head_class).train()
    model.set_attn_implementation(implementation)
    DebugUnderflowOverflow(model)
    ids = torch.tensor([[PAD, *pair(words(3), words(4))], pair(words(4), words(4))])
    if head_class in (GPT1ForMultipleChoice, GPT1DoubleHeadsModel):
        ids = ids[None]
    model(ids, attention_mask=(ids != PAD).long())


@pytest.mark.parametrize("head_class", HEADS)
def test_a_mask_of_what_each_token_sees_is_refused(head, head_class):
    ids = torch.randint(1, 90, (2, 3, 8) if head_class is GPT1ForMultipleChoice else (2, 8))
    mask = torch.ones(*ids.shape[:-1], 1, 8, 8, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match=f"takes an attention_mask of {ids.ndim} dimensions"):
        head(head_class)(ids, attention_mask=mask)
