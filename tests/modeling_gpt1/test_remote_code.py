"""What `save_pretrained` wrote, loaded where the package is not installed."""

import ast
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import modeling_gpt1
from modeling_gpt1 import GPT1ForCausalLM, GPT1ForSimilarity, GPT1Model
from modeling_gpt1.modeling_gpt1 import AUTO_CLASSES
from tokenization import GPT1Tokenizer


PACKAGE = Path(modeling_gpt1.__file__).parent


def test_every_head_loads_without_the_package(tiny_config, tmp_path, auto_classes, load_elsewhere, answer, flat_files):
    tokenizer = GPT1Tokenizer(task_format=True)
    jobs, expected = [], []
    for model_class, auto_class in auto_classes.items():
        directory = tmp_path / model_class.__name__
        model = model_class(tiny_config(vocab_size=len(tokenizer)))
        model.save_pretrained(directory)
        assert {file.name for file in directory.glob("*.py")} == flat_files
        tokenizer.save_pretrained(directory)
        jobs.append((str(directory), auto_class, "main"))
        expected.append(answer(model, tokenizer))
        # Any checkpoint serves as any other class: the map in its configuration is complete.
        if model_class is GPT1ForSimilarity:
            jobs.append((str(directory), "AutoModel", "main"))
            expected.append(answer(GPT1Model.from_pretrained(directory), tokenizer))
    assert load_elsewhere(jobs, HF_HUB_OFFLINE="1") == expected


def test_every_class_that_is_saved_is_in_one_file():
    """The Auto classes of a checkpoint look for them in the file that its `auto_map` names."""
    for models in AUTO_CLASSES.values():
        assert {model.__module__ for model in models} == {"modeling_gpt1.modeling_gpt1"}


def test_what_travels_is_public_pytorch(flat_files):
    """Private functions change from one version to the next, and a checkpoint's copy of the code does not."""
    for name in flat_files:
        for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                path = ast.unparse(node)
                private = path.startswith("torch.") and any(part.startswith("_") for part in path.split("."))
                assert not private and not path.startswith("torch.ops."), f"{name}, line {node.lineno}: {path}"


# Loads the first directory as remote code, saves it to the next and so on, and prints the last one's logits.
AGAIN = """
import json, sys, torch, transformers
source, *others = json.loads({directories!r})
for directory in (*others, None):
    model = transformers.AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    if directory is not None:
        model.save_pretrained(directory)
        source = directory
torch.save(model(torch.arange(1, 9)[None]).logits, {output!r})
"""


def test_remote_code_travels_on_when_saved_again_and_again(tiny_config, spread, tmp_path, load_elsewhere, flat_files):
    """From a checkpoint whose file holds no `lm_head`: it is tied to the embedding wherever it is loaded."""
    model = spread(GPT1ForCausalLM(tiny_config()))
    directories = [str(tmp_path / name) for name in ("first", "second", "third")]
    model.save_pretrained(directories[0])
    weights = Path(directories[0], "model.safetensors")
    save_file({name: tensor for name, tensor in load_file(weights).items() if "lm_head" not in name}, weights)
    output = tmp_path / "logits.pt"
    snippet = AGAIN.format(directories=json.dumps(directories), output=str(output))
    load_elsewhere([], [snippet], HF_HUB_OFFLINE="1")
    torch.testing.assert_close(torch.load(output, weights_only=True), model(torch.arange(1, 9)[None]).logits)
    for directory in directories:
        assert {file.name for file in Path(directory).glob("*.py")} == flat_files
        assert Path(directory, "LICENSE").read_bytes() == (PACKAGE.parent / "LICENSE").read_bytes()
        assert "lm_head.weight" not in load_file(Path(directory, "model.safetensors"))


def test_a_tokenizer_needs_no_remote_code(tiny_config, tmp_path, load_elsewhere):
    """transformers asks about the code of the model's configuration: refused or unanswered, the tokenizer loads."""
    GPT1ForCausalLM(tiny_config()).save_pretrained(tmp_path)
    GPT1Tokenizer().save_pretrained(tmp_path)
    loads = f"""
import sys, transformers
sys.stdin.close()
for options in ({{}}, {{"trust_remote_code": False}}):
    tokenizer = transformers.AutoTokenizer.from_pretrained({str(tmp_path)!r}, **options)
    assert tokenizer.eos_token == "_classify_" and tokenizer("the cat")["input_ids"]
assert not [name for name in sys.modules if name.startswith("transformers_modules.")]
"""
    load_elsewhere([], [loads], HF_HUB_OFFLINE="1")
