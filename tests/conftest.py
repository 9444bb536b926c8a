"""What tests share: where real data is, tiny models, padding, and a place where this package is not installed."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


if "PYTEST_XDIST_WORKER" in os.environ:  # a core each, for these processes and for those that they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modeling_gpt1 import (
    GPT1Config,
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1Model,
)


REPOSITORY = Path(__file__).resolve().parent.parent

# The code that travels with a checkpoint
FLAT_FILES = {
    "configuration_gpt1.py",
    "dropout_gpt1.py",
    "generation_gpt1.py",
    "inputs_gpt1.py",
    "losses_gpt1.py",
    "modeling_gpt1.py",
    "openai_gpt.py",
    "packed_choices_gpt1.py",
}

# Loads each source through its Auto class, prints what the models answer, and runs the snippets.
ELSEWHERE = """
import importlib.util, json, sys

for name in ("modeling_gpt1", "tokenization", "hub_upload"):
    assert importlib.util.find_spec(name) is None, name
import torch, transformers

jobs, snippets = json.loads(sys.stdin.read())
answers = []
for source, auto_class, revision in jobs:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    model = getattr(transformers, auto_class).from_pretrained(source, revision=revision, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules")
    ids = torch.tensor([tokenizer("A man sleeps.", "He's awake!")["input_ids"]])
    choices = auto_class in ("AutoModelForMultipleChoice", "AutoModelForPreTraining")
    values = model.eval()(ids.expand(1, 2, -1) if choices else ids)[0].flatten()[:5].tolist()
    answers.append([type(model).__name__, ids.tolist(), values])
for snippet in snippets:
    exec(snippet, {})
print("ANSWERS" + json.dumps(answers))
"""


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: $GPT1_DATA, or shared/data beside the repository."""
    path = Path(os.environ.get("GPT1_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set GPT1_DATA)")
    return path


@pytest.fixture(scope="session")
def flat_files() -> set[str]:
    """The names of the code that travels with a checkpoint."""
    return FLAT_FILES


@pytest.fixture
def offline(monkeypatch) -> None:
    """No question to the Hub, here and in processes that a test starts."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def load_module() -> Callable[[str], ModuleType]:
    """Loads a file that is in no package, by its path in the repository; it may import those beside it."""

    def load(path: str) -> ModuleType:
        file = REPOSITORY / path
        specification = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(specification)
        sys.path.insert(0, str(file.parent))
        specification.loader.exec_module(module)
        sys.path.remove(str(file.parent))
        return module

    return load


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_config():
    """Builds configurations of a model that is small, without dropout, and otherwise as a keyword says."""

    def build(**kwargs) -> GPT1Config:
        shape = {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 64,
        }
        dropout = dict.fromkeys(
            ("hidden_dropout", "embedding_dropout", "attention_dropout", "classifier_dropout"), 0.0
        )
        return GPT1Config(**(shape | dropout | kwargs))

    return build


@pytest.fixture
def spread():
    """Draws all parameters from N(0, 0.2), so that no bias is zero and no gain one, and returns the model."""

    def draw(model: torch.nn.Module) -> torch.nn.Module:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2)
        return model

    return draw


@pytest.fixture(scope="session")
def auto_classes() -> dict[type[PreTrainedModel], str]:
    """Every head with the Auto class that loads it."""
    return {
        GPT1Model: "AutoModel",
        GPT1ForCausalLM: "AutoModelForCausalLM",
        GPT1ForMaskedLM: "AutoModelForMaskedLM",
        GPT1ForSequenceClassification: "AutoModelForSequenceClassification",
        GPT1ForEntailment: "AutoModelForSequenceClassification",
        GPT1ForSimilarity: "AutoModelForSequenceClassification",
        GPT1ForMultipleChoice: "AutoModelForMultipleChoice",
        GPT1DoubleHeadsModel: "AutoModelForPreTraining",
    }


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> Path:
    """A virtual environment with all that is installed here but this package; its interpreter."""
    root = tmp_path_factory.mktemp("elsewhere")
    venv.create(root, symlinks=True)
    (packages,) = root.glob("lib/python*/site-packages")
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(folder).iterdir():
            ours = path.name in ("modeling_gpt1", "tokenization", "hub_upload") or "gpt1" in path.name
            if path.suffix != ".pth" and not ours:  # an editable installation is a .pth file
                (packages / path.name).symlink_to(path)
    return root / "bin" / "python"


@pytest.fixture
def load_elsewhere(elsewhere, tmp_path) -> Callable[..., list]:
    """
    Loads (source, Auto class, revision) where the package is not, and gives what `answer` does of each; runs snippets
    there, too. All calls of a test have one cache.
    """

    def load(jobs: list[tuple[str, str, str]], snippets: tuple[str, ...] = (), **environment: str) -> list:
        done = subprocess.run(
            [elsewhere, "-I", "-c", ELSEWHERE],
            input=json.dumps([jobs, snippets]),
            capture_output=True,
            text=True,
            env=os.environ | {"HF_HOME": str(tmp_path / "home")} | environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("ANSWERS")[2])

    return load


@pytest.fixture
def answer() -> Callable[[PreTrainedModel, PreTrainedTokenizerBase], list]:
    """What a model is: its class, the ids of two texts, and the first numbers that it gives for them."""

    def of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list:
        ids = torch.tensor([tokenizer("A man sleeps.", "He's awake!")["input_ids"]])
        inputs = ids.expand(1, 2, -1) if isinstance(model, (GPT1ForMultipleChoice, GPT1DoubleHeadsModel)) else ids
        with torch.inference_mode():
            values = model.eval()(inputs)[0].flatten()[:5].tolist()
        return [type(model).__name__, ids.tolist(), pytest.approx(values, abs=1e-6)]

    return of


@pytest.fixture
def pad():
    """Pads rows of token ids to one length: input ids and attention mask."""

    def pad_rows(rows: list[list[int]], length: int, pad_id: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.full((len(rows), length), pad_id)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            where = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
            ids[index, where] = torch.tensor(row, dtype=torch.long)
            mask[index, where] = 1
        return ids, mask

    return pad_rows
