"""Loading an export in a fresh process that cannot import this package, and comparing what it answers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from transformers import (
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
    OpenAIGPTPreTrainedModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_gpt1 import GPT1DoubleHeadsModel, GPT1ForMultipleChoice, modeling_gpt1


# The heads of openai-gpt that an Auto class loads.
OPENAI_GPT_AUTO_CLASSES = {
    "AutoModelForCausalLM": OpenAIGPTLMHeadModel,
    "AutoModelForSequenceClassification": OpenAIGPTForSequenceClassification,
}

TEXTS = ("A man sleeps.", "He's awake!")

# Runs where the package is hidden: loads through each Auto class that it is told, and writes hidden states and, where
# no weight had to be made up, what the head answers.
_PROGRAM = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_gpt1", "tokenization", "hub_upload"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hide())
import torch, transformers
from safetensors.torch import save_file

directory, output, trust, names, *texts = sys.argv[1:]
trust = trust == "True"
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
transformers.AutoConfig.from_pretrained(directory, trust_remote_code=trust)
tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
ids = torch.tensor([tokenizer(*texts)["input_ids"]])
answers = {"ids": ids}
for name in names.split():
    model, info = getattr(transformers, name).from_pretrained(
        directory, trust_remote_code=trust, output_loading_info=True, ignore_mismatched_sizes=True
    )
    model = model.eval()
    with torch.inference_mode():
        answers[f"{name}.hidden"] = model.base_model(ids)[0].float().contiguous()
        if not info["missing_keys"] and not info["mismatched_keys"] and model.base_model is not model:
            choices = type(model).__name__ in ("GPT1ForMultipleChoice", "GPT1DoubleHeadsModel")
            inputs = ids.expand(1, 2, -1) if choices else ids
            answers[f"{name}.logits"] = model(inputs)[0].float().contiguous()
save_file(answers, output)
"""


def compare(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Loads `directory` without this package, through every Auto class that it claims, and compares with the model.

    Args:
        directory: the export.
        model: what it was made from, in evaluation mode.
        tokenizer: likewise.

    Raises:
        ValueError: it does not load, or its token ids, hidden states or logits are others.
    """
    ids = torch.tensor([tokenizer(*TEXTS)["input_ids"]])
    claims = _claims(directory, model)
    remote = not isinstance(model, OpenAIGPTPreTrainedModel)
    answers = _ask(directory, remote, claims)
    if not torch.equal(answers["ids"], ids):
        raise ValueError("the exported tokenizer gives other ids than the model's: nothing was exported")
    for auto_class, model_class in claims.items():
        own = type(model) is model_class
        # The same class here: the model in hand, or its weights under another head
        here = model if own else model_class.from_pretrained(directory, ignore_mismatched_sizes=True).eval()
        outputs = {"hidden": here.base_model}
        if f"{auto_class}.logits" in answers or (own and here is not here.base_model):
            outputs["logits"] = here
        for output, module in outputs.items():
            choices = isinstance(module, (GPT1ForMultipleChoice, GPT1DoubleHeadsModel))
            inputs = ids.expand(1, 2, -1) if choices else ids
            with torch.inference_mode():
                expected = module(inputs.to(here.device))[0].float().cpu()
            answer = answers.get(f"{auto_class}.{output}")
            if answer is None or answer.shape != expected.shape or not torch.allclose(answer, expected, 1e-4, 1e-5):
                raise ValueError(
                    f"loaded without this package, the export's {auto_class} does not give the {output} of the "
                    "model: nothing was exported"
                )


def _claims(directory: Path, model: PreTrainedModel) -> dict[str, type[PreTrainedModel]]:
    """Each Auto class that the export says it loads through, with the class that comes."""
    if isinstance(model, OpenAIGPTPreTrainedModel):
        claims: dict[str, type[PreTrainedModel]] = {"AutoModel": OpenAIGPTModel}
        claims |= {name: head for name, head in OPENAI_GPT_AUTO_CLASSES.items() if isinstance(model, head)}
        return claims
    auto_map = json.loads((directory / "config.json").read_text(encoding="utf-8"))["auto_map"]
    claims = {
        name: getattr(modeling_gpt1, target.rpartition(".")[2])
        for name, target in auto_map.items()
        if name.startswith("AutoModel")
    }
    if type(model) not in claims.values():
        raise ValueError(f"the export's auto_map does not name {type(model).__name__}: nothing was exported")
    return claims


def _ask(directory: Path, trust_remote_code: bool, auto_classes: Iterable[str]) -> dict[str, torch.Tensor]:
    with TemporaryDirectory() as temporary:
        output = Path(temporary, "answers.safetensors")
        environment = {name: value for name, value in os.environ.items() if "TOKEN" not in name} | {
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(Path(temporary, "modules")),
        }
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _PROGRAM,
                str(directory.resolve()),
                str(output),
                str(trust_remote_code),
                " ".join(auto_classes),
                *TEXTS,
            ],
            capture_output=True,
            text=True,
            cwd=temporary,
            env=environment,
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
            raise ValueError(
                f"the export does not load without this package: {lines[-1].strip()}; nothing was exported"
            )
        return load_file(output)
