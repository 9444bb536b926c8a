"""Labels as files have them: which are scores and which are classes, what stands for what, and what is warned of."""

import datasets
import pytest

from modeling_gpt1.training.data import Columns, Split, complete_rows, encode, find_columns, read_file, unknown_share
from modeling_gpt1.training.labels import Labels, label_text
from modeling_gpt1.training.tasks import TASKS
from tokenization import GPT1Tokenizer
from tokenization.table_files import BadRows, TableArguments


def split_of(values: list, **more) -> Split:
    columns = {"text": [f"text {i}" for i in range(len(values))], "label": values}
    return Split(columns, "train.csv", range(2, len(values) + 2), **more)


COLUMNS = Columns(("text",), "label")
OPEN = TASKS["classification"]


@pytest.mark.parametrize(
    "values, decimal_comma",
    [
        (["4.5", "2", "1.0"], False),
        ([0.5, 1, 2.25], False),
        (["-1.5", "+2e-3", ".5", "3."], False),
        (["4,5", "2,5", "1"], True),
        (["4,5", "2.5", "1"], True),
        ([" 4.5 ", "2"], False),
    ],
)
def test_numbers_that_are_not_all_whole_are_scores(values, decimal_comma):
    split = split_of(values, decimal_comma=decimal_comma)
    labels = Labels.of(OPEN, split, "label")
    assert labels.regression and labels.names is None
    _, numbers = labels.numbers(split, COLUMNS)
    assert numbers == [float(str(value).strip().replace(",", ".")) for value in values]


@pytest.mark.parametrize(
    "values, names",
    [
        (["1", "3", "4", "10", "2"], ["1", "2", "3", "4", "10"]),
        ([3, 1, 2], ["1", "2", "3"]),
        # What pandas makes of whole numbers beside a gap
        ([1.0, 0.0, 1.0], ["0", "1"]),
        (["1.0", "0.0"], ["0.0", "1.0"]),
        (["007", "7", "008"], ["007", "7", "008"]),
        (["01", "1"], ["01", "1"]),
        (["null", "NA", "nan", "None"], ["NA", "None", "nan", "null"]),
        (["4.5", "high", "low", "high"], ["4.5", "high", "low"]),
        ([True, False], ["False", "True"]),
        (["pos ", "neg", "pos"], ["neg", "pos"]),
        (["1", 1, "2"], ["1", "2"]),
    ],
)
def test_all_else_is_classes_and_none_are_merged(values, names):
    split = split_of(values)
    labels = Labels.of(OPEN, split, "label")
    assert labels.names == names and not labels.regression
    _, numbers = labels.numbers(split, COLUMNS)
    assert [labels.names[number] for number in numbers] == [label_text(value) for value in values]


def test_it_can_be_said_whether_labels_are_scores():
    whole = split_of(["1", "2", "3"])
    assert Labels.of(OPEN, whole, "label", regression=True).numbers(whole, COLUMNS)[1] == [1.0, 2.0, 3.0]
    assert Labels.of(OPEN, split_of(["0.5", "1"]), "label", regression=False).names == ["0.5", "1"]
    with pytest.raises(ValueError, match="this task is a regression"):
        Labels.of(TASKS["stsb"], whole, "label", regression=False)


@pytest.mark.parametrize("name", ["classification", "entailment", "similarity"])
def test_scores_are_a_regression_in_every_task_that_leaves_it_open(name):
    assert Labels.of(TASKS[name], split_of([0.33, 0.67, 1.0]), "label").regression


def test_a_class_may_have_another_name_in_some_files():
    split = split_of(["neutral", "entailment", "entails"])
    for known in (None, ["neutral", "entails"]):  # in a fine-tuned model's own order
        labels = Labels.of(TASKS["scitail"], split, "label", known)
        assert [labels.names[number] for number in labels.numbers(split, COLUMNS)[1]] == [
            "neutral",
            "entails",
            "entails",
        ]


@pytest.mark.parametrize(
    "names, value, number",
    [
        (["neg", "pos"], "1", 1),
        (["neg", "pos"], 0, 0),
        (["neg", "pos"], "pos", 1),
        (["neg", "pos"], "2", None),
        (["neg", "pos"], "00", None),
        (["neg", "pos"], "1.0", None),
        (["neg", "pos"], 1.0, 1),
        (["1", "3", "4", "5"], "3", 1),
        (["1", "3", "4", "5"], "2", None),
        (["1", "3", "4", "5"], "0", None),
        (["one star", "2 stars"], "1", None),
        (["007", "008"], "7", None),
    ],
)
def test_a_position_stands_for_a_name_that_is_no_number(names, value, number):
    split = split_of([value])
    if number is not None:
        assert Labels(names).numbers(split, COLUMNS)[1] == [number]
        return
    with pytest.raises(ValueError, match=f"label '{value}' in train.csv, row 2 is unknown; the labels are {names[0]}"):
        Labels(names).numbers(split, COLUMNS)


@pytest.mark.parametrize("known", [None, ["contradiction", "entailment", "neutral"]])
def test_numbers_are_the_tasks_whatever_the_models_order(known):
    split = split_of(["0", "2", "1"])
    labels = Labels.of(TASKS["mnli"], split, "label", known=known)
    names = [labels.names[number] for number in labels.numbers(split, COLUMNS)[1]]
    assert names == ["entailment", "contradiction", "neutral"]


def test_a_class_that_is_not_known_is_none():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [-1, 1]}, features=features)
    assert Split.of(rows, "the test split").columns["label"] == [None, "b"]


def test_classes_that_a_data_set_numbers_go_by_their_names():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["equivalent", "not_equivalent"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]}, features=features)
    split = Split.of(rows, "the train split")
    labels = Labels.of(TASKS["mrpc"], split, "label")
    assert labels.numbers(split, COLUMNS)[1] == [1, 0, 1]  # the task's order is the other one
    assert split.place(1) == "the train split, row 2"


def test_bad_rows_are_skipped_and_counted(tmp_path, caplog):
    path = tmp_path / "train.csv"
    path.write_text("text,score,note\na,0.5,x\nb,,x\n,1.5,x\nc,nan,x\nd,2.5\ne,3.5,x\n")
    split = read_file(path, TableArguments(skip_bad_rows=True))
    columns = find_columns(OPEN, split)
    split = complete_rows(split, columns)
    labels = Labels.of(OPEN, split, columns.label)
    split, numbers = labels.numbers(split, columns)
    assert numbers == [0.5, 3.5] and split.columns["text"] == ["a", "e"] and list(split.numbers) == [2, 7]
    split.bad_rows.report(split.name)
    assert f"{path}: 4 rows skipped, the first for this: {path}, row 6: 2 fields" in caplog.text


def test_a_row_that_cannot_be_used_is_refused_with_its_place():
    split = split_of(["a", ["b"]], unit="line", bad_rows=BadRows())
    with pytest.raises(ValueError, match=r"^train.csv, line 3: column 'label' holds no label: \['b'\]$"):
        complete_rows(split, COLUMNS)


def test_numbers_are_texts_where_texts_are_wanted():
    split = split_of(["a", "b", "c"])
    split.columns["text"][:] = ["42", 42, 1.5]
    tokenizer = GPT1Tokenizer(task_format=True)
    encoded = encode(complete_rows(split, COLUMNS), COLUMNS, tokenizer, 32)
    assert encoded["input_ids"][:] == tokenizer(["42", "42", "1.5"])["input_ids"]


def test_what_there_is_to_learn_is_said_in_a_line():
    labels = Labels(["neg", "neutral", "pos"])
    assert labels.summary([0, 2, 2]) == "3 classes: neg (1 rows), neutral (0 rows), pos (2 rows)"
    assert Labels(None, regression=True).summary([0.5, 4.5]) == "a regression: 2 scores from 0.5 to 4.5"
    assert Labels(None).summary([0, 1]) == "a multiple choice: 2 rows"
    many = Labels([f"class {i}" for i in range(25)])
    assert many.summary([0]).endswith(" class 19 (0 rows) and 5 more")


def test_what_can_hardly_be_learned_is_warned_of(caplog):
    Labels(["neg", "neutral", "pos"]).warn([0, 0, 2, 2], "train.csv", open_task=True)
    assert "train.csv: classes of fewer than two rows, which cannot be learned: neutral (0)" in caplog.text
    caplog.clear()
    Labels(["a", "b", "c"]).warn([0, 1], "train.csv", open_task=True)
    assert "train.csv: 2 rows for 3 classes" in caplog.text
    caplog.clear()
    Labels([str(i) for i in range(21)]).warn([*range(21)] * 2, "train.csv", open_task=True)
    assert caplog.messages == [
        "train.csv: the labels are 21 different numbers, and each becomes a class; --regression True takes them for "
        "scores"
    ]
    caplog.clear()
    Labels([str(i) for i in range(20)]).warn([*range(20)] * 2, "train.csv", open_task=True)
    Labels([f"class {i}" for i in range(30)]).warn([*range(30)] * 2, "train.csv", open_task=True)
    assert not caplog.messages


@pytest.mark.parametrize("choices", [False, True])
def test_the_share_of_unknown_tokens_is_that_of_the_text(choices, caplog):
    tokenizer = GPT1Tokenizer(task_format=True)
    if choices:
        split = Split({"question": ["a b"], "options": [["\u0436 c", "d"]], "answer": ["A"]}, "data", [1])
        columns = Columns(("question",), "answer", ("options",))
        share = 1 / 7  # a b, ж c, a b, d
    else:
        split = Split({"text": ["\u0436 a", "b c d"]}, "data", [1, 2])
        columns = Columns(("text",), None)
        share = 1 / 5
    assert unknown_share(encode(split, columns, tokenizer, 32), tokenizer, "data") == pytest.approx(share)
    assert f"data: {100 * share:.1f} % of the tokens are <unk>" in caplog.text
    caplog.clear()
    plain = Split({"text": ["a", "b c d"]}, "data", [1, 2])
    assert unknown_share(encode(plain, Columns(("text",), None), tokenizer, 32), tokenizer, "data") == 0
    assert not caplog.text
