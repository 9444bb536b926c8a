"""
Variants of one checkpoint, each fine-tuned on a task by the machinery of `gpt1 finetune` and measured on the task's
validation data: what `transfer` and `ablation` share. A call measures one task; those of several calls with the same
`output_dir` stand side by side.
"""

import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from ..modeling_gpt1 import GPT1TaskModel
from ..training.finetune import FinetuningArguments, TaskArguments, finetune
from ..training.seeds import settings_of
from .findings import Findings


# What is done to a loaded model before it is trained, in place
Variant = Callable[[GPT1TaskModel], None]


@dataclass
class VariantArguments(FinetuningArguments, TaskArguments):
    """Every flag of `gpt1 finetune`; with `--seeds` each variant is fine-tuned as often."""

    needs_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        TaskArguments.__post_init__(self)
        super().__post_init__()
        if self.model is None:
            raise ValueError("--config starts from scratch, and this is about what a checkpoint brings: give --model")
        if self.push_to_hub:
            raise ValueError("--push_to_hub is for one model, and an analysis keeps figures alone")
        if self.world_size > 1:
            raise ValueError("an analysis runs in one process: several tasks can be measured at once, one in each")

    def settings(self) -> dict[str, Any]:
        """What a figure depends on, beside the variant and the seed."""
        return {name: value for name, value in settings_of(self, self).items() if name != "task"}


@dataclass(frozen=True)
class Measured:
    """
    The variants' figures on one task.

    Attributes:
        metric: what was measured.
        values: of each variant, a figure for each seed.
    """

    metric: str
    values: dict[str, list[float]]

    @property
    def unit(self) -> str:
        return "loss" if self.metric == "loss" else "in percent"

    def in_unit(self, variant: str) -> list[float]:
        """A variant's figures; NaN where it was not measured."""
        scale = 1 if self.metric == "loss" else 100
        return [scale * value for value in self.values.get(variant, [float("nan")])]

    def median(self, variant: str) -> float:
        """In [`unit`]; NaN where the variant was not measured."""
        return median(self.in_unit(variant))

    def range(self, variant: str) -> tuple[float, float]:
        """How far the lowest and the highest figure are from the median."""
        values = self.in_unit(variant)
        return median(values) - min(values), max(values) - median(values)

    def cell(self, variant: str) -> str:
        """For a table."""
        if variant not in self.values:
            return "-"
        values, digits = self.in_unit(variant), 3 if self.metric == "loss" else 1
        spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
        return f"{median(values):.{digits}f}{spread}"


def measure(args: VariantArguments, name: str, variants: dict[str, Variant]) -> tuple[Findings, dict[str, Measured]]:
    """
    Fine-tunes and measures the variants that `output_dir` has no figure of yet. The models are not kept.

    Args:
        args: the task, its data, the checkpoint, and how it is trained.
        name: of the analysis.
        variants: by their names.

    Returns:
        The findings, to write a table and a picture of, and the figures of this task and of those that `output_dir`
        holds from earlier calls.

    Raises:
        OSError, ValueError, FloatingPointError: as [`finetune`] does; and for `output_dir` with findings of other
            settings or of another checkpoint.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; the same call goes on from there.
    """
    findings = Findings(args.output_dir, name, args.settings(), args.task)
    for task, earlier in findings.of_tasks().items():
        if (model := earlier["settings"].get("model")) != args.model:
            raise ValueError(
                f"{args.output_dir} holds figures of another checkpoint, {model}, on {task}: choose another one"
            )
    # What was interrupted under other settings is not gone on with: there may be no figure yet that tells them
    settings = hashlib.sha256(json.dumps(findings.settings, sort_keys=True).encode()).hexdigest()[:8]
    for seed in range(args.seed, args.seed + args.seeds):
        for variant, prepare in variants.items():
            run = copy.copy(args)
            run.seed = seed
            folder = f"{name}-{args.task}-{variant}-{seed}-{settings}".replace(" ", "-")
            run.output_dir = str(Path(args.output_dir, folder))
            begun: Any = Path(run.output_dir).is_dir() or None
            run.resume_from_checkpoint = begun  # where it was interrupted
            findings.of(f"{variant}, seed {seed}", partial(_figure, run, prepare))
    return findings, {task: _by_variant(each["found"]) for task, each in findings.of_tasks().items()}


def units(measured: dict[str, Measured]) -> str:
    """What an axis with the figures of several tasks shows."""
    return ", ".join(dict.fromkeys(each.unit for each in measured.values()))


def _figure(run: VariantArguments, prepare: Variant) -> dict[str, Any]:
    with redirect_stdout(sys.stderr):  # the analysis prints its table
        figures = finetune(run, run, prepare)
    assert run.metric_for_best_model is not None  # it was chosen by then
    metric = run.metric_for_best_model.removeprefix("eval_")
    shutil.rmtree(run.output_dir)
    return {"metric": metric, "value": figures[f"eval_{metric}"]}


def _by_variant(found: dict[str, dict[str, Any]]) -> Measured:
    values: dict[str, list[float]] = {}
    for key, figure in found.items():
        values.setdefault(key.rpartition(", seed ")[0], []).append(figure["value"])
    return Measured(next(iter(found.values()))["metric"], values)
