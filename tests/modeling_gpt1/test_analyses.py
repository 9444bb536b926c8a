"""`gpt1 analyze` transfer, ablation, zero-shot and attention: beside computations of their own, and going on."""

import json
import math
import re
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import matthews_corrcoef

from modeling_gpt1 import (
    GPT1Config,
    GPT1ForCausalLM,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
)
from modeling_gpt1.analysis import ANALYSES, ablation, attention, fine_tuned, transfer, zero_shot
from modeling_gpt1.analysis.findings import Findings
from modeling_gpt1.cli import main
from tokenization import GPT1Tokenizer


pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = [("a splendid play", 1), ("what a delight", 1), ("a dull evening", 0), ("cold and tedious", 0)]


@pytest.fixture(scope="module")
def tokenizer() -> GPT1Tokenizer:
    return GPT1Tokenizer()


@pytest.fixture(scope="module")
def language_model(tmp_path_factory, tokenizer) -> str:
    """A tiny language model with the packaged tokenizer, as a checkpoint."""
    path = tmp_path_factory.mktemp("language_model") / "model"
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = GPT1Config(vocab_size=len(tokenizer), max_position_embeddings=64, **shape)
    model = GPT1ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def sentences(tmp_path) -> str:
    """A file that is one of CoLA as well as one of SST-2."""
    path = tmp_path / "sentences.csv"
    path.write_text("sentence,label\n" + "".join(f"{text},{label}\n" for text, label in SENTENCES))
    return str(path)


@pytest.fixture
def fine_tune(language_model, sentences, tmp_path):
    """Runs a fine-tuning analysis of the tiny model, with further flags; its exit status."""

    def run(analysis: str, *flags: str, task: str = "sst2") -> int:
        data = ["--train_file", sentences, "--validation_file", sentences]
        given = ["--task", task, *data, "--model", language_model, "--output_dir", str(tmp_path / "out")]
        return main(["analyze", analysis, *given, "--max_steps", "1", "--save_strategy", "no", *flags])

    return run


@pytest.fixture
def runs(monkeypatch):
    """Replaces fine-tuning: keeps what it was asked for, and gives 0.5, 0.6, ..."""
    asked = []

    def finetune(task_args, training_args, prepare):
        training_args.choose_metric(("accuracy",))
        asked.append((task_args.task, training_args.seed, Path(training_args.output_dir).name))
        Path(training_args.output_dir).mkdir(parents=True)
        return {"eval_accuracy": 0.4 + len(asked) / 10}

    monkeypatch.setattr(fine_tuned, "finetune", finetune)
    return asked


@pytest.mark.parametrize("norm_position", ["post", "pre"])
@pytest.mark.parametrize("transferred", ["nothing", "embeddings", "1", "3"])
def test_what_is_transferred_is_the_checkpoints_and_nothing_else(tiny_config, spread, norm_position, transferred):
    model = spread(GPT1ForSequenceClassification(tiny_config(norm_position=norm_position)))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    transfer.keep(model, transferred)
    layers = {"nothing": 0, "embeddings": 0, "1": 1, "3": 3}[transferred]
    for name, parameter in model.named_parameters():
        layer = re.search(r"layers\.(\d)", name)
        if layer:
            kept = int(layer.group(1)) < layers
        elif "embed" in name:
            kept = transferred != "nothing"
        else:
            kept = name.startswith("score.") or transferred == "3"  # the head, and the last norm
        same = (parameter == before[name]).float().mean()
        assert same == 1 if kept else same < 0.01, name


def test_an_lstm_has_the_heads_and_their_losses(tiny_config, pad):
    model = GPT1ForSequenceClassification(tiny_config(num_labels=3)).train()
    ablation.put_lstm(model, units=24)
    rows, labels = [[5, 6, 7, 8, 9], [10, 11, 12]], torch.tensor([2, 0])
    task, lm, scores = [], [], []
    decoder = model.model
    for row, label in zip(rows, labels, strict=True):
        hidden = cell = torch.zeros(24)
        states = []
        for token in row:  # the LSTM's own equations
            gates = decoder.lstm.weight_ih_l0 @ decoder.embed_tokens.weight[token] + decoder.lstm.bias_ih_l0
            gates = gates + decoder.lstm.weight_hh_l0 @ hidden + decoder.lstm.bias_hh_l0
            into, forget, new, out = gates.chunk(4)
            cell = forget.sigmoid() * cell + into.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
            states.append(decoder.out_proj(hidden))
        scores.append(model.score(states[-1]))
        task.append(F.cross_entropy(scores[-1], label))
        logits = torch.stack(states[:-1]) @ decoder.embed_tokens.weight.T
        lm.append(F.cross_entropy(logits, torch.tensor(row[1:])))
    expected = sum(task) / 2 + 0.5 * sum(lm) / 2
    for side in ("right", "left"):
        ids, mask = pad(rows, 6, 99, side)
        output = model(input_ids=ids, attention_mask=mask, labels=labels)
        torch.testing.assert_close(output.logits, torch.stack(scores))
        torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_an_lstm_reads_each_choice_and_order_by_itself(tiny_config):
    config = tiny_config(bos_token_id=96, sep_token_id=97, cls_token_id=98, pad_token_id=99)
    choices = GPT1ForMultipleChoice(config).eval()
    ablation.put_lstm(choices, units=24)
    ids = torch.cat((torch.arange(20).expand(1, 3, 20), torch.tensor([[[30, 98], [31, 98], [32, 98]]])), dim=-1)
    alone = [choices(input_ids=ids[:, [choice]]).logits[0, 0] for choice in range(3)]
    torch.testing.assert_close(choices(input_ids=ids).logits[0], torch.stack(alone))

    pairs = GPT1ForSimilarity(config).eval()
    ablation.put_lstm(pairs, units=24)
    pair, swapped = torch.tensor([[96, 1, 2, 97, 3, 98]]), torch.tensor([[96, 3, 97, 1, 2, 98]])
    torch.testing.assert_close(pairs(input_ids=pair).logits, pairs(input_ids=swapped).logits)


@pytest.mark.parametrize("weighting", ["additive", "convex"])
def test_without_auxiliary_loss_the_tasks_is_all(tiny_config, weighting):
    model = GPT1ForSequenceClassification(tiny_config(lm_loss_weighting=weighting)).train()
    batch = {"input_ids": torch.arange(8).view(2, 4), "labels": torch.tensor([0, 1])}
    assert model(**batch).lm_loss is not None
    ablation.without_auxiliary_loss(model)
    output = model(**batch)
    assert output.lm_loss is None and output.loss == output.task_loss


def test_every_ablation_is_fine_tuned_and_nothing_twice(fine_tune, tmp_path, capsys, monkeypatch):
    assert fine_tune("ablation", "--lstm_units", "8") == 0
    table = (tmp_path / "out/ablation.md").read_text()
    assert capsys.readouterr().out == table
    found = json.loads((tmp_path / "out/ablation-sst2.json").read_text())["found"]
    names = ["full", "without pre-training", "without auxiliary loss", "LSTM without pre-training"]
    assert list(found) == [f"{name}, seed 42" for name in names]
    assert {100 * each["value"] % 25 for each in found.values()} == {0}  # of four sentences
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"ablation-sst2.json", "ablation.md", "ablation.png"}  # and no model
    monkeypatch.setattr(fine_tuned, "finetune", None)
    assert fine_tune("ablation", "--lstm_units", "8") == 0
    assert (tmp_path / "out/ablation.md").read_text() == table


@pytest.mark.parametrize("other_settings", [[], ["--learning_rate", "1e-3"]])
def test_an_interrupted_variant_is_resumed_with_the_same_settings(fine_tune, tmp_path, monkeypatch, other_settings):
    real, resumed = fine_tuned.finetune, []

    def stop_once(task_args, training_args, prepare):
        Path(training_args.output_dir).mkdir(parents=True, exist_ok=True)
        Path(training_args.output_dir, "of-the-first-run").touch()
        raise KeyboardInterrupt

    def go_on(task_args, training_args, prepare):
        resumed.append(Path(training_args.output_dir, "of-the-first-run").exists())
        return real(task_args, training_args, prepare)

    monkeypatch.setattr(fine_tuned, "finetune", stop_once)
    assert fine_tune("transfer", "--transferred", "2") == 130
    assert not list((tmp_path / "out").glob("*.json"))
    monkeypatch.setattr(fine_tuned, "finetune", go_on)
    assert fine_tune("transfer", "--transferred", "2", *other_settings) == 0
    assert resumed == [not other_settings]
    left = list((tmp_path / "out").iterdir())
    assert {path.suffix for path in left if path.is_file()} == {".json", ".md", ".png"}
    assert any(path.is_dir() for path in left) == bool(other_settings)


def test_seeds_and_tasks_stand_side_by_side(fine_tune, runs, tmp_path):
    flags = ["--transferred", "1", "nothing"]
    assert fine_tune("transfer", *flags) == 0
    assert fine_tune("transfer", *flags, "--seeds", "2") == 0
    assert [seed for _, seed, _ in runs] == [42, 42, 43, 43]
    assert fine_tune("transfer", "--transferred", "embeddings", task="cola") == 0
    assert len({name for _, _, name in runs}) == 5
    assert (tmp_path / "out/transfer.md").read_text().splitlines() == [
        "| layers transferred | cola, accuracy | sst2, accuracy |",
        "| --- | --- | --- |",
        "| nothing | - | 60.0 (50.0 to 70.0) |",
        "| embeddings | 90.0 | - |",
        "| 1 | - | 70.0 (60.0 to 80.0) |",
    ]


def test_a_loss_is_not_in_percent(fine_tune, tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tuned, "_figure", lambda run, prepare: {"metric": "loss", "value": run.seed / 100})
    monkeypatch.setattr(Findings, "picture", lambda _, draw: draw(figure))
    for analysis in ("transfer", "ablation"):
        figure = MagicMock()
        flags = ["--metric_for_best_model", "loss", "--seeds", "2", "--output_dir", str(tmp_path / analysis)]
        assert fine_tune(analysis, *flags) == 0
        assert "| sst2, loss |" in (table := (tmp_path / analysis / f"{analysis}.md").read_text())
        assert table.splitlines()[-1].endswith("| 0.425 (0.420 to 0.430) |")
        assert figure.subplots().set.call_args.kwargs["ylabel"] == "loss"


def test_figures_of_other_settings_or_checkpoints_do_not_mix(fine_tune, runs, language_model, tmp_path, capfd):
    assert fine_tune("transfer", "--transferred", "1") == 0
    for name, value in {"learning_rate": "1e-3", "metric_for_best_model": "loss", "max_grad_norm": "2"}.items():
        assert fine_tune("transfer", "--transferred", "2", f"--{name}", value) == 1
        assert "was made with other settings" in capfd.readouterr().err
    (tmp_path / "other").symlink_to(language_model)
    assert fine_tune("transfer", "--transferred", "1", "--model", str(tmp_path / "other"), task="cola") == 1
    assert "figures of another checkpoint" in capfd.readouterr().err
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("analysis", "flags", "message"),
    [
        ("transfer", ["--transferred", "1", "3"], "--transferred takes nothing, embeddings or 1 to 2, not 3"),
        ("transfer", ["--seeds", "0"], "--seeds must be at least 1"),
        ("transfer", ["--push_to_hub", "True"], "--push_to_hub is for one model"),
        ("transfer", ["--train_file", "nothing.csv"], "nothing.csv"),
        ("ablation", ["--lstm_units", "0"], "--lstm_units must be at least 1"),
        ("ablation", ["--model", "nothing/here/at all"], "no checkpoint at"),
    ],
)
def test_bad_input_to_fine_tuning_is_one_line(fine_tune, tmp_path, capfd, analysis, flags, message):
    assert fine_tune(analysis, *flags) == 1
    error = capfd.readouterr().err.splitlines()
    assert message in error[-1] and error[-1].startswith("gpt1 analyze: ") and "Traceback" not in str(error)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_and_validation_data_are_needed(sentences, tmp_path, capfd):
    given = ["analyze", "ablation", "--task", "sst2", "--train_file", sentences, "--output_dir", str(tmp_path / "out")]
    assert main(given) == 1
    assert main([*given, "--validation_file", sentences, "--config", "micro"]) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert "give --validation_file" in first and "give --model" in second


def naive_means(model: GPT1ForCausalLM, tokenizer: GPT1Tokenizer, texts: list[tuple[str, str]]) -> list[float]:
    """The mean log-probability of the tokens of a second text after a first, or a line break; a token at a time."""
    means = []
    for before, scored in texts:
        read = tokenizer(before)["input_ids"] or [tokenizer.convert_tokens_to_ids("\n</w>")]
        terms = []
        for token in tokenizer(scored)["input_ids"]:
            with torch.inference_mode():
                logits = model(torch.tensor([read])).logits[0, -1].double()
            terms.append(logits.log_softmax(-1)[token].item())
            read = [*read, token]
        means.append(sum(terms) / len(terms))
    return means


@pytest.fixture
def files(tmp_path, sentences) -> dict[str, str]:
    """A file for each of the zero-shot tasks."""
    story = {"article": "Tom has a cat.", "question": "What has Tom?", "options": ["a cat", "a big dog"]}
    (tmp_path / "race.jsonl").write_text("".join(json.dumps(story | {"answer": each}) + "\n" for each in "AB"))
    header = "sentence,option1,option2,answer\n"
    (tmp_path / "winograd.csv").write_text(
        f"{header}The cup does not fit the box because _ is too big .,the cup,the box,1\n"
        "_ called Jane to say so .,Mary,Jane herself,1\n"
    )
    own = {"race": str(tmp_path / "race.jsonl"), "winograd": str(tmp_path / "winograd.csv")}
    return {"cola": sentences, "sst2": sentences} | own


TEXTS = {
    "cola": [[("", text)] for text, _ in SENTENCES],
    "sst2": [[(f"{text} very", "negative"), (f"{text} very", "positive")] for text, _ in SENTENCES],
    "race": [[("Tom has a cat. What has Tom?", "a cat"), ("Tom has a cat. What has Tom?", "a big dog")]] * 2,
    "winograd": [
        [
            ("The cup does not fit the box because the cup", " is too big ."),
            ("The cup does not fit the box because the box", " is too big ."),
        ],
        [("Mary", " called Jane to say so ."), ("Jane herself", " called Jane to say so .")],
    ],
}
LABELS = {"cola": [1, 1, 0, 0], "sst2": [1, 1, 0, 0], "race": [0, 1], "winograd": [0, 0]}


@pytest.mark.parametrize("task", TEXTS)
def test_zero_shot_figures_are_those_of_a_naive_loop(files, language_model, tokenizer, tmp_path, task):
    args = zero_shot.Arguments(output_dir=str(tmp_path / "out"), **{task: files[task]})
    examples, labels = zero_shot.read_examples(task, files[task], args)
    assert (examples, labels) == (TEXTS[task], LABELS[task])
    model = GPT1ForCausalLM.from_pretrained(language_model).eval()
    expected = [naive_means(model, tokenizer, candidates) for candidates in examples]
    flat = [candidate for candidates in examples for candidate in candidates]
    means = zero_shot.mean_log_probabilities(model, tokenizer, flat, batch_size=3)
    assert means == pytest.approx([each for row in expected for each in row], rel=1e-5)
    found = zero_shot.measure(task, model, tokenizer, examples, labels, batch_size=3)
    if task == "cola":
        assert (found["random"], found["reference"]) == (0, 0.454)
    else:
        right = [max(range(2), key=row.__getitem__) == label for row, label in zip(expected, labels, strict=True)]
        reference = {"sst2": 0.913, "race": 0.59, "winograd": 1}[task]
        assert found["value"] == sum(right) / len(right)
        assert found["normalized"] == pytest.approx((found["value"] - 0.5) / (reference - 0.5))
    assert found["examples"] == len(labels)


def test_the_threshold_of_a_half_is_the_best_of_the_other():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 60)
    scores = random.normal(size=60) + labels
    got = zero_shot.acceptable(scores, labels)
    for half in (0, 1):
        mine, others = slice(half, None, 2), slice(1 - half, None, 2)
        best = max(scores[others], key=lambda least: matthews_corrcoef(labels[others], scores[others] >= least))
        assert (got[mine] == (scores[mine] >= best)).all()
    with pytest.raises(ValueError, match="needs some of either"):
        zero_shot.best_threshold(scores[:5], np.ones(5))


def test_a_long_document_is_read_in_windows(language_model, tokenizer):
    model = GPT1ForCausalLM.from_pretrained(language_model).eval()
    document = "the cat sat on the mat . " * 20  # 140 tokens, where the model takes 64
    (mean,) = zero_shot.mean_log_probabilities(model, tokenizer, [(document, "a dog ran")], 1)
    # The last window that holds the answer begins at 96, a multiple of half of 64, and holds tokens 96 to 142
    ids = tokenizer(document + "a dog ran")["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([ids[96:]])).logits[0].double().log_softmax(-1)
    assert mean == pytest.approx(sum(logits[-4 + i, ids[-3 + i]].item() for i in range(3)) / 3, rel=1e-5)


def test_zero_shot_follows_a_run_and_measures_nothing_twice(files, language_model, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("checkpoint-10", "checkpoint-9"):
        (run / name).symlink_to(language_model)
    given = ["analyze", "zero-shot", "--model", str(run), "--output_dir", str(tmp_path / "out")]
    assert main([*given, "--sst2", files["sst2"]]) == 0
    capsys.readouterr()
    real, measured = zero_shot.measure, []
    monkeypatch.setattr(zero_shot, "measure", lambda task, *rest: measured.append(task) or real(task, *rest))
    assert main([*given, "--sst2", files["sst2"], "--winograd", files["winograd"]]) == 0
    assert measured == ["winograd"] * 2
    table = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| run/checkpoint-9", "| run/checkpoint-10"]
    assert table.startswith("| model | sst2, accuracy | winograd, accuracy |\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "zero-shot-sst2.json",
        "zero-shot-winograd.json",
        "zero-shot.md",
        "zero-shot.png",
    }


def test_rows_are_evenly_spaced(files, tmp_path):
    args = zero_shot.Arguments(output_dir=str(tmp_path), sst2=files["sst2"], rows=2)
    examples, labels = zero_shot.read_examples("sst2", files["sst2"], args)
    assert examples == TEXTS["sst2"][::2] and labels == [1, 0]


def test_bad_input_to_zero_shot_is_one_line_and_leaves_nothing(files, language_model, tmp_path, capfd):
    bad = tmp_path / "bad.csv"
    bad.write_text("sentence,option1,option2,answer\nNo pronoun here .,a,b,1\n")
    tries = {
        "give a file of one task": [],
        "--rows must be at least 2": ["--cola", files["cola"], "--rows", "1"],
        "bad.csv, row 2 has no _": ["--winograd", str(bad)],
        "no such file": ["--cola", str(tmp_path / "nothing.csv")],
        "has no column 'article', 'question'": ["--race", files["cola"]],
        "its columns are sentence, option1, option2, answer\n": ["--cola", str(bad)],
        "no checkpoint at": ["--cola", files["cola"], "--model", "nothing/here/at all"],
    }
    for message, flags in tries.items():
        given = ["--model", language_model, "--output_dir", str(tmp_path / "out"), *flags]
        assert main(["analyze", "zero-shot", *given]) == 1
        error = capfd.readouterr().err
        assert len(error.splitlines()) == 1 and message in error
        assert not (tmp_path / "out").exists()


TOKENS = ["the", "sea", "saw", "the", "old", "sea", "of", "it"]


def weights_of(keys: dict[int, int]) -> torch.Tensor:
    """A head that looks from each query at one key, by default the token itself."""
    return torch.stack([F.one_hot(torch.tensor(keys.get(query, query)), len(TOKENS)) for query in range(8)]).float()


@pytest.mark.parametrize(
    ("keys", "pattern"),
    [
        ({}, "itself"),
        (dict.fromkeys(range(8), 0), "first token"),
        ({query: query - 1 for query in range(1, 8)}, "previous token"),
        ({3: 0, 5: 1} | dict.fromkeys((4, 6, 7), 2), "same token before"),
        ({query: max(query - 3, 0) for query in range(8)}, "3 tokens back"),
    ],
)
def test_a_heads_pattern_is_the_one_it_was_made_by(keys, pattern):
    alike = torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None]
    scores = attention.pattern_scores(torch.stack((weights_of(keys), alike))[None], TOKENS)
    assert attention.main_patterns(scores)[0][0] == pattern
    assert scores[pattern]["scores"][0][0] == 1
    for each in scores.values():
        assert each["scores"][0][1] == pytest.approx(each["alike"])
    # the tokens from the third on, and what a head that looks at all alike gives the one before
    assert scores["previous token"]["alike"] == pytest.approx(sum(1 / seen for seen in range(3, 9)) / 6)
    assert scores["same token before"]["alike"] == pytest.approx((1 / 4 + 1 / 6) / 2)


def test_attention_is_the_models_and_is_read_once(language_model, tokenizer, tmp_path, capsys, monkeypatch):
    given = ["analyze", "attention", "--text", "The sea saw the sea.", "--output_dir", str(tmp_path / "out")]
    assert main([*given, "--model", language_model]) == 0
    table = capsys.readouterr().out
    found = json.loads((tmp_path / "out/attention.json").read_text())["found"]
    assert found["attention"]["tokens"] == [f"{word}</w>" for word in ["the", "sea", "saw", "the", "sea", "."]]
    model = GPT1ForCausalLM.from_pretrained(language_model, attn_implementation="eager").eval()
    hidden = model.model(**tokenizer("The sea saw the sea.", return_tensors="pt"), output_hidden_states=True)
    head_dim = model.config.hidden_size // 2
    for layer, block in enumerate(model.model.layers):
        query, key, _ = block.self_attn.qkv_proj(hidden.hidden_states[layer][0]).split(2 * head_dim, dim=-1)
        for head in range(2):
            part = slice(head * head_dim, (head + 1) * head_dim)
            logits = query[:, part] @ key[:, part].T / math.sqrt(head_dim)
            expected = logits.masked_fill(torch.ones(6, 6).triu(1).bool(), -math.inf).softmax(-1)
            got = torch.tensor(found["attention"]["weights"][layer][head])
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    monkeypatch.setattr(attention, "_read", None)
    assert main([*given, "--model", language_model]) == 0
    assert capsys.readouterr().out == table and len(table.splitlines()) == 2 + 2 * 2
    assert (tmp_path / "out/attention.png").stat().st_size > 10_000


def test_bad_input_to_attention_is_one_line(language_model, tokenizer, tiny_config, tmp_path, capfd):
    GPT1ForMaskedLM(tiny_config(vocab_size=len(tokenizer))).save_pretrained(tmp_path / "masked")
    tokenizer.save_pretrained(tmp_path / "masked")
    capfd.readouterr()
    tries = [
        ("one two", language_model, "--text must have 4 to 64 tokens, it has 2"),
        ("word " * 65, language_model, "it has 65"),
        ("one two three four", str(tmp_path / "masked"), "sees what comes later"),
    ]
    for text, model, message in tries:
        given = ["--text", text, "--model", model, "--output_dir", str(tmp_path / "out")]
        assert main(["analyze", "attention", *given]) == 1
        error = capfd.readouterr().err
        assert len(error.splitlines()) == 1 and message in error
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("analysis", ANALYSES)
def test_the_help_of_an_analysis_has_an_example_that_is_right(analysis, capsys):
    with pytest.raises(SystemExit):
        main(["analyze", analysis, "--help"])
    example = capsys.readouterr().out.splitlines()[1].strip()
    assert example.startswith(f"gpt1 analyze {analysis} --") and example.endswith(f"--output_dir runs/{analysis}")
