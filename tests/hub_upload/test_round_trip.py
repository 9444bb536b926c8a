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
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
)
from modeling_gpt1.cli import main
from tokenization import GPT1Tokenizer


SMALL = {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}

SPACE = {"README.md", "app.py", "model.json", "requirements.txt"}
SHOWN = (GPT1ForCausalLM, GPT1ForEntailment, GPT1ForMultipleChoice)
# A Space's files, run as the Hub runs them, without waiting for visitors; then each tab is asked
RUN_SPACE = """
import json, pathlib, runpy, tempfile
import gradio

folder, pages = pathlib.Path(tempfile.mkdtemp()), []
for name, text in {files!r}.items():
    (folder / name).write_text(text, encoding="utf-8")
gradio.Blocks.launch = lambda blocks, **_: pages.append(blocks)
runpy.run_path(str(folder / "app.py"), run_name="__main__")
(page,) = pages
for answer in page.fns.values():
    if answer.fn is not None:
        given = answer.fn(*(block.value for block in answer.inputs))
        print([*given] if answer.api_name == "generate" else given)
"""


def test_every_head_goes_to_the_hub_and_back(hub, trained, monkeypatch, auto_classes, load_elsewhere, answer):
    pytest.importorskip("gradio", reason="a Space needs gradio")
    jobs, snippets, expected = [], [], []
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
            result = push(directory, f"user/{name}", tag="v1", space=model_class in SHOWN)
            assert result.space is None or result.space.committed
        model = model_class.from_pretrained(directory)
        card = hub.repo(f"user/{name}").files()["README.md"].decode()
        snippets += re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        if ("spaces", f"user/{name}") in hub.repos:
            space = hub.repo(f"user/{name}", "spaces")
            assert space.sdk == "gradio" and set(space.files()) - {".gitattributes"} == SPACE
            files = {path: content.decode() for path, content in space.files().items() if path in SPACE}
            snippets.append(RUN_SPACE.format(files=files))
        jobs.append((f"user/{name}", auto_class, "v1"))
        expected.append(answer(model, tokenizer))
    # The last one goes on: main has other weights, the tag has these
    with torch.no_grad():
        model.score.weight.add_(1.0)
    model.save_pretrained(directory)
    push(directory, f"user/{name}")
    jobs.append((f"user/{name}", auto_class, "main"))
    expected.append(answer(model, tokenizer))

    assert len(snippets) == len(auto_classes) + len(SHOWN)
    assert load_elsewhere(jobs, snippets) == expected
    requests = len(hub.requests)
    assert load_elsewhere(jobs, HF_HUB_OFFLINE="1") == expected
    assert len(hub.requests) == requests


# What a repository needs beside the code.
COMPLETE = {"LICENSE", "README.md", "config.json", "model.safetensors"}


def test_trainer_pushes_and_goes_on_from_the_hub(
    hub, tiny_config, tmp_path, monkeypatch, load_elsewhere, answer, flat_files
):
    monkeypatch.setattr(sys.modules["hub_upload.export"], "compare", lambda *_: None)
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
    pushed = second.push_to_hub()
    repo = hub.repo("user/trained")
    assert repo.log[-1] == ("refs/heads/main", pushed.oid, "End of training")
    assert COMPLETE | flat_files | {"tokenizer.json", "tokenizer_config.json"} <= set(repo.files())
    assert b"generated_from_trainer" in repo.files()["README.md"]
    job = ("user/trained", "AutoModelForSequenceClassification", "main")
    assert load_elsewhere([job]) == [answer(second.model, tokenizer)]

    # Where Trainer's card is in place of a checked one, `push` makes that good
    assert push(tmp_path / "second", "user/trained").committed
    card = repo.files()["README.md"].decode()
    assert "## Limits and biases" in card and "generated_from_trainer" not in card


CHANGED = """
import inspect, sys, types

import datasets, huggingface_hub, tokenizers, torch, transformers
from transformers import Trainer, pipeline
from transformers.models.openai import modeling_openai

CODE = (types.FunctionType, property, classmethod, staticmethod)


def methods():
    modules = [module for module in list(sys.modules.values()) if module]
    classes = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    return {(c, name): value for c in classes for name, value in list(vars(c).items()) if isinstance(value, CODE)}


before = methods()
import modeling_gpt1, hub_upload, tokenization

after = methods()
print(*(f"{c.__module__}.{c.__name__}.{name}" for (c, name), value in before.items() if after[c, name] is not value))
print(len(before))
"""


def test_importing_the_package_changes_no_class_of_others():
    done = subprocess.run([sys.executable, "-c", CHANGED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    changed, seen = done.stdout.split("\n")[:2]
    assert changed == "" and int(seen) > 10_000


def test_finetune_leaves_a_complete_repository_and_no_token(hub, tmp_path, monkeypatch, flat_files):
    monkeypatch.setattr(sys.modules["hub_upload.export"], "compare", lambda *_: None)
    monkeypatch.setitem(NAMED_CONFIGURATIONS, "mini", {"hidden_size": 8, "num_hidden_layers": 1} | SMALL)
    token = os.environ["HF_TOKEN"]
    monkeypatch.setenv("HF_TOKEN", "")
    rows = "text,label\n" + "a good one,good\na bad one,bad\n" * 8
    (tmp_path / "rows.csv").write_text(rows)
    output = tmp_path / "run"
    flags = ["--task", "classification", "--config", "mini", "--train_file", str(tmp_path / "rows.csv")]
    flags += ["--validation_file", str(tmp_path / "rows.csv"), "--output_dir", str(output)]
    flags += ["--num_train_epochs", "1", "--report_to", "none"]
    flags += ["--push_to_hub", "--hub_model_id", "user/tuned", "--hub_token", token]
    assert main(["finetune", *flags]) == 0
    files = hub.repo("user/tuned").files()
    assert COMPLETE | flat_files | {"tokenizer.json"} <= set(files)
    card = files["README.md"].decode()
    accuracy = json.loads((output / "all_results.json").read_text())["eval_accuracy"]
    assert f"| validation | accuracy | {accuracy:.4f} |" in card and 'model="user/tuned"' in card
    assert not [path for path, content in files.items() if token.encode() in content]


def test_a_model_pushes_itself(hub, tiny_config, tmp_path, load_elsewhere, answer, flat_files):
    tokenizer = GPT1Tokenizer()
    model = GPT1ForCausalLM(tiny_config(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1))
    model.push_to_hub("itself", private=True, tags=["mine"])
    tokenizer.push_to_hub("user/itself")
    repo = hub.repo("user/itself")
    assert repo.private
    assert COMPLETE | flat_files | {"generation_config.json", "tokenizer.json"} <= set(repo.files())
    assert "- mine" in repo.files()["README.md"].decode()
    assert load_elsewhere([("user/itself", "AutoModelForCausalLM", "main")]) == [answer(model, tokenizer)]

    # A licence and a card of one's own stay
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "LICENSE").write_text("All rights reserved.\n")
    model.save_pretrained(tmp_path / "own")
    assert (tmp_path / "own" / "LICENSE").read_text() == "All rights reserved.\n"
    own = b"---\nlicense: mit\n---\n\n# Mine\n"
    repo.add("refs/heads/main", repo.commits[repo.find("main")] | {"README.md": (own, False)}, "by hand")
    model.push_to_hub("user/itself")
    assert repo.files()["README.md"] == own


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
