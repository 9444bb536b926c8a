"""docs/moving.md: every row of its tables holds, and nothing of openai-gpt's is missing."""

import inspect
import re
from pathlib import Path

import pytest
import transformers
from transformers import OpenAIGPTConfig, OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification

import modeling_gpt1
import tokenization
from modeling_gpt1 import (
    GPT1Config,
    GPT1DoubleHeadsModel,
    GPT1ForCausalLM,
    GPT1ForSequenceClassification,
    GPT1Model,
)
from modeling_gpt1.openai_gpt import ARCHITECTURES, from_openai_gpt


PAGE = Path(__file__).parents[2] / "docs" / "moving.md"
OURS = {
    "OpenAIGPTModel": GPT1Model,
    "OpenAIGPTLMHeadModel": GPT1ForCausalLM,
    "OpenAIGPTDoubleHeadsModel": GPT1DoubleHeadsModel,
    "OpenAIGPTForSequenceClassification": GPT1ForSequenceClassification,
}


def table(heading: str) -> dict[str, str | None]:
    """The rows of the table under a heading; None where there is no new name."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (?:`(.+?)`|none: .+) \|$", section, re.M)
    assert len(rows) == section.count("\n| ") - 2, "a row that cannot be read"
    return {old: new or None for old, new in rows}


def test_classes():
    rows = table("Classes")
    for old, new in rows.items():
        assert hasattr(transformers, old)
        assert hasattr(tokenization if "Tokenizer" in new else modeling_gpt1, new)
        assert old not in OURS or OURS[old].__name__ == new
    assert rows.keys() >= {name for name in dir(transformers) if re.fullmatch(r"OpenAIGPT(?!PreTrained)\w+", name)}
    assert rows.keys() >= ARCHITECTURES.keys()


OTHER_VALUES = {"afn": ("relu", "relu"), "vocab_size": (77, 77)}


@pytest.mark.parametrize("old, new", table("Configuration").items())
def test_configuration(tmp_path, old, new):
    default = getattr(OpenAIGPTConfig(), old)
    if new is None:
        assert not hasattr(GPT1Config(), old)
        return
    value, expected = OTHER_VALUES.get(old, (default / 4 if isinstance(default, float) else default * 2,) * 2)
    OpenAIGPTConfig(**{old: value}).save_pretrained(tmp_path)
    assert getattr(GPT1Config.from_pretrained(tmp_path), new) == expected
    if old not in ("afn", "summary_first_dropout"):
        assert getattr(GPT1Config(**{old: value}), new) == value
    else:
        with pytest.raises(ValueError, match=f"{old} is a field of openai-gpt: here it is {new}"):
            GPT1Config(**{old: value})


def test_no_field_of_the_configuration_is_missing():
    inherited = transformers.PreTrainedConfig().to_dict().keys() | {"bos_token_id", "eos_token_id", "pad_token_id"}
    own = {name for name in inspect.signature(OpenAIGPTConfig).parameters if name not in inherited}
    assert own - {"kwargs", "tie_word_embeddings", "use_cache"} <= table("Configuration").keys()


def test_modules():
    shape = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    rows = {old: re.sub(r"\bN\b", "1", new) for old, new in table("Modules and parameters").items()}
    for theirs, ours in (
        (OpenAIGPTDoubleHeadsModel, GPT1DoubleHeadsModel),
        (OpenAIGPTForSequenceClassification, GPT1ForSequenceClassification),
    ):
        peer, model = theirs(OpenAIGPTConfig(**shape)), ours(GPT1Config(**shape, intermediate_size=64))
        renamed = from_openai_gpt(peer.state_dict())
        assert renamed.keys() <= model.state_dict().keys()
        for old, new in ((re.sub(r"\bN\b", "1", old), new) for old, new in rows.items()):
            if old in dict(peer.named_modules()):
                model.get_submodule(new)
                for name, _ in peer.get_submodule(old).named_parameters(recurse=False):
                    assert f"{new}.{name}" in from_openai_gpt({f"{old}.{name}": peer.get_parameter(f"{old}.{name}")})
        named = {
            re.sub(r"\b0\b|\b1\b", "N", name) for name, module in peer.named_modules() if list(module.parameters())
        }
        containers = {"", "transformer.h", "multiple_choice_head"}
        assert named - containers <= table("Modules and parameters").keys()


def test_arguments():
    rows = table("Arguments of a call")
    for old, ours in OURS.items():
        theirs = inspect.signature(getattr(transformers, old).forward).parameters
        names = theirs.keys() - {"self", "kwargs"}
        assert names <= rows.keys()
        taken = (
            inspect.signature(ours.forward).parameters.keys() | transformers.utils.TransformersKwargs.__annotations__
        )
        assert {rows[name] for name in names} - {"return_dict"} <= set(taken)
    double = inspect.signature(OpenAIGPTDoubleHeadsModel.forward).parameters
    order = [name for name in double if name in inspect.signature(GPT1DoubleHeadsModel.forward).parameters]
    assert order == list(inspect.signature(GPT1DoubleHeadsModel.forward).parameters)
