"""`gpt1 info`: what it says is what the model, loaded, is."""

import json
from types import SimpleNamespace

import pytest

from modeling_gpt1 import GPT1ForSequenceClassification
from modeling_gpt1.cli import main
from modeling_gpt1.info import describe
from tokenization import GPT1Tokenizer


@pytest.fixture
def run(tmp_path, tiny_config):
    """The directory of a fine-tuning, as Trainer and the command leave it, with its model."""
    tokenizer = GPT1Tokenizer(task_format=True)
    labels = {0: "bad", 1: "good"}
    model = GPT1ForSequenceClassification(tiny_config(vocab_size=len(tokenizer), id2label=labels))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    files = {
        "all_results.json": {"eval_accuracy": 0.75, "eval_runtime": 3.0, "train_samples": 8},
        "trainer_state.json": {
            "global_step": 20,
            "epoch": 2.0,
            "best_metric": 0.75,
            "best_model_checkpoint": "runs/x/checkpoint-10",
        },
        "card.json": {"task": "sst2", "command": "gpt1 finetune --task sst2"},
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    for step in (10, 9, 20, "best2"):
        (tmp_path / f"checkpoint-{step}").mkdir()
    return SimpleNamespace(directory=tmp_path, model=model, tokenizer=tokenizer)


def test_a_run_is_described_as_it_is(run):
    facts, config = describe(run.directory), run.model.config
    assert facts["class"] == "GPT1ForSequenceClassification (gpt1)"
    assert facts["shape"] == (
        f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {config.num_attention_heads} heads, "
        f"{config.max_position_embeddings} positions"
    )
    assert facts["parameters"] == f"{run.model.num_parameters():,} (F32)"
    assert facts["vocabulary"] == f"{len(run.tokenizer):,} tokens"
    assert facts["labels"] == "bad, good"
    assert facts["tokenizer"].endswith("a pair of texts becomes: _start_ A _delimiter_ B _classify_")
    run.tokenizer.task_format = False
    run.tokenizer.save_pretrained(run.directory)
    assert describe(run.directory)["tokenizer"].endswith("a pair of texts becomes: A B")
    assert facts["task"] == "sst2" and facts["command"] == "gpt1 finetune --task sst2"
    assert facts["results"] == "eval_accuracy 0.75"
    assert facts["best checkpoint"] == "checkpoint-10, at 0.75"
    assert facts["checkpoints"] == "checkpoint-9, checkpoint-10, checkpoint-20"


def test_the_packaged_checkpoint_is_what_is_described_by_default(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert "GPT1ForCausalLM" in shown and len(shown.splitlines()) < 24  # a screen


def test_names_of_openai_gpt_are_understood(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 512}))
    assert describe(tmp_path)["shape"] == "12 layers, 768 wide, 12 heads, 512 positions"


@pytest.mark.parametrize(
    "file, content, said",
    [
        ("config.json", None, "holds no checkpoint: it has no config.json"),
        ("config.json", b"{", "config.json is no JSON"),
        ("config.json", b"[]", "config.json does not hold an object"),
        ("config.json", b"\xff", "config.json is no JSON"),
        ("model.safetensors", b"12", "is no whole safetensors file"),
        ("model.safetensors", b"\xff" * 20, "is no whole safetensors file"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"[]", "is no whole safetensors file"),
        ("all_results.json", b"{}}", "all_results.json is no JSON"),
    ],
)
def test_damage_is_named(run, file, content, said, capsys):
    if content is None:
        (run.directory / file).unlink()
    else:
        (run.directory / file).write_bytes(content)
    assert main(["info", str(run.directory)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_an_adapter_alone_is_told_from_a_model(tmp_path, capsys):
    (tmp_path / "adapter_config.json").write_text("{}")
    for command in (["info"], ["generate", "--prompt", "it", "--model"], ["predict", "--text", "it", "--model"]):
        assert main([*command, str(tmp_path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "holds an adapter of PEFT" in line and "merge_and_unload" in line


def test_a_directory_that_is_not_there(tmp_path, capsys):
    assert main(["info", str(tmp_path / "nothing")]) == 1
    assert "there is no directory" in capsys.readouterr().err
