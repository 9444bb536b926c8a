"""Help, usage, version and mistyped flags; and that the command answers them without importing a model."""

import configparser
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

import modeling_gpt1
from modeling_gpt1.arguments import COMMON
from modeling_gpt1.cli import COMMANDS, main


HEAVY = ("torch", "transformers", "datasets", "tokenizers", "numpy", "huggingface_hub")


def leaves(capsys, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command that argparse ends."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return left.value.code, *capsys.readouterr()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_starts_with_an_example_whose_flags_are_there(command, capsys):
    status, shown, _ = leaves(capsys, command, "--help")
    example = shown.splitlines()[1].strip()
    assert status == 0 and shown.startswith("example:\n") and example.startswith(f"gpt1 {command} ")
    # All that is wrong with the example's own flags would be said before the unknown one, or in place of it
    status, _, said = leaves(capsys, *shlex.split(example)[1:], "--no_such_flag")
    assert status == 2 and said.splitlines()[-1].endswith(": error: there is no --no_such_flag")


@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_help_shows_ours_and_the_common_flags_and_help_all_the_rest(command, capsys):
    theirs = {field.name for field in fields(TrainingArguments)} - {"output_dir"}
    flags = {}
    for option in ("--help", "--help-all"):
        _, shown, _ = leaves(capsys, command, option)
        flags[option] = set(re.findall(r"^  --(\w+)", shown, re.MULTILINE))
    assert {"output_dir", "muon"} <= flags["--help"]
    assert flags["--help"] & theirs == set(COMMON)
    assert flags["--help-all"] >= theirs


def test_help_tells_the_defaults(capsys):
    _, shown, _ = leaves(capsys, "finetune", "--help")
    rate = re.search(r"--learning_rate X .*?\(default: (\S+)\)", shown, re.DOTALL).group(1)
    assert float(rate) == 6.25e-5  # the paper's, section 4.1


def test_a_missing_flag_is_named_after_a_usage_of_one_line(capsys):
    status, shown, said = leaves(capsys, "finetune", "--task", "sst2")
    usage, reason = said.splitlines()
    assert (status, shown) == (2, "")
    assert usage == "usage: gpt1 finetune --task TASK --output_dir TEXT [FLAGS]"
    assert "--output_dir" in reason


@pytest.mark.parametrize(
    "flag, meant",
    [
        ("--epochs", "--num_train_epochs"),
        ("--lr", "--learning_rate"),
        ("--batch_size", "--per_device_train_batch_size"),
        ("--learning-rat=1", "--learning_rate"),
        ("--train_fil", "--train_file"),
        ("--outputdir", "--output_dir"),
    ],
)
def test_an_unknown_flag_brings_the_one_that_is_meant(flag, meant, capsys):
    given = ["--task", "sst2", "--output_dir", "x", *([flag] if "=" in flag else [flag, "3"])]
    status, _, said = leaves(capsys, "finetune", *given)
    assert status == 2
    assert f"there is no {flag.partition('=')[0]}: did you mean {meant}" in said.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info"], ["push", "--help"]])
def test_what_needs_no_model_imports_none(arguments):
    program = [sys.executable, "-X", "importtime", "-m", "modeling_gpt1", *arguments]
    done = subprocess.run(program, capture_output=True, text=True)
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
    assert done.returncode == 0 and done.stdout and "argparse" in imported
    assert imported.isdisjoint(HEAVY)


def test_the_installed_command_is_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(Path(sysconfig.get_path("scripts")) / "gpt1")])
    assert modeling_gpt1._starts_the_command()
    for program in (str(tmp_path / "gpt1"), "gpt1", "", "-c", sys.executable):  # a namesake elsewhere is no command
        monkeypatch.setattr(sys, "argv", [program])
        assert not modeling_gpt1._starts_the_command()
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "pytest", "-m", "modeling_gpt1"])
    assert not modeling_gpt1._starts_the_command()


@pytest.mark.parametrize(
    "imports", ["import modeling_gpt1, transformers", "import transformers, modeling_gpt1", "import modeling_gpt1.cli"]
)
def test_the_auto_classes_know_the_package_in_any_order_of_imports(imports):
    program = f"""{imports}
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from modeling_gpt1 import GPT1_MINI
print(type(AutoConfig.from_pretrained(GPT1_MINI)).__module__)
print(type(AutoTokenizer.from_pretrained(GPT1_MINI)).__name__)
print(type(AutoModelForCausalLM.from_pretrained(GPT1_MINI)).__module__)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config, tokenizer, model = done.stdout.split()
    assert config == "modeling_gpt1.configuration_gpt1" and model == "modeling_gpt1.modeling_gpt1"


def test_the_version_is_one(capsys):
    repository = Path(__file__).resolve().parents[2]
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: modeling_gpt1.__version__"
    assert leaves(capsys, "--version") == (0, f"gpt1 {modeling_gpt1.__version__}\n", "")
    cited = re.search(r"^version: (\S+)$", (repository / "CITATION.cff").read_text(), re.MULTILINE).group(1)
    assert cited == modeling_gpt1.__version__
    assert f"## {cited}" in (repository / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("there", [True, False])
def test_a_mistyped_directory_is_said_in_one_sentence(there, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if there:
        (tmp_path / "runs").mkdir()
    assert main(["predict", "--model", "runs/sentimant", "--text", "a"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("gpt1 predict: no checkpoint") and "there is no such directory" in said
    assert ("Hub" in said) is not there
