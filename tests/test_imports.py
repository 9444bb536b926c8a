"""
Imports go one way, and in no circle; the files that travel to the Hub import nothing that is not there.

Every import counts, also one inside a function.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("tokenization", "modeling_gpt1", "hub_upload")

FLAT = {
    "configuration_gpt1",
    "modeling_gpt1",
    "losses_gpt1",
    "dropout_gpt1",
    "generation_gpt1",
    "inputs_gpt1",
    "packed_choices_gpt1",
    "openai_gpt",
}
# From the lowest to the highest: modules, or packages with all that is in them.
LAYERS = (
    {"tokenization"},
    {f"modeling_gpt1.{name}" for name in FLAT},
    {"modeling_gpt1.flags", "modeling_gpt1.json_files"},
    {f"modeling_gpt1.{name}" for name in ("loading", "convert", "processor", "adapters", "lens")},
    {f"modeling_gpt1.{name}" for name in ("training", "inference", "submission", "scoring", "analysis", "info")},
    {"modeling_gpt1.public"},
    {"modeling_gpt1"},  # `__init__.py`, with the public names
    {"hub_upload"},
    {f"modeling_gpt1.{name}" for name in ("cli", "__main__", "arguments")},
)
# What the flat files may import besides each other and the standard library, and a Space's app in their place.
PUBLIC = {"torch", "transformers"}
OF_A_SPACE = PUBLIC | {"gradio"}


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the packages under `root` by its name; a package's is that of its `__init__.py`."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path) -> Iterator[str]:
    """The absolute names that a module imports: `a.b.c` for `from a.b import c`."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph_of(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Which of these modules each one imports."""
    graph = {}
    for name, path in modules.items():
        # Of `a.b.c` the module is a.b.c, or else a.b, which has the name c
        targets = (next((m for m in (t, t.rpartition(".")[0]) if m in modules), None) for t in imports_of(name, path))
        graph[name] = {target for target in targets if target is not None} - {name}
    return graph


def layer_of(name: str) -> int:
    """The layer of a module, which the most precise entry has."""
    while name:
        for number, layer in enumerate(LAYERS):
            if name in layer and (name != "modeling_gpt1" or number == LAYERS.index({"modeling_gpt1"})):
                return number
        name = name.rpartition(".")[0]
    raise LookupError


def upward(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{name} imports {target}, which is above it"
        for name, targets in graph.items()
        for target in sorted(targets)
        if layer_of(target) > layer_of(name)
    ]


def circle(graph: dict[str, set[str]]) -> str | None:
    """One circle of imports, if there is any."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> str | None:
        if name in way:
            return " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                if (found := search(target, [*way, name])) is not None:
                    return found
            done.add(name)
        return None

    return next((found for name in graph if (found := search(name, [])) is not None), None)


def strangers(modules: dict[str, Path]) -> list[str]:
    """What flat files import that remote code does not have, or in a form that it does not load."""
    found = []
    for name in sorted(name for name in FLAT if f"modeling_gpt1.{name}" in modules):
        for node in ast.walk(ast.parse(modules[f"modeling_gpt1.{name}"].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                if (node.level, node.module in FLAT) != (1, True):
                    found.append(f"{name}: from {'.' * node.level}{node.module or ''} import ...")
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                found += [f"{name}: {target}" for target in targets if not _is_public(name, target)]
    return found


def _is_public(name: str, target: str) -> bool:
    strict = (name, target) == ("configuration_gpt1", "huggingface_hub.dataclasses")
    return strict or target.partition(".")[0] in PUBLIC | sys.stdlib_module_names


def test_no_import_runs_upwards():
    assert upward(graph_of(modules_of(REPOSITORY))) == []


def test_no_imports_run_in_a_circle():
    assert circle(graph_of(modules_of(REPOSITORY))) is None


def test_what_travels_to_the_hub_imports_only_what_is_there(flat_files):
    modules = modules_of(REPOSITORY)
    assert {f"{name}.py" for name in FLAT} == flat_files
    assert {f"modeling_gpt1.{name}" for name in FLAT} <= set(modules)
    assert strangers(modules) == []


def test_what_travels_to_a_space_imports_only_what_is_there():
    modules = modules_of(REPOSITORY)
    names = {name.partition(".")[0] for name in imports_of("hub_upload.app", modules["hub_upload.app"])}
    assert "gradio" in names and names <= OF_A_SPACE | sys.stdlib_module_names


def test_every_module_has_its_layer():
    """A new one is put into `LAYERS` here; it does not go to the layer of `modeling_gpt1/__init__.py` by itself."""
    floating = LAYERS.index({"modeling_gpt1"})
    modules = modules_of(REPOSITORY)
    assert len(modules) > 30
    assert [name for name in modules if layer_of(name) == floating] == ["modeling_gpt1"]


@pytest.mark.parametrize(
    "changed, finding",
    [
        (
            {"modeling_gpt1/training/run.py": "def f():\n    from hub_upload import push"},
            "modeling_gpt1.training.run imports hub_upload, which is above it",
        ),
        (
            {"modeling_gpt1/training/run.py": "from .. import cli"},
            "modeling_gpt1.training.run imports modeling_gpt1.cli, which is above it",
        ),
        (
            {"modeling_gpt1/loading.py": "import modeling_gpt1.inference"},
            "modeling_gpt1.loading imports modeling_gpt1.inference, which is above it",
        ),
        (
            {"tokenization/train.py": "from .report import a", "tokenization/report.py": "from . import train"},
            "tokenization.report -> tokenization.train -> tokenization.report",
        ),
        ({"modeling_gpt1/modeling_gpt1.py": "from .loading import a"}, "modeling_gpt1: from .loading import ..."),
        ({"modeling_gpt1/modeling_gpt1.py": "from . import openai_gpt"}, "modeling_gpt1: from . import ..."),
        ({"modeling_gpt1/openai_gpt.py": "def f():\n    import numpy.random"}, "openai_gpt: numpy.random"),
        ({"modeling_gpt1/openai_gpt.py": "from huggingface_hub import x"}, "openai_gpt: huggingface_hub"),
    ],
)
def test_a_wrong_import_is_found_and_named(tmp_path, changed, finding):
    for name in ("__init__.py", "cli.py", "loading.py", "inference.py", "training/__init__.py"):
        path = tmp_path / "modeling_gpt1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for package in PACKAGES:
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").touch()
    right = modules_of(tmp_path)
    assert not upward(graph_of(right)) and circle(graph_of(right)) is None and not strangers(right)
    for name, text in changed.items():
        (tmp_path / name).write_text(text)
    modules = modules_of(tmp_path)
    graph = graph_of(modules)
    assert finding in [*upward(graph), circle(graph), *strangers(modules)]
