"""
Supervised fine-tuning with the paper's settings (section 4.1), on transformers' Trainer.

```bash
gpt1 finetune --task sst2 --train_file train.csv --validation_file validation.csv --output_dir runs/sst2
```
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from transformers import (
    DataCollatorForMultipleChoice,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    SchedulerType,
    set_seed,
)

from tokenization import GPT1Tokenizer
from tokenization.table_files import TableArguments

from ..configuration_gpt1 import NAMED_CONFIGURATIONS, GPT1Config
from ..flags import GPT1_MINI, check_flags, checkpoint, lasting_name
from ..loading import (
    align,
    load_tokenizer_and_config,
    load_with_tokenizer,
    new_config,
)
from ..modeling_gpt1 import GPT1ForMultipleChoice, GPT1TaskModel
from .data import Columns, Split, complete_rows, encode, find_columns, unknown_share
from .labels import Labels, class_names
from .metrics import METRICS, TaskMetrics, class_report, write_class_report
from .optimization import MuonTrainer, OriginalTrainer
from .paper import add_paper
from .report import figures_table, model_line
from .run import RunArguments, RunTrainer, save_facts, save_results, train
from .sources import labelled_splits, read_splits
from .tasks import REGRESSION_METRICS, TASKS, Task, TaskName


# What gpt1-mini, a quarter of the paper's size, wants in place of the paper's settings, and what a task or a head
# wants otherwise: chosen on validation sets, with one seed. Your own rows may be few, and with 50 updates it depended
# on their order whether 400 sentences were learned.
MINI_RECIPE: dict[str, Any] = {"learning_rate": 2e-4, "warmup_steps": 0.1, "num_train_epochs": 4}
MINI_EXCEPTIONS: dict[str | type[GPT1TaskModel], dict[str, Any]] = {
    "cola": {"learning_rate": 3e-4, "num_train_epochs": 6},
    GPT1ForMultipleChoice: {"per_device_train_batch_size": 16},
    "classification": {"per_device_train_batch_size": 16},
    "entailment": {"per_device_train_batch_size": 16},
    "similarity": {"per_device_train_batch_size": 16},
}


@dataclass
class TaskArguments(TableArguments):
    """
    Fine-tune a model on a task. The defaults here are the paper's; gpt1-mini, the model if none is named, has its own,
    which --task TASK --help shows.
    """

    task: TaskName = field(metadata={"help": "The task, or the kind of task for your own data."})
    model: str | None = field(
        default=None,
        metadata={
            "help": "A checkpoint, gpt1 or openai-gpt: a directory, a Hub id or gpt1-mini, the packaged one and the "
            "default."
        },
    )
    config: str | None = field(
        default=None,
        metadata={
            "help": "In place of a checkpoint, what to start from scratch: a named configuration "
            f"({', '.join(NAMED_CONFIGURATIONS)}) or a JSON file of one."
        },
    )
    data_dir: str | None = field(
        default=None,
        metadata={"help": "A folder with the task's official files, in GLUE's layout or as their authors have them."},
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "CSV, TSV, JSON lines or Parquet, or an official file of the task; without it and --data_dir, the "
            "task's data set on the Hub."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Measured after every epoch."})
    test_file: str | None = field(default=None, metadata={"help": "Measured once, at the end."})
    seeds: int = field(
        default=1,
        metadata={"help": "Runs, of --seed, --seed + 1, ... each in a folder of its own: for median and range."},
    )
    text_columns: list[str] | None = field(default=None, metadata={"help": "The column of the text, or of the pair."})
    label_column: str | None = field(default=None, metadata={"help": "The column of the label."})
    choice_columns: list[str] | None = field(
        default=None,
        metadata={"help": "The column that lists a multiple choice's answers, or one column per answer."},
    )
    regression: bool | None = field(
        default=None,
        metadata={
            "help": "Whether labels are scores, not classes; if not given, where most are numbers and not all whole."
        },
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest input in tokens; the model's own limit if not given."}
    )
    lm_coef: float | None = field(
        default=None,
        metadata={"help": "Weight of the auxiliary language-modeling loss; the model's (0.5) if not given."},
    )

    needs_validation: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(self, seeds=(self.seeds >= 1, "at least 1"))
        if self.data_dir is not None and (self.text_columns or self.label_column or self.choice_columns):
            raise ValueError("--data_dir has the task's own columns: name columns with --train_file and its kin")
        if self.config is None:
            self.model = checkpoint(self.model or GPT1_MINI)
        elif self.model is not None:
            raise ValueError("--model goes on from a checkpoint, --config starts from scratch: give one of them")


@dataclass
class FinetuningArguments(RunArguments):
    """
    [`TrainingArguments`] with the paper's fine-tuning settings as defaults. They differ from transformers' in:
    learning rate 6.25e-5, batches of 32, weight decay 0.01, warm-up over 0.2 % of the steps, an evaluation and a
    checkpoint after every epoch of which the best is kept, and batches of like lengths. `label_smoothing_factor` is
    applied by the task's head, while training only, so that the auxiliary loss stays.
    """

    learning_rate: float = field(default=6.25e-5, metadata={"help": "The highest learning rate."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Examples per step and device."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Examples per evaluation step and device."})
    weight_decay: float = field(default=0.01, metadata={"help": "On all parameters but biases and gains."})
    warmup_steps: float = field(default=0.002, metadata={"help": "Steps of warm-up; below 1, a part of all steps."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch or best."})
    save_total_limit: int | None = field(
        default=1, metadata={"help": "Checkpoints to keep, the best among them; 1: that, and the last until the end."}
    )
    load_best_model_at_end: bool | None = field(  # type: ignore[assignment]  # None until `__post_init__`
        default=None,
        metadata={"help": "Whether the best checkpoint is the result; by default, where all are evaluated."},
    )
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "How training examples are drawn: random, group_by_length, ..."}
    )
    original_adam: bool = field(
        default=False,
        metadata={"help": "Take the very steps of the original code's Adam and schedule, in place of AdamW's."},
    )
    logging_steps: float = field(
        default=0.05, metadata={"help": "Log the training loss every so many steps; below 1, a part of all steps."}
    )

    def __post_init__(self) -> None:
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = self._evaluates_checkpoints()
        check_flags(  # what the metrics are computed from is all answers in one array
            self,
            prediction_loss_only=(not self.prediction_loss_only, "False here"),
            eval_do_concat_batches=(self.eval_do_concat_batches, "True here"),
            batch_eval_metrics=(not self.batch_eval_metrics, "False here"),
        )
        chosen = self.metric_for_best_model, self.greater_is_better
        super().__post_init__()
        self.metric_for_best_model, self.greater_is_better = chosen  # None: the task's, not the loss
        if self.original_adam and self.lr_scheduler_type != "linear":
            raise ValueError(
                f"original_adam comes with its linear schedule, not with {SchedulerType(self.lr_scheduler_type).value}"
            )
        if self.original_adam and self.muon:
            raise ValueError("original_adam and muon are two optimizers: give one of them")
        others = self.optim not in ("adamw_torch", "adamw_torch_fused") or self.optim_args or self.lr_scheduler_kwargs
        if self.original_adam and others:
            raise ValueError("original_adam leaves nothing to optim, optim_args and lr_scheduler_kwargs")

    def _evaluates_checkpoints(self) -> bool:
        """Whether each checkpoint is evaluated when it is saved."""
        if self.eval_strategy == "no" or self.save_strategy == "best":
            return self.eval_strategy != "no"
        if self.eval_strategy != "steps":
            return self.eval_strategy == self.save_strategy
        evaluated, saved = self.eval_steps or self.logging_steps, self.save_steps
        whole = round(1e6 * saved) % max(round(1e6 * evaluated), 1) == 0  # steps, or parts of all steps
        return self.save_strategy == "steps" and (saved < 1) == (evaluated < 1) and whole

    def choose_metric(self, names: tuple[str, ...]) -> None:
        """
        Sets what the best checkpoint has most of, or least: what was asked for, or the first of these metrics. Raises
        `ValueError` for a metric that is not measured.
        """
        metric = self.metric_for_best_model or names[0]
        if metric.removeprefix("eval_") not in ("loss", *names):
            raise ValueError(f"metric_for_best_model {metric} is not measured; it is one of loss, {', '.join(names)}")
        self.metric_for_best_model = metric
        if self.greater_is_better is None:
            self.greater_is_better = not metric.endswith("loss")
        if self.follows_evaluation:  # of a loss, where nothing is said
            mode = {"mode": "max" if self.greater_is_better else "min"}
            self.lr_scheduler_kwargs = mode | (self.lr_scheduler_kwargs or {})  # type: ignore[operator]

    def card_settings(self) -> dict[str, Any]:
        named = {"optimizer": "Adam as in the original code"} if self.original_adam else {}
        return super().card_settings() | named


def recipe(task: str, model: str | None = None, config: str | None = None) -> dict[str, Any]:
    """The settings that replace the paper's where `model`, or what it is if neither is given, is gpt1-mini."""
    mini = config is None and checkpoint(model or GPT1_MINI) == GPT1_MINI
    if not mini or task not in TASKS:
        return {}
    return MINI_RECIPE | MINI_EXCEPTIONS.get(TASKS[task].head, {}) | MINI_EXCEPTIONS.get(task, {})


def finetune(
    task_args: TaskArguments,
    training_args: FinetuningArguments,
    prepare: Callable[[GPT1TaskModel], None] | None = None,
) -> dict[str, Any]:
    """
    Fine-tunes a model on a task and writes it, its tokenizer, `all_results.json` and, for a model card, `card.json` to
    `output_dir`.

    Args:
        task_args, training_args: the task and its data, the model, and how it is trained.
        prepare: what to do to the loaded model before it is trained, in place.

    Returns:
        `dict[str, Any]`: the metrics of every split, as in `all_results.json`.

    Raises:
        OSError, ValueError: files, columns, labels or a model that are not as the task needs them; nothing is written.
        FloatingPointError: a loss or a weight that is not finite; the last checkpoint is a good one.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; a checkpoint to resume from is saved.
    """
    task = TASKS[task_args.task]
    training_args.check_output_dir()
    if task.choice_columns and not training_args.remove_unused_columns:
        raise ValueError("remove_unused_columns must be True for a multiple choice, whose collator takes no others")
    splits, columns = read_labelled(task, task_args)
    if "validation" not in splits:
        training_args.do_without_evaluation()
    set_seed(training_args.seed)
    tokenizer, config = starting_point(task_args)
    max_length = config.max_position_embeddings if task_args.max_length is None else task_args.max_length
    if not tokenizer.num_special_tokens_to_add(pair=True) < max_length <= config.max_position_embeddings:
        raise ValueError(f"--max_length must lie in [4, {config.max_position_embeddings}], got {max_length}")
    labels = Labels.of(task, splits["train"], columns["train"].label, known_labels(config), task_args.regression)
    if training_args.label_smoothing_factor and labels.regression:
        raise ValueError("label_smoothing_factor is for classes, and the labels are numbers")
    metrics = TaskMetrics(
        REGRESSION_METRICS if labels.regression else task.metrics, labels.regression, len(labels.names or ())
    )
    training_args.choose_metric(metrics.names)
    numbers = {}
    for name, split in splits.items():
        splits[name], numbers[name] = labels.numbers(split, columns[name])
        splits[name].bad_rows.report(split.name)
    model = load_model(task_args.model, task, config, tokenizer, labels)
    tokenizer.model_max_length = max_length
    if task_args.lm_coef is not None:
        model.config.lm_coef = task_args.lm_coef
    if prepare is not None:
        prepare(model)
    # The head smooths: Trainer would take the labels from it, and with them the auxiliary loss.
    model.config.label_smoothing = training_args.label_smoothing_factor
    model.config.validate()
    training_args.label_smoothing_factor = 0.0
    encoded = {
        name: encode(split, columns[name], tokenizer, max_length).add_column("labels", numbers[name])
        for name, split in splits.items()
    }
    labels.warn(numbers["train"], splits["train"].name, open_task=task.regression is None)
    unknown = {name: unknown_share(rows, tokenizer, f"the {name} data") for name, rows in encoded.items()}
    if training_args.process_index == 0:
        announce_recipe(task_args, training_args)
        print(f"{task_args.task}: {model_line(task_args.model, task_args.config, model.num_parameters())}")
        for name, rows in encoded.items():
            print(f"{'learns from' if name == 'train' else 'measured on'} {len(rows):,} rows of {splits[name].name}")
        print(labels.summary(numbers["train"]))

    collator = DataCollatorForMultipleChoice if task.head is GPT1ForMultipleChoice else DataCollatorWithPadding
    trainer = (OriginalTrainer if training_args.original_adam else MuonTrainer)(
        model=model,
        args=training_args,
        data_collator=collator(tokenizer),
        train_dataset=encoded["train"],
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        compute_metrics=metrics.of_logits,
    )
    results = {"train": train(trainer) | {"train_samples": len(encoded["train"])}}
    for name, rows in encoded.items():
        prefix = name.replace("validation", "eval")
        if name != "train":
            results[prefix] = measure(trainer, rows, prefix, labels, numbers["train"])
        results[prefix][f"{prefix}_unk_share"] = unknown[name]
    return write_results(trainer, task_args, results)


def read_labelled(task: Task, task_args: TaskArguments) -> tuple[dict[str, Split], dict[str, Columns]]:
    """The rows of each split that a task has labels of, and their columns; those that lack something are left out."""
    files = {"train": task_args.train_file, "validation": task_args.validation_file, "test": task_args.test_file}
    splits = read_splits(task, files, task_args.data_dir, task_args)
    splits = labelled_splits(task, splits, task_args.label_column)
    if "train" not in splits:
        raise ValueError("there is no training data: give --train_file")
    if task_args.needs_validation and "validation" not in splits:
        raise ValueError("there is no validation data to measure on: give --validation_file")
    columns = {
        name: find_columns(task, split, task_args.text_columns, task_args.label_column, task_args.choice_columns)
        for name, split in splits.items()
    }
    return {name: complete_rows(split, columns[name]) for name, split in splits.items()}, columns


def starting_point(task_args: TaskArguments) -> tuple[PreTrainedTokenizerBase, GPT1Config]:
    """The tokenizer and the configuration of the checkpoint, or those to start from scratch with."""
    if task_args.model is not None:
        return load_tokenizer_and_config(task_args.model)
    tokenizer = GPT1Tokenizer(task_format=True)
    assert task_args.config is not None  # the one or the other is given
    return tokenizer, new_config(task_args.config, tokenizer)


def known_labels(config: GPT1Config) -> list[str] | None:
    """The classes that a fine-tuned model's configuration names, or None where it has only transformers' defaults."""
    names = class_names(config)
    return None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def load_model(
    model: str | None, task: Task, config: GPT1Config, tokenizer: PreTrainedTokenizerBase, labels: Labels
) -> GPT1TaskModel:
    """The task's model: a checkpoint's weights under its head, or fresh ones where there is none."""
    align(config, tokenizer)
    if labels.regression:
        config.num_labels = 1
        config.problem_type = "regression"
    elif labels.names is not None:
        config.id2label = dict(enumerate(labels.names))
        config.label2id = {name: index for index, name in config.id2label.items()}
        config.problem_type = "single_label_classification"
    if model is None:
        return task.head(config)
    return load_with_tokenizer(task.head, model, config, tokenizer)


def announce_recipe(task_args: TaskArguments, training_args: FinetuningArguments) -> None:
    """Says which of gpt1-mini's settings are taken, where no flag says otherwise."""
    values = vars(task_args) | vars(training_args)
    taken = {n: v for n, v in recipe(task_args.task, task_args.model, task_args.config).items() if values[n] == v}
    if taken:
        print("gpt1-mini's settings:", *(f"--{name} {value}" for name, value in taken.items()), file=sys.stderr)


def measure(
    trainer: RunTrainer, rows: Dataset, prefix: str, labels: Labels, trained_on: Sequence[int | float]
) -> dict[str, Any]:
    """The figures of a split; those of a classification class by class are written beside the model."""
    answers: Any = trainer.predict(rows, metric_key_prefix=prefix)
    figures: dict[str, Any] = answers.metrics | {f"{prefix}_samples": len(rows)}
    trainer.log(dict(answers.metrics))
    if labels.names is None or answers.predictions is None:
        return figures
    ((majority, _),) = Counter(trained_on).most_common(1)
    report = class_report(answers.label_ids, answers.predictions.argmax(-1), labels.names, int(majority))
    if trainer.is_world_process_zero():
        write_class_report(Path(trainer.args.output_dir), prefix, report)
    figures[f"{prefix}_accuracy_of_majority_class"] = report["accuracy_of_majority_class"]
    if f"{prefix}_f1" in figures and len(labels.names) == 2:
        figures[f"{prefix}_f1_positive_class"] = labels.names[1]
    return figures


def write_results(trainer: RunTrainer, task_args: TaskArguments, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Writes the figures, the paper's beside them, and what a card tells of the run; prints and returns them."""
    task = TASKS[task_args.task]
    caveat = add_paper(task, results)
    figures = save_results(trainer, results)
    if caveat:
        figures["paper_caveat"] = caveat
        trainer.save_metrics("paper", {"paper_caveat": caveat})
    if trainer.is_world_process_zero():
        print(*filter(None, (figures_table(results, METRICS), caveat)), sep="\n")
    save_facts(
        trainer,
        task=task_args.task,
        dataset=task.hub[0] if task_args.train_file is task_args.data_dir is None else None,
        base_model=lasting_name(task_args.model),
        columns={name: getattr(task_args, name) for name in ("text_columns", "choice_columns")},
        settings={
            "training examples": results["train"]["train_samples"],
            "updates": trainer.state.global_step,
            "epochs": f"{trainer.state.epoch:.4g}",
            **trainer.args.card_settings(),
            "weight of the auxiliary language-modeling loss": trainer.model.config.lm_coef,
        },
        caveat=task.caveat,
    )
    return figures
