"""
Parsers of the commands' flags: a help that starts with an example and shows what people change, a usage of one line,
and for a mistyped flag those that may be meant.

The flags of most commands are fields of dataclasses, transformers' own among them, whose import takes seconds. What
can be answered without them is answered first, from the help that is kept in `help/`.
"""

import argparse
import ast
import difflib
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from .flags import check_file, check_model, checkpoint


HELP = Path(__file__).with_name("help")  # written by `python tests/modeling_gpt1/test_help.py`
FILES = ("train_file", "validation_file", "test_file", "input_file")  # flags that name a file to read


# Of transformers' hundred flags, those that `--help` shows.
COMMON = (
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "warmup_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "seed",
    "resume_from_checkpoint",
    "push_to_hub",
)
# What a flag's value is called; a text's is TEXT
VALUES: dict[Any, str] = {int: "N", float: "X"}
INDENT, WIDTH = 30, 110  # of the help's right column, and of its lines


class CommandParser(argparse.ArgumentParser):
    """
    The parser of one command.

    Args:
        command (`str`): its name; empty for `gpt1` itself.
        description (`str`): what it does, in a sentence.
        example (`str`): what stands after `gpt1 COMMAND` in a call that works.
        flags (`argparse.ArgumentParser`, *optional*): a parser whose flags it takes over.
        of_transformers (`frozenset[str]`): which of them are transformers' own.
    """

    def __init__(
        self,
        command: str,
        description: str,
        example: str,
        flags: argparse.ArgumentParser | None = None,
        of_transformers: frozenset[str] = frozenset(),
    ):
        parents = [] if flags is None else [flags]
        # What an abbreviation means today, it does not with the flags of a later version.
        super().__init__(f"gpt1 {command}".strip(), description=description, parents=parents, allow_abbrev=False)
        self.example = example
        self.of_transformers = of_transformers
        self.shows_all = False
        if of_transformers:
            self.add_argument(
                "--help-all",
                nargs=0,
                action=_HelpAll,
                dest=argparse.SUPPRESS,
                help="show all of transformers' flags as well",
            )

    def format_usage(self) -> str:
        required = (_name(action) for action in self._actions if action.required and action.help != argparse.SUPPRESS)
        return f"usage: {' '.join([self.prog, *required])} [FLAGS]\n"

    def format_help(self) -> str:
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        by_dest = {action.dest: action for action in reversed(shown)}  # --x rather than the --no_x after it
        groups = {
            "flags": sorted(
                (dest for dest in reversed(by_dest) if dest not in self.of_transformers),
                key=lambda dest: (not by_dest[dest].required, dest in ("help", argparse.SUPPRESS)),
            ),
            "training": [dest for dest in COMMON if dest in self.of_transformers],
        }
        if self.shows_all:
            rest = [dest for dest in reversed(by_dest) if dest in self.of_transformers and dest not in COMMON]
            groups["transformers' other flags"] = rest
        parts = [f"example:\n  {self.prog} {self.example}\n", self.format_usage(), f"{self.description}\n"]
        for title, dests in groups.items():
            if dests:
                lines = [line for dest in dests for line in _described(by_dest[dest])]
                parts.append("\n".join([f"{title}:", *lines]) + "\n")
        return "\n".join([*parts, f"{self.epilog}\n"] if self.epilog else parts)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Leaves with status 2, as argparse does, and says which flags an unknown one may stand for."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = next((text for text in unknown if text.startswith("--")), unknown[0]).partition("=")[0]
            meant = self.similar(flag)
            self.error(f"there is no {flag}" + (f": did you mean {' or '.join(meant)}?" if meant else ""))
        return namespace

    def similar(self, flag: str) -> list[str]:
        """Up to three flags that share words, initials (--lr) or most letters with an unknown one, common first."""
        name = flag.strip("-").replace("-", "_")
        words = set(name.split("_"))
        dests = [action.dest for action in self._actions if action.option_strings]
        close = difflib.get_close_matches(name, dests, cutoff=0.75)
        found = [dest for dest in dests if words <= set(dest.split("_")) or name == _initials(dest)]
        ranked = sorted(found, key=lambda dest: (dest not in COMMON, dest in self.of_transformers))
        return [f"--{dest}" for dest in dict.fromkeys([*close, *ranked])][:3]


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, CommandParser)
        parser.shows_all = True
        parser.print_help()
        parser.exit()


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def _name(action: argparse.Action) -> str:
    """`--flag VALUE`, or the name of a positional argument."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    flag = max(action.option_strings, key=lambda option: (option.startswith("--"), "_" in option))
    if action.nargs == 0:
        return flag
    value = "/".join(map(str, action.choices or ())) or VALUES.get(action.type, "TEXT")
    if "bool" in getattr(action.type, "__name__", ""):
        value = "True/False"
    if len(value) > 40:
        value = flag.strip("-").upper()
    return f"{flag} {action.metavar or value}{' ...' if action.nargs == '+' else ''}"


def _described(action: argparse.Action) -> list[str]:
    """The lines of the help about one flag."""
    text = " ".join((action.help or "").replace("%%", "%").split())
    name = _name(action)
    if action.choices and not action.metavar and str(next(iter(action.choices))) not in name:
        text += f" One of {', '.join(map(str, action.choices))}."
    if action.default not in (None, argparse.SUPPRESS, False) and "default" not in text:
        text += f" (default: {action.default})"
    lines = textwrap.wrap(text, WIDTH - INDENT)
    first = f"{name:<{INDENT - 2}}"
    if len(name) < INDENT - 2 and lines:
        first += lines.pop(0)
    return [f"  {first.rstrip()}", *(" " * INDENT + line for line in lines)]


def answer_early(command: str, arguments: Sequence[str]) -> None:
    """
    Answers what needs no dataclass: the help; a flag that is not there, or one that is missing; a file or a directory
    that is not there. All else is left to [`parse_dataclasses`].

    Raises:
        FileNotFoundError: the file or the directory.
    """
    path = HELP / f"{command.replace(' ', '-')}.txt"
    if not path.is_file():
        return  # a command with a parser of its own
    text = path.read_text(encoding="utf-8")
    if list(arguments) in (["--help"], ["-h"]):
        print(text, end="")
        raise SystemExit(0)
    if {"-h", "--help", "--help-all"} & set(arguments):
        return
    theirs = _flags_of_transformers() if "--help-all" in text else []
    parser = _EarlyParser(command, "", "", of_transformers=frozenset(theirs) - {"output_dir"})
    parser.usage = next(line for line in text.splitlines(keepends=True) if line.startswith("usage:"))
    ours = [name for name in re.findall(r"^  --(\w+)", text, re.MULTILINE) if name != "help"]
    for name in dict.fromkeys([*ours, *theirs]):
        required = f"--{name} " in parser.usage
        names = [name] if required else [name, f"no_{name}"]  # as a flag is called that is on by default
        options = dict.fromkeys(
            f"--{each}" for each_name in names for each in (each_name, each_name.replace("_", "-"))
        )
        parser.add_argument(*options, dest=name, nargs="*", required=required)
    given = vars(parser.parse_args(arguments))
    for file in (file for flag in FILES for file in given.get(flag) or ()):
        check_file(file)
    for model in map(checkpoint, given.get("model") or ()):
        if not Path(model).is_dir():
            check_model(model)


class _EarlyParser(CommandParser):
    """A parser that knows which flags there are, not what they take."""

    def format_usage(self) -> str:
        return self.usage or ""


def _flags_of_transformers() -> list[str]:
    """The fields of `TrainingArguments`, read from its source."""
    package = importlib.util.find_spec("transformers")
    assert package is not None and package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0], "training_args.py").read_text(encoding="utf-8")
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    (body,) = (node.body for node in classes if node.name == "TrainingArguments")
    return [node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]


def parse_dataclasses(
    command: str,
    types: tuple[Any, ...],
    arguments: Sequence[str],
    example: str,
    defaults: dict[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Objects of the dataclasses whose fields are the command's flags; the first one's docstring describes it."""
    from transformers import HfArgumentParser, TrainingArguments
    from transformers.hf_argparser import string_to_bool

    flags = HfArgumentParser(types, add_help=False)
    trains = any(issubclass(each, TrainingArguments) for each in types)
    theirs = {field.name for field in fields(TrainingArguments)} - {"output_dir"} if trains else ()
    parser = CommandParser(command, inspect.cleandoc(types[0].__doc__ or ""), example, flags, frozenset(theirs))
    for action in parser._actions:
        if action.dest == "resume_from_checkpoint":  # the flag alone: from the last one
            action.nargs, action.const = "?", "True"
        elif action.type is string_to_bool:  # the flag alone: True, also where the default is None
            action.nargs, action.const = "?", True
    parser.set_defaults(**defaults or {})
    return flags.parse_dict(vars(parser.parse_args(arguments)))
