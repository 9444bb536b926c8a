"""What a run says of itself: metrics, the report by class, losses and their curve, predictions, and where it stops."""

import csv
import functools
import json
import math

import numpy as np
import pyarrow.parquet
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import TrainerCallback

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM, GPT1ForSequenceClassification
from modeling_gpt1.cli import main
from modeling_gpt1.training.finetune import FinetuningArguments
from modeling_gpt1.training.metrics import TaskMetrics, class_report
from modeling_gpt1.training.pretrain import perplexity
from modeling_gpt1.training.run import RunTrainer
from tokenization import GPT1Tokenizer, train_bpe


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Tiny checkpoints: a language model to start from, and a classifier of two classes."""
    directory = tmp_path_factory.mktemp("start")
    tokenizer = GPT1Tokenizer(task_format=True)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for name, head in (("lm", GPT1ForCausalLM), ("classifier", GPT1ForSequenceClassification)):
        head(GPT1Config(vocab_size=len(tokenizer), **shape)).save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)
    return directory


WORDS = ("good", "bad", "fair")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes, of which the validation data has two; scores; and two classes of Russian words."""
    directory = tmp_path_factory.mktemp("data")
    rows = [(f"this is {word}, number {i}", word) for i in range(8) for word in WORDS]
    files = {
        "train.csv": [("text", "label"), *rows, ("one more that is good", "good")],
        "validation.csv": [("text", "label"), *(row for row in rows[:12] if row[1] != "fair")],
        "two.csv": [("text", "label"), *(row for row in rows if row[1] != "fair")],
        "scores.csv": [("sentence1", "sentence2", "score"), *((f"a {i}", f"b {i}", i / 4) for i in range(12))],
        "russian.csv": [("text", "label"), *((f"слово {i}", "ab"[i % 2]) for i in range(8))],
    }
    for name, content in files.items():
        with (directory / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(content)
    return directory


@pytest.fixture
def finetune(start, data, tmp_path):
    def run(train: str, *flags: str, task: str = "classification", output: str = "model") -> int:
        given = ["--task", task, "--model", str(start / "lm"), "--train_file", str(data / train)]
        return main(["finetune", *given, "--output_dir", str(tmp_path / output), "--report_to", "none", *flags])

    return run


def results_of(directory) -> dict:
    return json.loads((directory / "all_results.json").read_text(encoding="utf-8"))


def log_of(directory) -> list[dict]:
    return json.loads((directory / "trainer_state.json").read_text())["log_history"]


def by_hand(references: np.ndarray, predictions: np.ndarray, index: int) -> tuple[float, float, float, int]:
    """Precision, recall, F1 and support of a class, from their definitions."""
    hits = int(((references == index) & (predictions == index)).sum())
    found, there = int((predictions == index).sum()), int((references == index).sum())
    precision, recall = hits / found if found else 0.0, hits / there if there else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return precision, recall, f1, there


@pytest.mark.parametrize("classes, occurring", [(2, 2), (2, 1), (3, 3), (3, 2), (5, 2)])
def test_f1_goes_by_the_number_of_classes_not_by_what_occurs(classes, occurring):
    random = np.random.default_rng(classes + occurring)
    references, predictions = random.integers(occurring, size=(2, 50))
    f1 = TaskMetrics(("f1",), classes=classes).compute(predictions=predictions, references=references)["f1"]
    each = [by_hand(references, predictions, index)[2] for index in range(classes)]
    assert f1 == pytest.approx(each[1] if classes == 2 else sum(each) / classes)
    if classes == occurring:
        average = "binary" if classes == 2 else "macro"
        assert f1 == pytest.approx(f1_score(references, predictions, average=average, zero_division=0))


def test_the_report_is_that_of_the_definitions():
    random = np.random.default_rng(0)
    references, predictions = random.integers(4, size=(2, 200)) % np.array([[3], [4]])  # class 3 has no support
    report = class_report(references, predictions, ["a", "b", "c", "d"], majority=2)
    for index, name in enumerate("abcd"):
        figures = report["classes"][name]
        expected = by_hand(references, predictions, index)
        assert [figures[key] for key in ("precision", "recall", "f1", "support")] == pytest.approx(expected)
    matrix = np.zeros((4, 4), dtype=int)
    for pair in zip(references, predictions, strict=True):
        matrix[pair] += 1
    assert report["confusion_matrix"]["true_by_predicted"] == matrix.tolist()
    assert report["accuracy"] == pytest.approx((references == predictions).mean())
    assert report["accuracy_of_majority_class"] == pytest.approx((references == 2).mean())
    assert report["positive_class"] is None


def test_correlation_of_what_is_not_finite_is_not_a_number():
    measured = TaskMetrics(("pearson", "spearmanr"), regression=True)
    figures = measured.compute(predictions=[1.0, math.inf, 2.0], references=[1.0, 2.0, 3.0])
    assert all(math.isnan(figure) for figure in figures.values())


def test_a_classification_is_told_class_by_class(finetune, data, tmp_path, capsys):
    validation = str(data / "validation.csv")
    assert finetune("train.csv", "--validation_file", validation, "--max_steps", "6") == 0
    assert "3 classes: bad (8 rows), fair (8 rows), good (9 rows)" in capsys.readouterr().out
    model = tmp_path / "model"
    results, report = results_of(model), json.loads((model / "eval_report.json").read_text())
    assert list(report["classes"]) == ["bad", "fair", "good"]
    assert [report["classes"][name]["support"] for name in report["classes"]] == [4, 0, 4]
    assert results["eval_f1"] == pytest.approx(sum(c["f1"] for c in report["classes"].values()) / 3)
    assert results["eval_accuracy"] == pytest.approx(report["accuracy"])
    assert report["majority_class"] == "good"
    assert results["eval_accuracy_of_majority_class"] == 0.5 == report["accuracy_of_majority_class"]
    assert results["eval_unk_share"] == results["train_unk_share"] == 0
    assert "eval_f1_positive_class" not in results
    assert (model / "eval_confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_of_all_rows_where_the_last_batch_of_a_training_is_dropped(finetune, data, tmp_path, capfd):
    flags = ["--dataloader_drop_last", "True", "--validation_file", str(data / "validation.csv")]
    sizes = ["--per_device_train_batch_size", "10", "--per_device_eval_batch_size", "3"]
    assert finetune("train.csv", *flags, *sizes, "--num_train_epochs", "1") == 0
    assert log_of(tmp_path / "model")[-1]["step"] == 2  # of 25 rows
    report = json.loads((tmp_path / "model/eval_report.json").read_text())
    assert sum(each["support"] for each in report["classes"].values()) == 8
    assert finetune("train.csv", *flags, "--per_device_train_batch_size", "26", output="none") == 1
    assert "leaves none of 25 examples: a batch is 26" in capfd.readouterr().err.splitlines()[-1]
    assert not any((tmp_path / "none").iterdir())


@pytest.mark.parametrize(
    "flag, value",
    [("prediction_loss_only", "True"), ("eval_do_concat_batches", "False"), ("batch_eval_metrics", "True")],
)
def test_what_leaves_no_answers_to_measure_is_refused(finetune, tmp_path, capfd, flag, value):
    assert finetune("train.csv", f"--{flag}", value) == 1
    assert f"--{flag} must be" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "model").exists()


def test_the_card_says_what_was_run(finetune, tmp_path):
    assert finetune("train.csv", "--max_steps", "6", "--per_device_train_batch_size", "10") == 0
    card = (tmp_path / "model/README.md").read_text()
    assert "- updates: 6\n- epochs: 2\n" in card and "accuracy_of" not in card
    assert finetune("train.csv", "--max_steps", "1", "--per_device_train_batch_size", "5", output="less") == 0
    assert "- updates: 1\n- epochs: 0.2\n" in (tmp_path / "less/README.md").read_text()


def test_of_two_classes_the_positive_one_is_named(finetune, data, tmp_path):
    assert finetune("two.csv", "--test_file", str(data / "two.csv"), "--max_steps", "2") == 0
    results, report = (json.loads((tmp_path / "model" / name).read_text())
                       for name in ("all_results.json", "test_report.json"))  # fmt: skip
    assert results["test_f1_positive_class"] == "good" == report["positive_class"]
    assert results["test_f1"] == pytest.approx(report["classes"]["good"]["f1"])


def test_unknown_characters_are_counted_and_warned_of(finetune, tmp_path, caplog):
    assert finetune("russian.csv", "--max_steps", "1") == 0
    tokenizer = GPT1Tokenizer()
    ids = [number for i in range(8) for number in tokenizer(f"слово {i}")["input_ids"]]
    share = ids.count(tokenizer.unk_token_id) / len(ids)
    assert share > 0.5 and results_of(tmp_path / "model")["train_unk_share"] == pytest.approx(share)
    assert f"the train data: {100 * share:.1f} % of the tokens are <unk>" in caplog.text


@pytest.mark.parametrize(
    "flags, metric, greater",
    [
        ([], "accuracy", True),
        (["--metric_for_best_model", "loss"], "loss", False),
        (["--metric_for_best_model", "f1"], "f1", True),
        (["--metric_for_best_model", "eval_accuracy", "--greater_is_better", "False"], "eval_accuracy", False),
        (["--greater_is_better", "False"], "accuracy", False),
    ],
)
def test_the_metric_that_was_asked_for_chooses_the_checkpoint(
    finetune, data, tmp_path, monkeypatch, flags, metric, greater
):
    seen = []
    monkeypatch.setattr("modeling_gpt1.training.finetune.train", lambda trainer: seen.append(trainer.args) or 1 / 0)
    assert finetune("train.csv", "--validation_file", str(data / "validation.csv"), *flags) == 1
    assert (seen[0].metric_for_best_model, seen[0].greater_is_better) == (metric, greater)
    assert seen[0].load_best_model_at_end


@pytest.mark.parametrize("metric, mode", [(None, "max"), ("loss", "min")])
def test_a_schedule_that_goes_by_the_metric_knows_which_way_is_up(tmp_path, metric, mode):
    schedule = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": metric}
    arguments = FinetuningArguments(output_dir=str(tmp_path), **schedule)
    arguments.choose_metric(("accuracy",))
    assert arguments.lr_scheduler_kwargs == {"mode": mode}


@pytest.mark.parametrize(
    "settings, best",
    [
        ({}, True),
        ({"eval_strategy": "no"}, False),
        ({"save_strategy": "no"}, False),
        ({"save_strategy": "best"}, True),
        ({"eval_strategy": "steps"}, False),
        ({"eval_strategy": "steps", "save_strategy": "steps"}, False),  # every twentieth of all steps, and 500
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 200}, False),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 200, "save_steps": 400}, True),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.3}, True),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.25}, False),
    ],
)
def test_the_best_is_the_result_where_every_checkpoint_is_evaluated(tmp_path, settings, best):
    """What cannot be both, `Trainer` refuses."""
    assert FinetuningArguments(output_dir=str(tmp_path), **settings).load_best_model_at_end is best


def test_plain_arguments_leave_the_metric_open(tmp_path):
    arguments = FinetuningArguments(output_dir=str(tmp_path))
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == (None, None)


@pytest.mark.parametrize("steps, flags, count", [(6, [], 6), (60, [], 20), (60, ["--logging_steps", "30"], 2)])
def test_a_curve_has_some_twenty_points(finetune, tmp_path, steps, flags, count):
    flags = [*flags, "--max_steps", str(steps), "--save_strategy", "no"]
    assert finetune("train.csv", *flags, "--per_device_train_batch_size", "4") == 0
    losses = [entry for entry in log_of(tmp_path / "model") if "loss" in entry]
    assert len(losses) == count
    for entry in losses:
        assert entry["loss"] == pytest.approx(entry["task_loss"] + 0.5 * entry["lm_loss"], rel=1e-4)


def test_the_two_losses_are_means_over_all_of_a_step(finetune, tmp_path):
    flags = ["--max_steps", "3", "--logging_steps", "1", "--gradient_accumulation_steps", "2", "--save_strategy", "no"]
    assert finetune("scores.csv", *flags, "--per_device_train_batch_size", "3", task="similarity") == 0
    for entry in (entry for entry in log_of(tmp_path / "model") if "loss" in entry):
        assert entry["loss"] == pytest.approx(entry["task_loss"] + 0.5 * entry["lm_loss"], rel=1e-4)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_training_stops_at_a_loss_that_is_not_finite(finetune, tmp_path, monkeypatch, capfd, at_once, value):
    forward, calls = GPT1ForSequenceClassification.forward, []

    @functools.wraps(forward)  # `Trainer` reads the signature
    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        if self.training:
            calls.append(1)
            if len(calls) == 6:
                output.loss = output.loss * value
        return output

    def build(self, *args, **kwargs):
        initialize(self, *args, **kwargs)
        self._looks_at_once = at_once  # an accelerator does not

    initialize = RunTrainer.__init__
    monkeypatch.setattr(RunTrainer, "__init__", build)
    monkeypatch.setattr(GPT1ForSequenceClassification, "forward", broken)
    flags = ["--max_steps", "20", "--save_strategy", "steps", "--save_steps", "4", "--logging_steps", "20"]
    assert finetune("train.csv", *flags, "--per_device_train_batch_size", "4") == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert "gpt1 finetune: the loss of step 6 is not finite" in said
    assert f"the last good checkpoint is {tmp_path / 'model/checkpoint-4'}" in said
    assert len(calls) == (6 if at_once else 8)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["checkpoint-4"]
    kept = GPT1ForSequenceClassification.from_pretrained(tmp_path / "model/checkpoint-4")
    assert all(parameter.isfinite().all() for parameter in kept.parameters())


def test_weights_that_are_not_finite_are_not_saved(finetune, tmp_path, monkeypatch, capfd):
    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            if state.global_step == 2:
                model.score.weight.data[0, 0] = math.nan

    trainer = RunTrainer.__init__
    monkeypatch.setattr(
        RunTrainer, "__init__", lambda self, *a, **k: trainer(self, *a, **k) or self.add_callback(Break())
    )
    flags = ["--max_steps", "4", "--save_strategy", "steps", "--save_steps", "1"]
    assert finetune("train.csv", *flags, "--per_device_train_batch_size", "4") == 1
    assert "after step 2 score.weight is not finite; training has stopped" in capfd.readouterr().err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["checkpoint-1"]


def test_a_perplexity_beyond_all_floats_is_infinite():
    assert perplexity(2.0) == math.exp(2.0)
    assert perplexity(1e4) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_an_evaluation_does_not_end_a_training(tmp_path):
    """A text without blanks is one word of thousands of tokens: the perplexity per word is beyond all floats."""
    random = np.random.default_rng(0)
    (tmp_path / "dna.txt").write_text("".join(random.choice(list("acgt"), size=4000)))
    train_bpe([tmp_path / "dna.txt"], num_merges=4, show_progress=False).save_pretrained(tmp_path / "tokenizer")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    (tmp_path / "tiny.json").write_text(json.dumps(shape | {"max_position_embeddings": 32}))
    flags = {
        "corpus": "dna.txt", "validation_corpus": "dna.txt", "tokenizer": "tokenizer", "config": "tiny.json",
        "output_dir": "model", "cache_dir": "cache",
    }  # fmt: skip
    given = [text for name, value in flags.items() for text in (f"--{name}", str(tmp_path / value))]
    more = ["--max_steps", "2", "--eval_steps", "1", "--per_device_train_batch_size", "2", "--report_to", "none"]
    assert main(["pretrain", *given, *more, "--prompt", "a"]) == 0
    results = results_of(tmp_path / "model")
    assert results["eval_word_perplexity"] == math.inf and math.isfinite(results["eval_perplexity"])
    assert results["eval_unk_share"] == results["train_unk_share"] == 0
    assert "| validation | word_perplexity | inf |" in (tmp_path / "model/README.md").read_text()


@pytest.fixture
def labelled(start, data, tmp_path):
    """Predicts for a file; gives what was written, column by column."""

    def predict(name: str, output: str) -> dict[str, list]:
        given = ["--input_file", str(data / name), "--output_file", str(tmp_path / "new" / output)]
        assert main(["predict", "--model", str(start / "classifier"), *given]) == 0
        path = tmp_path / "new" / output
        assert [file.name for file in path.parent.iterdir()] == [output]
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path).to_pydict()
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                rows = [json.loads(line) for line in file]
            else:
                rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
        return {key: [row[key] for row in rows] for key in rows[0]}

    return predict


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_predictions_stand_beside_the_input_in_the_kind_of_file_asked_for(labelled, data, kind):
    written = labelled("two.csv", f"labels.{kind}")
    with (data / "two.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert written["text"] == [row["text"] for row in rows]
    assert written["input_label"] == [row["label"] for row in rows]  # the input's own
    if kind == "jsonl":
        assert list(written) == ["text", "input_label", "label", "probabilities"]
        probabilities = [[row["LABEL_0"], row["LABEL_1"]] for row in written["probabilities"]]
    else:
        columns = ["probability_LABEL_0", "probability_LABEL_1"]
        assert list(written) == ["text", "input_label", "label", *columns]
        probabilities = [list(map(float, row)) for row in zip(*(written[name] for name in columns), strict=True)]
    assert np.sum(probabilities, axis=1) == pytest.approx(np.ones(len(rows)))
    assert written["label"] == [f"LABEL_{row.index(max(row))}" for row in probabilities]


def test_rows_that_cannot_be_labelled_can_be_skipped(start, tmp_path, caplog):
    (tmp_path / "in.csv").write_text("id,text\n7,one\n8,\n9,two\n")
    given = ["--input_file", str(tmp_path / "in.csv"), "--output_file", str(tmp_path / "out.csv")]
    model = str(start / "classifier")
    assert main(["predict", "--model", model, *given, "--skip_bad_rows", "True"]) == 0
    with (tmp_path / "out.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["7", "9"]
    assert "in.csv: 1 rows skipped" in caplog.text


def test_losses_of_a_plain_trainer_are_left_alone(start):
    """The two losses come with the head's output; nothing else is asked of those who train it themselves."""
    model = GPT1ForSequenceClassification.from_pretrained(start / "classifier").train()
    output = model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([1]))
    assert output.loss.item() == pytest.approx((output.task_loss + 0.5 * output.lm_loss).item())
