"""
Help, usage, version and mistyped flags; and that the command answers them without importing a model.

`python tests/modeling_gpt1/test_help.py` writes the help that the package keeps.
"""

import configparser
import contextlib
import io
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import fields
from pathlib import Path

import pytest
import transformers
from transformers import TrainingArguments

import modeling_gpt1
from modeling_gpt1.analysis import ANALYSES
from modeling_gpt1.arguments import COMMON, HELP, _flags_of_transformers, answer_early
from modeling_gpt1.cli import COMMANDS, main


HEAVY = ("torch", "transformers", "datasets", "tokenizers", "numpy", "huggingface_hub")
KEPT = (  # the commands whose flags are dataclasses'
    *("pretrain", "finetune", "predict", "generate", "score", "features"),
    *(f"analyze {name}" for name in ANALYSES),
)


def made_help(command: str) -> str:
    """The help as the dataclasses have it."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main([*command.split(), "--help", "--help"])  # said twice, it is not what is kept
    return shown.getvalue()


def kept_help(command: str) -> Path:
    return HELP / f"{command.replace(' ', '-')}.txt"


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


@pytest.mark.parametrize("command", KEPT)
def test_the_help_that_is_kept_is_the_dataclasses(command):
    constraints = Path(__file__).resolve().parents[2] / "constraints.txt"
    pinned = re.search(r"^transformers==([\d.]+)", constraints.read_text(), re.MULTILINE).group(1)
    if transformers.__version__ != pinned:
        pytest.skip("transformers is not the version of constraints.txt, whose flags the help tells")
    assert kept_help(command).read_text(encoding="utf-8") == made_help(command), f"run python {__file__}"


def test_no_other_help_is_kept():
    assert sorted(HELP.iterdir()) == sorted(map(kept_help, KEPT))


def test_the_flags_of_transformers_are_read_from_its_source():
    assert sorted(_flags_of_transformers()) == sorted(field.name for field in fields(TrainingArguments))


@pytest.mark.parametrize(
    "arguments, status",
    [
        (["--help"], 0),
        (["--version"], 0),
        (["info"], 0),
        *(([*command.split(), "--help"], 0) for command in ("push", "analyze", "finetune", "analyze transfer")),
        (["analyze", "transfr"], 2),
        (["finetune", "--task", "sst2", "--epochs", "3", "--output_dir", "x"], 2),
        (["pretrain", "--corpus", "a", "b"], 2),  # without --output_dir
        (["analyze", "induction", "--lenght", "3", "--output_dir", "x"], 2),
        (["finetune", "--task", "sst2", "--train_file", "trian.csv", "--output_dir", "x"], 1),
        (["score", "--input-file", "no.txt", "--output_file", "x.csv"], 1),
        (["generate", "--model", "tests/none", "--prompt", "It was"], 1),
    ],
)
def test_what_needs_no_model_imports_none(arguments, status):
    program = [sys.executable, "-X", "importtime", "-m", "modeling_gpt1", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == status and "argparse" in imported
    assert bool(done.stdout) is (status == 0) and len(said) == status
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ["finetune", "--task", "sst2", "--epochs", "3", "--output_dir", "x"],
        ["finetune", "--task", "sst2"],
        ["pretrain", "--lr", "1", "--corpus", "a", "b", "--output_dir", "x"],
        ["analyze", "transfer", "--lr", "1", "--task", "sst2", "--output_dir", "x"],
        ["predict", "--model", "gpt1-mini", "--txt", "a"],
        ["finetune", "--task", "sst2", "--train_file", "trian.csv", "--output_dir", "{}/x"],
        ["predict", "--model", "{}/none", "--text", "a"],
    ],
)
def test_an_early_answer_is_the_late_one(arguments, tmp_path, monkeypatch, capsys):
    def answer() -> tuple[int, str]:
        try:
            status = main([argument.format(tmp_path) for argument in arguments])
        except SystemExit as left:
            status = left.code
        return status, capsys.readouterr().err

    early = answer()
    monkeypatch.setattr("modeling_gpt1.arguments.HELP", tmp_path)
    assert early == answer() and early[0] in (1, 2)


@pytest.mark.parametrize(
    "given", [["--no_remove_unused_columns"], ["--learning-rate", "-1"], ["--train-file", __file__], ["--bf16"]]
)
def test_what_is_right_is_left_to_the_dataclasses(given, capsys):
    answer_early("finetune", ["--task", "sst2", *given, "--output_dir=x"])
    assert capsys.readouterr() == ("", "")


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


def test_a_damaged_configuration_is_not_said_to_be_missing(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{")
    assert main(["predict", "--model", str(tmp_path), "--text", "a"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "is not a valid JSON file" in said and "Hub" not in said and "no such directory" not in said


if __name__ == "__main__":
    HELP.mkdir(exist_ok=True)
    for name in KEPT:
        kept_help(name).write_text(made_help(name), encoding="utf-8")
