"""To the Hub and back: every head from a server, by revision and offline, where the package is not; and Trainer."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from huggingface_hub import snapshot_download
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel, Trainer, TrainingArguments

from hub_upload import push
from modeling_gpt1 import (
    NAMED_CONFIGURATIONS,
    GPT1ForCausalLM,
    GPT1ForMaskedLM,
    GPT1ForSequenceClassification,
    GPT1Model,
)
from modeling_gpt1.cli import main
from tokenization import GPT1Tokenizer


SMALL = {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}

SPACE = {"README.md", "app.py", "requirements.txt"}

GRADIO = """
import sys, types

class Page:  # in the place of Gradio's
    def __init__(self, answer, inputs, outputs, examples, title):
        self.example = examples[0]

    def launch(self):
        raise AssertionError("only when it is run")

names = dict.fromkeys(("Textbox", "Slider", "Label", "Number"), lambda *_, **__: None)
sys.modules["gradio"] = types.ModuleType("gradio")
sys.modules["gradio"].__dict__.update(names, Interface=Page)
"""


def test_every_head_goes_to_the_hub_and_back(hub, trained, monkeypatch, auto_classes, load_elsewhere, answer):
    jobs, snippets, expected = [], [GRADIO], []
    for model_class, auto_class in auto_classes.items():
        name = model_class.__name__
        directory = trained(model_class, name)
        tokenizer = GPT1Tokenizer.from_pretrained(directory)
        if model_class is GPT1ForMaskedLM:
            # By the command, in a process of its own, with all its checks
            arguments = [sys.executable, "-m", "modeling_gpt1", "push", str(directory), f"user/{name}", "--tag", "v1"]
            done = subprocess.run(arguments, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip().splitlines()[-1] == f"{hub.url}/user/{name}"
            assert "model.safetensors: 100%" in done.stderr  # the bar
        else:
            monkeypatch.setattr(sys.modules["hub_upload.export"], "compare", lambda *_: None)
            app = model_class is not GPT1Model  # it has no task of its own
            result = push(directory, f"user/{name}", tag="v1", space=app)
            assert (result.space is not None and result.space.committed) == app
        model = model_class.from_pretrained(directory)
        card = hub.repo(f"user/{name}").files()["README.md"].decode()
        snippets += re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        if ("spaces", f"user/{name}") in hub.repos:
            space = hub.repo(f"user/{name}", "spaces")
            assert space.sdk == "gradio" and set(space.files()) - {".gitattributes"} == SPACE
            tried = 'print(answer(*demo.example), answer("word " * 200, *demo.example[1:]))  # as it is, and cut'
            snippets.append(f"{space.files()['app.py'].decode()}\n{tried}\n")
        jobs += [(f"user/{name}", auto_class, "v1"), (f"user/{name}", auto_class, "main")]
        expected += [answer(model, tokenizer)] * 2
    # The last one goes on: main has other weights, the tag has these
    with torch.no_grad():
        model.score.weight.add_(1.0)
    model.save_pretrained(directory)
    push(directory, f"user/{name}")
    expected[-1] = answer(model, tokenizer)

    assert len(snippets) == 1 + len(auto_classes) + sum(kind == "spaces" for kind, _ in hub.repos)
    assert load_elsewhere(jobs, snippets) == expected
    requests = len(hub.requests)
    assert load_elsewhere(jobs, HF_HUB_OFFLINE="1") == expected
    assert len(hub.requests) == requests


def test_trainer_pushes_checkpoints_and_goes_on_from_the_hub(hub, tiny_config, tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(sys.modules["hub_upload.export"], "compare", lambda *compared: checked.append(compared))
    tokenizer = GPT1Tokenizer(task_format=True)
    rows = Dataset.from_dict({"text": ["good", "bad"] * 4, "labels": [1, 0] * 4})
    rows = rows.map(lambda row: tokenizer(row["text"]), remove_columns="text")

    def trainer(output_dir, max_steps: int) -> Trainer:
        config = tiny_config(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1)
        arguments = TrainingArguments(
            output_dir=str(output_dir),
            max_steps=max_steps,
            save_steps=2,
            per_device_train_batch_size=2,
            push_to_hub=True,
            hub_model_id="user/trained",
            hub_strategy="checkpoint",
            hub_always_push=True,
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        return Trainer(
            GPT1ForSequenceClassification(config), arguments, train_dataset=rows, processing_class=tokenizer
        )

    trainer(tmp_path / "first", 2).train()
    files = hub.repo("user/trained").files()
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/trainer_state.json", "model.safetensors"} <= set(files)

    # On another machine
    local = snapshot_download("user/trained", local_dir=tmp_path / "downloaded")
    second = trainer(tmp_path / "second", 4)
    second.train(resume_from_checkpoint=f"{local}/last-checkpoint")
    assert second.state.global_step == 4
    second.save_metrics("eval", {"eval_accuracy": 0.75})
    pushed = second.push_to_hub(dataset_tags="nyu-mll/glue", tags="mine")
    repo = hub.repo("user/trained")
    assert repo.log[-1] == ("refs/heads/main", pushed.oid, "End of training") and len(checked) == 1
    files = repo.files()
    assert json.loads(files["last-checkpoint/trainer_state.json"])["global_step"] == 4
    assert {"LICENSE", "config.json", "modeling_gpt1.py", "configuration_gpt1.py", "tokenizer.json"} <= set(files)
    card = files["README.md"].decode()
    for line in (
        "| validation | accuracy | 0.7500 |",
        "- training steps: 4",
        "- weight decay: 0.0",
        "- mine",
        "- nyu-mll/glue",
    ):
        assert f"\n{line}\n" in card
    assert "## Limits and biases" in card and "generated_from_trainer" not in card

    # That is what `push` makes of it, too; and a card that was edited stays
    assert not push(tmp_path / "second", "user/trained").committed
    (tmp_path / "second" / "README.md").write_text(own := "---\nlicense: mit\n---\n\n# Mine\n")
    assert second.push_to_hub(blocking=False).result().oid == repo.log[-1][1]
    assert repo.files()["README.md"].decode() == own
    with pytest.raises(ValueError, match="the card's license is mit"):
        second.push_to_hub(license="apache-2.0")


def test_trainer_pushes_other_models_as_ever(hub, tmp_path):
    config = OpenAIGPTConfig(vocab_size=60, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    arguments = TrainingArguments(str(tmp_path), hub_model_id="user/other", report_to="none", use_cpu=True)
    Trainer(OpenAIGPTLMHeadModel(config), arguments).push_to_hub()
    files = hub.repo("user/other").files()
    assert b"generated_from_trainer" in files["README.md"] and "LICENSE" not in files


def test_finetune_leaves_a_complete_repository_and_no_token(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["hub_upload.export"], "compare", lambda *_: None)
    monkeypatch.setitem(NAMED_CONFIGURATIONS, "mini", {"hidden_size": 8, "num_hidden_layers": 1} | SMALL)
    token = os.environ["HF_TOKEN"]
    monkeypatch.setenv("HF_TOKEN", "")
    rows = "text,label\n" + "a good one,good\na bad one,bad\n" * 8
    (tmp_path / "rows.csv").write_text(rows)
    output = tmp_path / "run"
    flags = ["--task", "classification", "--model", "mini", "--train_file", str(tmp_path / "rows.csv")]
    flags += ["--validation_file", str(tmp_path / "rows.csv"), "--output_dir", str(output)]
    flags += ["--num_train_epochs", "1", "--report_to", "none"]
    flags += ["--push_to_hub", "--hub_model_id", "user/tuned", "--hub_token", token]
    assert main(["finetune", *flags]) == 0
    files = hub.repo("user/tuned").files()
    assert {"LICENSE", "model.safetensors", "modeling_gpt1.py", "tokenizer.json"} <= set(files)
    card = files["README.md"].decode()
    accuracy = json.loads((output / "all_results.json").read_text())["eval_accuracy"]
    assert f"| validation | accuracy | {accuracy:.4f} |" in card and 'model="user/tuned"' in card
    assert not [path for path, content in files.items() if token.encode() in content]


def test_a_model_pushes_itself(hub, tiny_config, monkeypatch):
    tokenizer = GPT1Tokenizer()
    model = GPT1ForCausalLM(tiny_config(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1))
    pushed = model.push_to_hub("itself", private=True, tags=["mine"], commit_description="More of it.")
    tokenizer.push_to_hub("user/itself")
    repo = hub.repo("user/itself")
    assert repo.private and pushed.oid == repo.log[1][1] and pushed.repo_url.repo_id == "user/itself"
    files = repo.files()
    card = files["README.md"].decode()
    assert "## Limits and biases" in card and "- mine" in card and 'model="user/itself"' in card
    assert {"LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert {"modeling_gpt1.py", "configuration_gpt1.py"} <= set(files)

    # Again: what somebody has written there meanwhile stays; the card that transformers writes does not
    monkeypatch.setattr(sys.modules["hub_upload.export"], "compare", lambda *_: None)
    own = b"---\nlicense: mit\n---\n\n# Mine\n"
    for card, stays in ((own, True), (b"\n\nThis model card has been automatically generated.\n", False)):
        repo.add("refs/heads/main", repo.commits[repo.find("main")] | {"README.md": (card, False)}, "another's")
        hub.fail("resolve", 500)
        model.push_to_hub("user/itself", commit_message="Once more")
        assert (repo.files()["README.md"] == card) == stays
    again = model.push_to_hub("user/itself", create_pr=True)
    assert again.oid == repo.find("main") and not repo.pull_requests, "nothing has changed"
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    opened = model.push_to_hub("user/itself", create_pr=True)
    assert (opened.pr_num, opened.oid) == (1, repo.find("refs/pr/1"))

    # A new branch has main's card; and where that cannot be read, nothing is written over it
    repo.add("refs/heads/main", repo.commits[repo.find("main")] | {"README.md": (own, False)}, "another's")
    model.push_to_hub("user/itself", revision="next")
    assert repo.files("next")["README.md"] == own
    hub.fail("resolve", 500, float("inf"))
    with pytest.raises(OSError, match="the repository is as before"):
        model.push_to_hub("user/itself", revision="next")


def test_an_openai_gpt_repository_is_loaded_and_converted_by_its_id(hub, spread, tmp_path):
    peer = spread(OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=60, n_positions=16, n_embd=8, n_layer=2, n_head=2)))
    peer.eval().push_to_hub("user/peer")
    assert main(["convert", "user/peer", str(tmp_path / "converted")]) == 0
    ids = torch.randint(60, (2, 9))
    expected = peer(ids).logits
    torch.testing.assert_close(GPT1ForCausalLM.from_pretrained("user/peer").eval()(ids).logits, expected)
    converted = GPT1ForCausalLM.from_pretrained(tmp_path / "converted").eval()
    assert converted.config.vocab_size == 64, "the four special tokens are appended"
    torch.testing.assert_close(converted(ids).logits[..., :60], expected)
