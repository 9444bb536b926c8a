"""A fine-tuning repeated with several seeds: the median and the range of each figure."""

import copy
import json
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

from tokenization.write_aside import write_object

from ..json_files import read_object
from .finetune import FinetuningArguments, TaskArguments, finetune
from .metrics import METRICS


RESULTS = "all_results.json"
SETTINGS = "settings.json"  # of all runs, in their folder
# What a figure depends on, beside what a card tells
DECISIVE = (
    "num_train_epochs",
    "max_steps",
    "warmup_steps",
    "lr_scheduler_kwargs",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim_args",
    "max_grad_norm",
    "label_smoothing_factor",
    "neftune_noise_alpha",
    "train_sampling_strategy",
    "dataloader_drop_last",
    "data_seed",
    "bf16",
    "fp16",
    "eval_strategy",
    "eval_steps",
    "eval_delay",
    "save_strategy",
    "save_steps",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
)


def finetune_seeds(task_args: TaskArguments, training_args: FinetuningArguments) -> list[FinetuningArguments]:
    """
    Fine-tunes with `seeds` seeds, from `seed` on, each in a folder `seed-S` of `output_dir`; with
    `resume_from_checkpoint` it goes on where it stopped. `all_results.json` in `output_dir` holds of every figure
    `NAME` the median under its name, the lowest and highest as `NAME_range`, and all as `NAME_by_seed`.

    Returns:
        `list[FinetuningArguments]`: those of each run.

    Raises:
        ValueError: a push of what are several models, one run's checkpoint for all of them, or runs that were begun
            with other settings or on other data; and what [`finetune`] raises.
    """
    if isinstance(training_args.resume_from_checkpoint, str) and task_args.seeds > 1:
        raise ValueError("--seeds goes on with --resume_from_checkpoint True: a checkpoint is one run's")
    if training_args.push_to_hub:
        raise ValueError("--push_to_hub is for one model, and --seeds makes several: push one of them by `gpt1 push`")
    training_args.check_output_dir()
    settings = json.loads(json.dumps(settings_of(task_args, training_args)))
    path = Path(training_args.output_dir, SETTINGS)
    begun = read_object(path)
    if begun and (changed := [name for name in settings if settings[name] != begun.get(name)]):
        raise ValueError(
            f"{path.parent} was begun with {changed[0]} {begun.get(changed[0])}, not {settings[changed[0]]}: go on "
            "with what it was begun with, or choose another --output_dir"
        )
    runs, results = [], []
    for seed in range(training_args.seed, training_args.seed + task_args.seeds):
        run = copy.copy(training_args)
        run.seed, run.output_dir = seed, str(Path(training_args.output_dir, f"seed-{seed}"))
        if not Path(run.output_dir).is_dir():
            run.resume_from_checkpoint = None  # to resume is for those that were begun
        try:
            results.append(read_object(Path(run.output_dir, RESULTS)) or finetune(task_args, run))
        finally:
            if not begun and path.parent.is_dir() and training_args.process_index == 0:
                write_object(path, settings)
        runs.append(run)
        if _metrics(results[-1]) != _metrics(results[0]):
            raise ValueError(
                f"{run.output_dir} has not the figures of {runs[0].output_dir}: the data have changed; choose another "
                "--output_dir"
            )
    if training_args.process_index == 0:
        summary = {"seeds": [run.seed for run in runs]} | summarize(results)
        write_object(Path(training_args.output_dir, RESULTS), summary)
        print(table(summary))
    return runs


def settings_of(task_args: TaskArguments, training_args: FinetuningArguments) -> dict[str, Any]:
    """What a figure depends on, beside the seed."""
    data = {each.name: getattr(task_args, each.name) for each in fields(TaskArguments)}
    training = {name: getattr(training_args, name) for name in DECISIVE}
    settings = data | training_args.card_settings() | training
    return {name: value for name, value in settings.items() if name not in ("seed", "seeds")}


def _metrics(results: dict[str, Any]) -> set[str]:
    """The names of a run's metrics, of every split."""
    return {name for name in results if any(name.endswith(f"_{metric}") for metric in METRICS)}


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The median, range and values of every metric among the results of runs, and the paper's figures, as they are."""
    summary: dict[str, Any] = {}
    metrics = _metrics(results[0])
    for name, value in results[0].items():
        if name in metrics:
            values = [result[name] for result in results]
            summary |= {
                name: median(values),
                f"{name}_range": [min(values), max(values)],
                f"{name}_by_seed": values,
            }
        elif name.endswith("_in_paper") or name == "paper_caveat":
            summary[name] = value
    return summary


def table(summary: dict[str, Any]) -> str:
    """Each figure's median and range beside the paper's, in percent, to print."""
    head = f"of {len(summary['seeds'])} seeds, in percent"
    lines = [f"{head:<45}{'median':>10}{'range':>16}{'paper':>8}"]
    for name in (name.removesuffix("_range") for name in summary if name.endswith("_range")):
        low, high = summary[f"{name}_range"]
        published = summary.get(f"{name}_in_paper")
        beside = f"{100 * published:.1f}" if published is not None else "-"
        lines.append(f"{name:<45}{100 * summary[name]:>10.1f}{f'{100 * low:.1f} to {100 * high:.1f}':>16}{beside:>8}")
    return "\n".join([*lines, *([summary["paper_caveat"]] if "paper_caveat" in summary else [])])
