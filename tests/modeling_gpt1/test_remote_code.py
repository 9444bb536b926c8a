"""What `save_pretrained` wrote, loaded where the package is not installed."""

import ast
from pathlib import Path

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


AGAIN = """
from transformers import AutoModelForCausalLM

AutoModelForCausalLM.from_pretrained({source!r}, trust_remote_code=True).save_pretrained({target!r})
"""


def test_what_remote_code_saves_carries_code_and_licence_on(tiny_config, tmp_path, load_elsewhere, flat_files):
    first, second = tmp_path / "first", tmp_path / "second"
    GPT1ForCausalLM(tiny_config()).save_pretrained(first)
    load_elsewhere([], [AGAIN.format(source=str(first), target=str(second))])
    for directory in (first, second):
        assert {file.name for file in directory.glob("*.py")} == flat_files
        assert (directory / "LICENSE").read_bytes() == (PACKAGE.parent / "LICENSE").read_bytes()


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
