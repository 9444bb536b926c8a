"""transformers' own ways to serve a model: its server, asked by OpenAI's client, and its pipelines."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import OpenAIGPTLMHeadModel, pipeline

from modeling_gpt1 import (
    GPT1Config,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForSequenceClassification,
    GPT1Model,
)
from modeling_gpt1.convert import convert
from tokenization import GPT1Tokenizer


PROMPT = "it was a fine"


@pytest.fixture
def converted(checkpoint, tmp_path) -> str:
    """The checkpoint as openai-gpt: transformers' server takes the classes of transformers alone."""
    convert(checkpoint, tmp_path / "openai-gpt", to="openai-gpt")
    return str(tmp_path / "openai-gpt")


@pytest.fixture
def server(converted, tmp_path):
    """The address of `transformers serve`."""
    for name in ("openai", "fastapi", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "transformers.cli.transformers",
            "serve",
            converted,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--device",
            "cpu",
        ],
        env=environment,
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/health")
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield f"{address}/v1"
    finally:
        process.terminate()
        process.wait()
        log.close()


def test_openais_client_gets_what_generate_gives(server, converted):
    import openai

    client = openai.OpenAI(base_url=server, api_key="none")
    request = {"model": converted, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    answer = client.completions.create(**request).choices[0].text
    streamed = [chunk.choices[0].text for chunk in client.completions.create(**request, stream=True) if chunk.choices]
    tokenizer, model = GPT1Tokenizer(), OpenAIGPTLMHeadModel.from_pretrained(converted)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    expected = tokenizer.decode(model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :])
    assert answer.split() == expected.split()
    assert "".join(streamed).split() == expected.split() and len(streamed) > 1


def test_pipelines(checkpoint, shape):
    tokenizer, tasks = GPT1Tokenizer(), GPT1Tokenizer(task_format=True)
    generate = pipeline("text-generation", model=checkpoint, device="cpu")
    assert generate(PROMPT, max_new_tokens=5)[0]["generated_text"].startswith(PROMPT)
    classify = pipeline(
        "text-classification", model=GPT1ForSequenceClassification(GPT1Config(**shape)), tokenizer=tasks, device="cpu"
    )
    assert {answer["label"] for answer in classify(PROMPT, top_k=None)} == {"LABEL_0", "LABEL_1"}
    features = pipeline("feature-extraction", model=GPT1Model(GPT1Config(**shape)), tokenizer=tokenizer, device="cpu")
    assert torch.tensor(features(PROMPT)).shape == (1, 4, 32)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    model = GPT1ForMaskedLM(GPT1Config(**shape | {"vocab_size": len(tokenizer)}))
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    assert len(fill("it was a <mask> day")) == 5


def test_an_entailment_head_classifies_without_having_seen_the_labels(shape, spread):
    """The pipeline finds `entailment` among the labels' names, and asks a pair for each candidate."""
    names = ["contradiction", "neutral", "entailment"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    model = spread(GPT1ForEntailment(GPT1Config(**shape, **labels))).eval()
    tokenizer = GPT1Tokenizer(task_format=True)
    zero_shot = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
    candidates = ["weather", "sports", "love"]
    answer = zero_shot(PROMPT, candidate_labels=candidates, hypothesis_template="this is about {}.")
    pairs = tokenizer(
        [PROMPT] * 3, [f"this is about {label}." for label in candidates], return_tensors="pt", padding=True
    )
    expected = model(**pairs).logits[:, 2].softmax(0)
    got = dict(zip(answer["labels"], answer["scores"], strict=True))
    torch.testing.assert_close(torch.tensor([got[label] for label in candidates]), expected.detach())
