"""The command: what it writes, what it agrees with, and how it refuses bad input."""

import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OpenAIGPTTokenizerFast,
    Trainer,
    pipeline,
)

from hub_upload import export
from modeling_gpt1 import (
    GPT1_MINI,
    NAMED_CONFIGURATIONS,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    cli,
)
from modeling_gpt1.cli import COMMANDS, main
from modeling_gpt1.inference import GenerateArguments, PredictArguments, Predictor
from modeling_gpt1.processor import compute_dtype
from modeling_gpt1.scoring import batches_of_like_length
from modeling_gpt1.training import finetune as finetuning
from modeling_gpt1.training.data import Columns, Split, encode
from modeling_gpt1.training.finetune import FinetuningArguments, TaskArguments
from modeling_gpt1.training.finetune import finetune as finetune_function
from modeling_gpt1.training.pretrain import CorpusArguments
from modeling_gpt1.training.tasks import TASKS
from tokenization import GPT1Tokenizer


pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(autouse=True, scope="module")
def tiny_mini():
    """Lets `--config mini` be a model of seconds."""
    mini = dict(NAMED_CONFIGURATIONS["mini"])
    NAMED_CONFIGURATIONS["mini"].update(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    yield
    NAMED_CONFIGURATIONS["mini"].update(mini)


ROWS = {
    "classification": [{"text": f"this is {w}, number {i}", "label": w} for i in range(6) for w in ("good", "bad")],
    "entailment": [
        {"premise": f"it is {w}", "hypothesis": f"number {i}", "label": w} for i in range(4) for w in ("a", "b", "c")
    ],
    "similarity": [{"sentence1": f"one {i}", "sentence2": f"two {i}", "score": i / 4} for i in range(12)],
    "multiple-choice": [
        {
            "article": "A long story. " * 9,
            "question": f"Which, {i}?",
            "options": ["x", "y z", "w"],
            "answer": "ABC"[i % 3],
        }
        for i in range(9)
    ],
}
CLASSES = {
    "classification": GPT1ForSequenceClassification,
    "entailment": GPT1ForEntailment,
    "similarity": GPT1ForSimilarity,
    "multiple-choice": GPT1ForMultipleChoice,
}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def finetune(task, train, output, *flags):
    flags = [*flags] or ["--max_steps", "2"]
    start = [] if "--model" in flags else ["--config", "mini"]
    return main(["finetune", "--task", task, *start, "--train_file", train, "--output_dir", str(output), *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directories that `gpt1 finetune` wrote for each kind of task, and their data."""
    directories = {}
    for task, rows in ROWS.items():
        path = tmp_path_factory.mktemp(task)
        data = write_rows(path / "data.jsonl", rows)
        flags = ("--validation_file", data, "--test_file", data, "--num_train_epochs", "2")
        assert finetune(task, data, path / "model", *flags) == 0
        directories[task] = path / "model", data
    return directories


@pytest.mark.parametrize("task", ROWS)
def test_finetune_writes_what_trainer_writes(trained, task, flat_files):
    directory, _ = trained[task]
    files = {file.name for file in directory.iterdir()}
    assert files >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "trainer_state.json",
        "all_results.json",
        "README.md",
        *flat_files,
    }
    results = json.loads((directory / "all_results.json").read_text())
    metric = "pearson" if task == "similarity" else "accuracy"
    assert {"train_loss", f"eval_{metric}", f"test_{metric}", "eval_loss"} <= set(results)
    assert results[f"eval_{metric}"] == results[f"test_{metric}"]
    card = (directory / "README.md").read_text()
    assert f"| test | {metric} | {results[f'test_{metric}']:.4f} |" in card
    assert any(name.startswith("checkpoint-") for name in files)


def test_a_compiled_fine_tuning_takes_texts_of_any_length(tmp_path):
    rows = [{"text": "word " * (3 + 2 * i), "label": "ab"[i % 2]} for i in range(12)]
    flags = ("--max_steps", "3", "--per_device_train_batch_size", "2", "--torch_compile", "True")
    data = write_rows(tmp_path / "data.jsonl", rows)
    assert finetune("classification", data, tmp_path / "model", *flags, "--torch_compile_backend", "eager") == 0
    results = json.loads((tmp_path / "model" / "all_results.json").read_text())
    assert 0 < results["train_loss"] < 20


@pytest.mark.parametrize("kind", ROWS)
def test_predict_knows_the_columns_of_every_task_of_a_head(trained, kind):
    predictor = Predictor(str(trained[kind][0]))
    for task in (task for task in TASKS.values() if task.head is CLASSES[kind]):
        text, choices = task.text_columns[0], task.choice_columns[0] if task.choice_columns else ()
        found = predictor.find_columns(Split(dict.fromkeys(text + choices, ["x"]), "a file", [1]))
        assert (found.text, found.choices) == (text, choices)


def test_what_is_written_like_a_special_token_is_text(trained, tmp_path):
    """Else a row could end itself, or divide a pair."""
    directory, _ = trained["similarity"]
    tokenizer = GPT1Tokenizer.from_pretrained(directory)
    columns = {"sentence1": ["a _delimiter_ b"], "sentence2": ["c _classify_"]}
    (ids,) = encode(Split(columns, "a file", [1]), Columns(("sentence1", "sentence2"), None), tokenizer, 64)[
        "input_ids"
    ]
    assert ids == tokenizer("a _delimiter_ b", "c _classify_", split_special_tokens=True).input_ids
    assert ids.count(tokenizer.sep_token_id) == ids.count(tokenizer.cls_token_id) == 1


def test_a_test_file_has_its_labels_where_the_flag_says(tmp_path):
    """Also for a task whose official files have them elsewhere."""
    rows = [{"sentence": row["text"], "gold": "10"[row["label"] == "bad"]} for row in ROWS["classification"]]
    data = write_rows(tmp_path / "data.jsonl", rows)
    flags = ("--label_column", "gold", "--test_file", data, "--max_steps", "1")
    assert finetune("sst2", data, tmp_path / "model", *flags) == 0
    assert "test_accuracy" in json.loads((tmp_path / "model/all_results.json").read_text())


def test_predict_reads_what_was_trained_on(tmp_path):
    """The columns that the flags named, and as many tokens."""
    rows = [{"text": "a note", "review": f"{row['text']}, and so on"} for row in ROWS["classification"]]
    rows = [row | {"label": known["label"]} for row, known in zip(rows, ROWS["classification"], strict=True)]
    data = write_rows(tmp_path / "data.jsonl", rows)
    flags = ("--text_columns", "review", "--max_length", "8", "--validation_file", data, "--max_steps", "2")
    assert finetune("classification", data, tmp_path / "model", *flags, "--save_strategy", "no") == 0
    predictor = Predictor(str(tmp_path / "model"))
    model, tokenizer = predictor.model, GPT1Tokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.model_max_length == 8
    for row, answer in zip(rows, predictor(datasets.Dataset.from_list(rows)), strict=True):
        ids = tokenizer(row["review"], truncation=True, return_tensors="pt").input_ids
        assert ids.shape == (1, 8)
        assert [*answer["probabilities"].values()] == pytest.approx(model(ids).logits[0].softmax(-1).tolist())
    with pytest.raises(ValueError, match="review"):
        predictor(datasets.Dataset.from_list([{"text": "a note"}]))


def test_predict_takes_as_many_texts_as_were_trained_on(tmp_path, capfd):
    """And so does a checkpoint of the run, which has its weights alone."""
    rows = [{"q": "a", "a": row["text"], "label": row["label"]} for row in ROWS["classification"]]
    data = write_rows(tmp_path / "data.jsonl", rows)
    steps = ("--max_steps", "1", "--save_strategy", "steps", "--save_steps", "1")
    for name, columns in (("pair", ("q", "a")), ("one", ("a",))):
        assert finetune("classification", data, tmp_path / name, "--text_columns", *columns, *steps) == 0
    for model, given, said in (
        ("pair", ["--text", "x"], "this model takes a pair of texts: give --text_pair as well"),
        ("pair/checkpoint-1", ["--text", "x"], "this model takes a pair of texts"),
        ("one", ["--text", "x", "--text_pair", "y"], "this model takes one text: it goes without --text_pair"),
        ("pair", ["--text_columns", "a"], "--text_columns takes two columns, as in the training, got 1"),
        ("one/checkpoint-1", ["--text_columns", "q", "a"], "--text_columns takes one column, as in the training"),
    ):
        files = [] if "--text" in given else ["--input_file", data, "--output_file", str(tmp_path / "out.csv")]
        assert main(["predict", "--model", str(tmp_path / model), *given, *files]) == 1
        assert said in capfd.readouterr().err.splitlines()[-1]
    assert main(["predict", "--model", str(tmp_path / "pair"), "--text", "x", "--text_pair", "y"]) == 0
    files = ["--input_file", data, "--output_file", str(tmp_path / "out.csv")]
    assert main(["predict", "--model", str(tmp_path / "pair/checkpoint-1"), *files]) == 0


def test_a_table_of_another_kind_is_learned_as_the_same_rows_in_ours(tmp_path, capfd):
    """Other columns, separator and encoding, each named by its flag, to `finetune` and `predict`."""
    rows = [row | {"question": f"Où, {i} ?"} for i, row in enumerate(ROWS["multiple-choice"])]
    ours = write_rows(tmp_path / "data.jsonl", rows)
    other = tmp_path / "data.csv"
    with other.open("w", encoding="cp1252", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(("story", "asked", "first", "second", "third", "right"))
        table.writerows((row["article"], row["question"], *row["options"], row["answer"]) for row in rows)
    read = ("--delimiter", ";", "--encoding", "cp1252")
    named = ("--text_columns", "story", "asked", "--choice_columns", "first", "second", "third")
    for name, data, flags in (
        ("ours", ours, ()),
        ("other", str(other), (*read, *named, "--label_column", "right")),
    ):
        assert finetune("multiple-choice", data, tmp_path / name, "--max_steps", "2", *flags) == 0
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("ours", "other")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    model, answers = str(tmp_path / "ours"), [tmp_path / "ours.jsonl", tmp_path / "other.jsonl"]
    for data, output, flags in ((ours, answers[0], ()), (str(other), answers[1], (*read, *named))):
        assert main(["predict", "--model", model, "--input_file", data, "--output_file", str(output), *flags]) == 0
    told = [[json.loads(line)["probabilities"] for line in file.read_text().splitlines()] for file in answers]
    assert told[0] == told[1] and len(told[0]) == len(rows)


@pytest.mark.parametrize("task", ROWS)
def test_predict_agrees_with_the_model_and_the_pipeline(trained, tmp_path, task):
    directory, data = trained[task]
    output = tmp_path / "labels.jsonl"
    assert main(["predict", "--model", str(directory), "--input_file", data, "--output_file", str(output)]) == 0
    predictions = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(predictions) == len(ROWS[task])

    predictor = Predictor(str(directory))
    model, tokenizer = predictor.model, predictor.tokenizer
    assert type(model) is CLASSES[task]
    assert AutoTokenizer.from_pretrained(directory)("a", "b")["input_ids"] == tokenizer("a", "b")["input_ids"]
    texts = [[row[column] for column in row if column in ("text", "premise", "hypothesis", "sentence1", "sentence2")]
             for row in ROWS[task]]  # fmt: skip
    if task == "multiple-choice":
        for row, prediction in zip(ROWS[task], predictions, strict=True):
            context = row["article"] + " " + row["question"]
            batch = tokenizer([context] * 3, row["options"], padding=True, return_tensors="pt")
            logits = model(**{name: tensor[None] for name, tensor in batch.items()}).logits[0]
            assert prediction["probabilities"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
            assert prediction["label"] == logits.argmax().item()
        return
    classify = pipeline("text-classification", model=str(directory))
    assert type(classify.model) is CLASSES[task]
    inputs = [text[0] if len(text) == 1 else {"text": text[0], "text_pair": text[1]} for text in texts]
    for batch_size in (1, 5):
        expected = classify(inputs, batch_size=batch_size)
        for got, want in zip(predictions, expected, strict=True):
            if task == "similarity":
                assert got["score"] == pytest.approx(want["score"], abs=1e-5)
            else:
                assert got["label"] == want["label"]
                assert got["probabilities"][want["label"]] == pytest.approx(want["score"], abs=1e-5)
    one = classify(inputs[0])
    assert (one if isinstance(one, dict) else one[0])["score"] == pytest.approx(expected[0]["score"], abs=1e-5)


@pytest.mark.parametrize("task", ["classification", "multiple-choice"])
def test_predictions_do_not_depend_on_order_or_batches(trained, task):
    directory, data = trained[task]
    rows = datasets.Dataset.from_json(data)
    for column in ("text", "article"):  # of many lengths
        if column in rows.column_names:
            rows = rows.map(lambda row, i, c=column: {c: row[c] + " and so on" * (i % 5)}, with_indices=True)
    expected = Predictor(str(directory), batch_size=1)(rows)
    order = torch.randperm(len(rows)).tolist()
    for batch_size in (3, 100):
        got = Predictor(str(directory), batch_size)(rows.select(order))
        for index, prediction in zip(order, got, strict=True):
            assert prediction["label"] == expected[index]["label"]
            probabilities = [list(p.values()) if isinstance(p, dict) else p
                             for p in (prediction["probabilities"], expected[index]["probabilities"])]  # fmt: skip
            assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-6)


def test_batches_are_of_like_length():
    lengths = torch.randint(1, 300, (500,)).tolist()
    batches = batches_of_like_length(lengths, 16)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    of_batch = [[lengths[index] for index in batch] for batch in batches]
    assert all(len(batch) <= 16 and 2 * min(batch) >= max(batch) for batch in of_batch)
    assert sum(of_batch, []) == sorted(lengths, reverse=True)
    assert len(batches) <= 500 / 16 + 10  # a cut for each halving of the length
    assert batches_of_like_length([], 16) == []


def test_predict_in_bfloat16_is_close(trained):
    directory, data = trained["classification"]
    rows = datasets.Dataset.from_json(data)
    exact, rounded = (Predictor(str(directory), dtype=dtype) for dtype in ("auto", "bfloat16"))
    assert exact.model.dtype == torch.float32
    assert rounded.model.dtype == compute_dtype(torch.bfloat16, rounded.model.device)  # as the processor is fast at
    for a, b in zip(exact(rows), rounded(rows), strict=True):
        assert b["probabilities"] == pytest.approx(a["probabilities"], abs=0.02)


def test_predict_prints_one_text(trained, capsys):
    directory, _ = trained["classification"]
    assert main(["predict", "--model", str(directory), "--text", "this is good"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["label"] in ("good", "bad")
    assert sum(printed["probabilities"].values()) == pytest.approx(1)
    directory, _ = trained["similarity"]
    assert main(["predict", "--model", str(directory), "--text", "one", "--text_pair", "two"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["score"], float)


@pytest.mark.parametrize(
    "task, labels", [("sst2", [0, 1]), ("cola", ["1", "0"]), ("mrpc", [1, 0]), ("mnli", ["neutral", "entailment"])]
)
def test_named_tasks_take_numbers_and_names(tmp_path, task, labels):
    row = {"sentence": "a b", "sentence1": "a", "sentence2": "b", "premise": "a", "hypothesis": "b"}
    data = write_rows(tmp_path / "data.jsonl", [row | {"label": label} for label in labels * 3])
    assert finetune(task, data, tmp_path / "model", "--validation_file", data, "--max_steps", "1") == 0
    config = Predictor(str(tmp_path / "model")).config
    expected = {"sst2": "positive", "cola": "acceptable", "mrpc": "equivalent", "mnli": "neutral"}
    assert config.id2label[1] == expected[task]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_reads_each_kind_of_file(tmp_path, kind):
    rows = datasets.Dataset.from_list([{"body": 'He said "no', "kind": k} for k in ("null", "NA", "null", "NA")])
    path = tmp_path / f"data.{kind}"
    if kind == "tsv":
        path.write_text("body\tkind\n" + "".join(f"{row['body']}\t{row['kind']}\n" for row in rows))
    else:
        {"csv": rows.to_csv, "jsonl": rows.to_json, "parquet": rows.to_parquet}[kind](str(path))
    flags = ("--text_columns", "body", "--label_column", "kind", "--max_steps", "1")
    assert finetune("classification", str(path), tmp_path / "model", *flags) == 0
    assert Predictor(str(tmp_path / "model")).config.label2id == {"NA": 0, "null": 1}


def test_a_float_label_makes_a_regression(tmp_path):
    rows = [{"text": f"number {i}", "label": i / 3} for i in range(8)]
    data = write_rows(tmp_path / "data.jsonl", rows)
    assert finetune("classification", data, tmp_path / "model", "--validation_file", data, "--max_steps", "2") == 0
    assert Predictor(str(tmp_path / "model")).config.problem_type == "regression"
    assert "eval_pearson" in json.loads((tmp_path / "model/all_results.json").read_text())


def test_a_finetuned_model_goes_on_with_its_labels(trained, tmp_path):
    directory, data = trained["classification"]
    assert finetune("classification", data, tmp_path / "again", "--model", str(directory), "--max_steps", "1") == 0
    assert Predictor(str(tmp_path / "again")).config.label2id == {"bad": 0, "good": 1}


@pytest.mark.parametrize("saved", [3, 4])  # after an epoch, and within one
def test_resumes_to_the_same_result(tmp_path, saved):
    data = write_rows(tmp_path / "data.jsonl", ROWS["classification"])
    flags = ("--validation_file", data, "--per_device_train_batch_size", "4", "--num_train_epochs", "3")
    flags += tuple(f"--{what}_{how}" for what in ("save", "eval") for how in ("strategy=steps", f"steps={saved}"))
    assert finetune("classification", data, tmp_path / "whole", *flags, "--save_total_limit", "3") == 0
    # A run that was killed leaves just its first checkpoint.
    (tmp_path / "resumed").mkdir()
    (tmp_path / f"whole/checkpoint-{saved}").rename(tmp_path / f"resumed/checkpoint-{saved}")
    assert finetune("classification", data, tmp_path / "resumed", *flags, "--resume_from_checkpoint", "True") == 0
    for name in ("whole", "resumed"):
        assert json.loads((tmp_path / name / "trainer_state.json").read_text())["global_step"] == 9
    whole, resumed = (
        GPT1ForSequenceClassification.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "resumed")
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize("use_cache", [True, False])
def test_training_leaves_the_cache_as_it_was(trained, tmp_path, monkeypatch, use_cache):
    train = Trainer.train

    def without_cache(trainer, *args, **kwargs):
        trainer.model.config.use_cache = False
        return train(trainer, *args, **kwargs)

    monkeypatch.setattr(Trainer, "train", without_cache)
    monkeypatch.setitem(NAMED_CONFIGURATIONS["mini"], "use_cache", use_cache)
    assert finetune("classification", trained["classification"][1], tmp_path / "tuned") == 0
    (tmp_path / "book.txt").write_text("A line of a book.\n" * 200)
    corpus = ["--corpus", str(tmp_path / "book.txt"), "--cache_dir", str(tmp_path / "cache")]
    settings = ["--max_steps", "1", "--per_device_train_batch_size", "1", "--output_dir", str(tmp_path / "pretrained")]
    assert main(["pretrain", "--config", "mini", *corpus, *settings]) == 0
    for directory in (tmp_path / "tuned", tmp_path / "pretrained"):
        assert json.loads((directory / "config.json").read_text())["use_cache"] is use_cache


@pytest.fixture
def settings_of(monkeypatch):
    """What `gpt1 finetune` would train with, by name."""
    parsed = {}
    monkeypatch.setattr(cli, "_publish", lambda *_: None)
    monkeypatch.setattr(finetuning, "finetune", lambda task, training: parsed.update(vars(task) | vars(training)))

    def of(*flags):
        assert main(["finetune", "--output_dir", "out", *flags]) == 0
        return dict(parsed)

    return of


@pytest.mark.parametrize("task", TASKS)
def test_gpt1_mini_has_settings_of_its_own(settings_of, task):
    paper = {"learning_rate": 6.25e-5, "warmup_steps": 0.002, "num_train_epochs": 3, "per_device_train_batch_size": 32}
    paper["lm_coef"] = None
    own = {"learning_rate": 2e-4, "warmup_steps": 0.1, "num_train_epochs": 4}
    small = TASKS[task].head is GPT1ForMultipleChoice or task in ("classification", "entailment", "similarity")
    own |= {"per_device_train_batch_size": 16} if small else {}
    own |= {"learning_rate": 3e-4, "num_train_epochs": 6} if task == "cola" else {}
    for flags in ([], ["--model", "gpt1-mini"], ["--model", GPT1_MINI], ["--model=gpt1-mini"]):
        settings = settings_of("--task", task, *flags)
        assert settings["model"] == GPT1_MINI
        assert {name: settings[name] for name in paper} == {name: own.get(name, paper[name]) for name in paper}
    for flags in (["--model", "some/other"], ["--config", "mini"]):
        settings = settings_of("--task", task, *flags)
        assert {name: settings[name] for name in paper} == paper
    settings = settings_of("--task", task, "--learning_rate", "1e-3")
    assert settings["learning_rate"] == 1e-3 and settings["warmup_steps"] == own["warmup_steps"]


def test_a_bare_flag_is_true(settings_of):
    settings = settings_of(
        "--task", "sst2", "--regression", "--load_best_model_at_end", "--hub_private_repo", "--bf16"
    )
    flags = ("regression", "load_best_model_at_end", "hub_private_repo")
    assert [settings[name] for name in flags] == [True, True, True]
    assert settings_of("--task", "sst2", "--regression", "False")["regression"] is False


def test_finetune_tells_what_it_takes_from_the_recipe(trained, tmp_path, monkeypatch, language_model, capfd):
    monkeypatch.setattr("modeling_gpt1.flags.GPT1_MINI", language_model)
    monkeypatch.setattr(finetuning, "GPT1_MINI", language_model)
    flags = ["--model", "lm", "--max_steps", "1", "--learning_rate", "1e-3"]
    assert finetune("classification", trained["classification"][1], tmp_path / "tuned", *flags) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("gpt1-mini's settings")]
    assert "--warmup_steps 0.1" in line and "learning_rate" not in line


def test_every_command_knows_gpt1_mini_by_its_name():
    arguments = {"corpus": ["books"], "model": "gpt1-mini", "tokenizer": "gpt1-mini"}
    assert CorpusArguments(**arguments).model == CorpusArguments(**arguments).tokenizer == GPT1_MINI
    assert GenerateArguments("It was").model == GenerateArguments("It was", model="gpt1-mini").model == GPT1_MINI
    assert PredictArguments("gpt1-mini").model == GPT1_MINI


@pytest.fixture
def language_model(tmp_path, tiny_config):
    directory = tmp_path / "lm"
    tokenizer = GPT1Tokenizer()
    GPT1ForCausalLM(tiny_config(vocab_size=len(tokenizer))).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def test_generate_agrees_with_the_pipeline(language_model, capsys):
    assert main(["generate", "--model", language_model, "--prompt", "the cat", "--max_new_tokens", "5"]) == 0
    printed = capsys.readouterr().out
    generate = pipeline("text-generation", model=language_model)
    generated = generate("the cat", max_new_tokens=5, do_sample=False)
    assert printed == generated[0]["generated_text"] + "\n"
    assert printed.startswith("the cat ")
    beams = ["--num_beams", "3", "--max_new_tokens", "5"]
    assert main(["generate", "--model", language_model, "--prompt", "the cat", *beams]) == 0
    generated = generate("the cat", max_new_tokens=5, num_beams=3, do_sample=False)
    assert capsys.readouterr().out == generated[0]["generated_text"] + "\n"
    sampled = ["--do_sample", "True", "--num_return_sequences", "2", "--seed", "3", "--max_new_tokens", "5"]
    texts = []
    for _ in range(2):
        assert main(["generate", "--model", language_model, "--prompt", "the cat", *sampled]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 2


def test_train_tokenizer_writes_a_tokenizer_and_its_report(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat, and the cat was fat.\n" * 50, encoding="utf-8")
    arguments = ["train-tokenizer", str(text), "--num_merges", "12", "--output_dir", str(tmp_path / "bpe")]
    assert main([*arguments, "--held_out", str(text)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "bpe/report.json").read_text(encoding="utf-8"))
    tokenizer = GPT1Tokenizer.from_pretrained(tmp_path / "bpe")
    assert tokenizer.tokenize("the cat") == ["the</w>", "cat</w>"]
    assert main(arguments) == 1, "the folder is there already"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    assert f"usage: gpt1 {command}" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [[], ["nothing"], ["finetune", "--task", "chess"], ["predict", "--modell", "x"]])
def test_wrong_usage_exits_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as exit:
        main(wrong)
    assert exit.value.code == 2


def bad_inputs(tmp_path, trained):
    """Name, what the one line must say, and the command's arguments."""
    good = write_rows(tmp_path / "good.jsonl", ROWS["classification"])
    other = write_rows(tmp_path / "other.jsonl", [{"text": "a", "label": "new"}, {"text": "b", "label": "good"}])
    answers = write_rows(tmp_path / "answers.jsonl", [ROWS["multiple-choice"][0] | {"answer": "D"}])
    uneven = write_rows(
        tmp_path / "uneven.jsonl", [*ROWS["multiple-choice"], ROWS["multiple-choice"][0] | {"options": ["a", "b"]}]
    )
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text("text,label\n")
    (tmp_path / "broken.jsonl").write_text('{"text": \n')
    (tmp_path / "data.xls").write_text("text")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/config.json").write_text("{}")
    out = str(tmp_path / "out")
    classifier = str(trained["classification"][0])

    def train(file, *flags, task="classification", output=out):
        start = [] if "--model" in flags else ["--config", "mini"]
        return ["finetune", "--task", task, *start, "--train_file", str(file), "--output_dir", output, *flags]

    yield "missing file", "no such file", train(tmp_path / "none.csv")
    yield "empty file", "is empty", train(tmp_path / "empty.csv")
    yield "no rows", "no data", train(tmp_path / "header.csv")
    yield "broken file", "cannot be read as JSONL", train(tmp_path / "broken.jsonl")
    yield "unknown kind", "unknown kind of file", train(tmp_path / "data.xls")
    yield "missing column", "no column 'sentence'; its columns are text, label", train(good, task="sst2")
    yield "missing named column", "no column 'body'", train(good, "--text_columns", "body")
    yield "label unknown in validation", "label 'new' in", train(good, "--validation_file", other)
    yield "label unknown to the model", "the labels are bad, good", train(other, "--model", classifier)
    yield "answer out of range", "none of its 3 choices", train(answers, task="multiple-choice")
    yield "uneven choices", "same number of choices", train(uneven, task="multiple-choice")
    yield (
        "text for a score",
        "regression",
        train(write_rows(tmp_path / "s.jsonl", [{"sentence1": "a", "sentence2": "b", "score": "x"}]), task="stsb"),
    )
    yield "another run's directory", "holds another run", train(good, output=str(tmp_path / "used"))
    yield "no model", "no checkpoint at", train(good, "--model", str(tmp_path / "nothing"))
    yield "two starts", "give one of them", train(good, "--model", "gpt1-mini", "--config", "mini")
    yield "no configuration", "no configuration giant", train(good, "--config", "giant")
    yield "no model in it", "no config.json", train(good, "--model", str(tmp_path))
    yield "no model on the Hub", "no checkpoint some/model", train(good, "--model", "some/model")
    yield "too long", "--max_length", train(good, "--max_length", "513")
    yield "one text column for a pair", "two columns", train(good, "--text_columns", "text", task="similarity")
    yield "no data on the Hub", "no data set on the Hub", ["finetune", "--task", "classification", "--output_dir", out]
    yield (
        "no training file",
        "--train_file",
        ["finetune", "--task", "sst2", "--validation_file", good, "--output_dir", out, "--label_column", "label"],
    )
    one = write_rows(tmp_path / "one.jsonl", ROWS["classification"][::2])
    yield "one label only", "one label only, 'good'", train(one)
    task = write_rows(tmp_path / "task.jsonl", [{"sentence": "a", "label": 0}])
    yield "another task's model", "the model's labels are bad, good", train(task, "--model", classifier, task="sst2")
    entailment = str(trained["entailment"][0])
    yield "predict half a pair", "--text_pair", ["predict", "--model", entailment, "--text", "a"]
    yield "predict without text", "either --text or --input_file", ["predict", "--model", classifier]
    yield (
        "predict without a model",
        "no checkpoint at",
        ["predict", "--model", str(tmp_path / "nothing"), "--text", "a"],
    )
    yield (
        "predict a missing column",
        "no column 'body'",
        [
            "predict",
            "--model",
            classifier,
            "--input_file",
            good,
            "--output_file",
            out + ".jsonl",
            "--text_columns",
            "body",
        ],
    )


def test_a_checkpoint_that_lacks_parameters_is_refused_by_every_command(trained, language_model, tmp_path, capfd):
    """No answer comes from weights that were made up, and nothing is trained on them unawares."""
    classifier, data = trained["classification"]
    out = str(tmp_path / "out")
    jobs = {
        ("predict", "score.bias"): ["predict", "--text", "a", "--model"],
        ("convert", "score.bias"): ["convert", "--to", "openai-gpt"],
        ("push", "score.bias"): ["push", "user/model", "--dry_run"],
        ("finetune", "model.layers.1.mlp.up_proj.weight"): [
            *("finetune", "--task", "classification", "--train_file", data, "--output_dir", out, "--model")
        ],
        ("generate", "model.layers.0.attn_norm.bias"): ["generate", "--prompt", "a", "--model"],
        ("pretrain", "model.embed_positions.weight"): ["pretrain", "--corpus", data, "--output_dir", out, "--model"],
    }
    for number, ((command, lost), arguments) in enumerate(jobs.items()):
        source = Path(language_model if command in ("generate", "pretrain") else classifier)
        directory = shutil.copytree(source, tmp_path / f"copy{number}", ignore=shutil.ignore_patterns("checkpoint-*"))
        weights = load_file(directory / "model.safetensors")
        del weights[lost]
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        arguments = (
            [command, str(directory), *([out] if command == "convert" else []), *arguments[1:]]
            if command in ("convert", "push")
            else [*arguments, str(directory)]
        )
        capfd.readouterr()
        assert main(arguments) == 1, command
        said = capfd.readouterr().err.splitlines()[-1]
        assert said.startswith(f"gpt1 {command}: ") and f"lacks 1 of its parameters, {lost} for one" in said
        assert not Path(out, "model.safetensors").exists()


def test_generate_reads_openai_gpts_own_vocabulary(tmp_path, small_vocabulary, capsys):
    """Also where it is two files, and where `tokenizer.json` splits words as transformers does."""
    shape = {"vocab_size": small_vocabulary.size, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    peer = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**shape))
    files = [small_vocabulary.directory / name for name in ("vocab.json", "merges.txt")]
    expected = GPT1Tokenizer.from_openai(*files)
    for name in ("files", "json"):
        directory = tmp_path / name
        peer.save_pretrained(directory)
        if name == "files":
            for file in files:
                shutil.copy(file, directory)
        else:
            OpenAIGPTTokenizerFast(*map(str, files)).save_pretrained(directory)
        assert main(["generate", "--model", str(directory), "--prompt", "in the end", "--max_new_tokens", "5"]) == 0
        ids = torch.tensor([expected("in the end")["input_ids"]])
        made = peer.eval().generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0)[0]
        assert capsys.readouterr().out.strip() == expected.decode(made).strip()


def test_predict_writes_over_nothing_but_a_file(trained, tmp_path, capfd):
    directory, data = trained["classification"]
    rows = Path(data).read_bytes()
    folder, link, pipe = (tmp_path / f"{name}.jsonl" for name in ("folder", "link", "pipe"))
    folder.mkdir()
    link.symlink_to("elsewhere")
    os.mkfifo(pipe)
    for output, message in ((data, "name"), (folder, "name"), (link, "name"), (pipe, "name"), (os.devnull, "name")):
        # The model is not there: the place is looked at before it
        assert main(["predict", "--model", "none", "--input_file", data, "--output_file", str(output)]) == 1
        assert message in capfd.readouterr().err.splitlines()[-1]
    assert Path(data).read_bytes() == rows and not Path(os.devnull).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, link.name, pipe.name]


def test_what_python_trains_has_the_same_card(trained, tmp_path):
    """`finetune()` leaves what the card tells; the card itself is the command's, or an export's."""
    directory, data = trained["classification"]
    task_args = TaskArguments("classification", config="mini", train_file=data, validation_file=data)
    finetune_function(task_args, FinetuningArguments(output_dir=str(tmp_path / "run"), num_train_epochs=2))
    assert not (tmp_path / "run" / "README.md").exists()
    exported = export(tmp_path / "run", tmp_path / "export", repo_id="model", check=False)
    settings = [
        re.search(r"## Training\n.*?\n## Results", (path / "README.md").read_text(), re.DOTALL)[0]
        for path in (directory, exported)
    ]
    assert settings[0] == settings[1] and "- training examples: 12" in settings[0]


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, trained, capfd):
    for name, message, arguments in bad_inputs(tmp_path, trained):
        before = sorted(tmp_path.rglob("*"))
        capfd.readouterr()
        assert main(arguments) == 1, name
        captured = capfd.readouterr()
        assert len(captured.err.splitlines()) == 1, f"{name}: {captured.err}"
        assert message in captured.err, f"{name}: {captured.err}"
        assert captured.out == "", name
        assert sorted(tmp_path.rglob("*")) == before, name


def test_generate_refuses_an_empty_prompt(language_model, capfd):
    assert main(["generate", "--model", language_model, "--prompt", ""]) == 1
    assert "empty" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8"])
def test_generate_goes_on_past_the_models_positions(language_model, dtype, capsys):
    flags = ["--max_new_tokens", "70", "--window_keep", "0.25", "--dtype", dtype]
    assert main(["generate", "--model", language_model, "--prompt", "word " * 60, *flags]) == 0
    assert len(GPT1Tokenizer()(capsys.readouterr().out)["input_ids"]) > 64 + 40


@pytest.mark.parametrize(
    "task, columns, label",
    [
        ("sst2", ["sentence"], datasets.ClassLabel(names=["negative", "positive"])),
        ("stsb", ["sentence1", "sentence2"], datasets.Value("float32")),
    ],
)
def test_without_files_the_tasks_data_set_is_taken_from_the_hub(tmp_path, monkeypatch, caplog, task, columns, label):
    features = datasets.Features({name: datasets.Value("string") for name in columns} | {"label": label})
    # As on the Hub, a row lacks its label and another one its text, and the test set is unlabelled. A folder stands in
    # for the repository.
    for split, labels in (("train", [0, 1, 1, 0, -1, 1]), ("validation", [1, 0]), ("test", [-1, -1])):
        rows = {name: [f"number {i}" * (i < 5) for i in range(len(labels))] for name in columns} | {"label": labels}
        path = tmp_path / "hub" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    monkeypatch.setitem(TASKS, task, replace(TASKS[task], hub=(str(tmp_path / "hub"),)))
    flags = ["--task", task, "--config", "mini", "--output_dir", str(tmp_path / "model"), "--max_steps", "1"]
    assert main(["finetune", *flags]) == 0
    results = json.loads((tmp_path / "model/all_results.json").read_text())
    assert (results["train_samples"], results["eval_samples"]) == (4, 2)
    mark = "-1" if task == "stsb" else None
    assert f"the train split: 1 rows skipped, whose label is {mark!r}" in caplog.text.replace('"', "'")
    assert (
        f"the train split: 1 rows skipped, the first for this: the train split, row 6: column '{columns[0]}' holds"
        in caplog.text
    )
    assert not any(name.startswith("test_") for name in results)
