"""
Zero-shot: what language models know of tasks that they were not fine-tuned for (paper, section 5 and figure 2, right).

Each task is a choice among texts by the mean log-probability that a language model gives to the tokens of a part of
them: the paper's heuristics.

- CoLA: the sentence, after a line break. Those above a threshold are acceptable. The paper does not say where its
  threshold is from; here each half of the rows, the even and the odd ones, has the one that is best on the other half.
- SST-2: "very" is added to the sentence, and the next word is either "positive" or "negative".
- RACE, or any multiple choice: each answer, after document and question.
- Winograd schemas: what follows the pronoun, with each referent in the pronoun's place.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import matthews_corrcoef, roc_curve
from transformers import PreTrainedTokenizerBase

from tokenization.table_files import TableArguments, text_of

from ..flags import GPT1_MINI, check_flags, checkpoint
from ..loading import load_checkpoint
from ..modeling_gpt1 import GPT1ForCausalLM, GPT1ForMultipleChoice
from ..processor import device_for, optimize_for_inference
from ..scoring import line_break, surprisals
from ..training import checkpoints_in, updates_of
from ..training.data import Columns, Split, choices_of, complete_rows, find_columns
from ..training.labels import Labels
from ..training.sources import labelled_splits, read_splits
from ..training.tasks import TASKS, Task
from .findings import Findings, short_name


EXAMPLE = "--model runs/pretrained --cola cola/dev.tsv --sst2 SST-2/dev.tsv"

# WinoGrande's columns: a sentence with `_` in the place of the pronoun, two referents, and which of them is right
WINOGRAD = Task(
    GPT1ForMultipleChoice,
    (("sentence",),),
    label_columns=("answer",),
    choice_columns=(("option1", "option2"),),
    first_label=1,
)
ZERO_SHOT_TASKS = {"cola": TASKS["cola"], "sst2": TASKS["sst2"], "race": TASKS["race"], "winograd": WINOGRAD}


@dataclass
class Arguments(TableArguments):
    """Measure language models, such as the checkpoints of a pre-training, on tasks without fine-tuning."""

    output_dir: str = field(metadata={"help": "Where the findings are written."})
    model: list[str] = field(
        default_factory=lambda: [GPT1_MINI],
        metadata={
            "help": "Language models: directories, Hub ids or gpt1-mini, the default; a folder with checkpoint-N in "
            "it stands for all of these."
        },
    )
    cola: str | None = field(default=None, metadata={"help": "A file of CoLA: sentence, label."})
    sst2: str | None = field(default=None, metadata={"help": "A file of SST-2: sentence, label."})
    race: str | None = field(
        default=None,
        metadata={
            "help": "A folder of RACE, or a file of any multiple choice: article, question, options (a list), answer."
        },
    )
    winograd: str | None = field(
        default=None,
        metadata={
            "help": "A file of Winograd schemas: sentence, with _ in the place of the pronoun, option1, option2, "
            "answer (1 or 2)."
        },
    )
    rows: int | None = field(default=None, metadata={"help": "Rows of each file, evenly spaced; all if not given."})
    batch_size: int = field(default=32, metadata={"help": "Texts at a time."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model = [each for name in self.model for each in checkpoints_of(checkpoint(name))]
        if not self.files():
            raise ValueError(f"give a file of one task at least: --{', --'.join(ZERO_SHOT_TASKS)}")
        check_flags(
            self,
            rows=(self.rows is None or self.rows >= 2, "at least 2"),
            batch_size=(self.batch_size >= 1, "at least 1"),
        )

    def files(self) -> dict[str, str]:
        """The files that were given, by task."""
        return {task: file for task in ZERO_SHOT_TASKS if (file := getattr(self, task)) is not None}


def checkpoints_of(name: str) -> list[str]:
    """The folders checkpoint-N in a folder, in their order; without any, what was given."""
    return [str(path) for path in checkpoints_in(name)] or [name]


def analyze(args: Arguments) -> str:
    """
    Measures each of the models on each of the tasks that `output_dir` has no figures of yet, and writes JSON, table
    and picture, with those of earlier calls.

    Returns:
        `str`: the table, in Markdown.

    Raises:
        OSError: a model or a file that is not there.
        ValueError: rows that are not as the task needs them, or `output_dir` with findings of other settings.
    """
    findings = {
        task: Findings(args.output_dir, "zero-shot", {"file": file, "rows": args.rows}, task)
        for task, file in args.files().items()
    }
    examples = {task: read_examples(task, file, args) for task, file in args.files().items()}
    load = lru_cache(maxsize=1)(_load)

    def figure(name: str, task: str) -> dict[str, Any]:
        return measure(task, *load(name), *examples[task], args.batch_size)

    for name in args.model:
        for task, of_task in findings.items():
            of_task.of(name, partial(figure, name, task))
    whole = next(iter(findings.values()))
    measured = {task: each["found"] for task, each in whole.of_tasks().items() if each["found"]}
    names = list(dict.fromkeys(name for found in measured.values() for name in found))
    whole.picture(lambda figure: _draw(figure, names, measured))
    return whole.table(
        ("model", *(f"{task}, {next(iter(found.values()))['metric']}" for task, found in measured.items())),
        ((short_name(name), *(_cell(found.get(name)) for found in measured.values())) for name in names),
    )


def _cell(figure: dict[str, Any] | None) -> str:
    """In percent, and how far that is on the way from a random guess to the paper's fine-tuned model."""
    return "-" if figure is None else f"{100 * figure['value']:.1f} ({figure['normalized']:.2f})"


def _draw(figure: Any, names: list[str], measured: dict[str, dict[str, Any]]) -> None:
    """Over the updates where all models are checkpoints of one run; else side by side."""
    figure.set_size_inches(7, 4.5)
    axes = figure.subplots()
    places = {name: number for name in names if (number := updates_of(name)) is not None}
    over_updates = len(places) == len(names) and len({Path(name).parent for name in names}) == 1
    if not over_updates:
        places = {name: index for index, name in enumerate(names)}
    for task, found in measured.items():
        inside = sorted((name for name in names if name in found), key=places.__getitem__)
        values = [found[name]["normalized"] for name in inside]
        axes.plot([places[name] for name in inside], values, marker="o", label=task)
    if not over_updates:
        axes.set_xticks(range(len(names)), map(short_name, names), rotation=30, ha="right")
    axes.set(xlabel="updates" if over_updates else "", ylabel="0: random, 1: reference")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(alpha=0.3)
    axes.legend()


def _load(name: str) -> tuple[GPT1ForCausalLM, PreTrainedTokenizerBase]:
    model, tokenizer = load_checkpoint(name, GPT1ForCausalLM, "float32")
    return optimize_for_inference(model.to(device_for())), tokenizer


# What is read, and the part of the text after it that is scored; several of an example to choose from
Candidates = list[tuple[str, str]]


def read_examples(task: str, file: str, args: Arguments) -> tuple[list[Candidates], list[int]]:
    """
    The examples of a task's file, each as the texts to choose from, and their labels.

    Raises:
        OSError, ValueError: a file, columns, rows or labels that are not as the task needs them.
    """
    kind = ZERO_SHOT_TASKS[task]
    split = labelled_splits(kind, read_splits(kind, {"validation": file}, None, args))["validation"]
    columns = find_columns(kind, split, named_by_flags=False)
    split = complete_rows(split, columns)
    split, labels = Labels.of(kind, split, columns.label).numbers(split, columns)
    split.bad_rows.report(split.name)
    count = min(args.rows or len(split), len(split))
    chosen = [index * len(split) // count for index in range(count)]
    return list(_candidates(task, split.keep(chosen), columns)), [int(labels[index]) for index in chosen]


def _candidates(task: str, split: Split, columns: Columns) -> Iterator[Candidates]:
    for index in range(len(split)):
        text = " ".join(text_of(split.columns[name][index]) or "" for name in columns.text)
        if task == "cola":
            yield [("", text)]
        elif task == "sst2":
            yield [(f"{text} very", word) for word in ZERO_SHOT_TASKS[task].labels or ()]
        else:
            choices = [text_of(choice) or "" for choice in choices_of(split, columns, index)]
            before, pronoun, after = text.partition("_")
            if task == "winograd" and not (pronoun and after.strip()):
                raise ValueError(f"{split.place(index)} has no _ for the pronoun with a text after it: {text!r}")
            yield [(before + choice, after) if task == "winograd" else (text, choice) for choice in choices]


def measure(
    task: str,
    model: GPT1ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Candidates],
    labels: Sequence[int],
    batch_size: int = 32,
) -> dict[str, Any]:
    """
    The figure of a language model on a task.

    Args:
        task: one of `ZERO_SHOT_TASKS`.
        model, tokenizer: the language model.
        examples, labels: as [`read_examples`] gives them.
        batch_size: texts at a time.

    Returns:
        `dict`: `metric` and `value`; `random`, that of a random guess; `reference`, what the paper's model reached on
        the task's test set by fine-tuning, for Winograd schemas 1; `normalized`, how far `value` is on the way from
        `random` to `reference`; `examples`, their number.
    """
    flat = [candidate for candidates in examples for candidate in candidates]
    means = iter(mean_log_probabilities(model, tokenizer, flat, batch_size))
    scores = [[next(means) for _ in candidates] for candidates in examples]
    if task == "cola":
        metric, guess = "matthews_correlation", 0.0
        value = float(matthews_corrcoef(labels, acceptable(np.array(scores)[:, 0], np.array(labels))))
    else:
        metric, guess = "accuracy", float(np.mean([1 / len(candidates) for candidates in examples]))
        value = float(np.mean([np.argmax(row) == label for row, label in zip(scores, labels, strict=True)]))
    paper = ZERO_SHOT_TASKS[task].paper
    reference = 1.0 if paper is None else round(paper[1] / 100, 4)
    return {
        "metric": metric,
        "value": value,
        "random": guess,
        "reference": reference,
        "normalized": (value - guess) / (reference - guess),
        "examples": len(examples),
    }


def mean_log_probabilities(
    model: GPT1ForCausalLM, tokenizer: PreTrainedTokenizerBase, candidates: Candidates, batch_size: int
) -> list[float]:
    """
    The mean log-probability, in nats, of the tokens of each pair's second text after its first, or after a line break
    where that is empty. Texts that are longer than the model takes are read as [`surprisals`] does. -inf where the
    second text has no token.
    """
    before, after = (
        [
            tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
            for text in texts
        ]
        for texts in zip(*candidates, strict=True)
    )
    before = [ids or line_break(tokenizer) for ids in before]
    ids = [first + second for first, second in zip(before, after, strict=True)]
    starts = list(map(len, before))
    bits = surprisals(model, model.get_output_embeddings(), ids, batch_size=batch_size, starts=starts)
    return [
        -float(row[start:].mean()) * math.log(2) if len(row) > start else -math.inf
        for row, start in zip(bits, starts, strict=True)
    ]


def acceptable(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    Which sentences are above a threshold, as 0 and 1 `(sentences,)`: the one that gives the other half of the
    sentences, even or odd, its highest Matthews correlation.
    """
    answers = np.zeros(len(scores), dtype=int)
    for half in (0, 1):
        answers[half::2] = scores[half::2] >= best_threshold(scores[1 - half :: 2], labels[1 - half :: 2])
    return answers


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The score from which on sentences are to be called acceptable for the highest Matthews correlation."""
    if len(set(labels)) < 2:
        raise ValueError("a threshold between acceptable and unacceptable sentences needs some of either")
    false_rate, true_rate, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    share = labels.mean()
    above = true_rate * share + false_rate * (1 - share)  # of all sentences, those from the threshold on
    spread = np.sqrt(np.maximum(above * (1 - above), 1e-12))
    return float(thresholds[np.argmax((true_rate - false_rate) / spread)])
