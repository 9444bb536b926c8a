"""Predictions for a task's official test sets, in the form that its benchmark takes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from tokenization.table_files import write_table
from tokenization.write_aside import new_file

from .inference import PredictArguments, Predictor
from .training.data import Split, find_columns
from .training.labels import class_names
from .training.sources import read_splits
from .training.tasks import TASKS, Release, Task


ARCHIVE = "submission.zip"


def submit(args: PredictArguments) -> list[Path]:
    """
    Predicts the test sets of the task's release in `data_dir`, each into its file in `output_dir`: an id and a
    prediction for every row, in the file's order. Of a benchmark that takes the files of its tasks together, those
    that are in `output_dir` are also put into `submission.zip`.

    Returns:
        `list[Path]`: what was written.

    Raises:
        OSError, ValueError: files or a model that are not as the task needs them; nothing is written.
    """
    assert args.task is not None  # what there is to submit
    task = TASKS[args.task]
    release = task.release
    if release is None:
        raise ValueError(f"{args.task} has no official test set: give --input_file and --output_file")
    if args.data_dir is None or args.output_dir is None:
        raise ValueError("--task goes with --data_dir, the official files, and --output_dir, for the predictions")
    if args.text is not None or args.input_file is not None:
        raise ValueError("give one of --text, --input_file and --task")
    if args.skip_bad_rows:
        raise ValueError("--task predicts every row of a test set: it goes without --skip_bad_rows")
    if any((args.text_pair, args.output_file, args.text_columns, args.choice_columns)):
        raise ValueError(
            "--task reads and writes official files: it goes without --text_pair, --output_file, --text_columns and "
            "--choice_columns"
        )
    splits = read_splits(task, {}, args.data_dir, args, only=release.predictions, skip=False)
    paths = {split: Path(args.output_dir, release.predictions[split]) for split in splits}
    with ExitStack() as stack:
        files = {split: stack.enter_context(new_file(path)) for split, path in paths.items()}
        predictor = Predictor(args.model, args.batch_size, args.dtype)
        _check(task, args, predictor)
        for split, rows in splits.items():
            results = predictor.label(rows, find_columns(task, rows, needs_label=False, named_by_flags=False))
            write_table(files[split], _columns(task, release, rows, results))
    return [*paths.values(), *_archive(release, Path(args.output_dir))]


def _check(task: Task, args: PredictArguments, predictor: Predictor) -> None:
    """Raises `ValueError` for a model of another task."""
    if type(predictor.model) is not task.head:
        raise ValueError(
            f"{args.model} holds {type(predictor.model).__name__}, and {args.task} is for {task.head.__name__}"
        )
    config = predictor.config
    one = config.num_labels == 1 if task.regression else config.problem_type != "multi_label_classification"
    if predictor.regression != task.regression or not one:
        given, wanted = ("scores" if each else "classes" for each in (predictor.regression, task.regression))
        raise ValueError(f"{args.model} predicts {given}, and {args.task} wants {wanted}, one for each row")
    names = set(class_names(config))
    if task.labels is not None and names != set(task.labels):
        raise ValueError(f"{args.model} predicts {', '.join(sorted(names))}, and {args.task} {', '.join(task.labels)}")


def _columns(task: Task, release: Release, rows: Split, results: list[dict[str, Any]]) -> dict[str, list[Any]]:
    ids = rows.columns.get(release.id_column, range(len(rows)))
    head = "index" if release.archive else "id"
    return {head: list(ids), "prediction": [_answer(task, release, result) for result in results]}


def _answer(task: Task, release: Release, result: dict[str, Any]) -> str:
    """A prediction in the benchmark's form."""
    if task.regression:
        return f"{result['score']:.4f}"
    if release.answers is None:
        return result["label"]
    number = result["label"] if task.labels is None else task.labels.index(result["label"])
    return release.answers[number]


def _archive(release: Release, folder: Path) -> Iterator[Path]:
    names = [name for name in release.archive if (folder / name).is_file()]
    if names:
        with new_file(folder / ARCHIVE) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(folder / name, name)
        yield folder / ARCHIVE
