"""What `save_pretrained` wrote, loaded where the package is not installed."""

import json
import os
import subprocess
import sys

import pytest

from modeling_gpt1 import (
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1Model,
)
from tokenization import GPT1Tokenizer


HEADS = {
    GPT1ForCausalLM: "AutoModelForCausalLM",
    GPT1ForMaskedLM: "AutoModelForMaskedLM",
    GPT1ForSequenceClassification: "AutoModelForSequenceClassification",
    GPT1ForEntailment: "AutoModelForSequenceClassification",
    GPT1ForSimilarity: "AutoModelForSequenceClassification",
    GPT1ForMultipleChoice: "AutoModelForMultipleChoice",
}

# Hides the package, loads each directory through the Auto class that is named after it, and prints what came.
PROGRAM = """
import json, sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_gpt1", "tokenization", "hub_upload"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hide())
import torch, transformers

loaded = []
for directory, auto_class in zip(sys.argv[1::2], sys.argv[2::2]):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    ids = tokenizer("A man sleeps.", "He's awake!")["input_ids"]
    model = getattr(transformers, auto_class).from_pretrained(directory, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules")
    outputs = model(torch.tensor([[ids, ids]] if "Choice" in auto_class else [ids]))[0]
    loaded.append([type(model).__name__, ids, outputs.flatten()[:5].tolist()])
print(json.dumps(loaded))
"""


def test_every_head_loads_without_the_package(tiny_config, tmp_path):
    tokenizer = GPT1Tokenizer(task_format=True)
    batch = tokenizer("A man sleeps.", "He's awake!", return_tensors="pt")["input_ids"]
    arguments, expected = [], []
    for model_class, auto_class in HEADS.items():
        directory = str(tmp_path / model_class.__name__)
        model = model_class(tiny_config(vocab_size=len(tokenizer))).eval()
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        outputs = model(batch.expand(1, 2, -1) if model_class is GPT1ForMultipleChoice else batch)[0]
        arguments += [directory, auto_class]
        expected.append([model_class.__name__, outputs.flatten()[:5].tolist()])
        # Any checkpoint serves as any other class: the map in its configuration is complete.
        if model_class is GPT1ForSimilarity:
            arguments += [directory, "AutoModel"]
            base = GPT1Model.from_pretrained(directory).eval()
            expected.append(["GPT1Model", base(batch)[0].flatten()[:5].tolist()])

    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for (name, ids, values), (expected_name, expected_values) in zip(
        json.loads(done.stdout.splitlines()[-1]), expected, strict=True
    ):
        assert name == expected_name
        assert ids == batch[0].tolist()
        assert values == pytest.approx(expected_values, abs=1e-6), name
