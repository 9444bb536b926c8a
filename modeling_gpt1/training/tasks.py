"""The tasks: what each one's files hold, which head it takes, how it is measured, and what the paper reached.

Figures are those of the paper's tables 2 to 4: test sets, in percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..modeling_gpt1 import (
    GPT1ForEntailment,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1TaskModel,
)


@dataclass(frozen=True)
class HeldOut:
    """
    The validation split of a release that has no file of it: rows of the training split.

    Attributes:
        ids: pattern of the file that names them, tab-separated, without a header.
        columns: what it names them by.
        rows: without such a file, how many are drawn.
        seed: of the draw.
    """

    ids: str = ""
    columns: tuple[str, ...] = ()
    rows: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Release:
    """
    A task's official files.

    Attributes:
        files: for each split, patterns of its file, or its folder of JSON files, below the release's; the first one
            that is there is taken. Splits to be measured or predicted apart are called validation_X and test_X.
        columns: of tab-separated files that have no header.
        further: whether rows of these may have further fields, which are left out.
        sign: a column that tells an official file from somebody's own.
        each: lists of a JSON object that hold one value for each of its rows, with the column that these become.
        no_label: what stands for a label where there is none, -1 on the Hub and in what is exported from it.
        held_out: the validation split where it has no file.
        id_column: what a prediction is for; the number of its row, from 0, where there is no such column.
        answers: how predictions name the classes; None for by `Task.labels`.
        predictions: the file of each split's predictions.
        archive: the files of predictions that are handed in together.
    """

    files: dict[str, tuple[str, ...]]
    columns: tuple[str, ...] = ()
    further: bool = False
    sign: str | None = None
    each: dict[str, str] = field(default_factory=dict)
    no_label: tuple[str | None, ...] = ("-", "hidden", "-1", "-1.0", None)
    held_out: HeldOut | None = None
    id_column: str = "index"
    answers: Sequence[str] | None = None
    predictions: dict[str, str] = field(default_factory=dict)
    archive: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """
    One task.

    Attributes:
        head: the model class.
        text_columns: columns of the text, or of the pair, or of the parts of a multiple choice's context; the first
            alternative that a file has is taken.
        label_columns: columns of the label, likewise.
        choice_columns: columns of a multiple choice's answers, likewise: one column of lists, or one column a choice.
        labels: names of the classes 0, 1, ...; None to take what the training data holds.
        other_names: what some of the files call a class, with its name here.
        regression: whether the label is a number; None to go by the labels, see `are_scores`.
        metrics: what is measured; the first one chooses the best checkpoint.
        hub: data set and configuration on the Hub; empty where there is none in the open.
        splits: this package's split names for the data set's own.
        first_label: what a numbered answer of a multiple choice counts from.
        release: the official files; None where there are none.
        paper: the paper's metric and figure.
        paper_parts: its figures of further splits, by what their names end with.
        caveat: what else to know beside the paper's figure.
    """

    head: type[GPT1TaskModel]
    text_columns: tuple[tuple[str, ...], ...]
    label_columns: tuple[str, ...] = ("label",)
    choice_columns: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] | None = None
    other_names: dict[str, str] = field(default_factory=dict)
    regression: bool | None = False
    metrics: tuple[str, ...] = ("accuracy",)
    hub: tuple[str, ...] = ()
    splits: dict[str, str] = field(
        default_factory=lambda: {"train": "train", "validation": "validation", "test": "test"}
    )
    first_label: int = 0
    release: Release | None = None
    paper: tuple[str, float] | None = None
    paper_parts: dict[str, float] = field(default_factory=dict)
    caveat: str = ""


# What GLUE's server takes in one zip file
GLUE = ("CoLA", "SST-2", "MRPC", "QQP", "STS-B", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX")


def _glue(folder: str, more: dict[str, tuple[str, ...]] | None = None, **kwargs: Any) -> Release:
    """GLUE's layout: the files of a task in a folder of its own, or alone; `more` are patterns besides."""
    names = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    files = {split: (f"{folder}/{name}", name) + (more or {}).get(split, ()) for split, name in names.items()}
    settings = {"files": files, "sign": "index", "predictions": {"test": f"{folder}.tsv"}}
    return Release(**(settings | kwargs), archive=tuple(f"{name}.tsv" for name in GLUE))


def _mnli(name: str) -> tuple[str, ...]:
    """GLUE's file of a split, or that of the authors."""
    return (f"MNLI/{name}.tsv", f"{name}.tsv", f"**/multinli_*_{name}*.jsonl", f"**/multinli_*_{name}*.txt")


def _race(folder: str) -> tuple[str, ...]:
    return (f"RACE/{folder}", folder)


def _author_files(pattern: str) -> dict[str, tuple[str, ...]]:
    names = {"train": "train", "validation": "dev", "test": "test"}
    return {split: tuple(each.format(name) for each in pattern.split()) for split, name in names.items()}


_NLI = ("entailment", "neutral", "contradiction")
_RTE = ("entailment", "not_entailment")

TASKS: dict[str, Task] = {
    "cola": Task(
        GPT1ForSequenceClassification,
        (("sentence",),),
        labels=("unacceptable", "acceptable"),
        metrics=("matthews_correlation", "accuracy"),
        hub=("nyu-mll/glue", "cola"),
        release=_glue(
            "CoLA",
            {"train": ("**/raw/in_domain_train.tsv",), "validation": ("**/raw/in_domain_dev.tsv",)},
            columns=("source", "label", "mark", "sentence"),
            answers="01",
        ),
        paper=("matthews_correlation", 45.4),
    ),
    "sst2": Task(
        GPT1ForSequenceClassification,
        (("sentence",),),
        labels=("negative", "positive"),
        hub=("nyu-mll/glue", "sst2"),
        release=_glue("SST-2", answers="01"),
        paper=("accuracy", 91.3),
    ),
    "mrpc": Task(
        GPT1ForSimilarity,
        (("sentence1", "sentence2"), ("#1 String", "#2 String")),
        label_columns=("label", "Quality"),
        labels=("not_equivalent", "equivalent"),
        metrics=("f1", "accuracy"),
        hub=("nyu-mll/glue", "mrpc"),
        release=_glue(
            "MRPC",
            {"train": ("**/msr_paraphrase_train.txt",), "test": ("**/msr_paraphrase_test.txt",)},
            sign="#1 String",
            held_out=HeldOut(ids="**/mrpc_dev_ids.tsv", columns=("#1 ID", "#2 ID")),
            answers="01",
        ),
        paper=("f1", 82.3),
    ),
    "qqp": Task(
        GPT1ForSimilarity,
        (("question1", "question2"),),
        label_columns=("label", "is_duplicate"),
        labels=("not_duplicate", "duplicate"),
        metrics=("f1", "accuracy"),
        hub=("nyu-mll/glue", "qqp"),
        release=_glue("QQP", sign="is_duplicate", id_column="id", answers="01"),
        paper=("f1", 70.3),
    ),
    "stsb": Task(
        GPT1ForSimilarity,
        (("sentence1", "sentence2"),),
        label_columns=("label", "score"),
        regression=True,
        metrics=("pearson", "spearmanr"),
        hub=("nyu-mll/glue", "stsb"),
        release=_glue(
            "STS-B",
            _author_files("**/sts-{0}.csv"),
            columns=("genre", "filename", "year", "old_index", "score", "sentence1", "sentence2"),
            further=True,
        ),
        paper=("pearson", 82.0),
    ),
    "mnli": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"), ("sentence1", "sentence2")),
        label_columns=("label", "gold_label"),
        labels=_NLI,
        hub=("nyu-mll/glue", "mnli"),
        splits={
            "train": "train",
            "validation": "validation_matched",
            "validation_mismatched": "validation_mismatched",
            "test": "test_matched",
        },
        release=_glue(
            "MNLI",
            files={
                "train": _mnli("train"),
                "validation": _mnli("dev_matched"),
                "validation_mismatched": _mnli("dev_mismatched"),
                "test": _mnli("test_matched"),
                "test_mismatched": _mnli("test_mismatched"),
                # where GLUE has them, not anywhere below: predictions have these names as well
                "test_diagnostic": ("AX/AX.tsv", "diagnostic/diagnostic.tsv", "MNLI/diagnostic.tsv", "AX.tsv"),
            },
            sign="gold_label",
            predictions={"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv", "test_diagnostic": "AX.tsv"},
        ),
        paper=("accuracy", 82.1),
        paper_parts={"mismatched": 81.4},
    ),
    "snli": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"), ("sentence1", "sentence2")),
        label_columns=("label", "gold_label"),
        labels=_NLI,
        hub=("stanfordnlp/snli",),
        release=Release(
            _author_files("**/snli_1.0_{0}.jsonl **/snli_1.0_{0}.txt SNLI/{0}.tsv {0}.tsv"),
            sign="gold_label",
            id_column="pairID",
            predictions={"test": "snli_test.tsv"},
        ),
        paper=("accuracy", 89.9),
    ),
    "qnli": Task(
        GPT1ForEntailment,
        (("question", "sentence"),),
        labels=_RTE,
        hub=("nyu-mll/glue", "qnli"),
        release=_glue("QNLI"),
        paper=("accuracy", 88.1),
        caveat="The paper's was reached on QNLI's first version, which is withdrawn: today's data are the second.",
    ),
    "rte": Task(
        GPT1ForEntailment,
        (("sentence1", "sentence2"),),
        labels=_RTE,
        hub=("nyu-mll/glue", "rte"),
        release=_glue("RTE"),
        paper=("accuracy", 56.0),
    ),
    "scitail": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"), ("sentence1", "sentence2")),
        label_columns=("label", "gold_label"),
        labels=("entails", "neutral"),
        other_names={"entailment": "entails"},  # in the layout of SNLI
        hub=("allenai/scitail", "tsv_format"),
        release=Release(
            _author_files("**/tsv_format/scitail_1.0_{0}.tsv **/scitail_1.0_{0}.tsv **/scitail_1.0_{0}.txt"),
            columns=("premise", "hypothesis", "label"),
            sign="gold_label",
            predictions={"test": "scitail_test.tsv"},
        ),
        paper=("accuracy", 88.3),
    ),
    "race": Task(
        GPT1ForMultipleChoice,
        (("article", "question"),),
        label_columns=("answer",),
        choice_columns=(("options",),),
        hub=("ehovy/race", "all"),
        release=Release(
            {
                "train": _race("train"),
                "validation": _race("dev"),
                "validation_middle": _race("dev/middle"),
                "validation_high": _race("dev/high"),
                "test": _race("test"),
                "test_middle": _race("test/middle"),
                "test_high": _race("test/high"),
            },
            each={"questions": "question", "options": "options", "answers": "answer"},
            id_column="id",
            answers="ABCD",
            predictions={"test": "race_test.tsv"},
        ),
        paper=("accuracy", 59.0),
        paper_parts={"middle": 62.9, "high": 57.4},
    ),
    "rocstories": Task(
        GPT1ForMultipleChoice,
        (("InputSentence1", "InputSentence2", "InputSentence3", "InputSentence4"),),
        label_columns=("AnswerRightEnding",),
        choice_columns=(("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2"),),
        first_label=1,
        release=Release(
            {
                "train": ("**/cloze_test_val__spring2016*.csv", "**/cloze_test_val__*.csv"),
                "test": ("**/cloze_test_test__spring2016*.csv", "**/cloze_test_test__*.csv"),
            },
            held_out=HeldOut(rows=374, seed=3535999445),
            id_column="InputStoryid",
            answers="12",
            predictions={"test": "rocstories_test.tsv"},
        ),
        paper=("accuracy", 86.5),
        caveat="The median of 10 runs of the original code, which trained on the validation file as well, was 85.8.",
    ),
    "classification": Task(
        GPT1ForSequenceClassification,
        (("text",), ("sentence",)),
        label_columns=("label", "score"),
        regression=None,
        metrics=("accuracy", "f1"),
    ),
    "entailment": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"), ("sentence1", "sentence2"), ("question", "sentence")),
        label_columns=("label", "score"),
        regression=None,
    ),
    "similarity": Task(
        GPT1ForSimilarity,
        (("sentence1", "sentence2"), ("question1", "question2")),
        label_columns=("label", "score"),
        regression=None,
        metrics=("accuracy", "f1"),
    ),
    "multiple-choice": Task(
        GPT1ForMultipleChoice,
        (("article", "question"), ("context", "question"), ("context",), ("question",)),
        label_columns=("answer", "label"),
        choice_columns=(("options",), ("choices",), ("endings",)),
    ),
}

# A flag's type: one of the tasks
if TYPE_CHECKING:
    TaskName = str
else:
    TaskName = Literal[tuple(TASKS)]

REGRESSION_METRICS = ("pearson", "spearmanr")
