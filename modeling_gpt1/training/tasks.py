"""The tasks: what each one's files hold, which head it takes, how it is measured, and what the paper reached.

Figures are those of the paper's tables 2 to 4: test sets, in percent.
"""

from dataclasses import dataclass, field

from ..modeling_gpt1 import (
    GPT1ForEntailment,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
    GPT1TaskModel,
)


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
        regression: whether the label is a number; None to go by the column's type.
        metrics: what is measured; the first one chooses the best checkpoint.
        hub: data set and configuration on the Hub; empty where there is none in the open.
        splits: this package's split names for the data set's own.
        first_label: what a numbered answer of a multiple choice counts from.
        paper: the paper's metric and figure.
    """

    head: type[GPT1TaskModel]
    text_columns: tuple[tuple[str, ...], ...]
    label_columns: tuple[str, ...] = ("label",)
    choice_columns: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] | None = None
    regression: bool | None = False
    metrics: tuple[str, ...] = ("accuracy",)
    hub: tuple[str, ...] = ()
    splits: dict[str, str] = field(
        default_factory=lambda: {"train": "train", "validation": "validation", "test": "test"}
    )
    first_label: int = 0
    paper: tuple[str, float] | None = None


_NLI = ("entailment", "neutral", "contradiction")
_RTE = ("entailment", "not_entailment")

TASKS: dict[str, Task] = {
    "cola": Task(
        GPT1ForSequenceClassification,
        (("sentence",),),
        labels=("unacceptable", "acceptable"),
        metrics=("matthews_correlation", "accuracy"),
        hub=("nyu-mll/glue", "cola"),
        paper=("matthews_correlation", 45.4),
    ),
    "sst2": Task(
        GPT1ForSequenceClassification,
        (("sentence",),),
        labels=("negative", "positive"),
        hub=("nyu-mll/glue", "sst2"),
        paper=("accuracy", 91.3),
    ),
    "mrpc": Task(
        GPT1ForSimilarity,
        (("sentence1", "sentence2"),),
        labels=("not_equivalent", "equivalent"),
        metrics=("f1", "accuracy"),
        hub=("nyu-mll/glue", "mrpc"),
        paper=("f1", 82.3),
    ),
    "qqp": Task(
        GPT1ForSimilarity,
        (("question1", "question2"),),
        labels=("not_duplicate", "duplicate"),
        metrics=("f1", "accuracy"),
        hub=("nyu-mll/glue", "qqp"),
        paper=("f1", 70.3),
    ),
    "stsb": Task(
        GPT1ForSimilarity,
        (("sentence1", "sentence2"),),
        label_columns=("label", "score"),
        regression=True,
        metrics=("pearson", "spearmanr"),
        hub=("nyu-mll/glue", "stsb"),
        paper=("pearson", 82.0),
    ),
    "mnli": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"),),
        labels=_NLI,
        hub=("nyu-mll/glue", "mnli"),
        splits={
            "train": "train",
            "validation": "validation_matched",
            "validation_mismatched": "validation_mismatched",
            "test": "test_matched",
        },
        paper=("accuracy", 82.1),
    ),
    "snli": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"),),
        labels=_NLI,
        hub=("stanfordnlp/snli",),
        paper=("accuracy", 89.9),
    ),
    "qnli": Task(
        GPT1ForEntailment,
        (("question", "sentence"),),
        labels=_RTE,
        hub=("nyu-mll/glue", "qnli"),
        paper=("accuracy", 88.1),
    ),
    "rte": Task(
        GPT1ForEntailment,
        (("sentence1", "sentence2"),),
        labels=_RTE,
        hub=("nyu-mll/glue", "rte"),
        paper=("accuracy", 56.0),
    ),
    "scitail": Task(
        GPT1ForEntailment,
        (("premise", "hypothesis"),),
        labels=("entails", "neutral"),
        hub=("allenai/scitail", "tsv_format"),
        paper=("accuracy", 88.3),
    ),
    "race": Task(
        GPT1ForMultipleChoice,
        (("article", "question"),),
        label_columns=("answer",),
        choice_columns=(("options",),),
        hub=("ehovy/race", "all"),
        paper=("accuracy", 59.0),
    ),
    "rocstories": Task(
        GPT1ForMultipleChoice,
        (("InputSentence1", "InputSentence2", "InputSentence3", "InputSentence4"),),
        label_columns=("AnswerRightEnding",),
        choice_columns=(("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2"),),
        first_label=1,
        paper=("accuracy", 86.5),
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

REGRESSION_METRICS = ("pearson", "spearmanr")
