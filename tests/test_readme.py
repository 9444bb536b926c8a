"""Every command and snippet of the README, run as it stands."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    command
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    for command in line.split(" && ")
]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The README's working directory, with nothing of an earlier run in it."""
    path = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "examples", path / "examples")
    return path


def run(arguments: list[str], cwd) -> str:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_install_command_is_a_plain_pip_install():
    installs = [command for command in COMMANDS if "pip install" in command]
    assert installs == ["pip install -c constraints.txt -e .", 'pip install -c constraints.txt -e ".[dev]"']


def test_the_main_job_learns_and_predicts(checkout):
    jobs = [shlex.split(command) for command in COMMANDS if command.startswith("gpt1 ")]
    assert [job[1] for job in jobs] == ["finetune", "predict"]
    output = [run([sys.executable, "-m", "modeling_gpt1", *job[1:]], checkout) for job in jobs]
    accuracy = float(re.search(r"^validation +accuracy +([\d.]+) %$", output[0], re.MULTILINE).group(1))
    assert accuracy > 90
    assert '"label": "positive"' in output[1]


def test_the_snippets_run_in_their_order(checkout):
    """A text is continued, a classifier trained, and its labels are those of the data."""
    printed = [run([sys.executable, "-c", snippet], checkout) for snippet in SNIPPETS]
    assert printed[0].strip().startswith("it was a bright cold day in april,") and len(printed[0].split()) > 10
    answers = ast.literal_eval(printed[2].splitlines()[-1])
    assert len(answers) == 2 and {answer["label"] for answer in answers} <= {"positive", "negative"}
