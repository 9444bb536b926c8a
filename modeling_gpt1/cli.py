"""
The `gpt1` command: reads the command line, calls the library, prints.

Exit status: 0 done; 1 failed, with one line on stderr; 2 wrong usage; 130 interrupted, resumable.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from . import __version__, load
from .arguments import CommandParser, answer_early, parse_dataclasses
from .flags import Format, checkpoint


if TYPE_CHECKING:
    from .training.run import RunArguments


def _parse(
    command: str, dataclasses: tuple[type, ...], arguments: Sequence[str], defaults: dict[str, Any] | None = None
) -> tuple[Any, ...]:
    return parse_dataclasses(command, dataclasses, arguments, COMMANDS[command].example, defaults)


def _parser(command: str, description: str) -> CommandParser:
    return CommandParser(command, description, COMMANDS[command].example)


def _recorded(command: str, arguments: Sequence[str]) -> str:
    """The command line as a card records it: without logins, and without where on this machine things lie."""
    from huggingface_hub import get_token

    from hub_upload.refusals import scrub

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--hub_token", "--hub-token")
    words = []
    for word in parser.parse_known_args(arguments)[1]:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        path = Path(value).expanduser()
        words.append(flag + equals + (path.name if path.is_absolute() else value))
    return scrub(shlex.join(["gpt1", command, *words]), get_token())


def _peek(arguments: Sequence[str], **flags: str | None) -> dict[str, Any]:
    """What the command line says of some flags, by name, or their defaults: for what the other flags' defaults are."""
    parser = argparse.ArgumentParser(add_help=False)
    for name, default in flags.items():
        parser.add_argument(f"--{name}", nargs="?", default=default)
    return vars(parser.parse_known_args(arguments)[0])


def _finetune(arguments: Sequence[str]) -> None:
    from .training.finetune import FinetuningArguments, TaskArguments, finetune, recipe
    from .training.report import quiet

    settings = recipe(**_peek(arguments, task=None, model=None, config=None))
    task_args, training_args = _parse("finetune", (TaskArguments, FinetuningArguments), arguments, settings)
    with quiet(training_args.verbose):
        if task_args.seeds == 1:
            finetune(task_args, training_args)
            _publish(training_args)
            return
        from .training.seeds import finetune_seeds

        for run in finetune_seeds(task_args, training_args):
            _publish(run)


def _pretrain(arguments: Sequence[str]) -> None:
    from .training.pretrain import DEFAULT, RECIPES, CorpusArguments, PretrainingArguments, pretrain
    from .training.report import quiet

    dataclasses = (CorpusArguments, PretrainingArguments)
    # A configuration brings settings of its own, which the flags beside it override.
    recipe = RECIPES.get(_peek(arguments, config=DEFAULT)["config"], {})
    corpus_args, training_args = _parse("pretrain", dataclasses, arguments, recipe)
    with quiet(training_args.verbose):
        pretrain(corpus_args, training_args)
        _publish(training_args, command=_recorded("pretrain", arguments))


def _publish(args: "RunArguments", **facts: Any) -> None:
    """The model card of a run that has ended, where its files are, and the push that `--push_to_hub` asks for."""
    from hub_upload import push, write_model_card

    from .training.report import files_list

    if args.process_index != 0:
        return
    write_model_card(args.output_dir, **facts)
    print(files_list(args.output_dir))
    if args.push_to_hub:  # what Trainer has pushed meanwhile lacks the results and the card
        name = args.hub_model_id or Path(args.output_dir).absolute().name
        push(args.output_dir, name, private=args.hub_private_repo, revision=args.hub_revision)


def _predict(arguments: Sequence[str]) -> None:
    from .inference import PredictArguments, predict

    (args,) = _parse("predict", (PredictArguments,), arguments)
    if args.task is not None:
        from .submission import submit

        print(*(f"wrote {path}" for path in submit(args)), sep="\n")
        return
    results = predict(args)
    print(json.dumps(results[0], ensure_ascii=False) if args.text is not None else f"wrote {args.output_file}")


def _generate(arguments: Sequence[str]) -> None:
    from .inference import GenerateArguments, generate

    (args,) = _parse("generate", (GenerateArguments,), arguments)
    for text in generate(args):
        print(text)


def _analyze(arguments: Sequence[str]) -> None:
    from .analysis import ANALYSES

    about = "Look into language models: JSON, a table and a picture."
    args = _choose("analyze", about, "ANALYSIS", ANALYSES, COMMANDS["analyze"].example, arguments)
    answer_early(f"analyze {args.choice}", args.arguments)
    _prepare()
    from .training.finetune import TaskArguments, recipe

    module = import_module(f".analysis.{args.choice.replace('-', '_')}", __package__)
    finetunes = issubclass(module.Arguments, TaskArguments)
    settings = recipe(**_peek(args.arguments, task=None, model=None, config=None)) if finetunes else {}
    command, example = f"analyze {args.choice}", f"{module.EXAMPLE} --output_dir runs/{args.choice}"
    (parsed,) = parse_dataclasses(command, (module.Arguments,), args.arguments, example, settings)
    print(module.analyze(parsed), end="")


def _score(arguments: Sequence[str]) -> None:
    from .scoring import ScoreArguments, write_scores

    (args,) = _parse("score", (ScoreArguments,), arguments)
    print(json.dumps(write_scores(args), indent=2))


def _features(arguments: Sequence[str]) -> None:
    from .scoring import FeaturesArguments, write_features

    (args,) = _parse("features", (FeaturesArguments,), arguments)
    rows, layers, width = write_features(args)
    print(f"wrote {args.output_file}: {rows} {args.unit}s, {layers} x {width} numbers each")


def _train_tokenizer(arguments: Sequence[str]) -> None:
    parser = _parser("train-tokenizer", "Learn a BPE from text, by the words of the 2018 encoder.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="text files, folders of them, or Hub data sets")
    parser.add_argument(
        "--output_dir", required=True, metavar="D", help="where it is written: a new or empty directory"
    )
    parser.add_argument("--num_merges", type=int, default=40_000, help="merges to learn (default: 40000)")
    parser.add_argument("--min_frequency", type=int, default=2, help="rarest pair that is merged (default: 2)")
    parser.add_argument("--held_out", metavar="PATH", help="text for the report that was not learned from")
    parser.add_argument("--text_column", default="text", help="column of tables and data sets (default: text)")
    parser.add_argument("--delimiter", help="what separates the fields of CSV and TSV (default: as the header shows)")
    parser.add_argument("--encoding", help="of texts and tables (default: UTF-8, or what a byte-order mark says)")
    parser.add_argument("--skip_bad_rows", action="store_true", help="skip and count rows of another number of fields")
    args = vars(parser.parse_args(arguments))
    from tokenization.report import train_tokenizer
    from tokenization.table_files import TableArguments

    tables = TableArguments(**{field.name: args.pop(field.name) for field in fields(TableArguments)})
    report = train_tokenizer(**args, tables=tables, command=_recorded("train-tokenizer", arguments))
    print(json.dumps(report, indent=2))


def _convert(arguments: Sequence[str]) -> None:
    parser = _parser("convert", "Weights and vocabulary from one format to another, as a new checkpoint.")
    parser.add_argument(
        "source", metavar="SOURCE", help="the folder of OpenAI's release, or an openai-gpt or gpt1 checkpoint"
    )
    parser.add_argument("output_dir", metavar="DIR", help="where the checkpoint is written: a new or empty directory")
    parser.add_argument("--to", choices=get_args(Format), default="gpt1", help="the format (default: gpt1)")
    parser.add_argument("--seed", type=int, default=42, help="of the special tokens' new embeddings (default: 42)")
    args = parser.parse_args(arguments)
    from .convert import convert

    print(convert(args.source, args.output_dir, args.to, args.seed))


def _push(arguments: Sequence[str]) -> None:
    parser = _parser("push", "Put a model on the Hub: checked, in one commit.")
    parser.add_argument("directory", metavar="DIR", help="what finetune, Trainer or save_pretrained has written")
    parser.add_argument("repo_id", metavar="REPO_ID", help="USER/NAME; created if it is not there")
    parser.add_argument(
        "--private",
        action="store_true",
        default=None,
        help="create a private repository; refuse one that is public",
    )
    parser.add_argument("--revision", help="the branch to commit to; made from main if it is not there")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request with the commit")
    parser.add_argument("--tag", help="a tag for the commit")
    parser.add_argument("--commit_message", help="the title of the commit, and of the pull request")
    parser.add_argument("--dry_run", action="store_true", help="list every file, and what would change; send nothing")
    parser.add_argument("--space", action="store_true", help="also make a Space: the page of gpt1 demo")
    parser.add_argument("--max_size", default="5GB", help="refuse to send more than this (default: 5GB)")
    parser.add_argument(
        "--format",
        choices=get_args(Format),
        default="gpt1",
        help="with the model's code, or as transformers loads it without any (default: gpt1)",
    )
    args = parser.parse_args(arguments)
    from hub_upload import push

    args.directory = checkpoint(args.directory)
    result = push(**vars(args))
    for part in filter(None, (result, result.space)):
        print(*part.changes, *part.notes, sep="\n")
        if not args.dry_run:
            print(part.url if part.committed else f"{part.url} has it all already: no new commit")


def _demo(arguments: Sequence[str]) -> None:
    parser = _parser("demo", "A page in the browser to try a model on: what its head does, tokens, attention.")
    parser.add_argument(
        "--model", default="gpt1-mini", help="a checkpoint: a directory, a Hub id or gpt1-mini, the packaged one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address that it is served at; 0.0.0.0 for a network")
    parser.add_argument("--port", type=int, help="the port (default: 7860, or the next that is free)")
    args = parser.parse_args(arguments)
    try:
        from hub_upload.app import App, launch, page
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'the page needs {error.name}: pip install "gpt1[demo]"') from error
    from .loading import load_checkpoint
    from .processor import optimize_for_inference

    model, tokenizer = load_checkpoint(checkpoint(args.model))
    app = App(model, tokenizer, type(model).__name__)
    optimize_for_inference(model)
    blocks = page(app, Path(args.model).name)
    try:
        _, url, _ = launch(blocks, server_name=args.host, server_port=args.port, prevent_thread_lock=True, quiet=True)
    except OSError as error:
        raise OSError(f"nothing can be served at {args.host}, port {args.port or 7860}: give another one") from error
    print(f"{url} shows {args.model}; Ctrl-C ends it", flush=True)
    blocks.block_thread()


def _info(arguments: Sequence[str]) -> None:
    from .info import describe

    parser = _parser("info", "What a checkpoint or a run is, from its files.")
    parser.add_argument(
        "directory", nargs="?", default="gpt1-mini", metavar="DIR", help="the packaged gpt1-mini if not given"
    )
    facts = describe(checkpoint(parser.parse_args(arguments).directory))
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


class Command(NamedTuple):
    """What runs, what it is for, and what stands after its name in a call that works."""

    run: Callable[[Sequence[str]], None]
    about: str
    example: str


COMMANDS: dict[str, Command] = {
    "pretrain": Command(
        _pretrain,
        "train a language model from texts",
        "--corpus books/ --validation_corpus held-out/ --config mini --output_dir runs/mini",
    ),
    "finetune": Command(
        _finetune,
        "fine-tune a model on a task",
        "--task classification --train_file train.csv --validation_file validation.csv --output_dir runs/mine",
    ),
    "predict": Command(
        _predict,
        "label texts with a fine-tuned model",
        '--model runs/mine --text "What a splendid little play!"',
    ),
    "generate": Command(
        _generate,
        "continue a text",
        '--prompt "It was a bright cold day" --do_sample True',
    ),
    "score": Command(
        _score, "surprisal of words and tokens", "--input_file texts.txt --output_file runs/surprisal.csv"
    ),
    "features": Command(
        _features,
        "hidden states of words and texts",
        "--input_file texts.txt --output_file runs/states.parquet --layers 0 3 6",
    ),
    "train-tokenizer": Command(
        _train_tokenizer, "learn a BPE from text", "books/ --num_merges 40000 --output_dir runs/tokenizer"
    ),
    "analyze": Command(_analyze, "look into language models", "induction --output_dir runs/induction"),
    "convert": Command(
        _convert,
        "weights and vocabulary between OpenAI's release, openai-gpt and gpt1",
        "finetune-transformer-lm/model runs/gpt1 --to gpt1",
    ),
    "info": Command(_info, "what a checkpoint or a run is", "runs/mine"),
    "demo": Command(_demo, "a page to try a model on", "--model runs/mine"),
    "push": Command(_push, "put a model on the Hub", "runs/mine me/mine --private --dry_run"),
}
_LIGHT = ("info", "analyze")  # these read files alone, without a model, or choose first


def _choose(
    command: str, description: str, kind: str, choices: dict[str, str], example: str, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """The first argument, `choice`, one of `choices` (name to what it is), and the `arguments` that follow it."""
    width = max(map(len, choices))
    parser = CommandParser(command, description, example)
    parser.epilog = f"{kind}:\n" + "\n".join(f"  {name:<{width}}  {about}" for name, about in choices.items())
    if not command:
        parser.add_argument("--version", action="version", version=f"gpt1 {__version__}", help="show the version")
    about = f"one of those below; `{parser.prog} {kind} --help` tells its flags"
    parser.add_argument("choice", choices=choices, metavar=kind, help=about)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status (wrong usage leaves through `SystemExit(2)`, as argparse does)."""
    about = {name: each.about for name, each in COMMANDS.items()}
    example = f"generate {COMMANDS['generate'].example}"
    args = _choose("", "GPT-1: train, use and share it.", "COMMAND", about, example, arguments)
    try:
        answer_early(args.choice, args.arguments)
        if args.choice not in _LIGHT and not {"-h", "--help"} & {*args.arguments}:
            _prepare()
        COMMANDS[args.choice].run(args.arguments)
    except KeyboardInterrupt as interrupt:
        print(f"gpt1 {args.choice}: interrupted {interrupt}".rstrip(), file=sys.stderr)
        return 130
    except BaseException as error:
        # `tokenizers` panics with an exception of its own that is no Exception
        panics = type(error).__name__ == "PanicException"
        if not (panics or isinstance(error, Exception)) or os.environ.get("GPT1_TRACEBACK"):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"gpt1 {args.choice}: {message}", file=sys.stderr)
        return 1
    return 0


def _prepare() -> None:
    """What a command with a model needs: the classes registered, and the Hub's client that leaves its errors to us."""
    from huggingface_hub.utils import logging

    load()
    logging.set_verbosity_error()  # what fails for good is said once, by `main`
