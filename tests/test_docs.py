"""The documentation: its links lead somewhere, what it names exists, its commands are right and its Python runs."""

import ast
import configparser
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import modeling_gpt1
from modeling_gpt1.cli import main


REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs").glob("*.md"))}
SPOKEN = {name: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for name, text in PAGES.items()}  # without code blocks


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What the headings are called in a link."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", SPOKEN[page])
    for target, _, anchor in (link.partition("#") for link in links if not link.startswith("https://")):
        assert not target or (REPOSITORY / "docs" / target).is_file(), target
        assert not anchor or anchor in anchors(PAGES[target or page]), f"{target}#{anchor}"


def test_the_menu_has_pages_that_are_there():
    menu = re.findall(r"^  - .+: (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert "index.md" in menu and set(menu) == set(PAGES)


def names_in(path: Path) -> set[str]:
    """`function`, `Class` and `Class.method` of a file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("page", PAGES)
def test_functions_that_are_named_exist(page):
    references = re.findall(r"`([\w/]+\.py)::([\w.]+)`", PAGES[page])
    assert references or page != "method.md"
    for file, name in references:
        found = [path for path in (REPOSITORY / file, REPOSITORY / "modeling_gpt1" / file) if path.is_file()]
        assert len(found) == 1, file
        assert name in names_in(found[0]), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    roots = [REPOSITORY / name for name in ("", "modeling_gpt1", "notebooks", "examples/accelerate")]
    made = {"server.py"}  # by the reader
    for file in set(re.findall(r"`([\w/-]+\.(?:py|ipynb|yaml|cfg))`", SPOKEN[page])) - made:
        assert any((root / file).is_file() for root in roots), file


def test_configurations_that_are_named_are_valid():
    named = [expression for page in PAGES for expression in re.findall(r"`(GPT1Config\([^`]+\))`", SPOKEN[page])]
    assert named
    for expression in named:
        eval(expression, {"GPT1Config": modeling_gpt1.GPT1Config})


def test_the_reference_names_what_there_is():
    objects = re.findall(r"^::: (\S+)\.(\w+)$", PAGES["reference.md"], re.MULTILINE)
    assert objects
    for module, name in objects:
        assert name in names_in(Path(importlib.util.find_spec(module).origin)), f"{module}.{name}"


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "bash") for line in block.splitlines() if line.startswith("gpt1 ")]


@pytest.mark.parametrize("command", sorted({command for text in PAGES.values() for command in commands(text)}))
def test_commands_are_right(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*shlex.split(command)[1:], "--no_such_flag"])
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(": error: there is no --no_such_flag")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with the examples and `runs/sentiment`, as the pages assume it, after two steps."""
    path = tmp_path_factory.mktemp("workplace")
    shutil.copytree(REPOSITORY / "examples", path / "examples")
    flags = [
        "--task",
        "classification",
        "--train_file",
        str(path / "examples/sentiment/train.csv"),
        "--max_steps",
        "2",
    ]
    assert main(["finetune", *flags, "--output_dir", str(path / "runs/sentiment"), "--report_to", "none"]) == 0
    return path


def run(program: str, cwd: Path) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if blocks(text, "python")])
def test_the_python_of_a_page_runs_in_its_order(page, workplace):
    program = "\n".join(blocks(PAGES[page], "python"))
    for package in re.findall(r"^(?:from|import) (\w+)", program, re.MULTILINE):
        pytest.importorskip(package, reason=f"docs/{page} uses {package}")
    run(program, workplace)


def test_the_server_answers(workplace):
    pytest.importorskip("fastapi", reason="the server of docs/serve.md needs fastapi")
    (server,) = blocks(PAGES["serve.md"], 'python title="server.py"')
    call = """
from fastapi.testclient import TestClient
print(TestClient(app).post("/classify", json=["A delightful evening.", "Cold."]).json())
"""
    answers = ast.literal_eval(run(server + call, workplace))
    assert [set(answer) for answer in answers] == [{"label", "score"}] * 2


def test_the_export_to_onnx_agrees(workplace):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"docs/serve.md's export needs {module}")
    (export,) = blocks(PAGES["serve.md"], 'python title="to_onnx.py"')
    compare = """
import onnxruntime
ids = torch.randint(1, 1000, (3, 13))
mask = (torch.arange(13) < torch.tensor([[13], [9], [4]])).long()
session = onnxruntime.InferenceSession("sentiment.onnx")
(got,) = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
with torch.inference_mode():
    expected = model(input_ids=ids, attention_mask=mask).logits
torch.testing.assert_close(torch.from_numpy(got), expected.float(), atol=1e-4, rtol=1e-4)
"""
    run(export + compare, workplace)


def test_the_container_has_what_serving_needs():
    """What the page copies from a checkpoint, and what it leaves out, is what the checkpoint's own code imports."""
    (recipe,) = blocks(PAGES["serve.md"], 'dockerfile title="Dockerfile"')
    installed = set(re.search(r"pip install --no-cache-dir ([\w ]+)", recipe).group(1).split())
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    needed = set(re.findall(r"^(\w+)", setup["options"]["install_requires"], re.MULTILINE))
    assert installed & needed == {"torch", "transformers"}
