"""The official files of the paper's tasks, as they are released: what is read from them, and what is handed in."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import datasets
import pytest
from sklearn.model_selection import train_test_split

from modeling_gpt1 import GPT1Config
from modeling_gpt1.cli import main
from modeling_gpt1.training.data import Columns, Split, choices_of, complete_rows, find_columns
from modeling_gpt1.training.labels import Labels
from modeling_gpt1.training.metrics import METRICS
from modeling_gpt1.training.paper import add_paper
from modeling_gpt1.training.report import figures_table
from modeling_gpt1.training.sources import labelled_splits, read_splits
from modeling_gpt1.training.tasks import TASKS
from tokenization import GPT1Tokenizer


def tsv(*rows: str, end: str = "\n") -> str:
    """Rows with fields separated by blanks around |, as tabs separate them."""
    return "".join("\t".join(row.split(" | ")) + end for row in rows)


def json_lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


MSR = "Quality | #1 ID | #2 ID | #1 String | #2 String"
MNLI = "index | promptID | pairID | genre | sentence1_binary_parse | sentence2_binary_parse | sentence1_parse | sentence2_parse | sentence1 | sentence2"  # noqa: E501
PARSES = "31 | 31n | x | ( a ) | ( b ) | (ROOT a) | (ROOT b)"
SNLI = "gold_label | sentence1_binary_parse | sentence2_binary_parse | sentence1_parse | sentence2_parse | sentence1 | sentence2 | captionID | pairID | label1 | label2"  # noqa: E501
STSB = "index | genre | filename | year | old_index | source1 | source2 | sentence1 | sentence2"
STORY = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2"  # noqa: E501


def stories(count: int, start: int = 0, label: bool = True) -> str:
    rows = (
        f'id{i},"One, {i}.",Two.,"He said ""three"".",Four.,Good end.,Bad end.' + f",{i % 2 + 1}" * label
        for i in range(start, start + count)
    )
    return "\r\n".join([STORY + ",AnswerRightEnding" * label, *rows]) + "\r\n"


def passage(name: str, *questions: str, answers: str) -> str:
    options = [[f"{question} {letter}" for letter in "abcd"] for question in questions]
    return json.dumps(
        {"answers": list(answers), "options": options, "questions": questions, "article": "Tom ran.", "id": name}
    )


def snli_row(label: str, first: str, second: str, pair: str) -> dict:
    return {"annotator_labels": [label], "gold_label": label, "sentence1": first, "sentence2": second, "pairID": pair}


# The folder of each release; `glue` and the authors' own where there are both
RELEASES: dict[str, dict[str, str | bytes]] = {
    "cola": {
        "CoLA/train.tsv": tsv('gj04 | 1 |  | "Him" said so.', "gj04 | 0 | * | They him saw."),
        "CoLA/dev.tsv": tsv('gj04 | 1 |  | "All" of it is "quoted"'),
        "CoLA/test.tsv": tsv("index | sentence", "0 | Bill left.", '1 | "Bill left."'),
    },
    "sst2": {
        "SST-2/train.tsv": tsv("sentence | label", '"fine" film  | 1', "NA  | 0"),
        "SST-2/dev.tsv": tsv("sentence | label", '"fine film" | 1'),
        "SST-2/test.tsv": tsv("index | sentence", "0 | a film", "1 | null"),
    },
    "mrpc glue": {
        "MRPC/train.tsv": "\ufeff"
        + tsv(MSR, '1 | 11 | 12 | "A " man. | A man\'s.', "0 | 13 | 14 | B. | C.", end="\r\n"),
        "MRPC/dev.tsv": "\ufeff" + tsv(MSR, "1 | 15 | 16 | D. | E."),
        "MRPC/test.tsv": "\ufeff" + tsv("index | #1 ID | #2 ID | #1 String | #2 String", '0 | 1 | 2 | "F | G."'),
    },
    "mrpc": {
        "msr_paraphrase_train.txt": "\ufeff"
        + tsv(
            MSR, '1 | 11 | 12 | "A " man. | A man\'s.', "1 | 15 | 16 | D. | E.", "0 | 13 | 14 | B. | C.", end="\r\n"
        ),
        "msr_paraphrase_test.txt": "\ufeff" + tsv(MSR, '1 | 1 | 2 | "F | G."', end="\r\n"),
        "mrpc_dev_ids.tsv": tsv("15 | 16", end="\r\n"),
    },
    "qqp": {
        "QQP/train.tsv": tsv(
            "id | qid1 | qid2 | question1 | question2 | is_duplicate",
            '5 | 1 | 2 | What is "x"? | What is y? | 0',
            "6 | 3 | 4 | cut off",
            '7 | 5 | 6 | "Why? | Why so? | 1',
        ),
        "QQP/dev.tsv": tsv(
            "id | qid1 | qid2 | question1 | question2 | is_duplicate", "8 | 7 | 8 | How? | How so? | 1"
        ),
        "QQP/test.tsv": tsv("id | question1 | question2", "0 | Who? | Whom?", "1 | Where? | "),
    },
    "stsb": {
        "STS-B/train.tsv": tsv(
            STSB + " | score",
            '0 | g | f | 2012 | 1 | n | n | A "b. | C. | 5.000',
            "1 | g | f | 2012 | 2 | n | n | D. | E. | 2.75",
        ),
        "STS-B/dev.tsv": tsv(STSB + " | score", "0 | g | f | 2012 | 1 | n | n | F. | G. | 0"),
        "STS-B/test.tsv": tsv(STSB, "0 | g | f | 2012 | 1 | n | n | H. | I."),
    },
    "stsb authors": {
        "stsbenchmark/sts-train.csv": tsv(
            'main-captions | MSRvid | 2012test | 0001 | 5.000 | A "b. | C.',
            "main-forums | deft | 2014 | 2 | 2.75 | D. | E. | http://a.b | licence",
        ),
        "stsbenchmark/sts-dev.csv": tsv("main-news | headlines | 2015 | 0 | 0 | F. | G."),
        "stsbenchmark/sts-test.csv": tsv("main-news | headlines | 2016 | 0 | 1.5 | H. | I."),
    },
    "mnli glue": {
        "MNLI/train.tsv": tsv(
            MNLI + " | label1 | gold_label",
            f'0 | {PARSES} | "A | B | neutral | neutral',
            f"1 | {PARSES} | C | D | - | -",
            f"2 | {PARSES} | E | F | entailment | entailment",
        ),
        "MNLI/dev_matched.tsv": tsv(
            MNLI + " | label1 | label2 | label3 | label4 | label5 | gold_label",
            f"0 | {PARSES} | G | H | neutral | neutral | neutral | neutral | neutral | contradiction",
        ),
        "MNLI/dev_mismatched.tsv": tsv(
            MNLI + " | label1 | label2 | label3 | label4 | label5 | gold_label",
            f"0 | {PARSES} | I | J | neutral | neutral | neutral | neutral | neutral | entailment",
        ),
        "MNLI/test_matched.tsv": tsv(MNLI, f"0 | {PARSES} | K | L"),
        "MNLI/test_mismatched.tsv": tsv(MNLI, f"0 | {PARSES} | M | N"),
        "AX/AX.tsv": tsv("index | sentence1 | sentence2", "0 | O | P"),
    },
    "mnli": {
        "multinli_1.0/multinli_1.0_train.jsonl": json_lines(
            snli_row("neutral", '"A', "B", "1n"), snli_row("-", "C", "D", "2n"), snli_row("entailment", "E", "F", "3e")
        ),
        "multinli_1.0/multinli_1.0_dev_matched.jsonl": json_lines(snli_row("contradiction", "G", "H", "4c")),
        "multinli_1.0/multinli_1.0_dev_mismatched.jsonl": json_lines(snli_row("entailment", "I", "J", "5e")),
        "multinli_1.0/multinli_1.0_test_matched.jsonl": json_lines(snli_row("hidden", "K", "L", "6")),
        "multinli_1.0/multinli_1.0_test_mismatched.jsonl": json_lines(snli_row("hidden", "M", "N", "7")),
    },
    "qnli": {
        "QNLI/train.tsv": tsv(
            "index | question | sentence | label",
            '0 | Who? | "He" did. | entailment',
            "1 | When? | I. | not_entailment",
        ),
        "QNLI/dev.tsv": tsv("index | question | sentence | label", "0 | What? | That. | entailment"),
        "QNLI/test.tsv": tsv("index | question | sentence", "0 | Why? | So."),
    },
    "rte": {
        "RTE/train.tsv": tsv(
            "index | sentence1 | sentence2 | label", "0 | A. | B. | not_entailment", '1 | "C." | D. | entailment'
        ),
        "RTE/dev.tsv": tsv("index | sentence1 | sentence2 | label", "0 | E. | F. | entailment"),
        "RTE/test.tsv": tsv("index | sentence1 | sentence2", "0 | G. | H."),
    },
    "snli txt": {
        "snli_1.0/snli_1.0_train.txt": tsv(
            SNLI,
            'neutral | p | p | p | p | "A." | B | 1 | 1n | neutral | ',
            "- | p | p | p | p | C | D | 2 | 2n | neutral | entailment",
            "entailment | p | p | p | p | E | F | 3 | 3e | entailment | ",
        ),
        "snli_1.0/snli_1.0_dev.txt": tsv(SNLI, "contradiction | p | p | p | p | G | H | 4 | 4c | contradiction | "),
        "snli_1.0/snli_1.0_test.txt": tsv(SNLI, "entailment | p | p | p | p | K | L | 5 | 5e | entailment | "),
        "__MACOSX/snli_1.0/._snli_1.0_train.txt": b"\x00\x05\x16\x07",
    },
    "snli jsonl": {
        "snli_1.0_train.jsonl": json_lines(
            snli_row("neutral", '"A."', "B", "1n"),
            snli_row("-", "C", "D", "2n"),
            snli_row("entailment", "E", "F", "3e"),
        ),
        "snli_1.0_dev.jsonl": json_lines(snli_row("contradiction", "G", "H", "4c")),
        "snli_1.0_test.jsonl": json_lines(snli_row("entailment", "K", "L", "5e")),
    },
    "scitail": {
        "SciTailV1.1/tsv_format/scitail_1.0_train.tsv": tsv('A "cell. | "B." | neutral', "C. | D. | entails"),
        "SciTailV1.1/tsv_format/scitail_1.0_dev.tsv": tsv('"E." | "F." | entails'),
        "SciTailV1.1/tsv_format/scitail_1.0_test.tsv": tsv("G. | H. | neutral"),
        "SciTailV1.1/snli_format/scitail_1.0_train.txt": "not read",
    },
    "scitail json": {
        "snli_format/scitail_1.0_train.txt": json_lines(
            snli_row("neutral", 'A "cell.', '"B."', "x"), snli_row("entailment", "C.", "D.", "x")
        ),
        "snli_format/scitail_1.0_dev.txt": json_lines(snli_row("entailment", '"E."', '"F."', "x")),
        "snli_format/scitail_1.0_test.txt": json_lines(snli_row("neutral", "G.", "H.", "x")),
    },
    "race": {
        "RACE/train/middle/1.txt": passage("middle1.txt", "Tom _ .", "Who?", answers="BD"),
        "RACE/train/high/1.txt": passage("high1.txt", "Why?", answers="A"),
        "RACE/train/high/._1.txt": b"\x00\x05\x16\x07",
        "RACE/dev/middle/2.txt": passage("middle2.txt", "When?", "Where?", answers="CA"),
        "RACE/dev/high/2.txt": passage("high2.txt", "How?", answers="B"),
        "RACE/test/middle/3.txt": passage("middle3.txt", "What?", "Whom?", answers="AD"),
        "RACE/test/high/3.txt": passage("high3.txt", "Which?", answers="C"),
    },
    "rocstories": {
        "cloze_test_val__spring2016 - cloze_test_ALL_val.csv": stories(1871),
        "cloze_test_test__spring2016 - cloze_test_ALL_test.csv": stories(3),
    },
}


def _pairs(train: list, validation: list, test: list) -> dict[str, list]:
    return {"train": train, "validation": validation, "test": test}


_MRPC = _pairs([('"A " man.', "A man's.", "1"), ("B.", "C.", "0")], [("D.", "E.", "1")], [('"F', 'G."', "1")])
_MNLI = _pairs([('"A', "B", "neutral"), ("E", "F", "entailment")], [("G", "H", "contradiction")], [("K", "L")]) | {
    "validation_mismatched": [("I", "J", "entailment")],
    "test_mismatched": [("M", "N")],
}
_SNLI = _pairs(
    [('"A."', "B", "neutral"), ("E", "F", "entailment")], [("G", "H", "contradiction")], [("K", "L", "entailment")]
)


def _scitail(entails: str) -> dict[str, list[tuple[str, ...]]]:
    return _pairs(
        [('A "cell.', '"B."', "neutral"), ("C.", "D.", entails)],
        [('"E."', '"F."', entails)],
        [("G.", "H.", "neutral")],
    )


# Every text, and the label where there is one, of every usable row
EXPECTED = {
    "cola": _pairs(
        [('"Him" said so.', "1"), ("They him saw.", "0")],
        [('"All" of it is "quoted"', "1")],
        [("Bill left.",), ('"Bill left."',)],
    ),
    "sst2": _pairs([('"fine" film ', "1"), ("NA ", "0")], [('"fine film"', "1")], [("a film",), ("null",)]),
    "mrpc glue": _MRPC | {"test": [('"F', 'G."')]},
    "mrpc": _MRPC,
    "qqp": _pairs(
        [('What is "x"?', "What is y?", "0"), ('"Why?', "Why so?", "1")],
        [("How?", "How so?", "1")],
        [("Who?", "Whom?"), ("Where?", "")],
    ),
    "stsb": _pairs([('A "b.', "C.", "5.000"), ("D.", "E.", "2.75")], [("F.", "G.", "0")], [("H.", "I.")]),
    "stsb authors": _pairs(
        [('A "b.', "C.", "5.000"), ("D.", "E.", "2.75")], [("F.", "G.", "0")], [("H.", "I.", "1.5")]
    ),
    "mnli glue": _MNLI | {"test_diagnostic": [("O", "P")]},
    "mnli": _MNLI,
    "qnli": _pairs(
        [("Who?", '"He" did.', "entailment"), ("When?", "I.", "not_entailment")],
        [("What?", "That.", "entailment")],
        [("Why?", "So.")],
    ),
    "rte": _pairs(
        [("A.", "B.", "not_entailment"), ('"C."', "D.", "entailment")], [("E.", "F.", "entailment")], [("G.", "H.")]
    ),
    "snli txt": _SNLI,
    "snli jsonl": _SNLI,
    "scitail": _scitail("entails"),
    "scitail json": _scitail("entailment"),
    "race": {
        "train": [("Tom ran.", "Why?", "A"), ("Tom ran.", "Tom _ .", "B"), ("Tom ran.", "Who?", "D")],
        "validation": [("Tom ran.", "How?", "B"), ("Tom ran.", "When?", "C"), ("Tom ran.", "Where?", "A")],
        "validation_middle": [("Tom ran.", "When?", "C"), ("Tom ran.", "Where?", "A")],
        "validation_high": [("Tom ran.", "How?", "B")],
        "test": [("Tom ran.", "Which?", "C"), ("Tom ran.", "What?", "A"), ("Tom ran.", "Whom?", "D")],
        "test_middle": [("Tom ran.", "What?", "A"), ("Tom ran.", "Whom?", "D")],
        "test_high": [("Tom ran.", "Which?", "C")],
    },
}


@pytest.fixture
def release(tmp_path) -> Callable[[str], Path]:
    """Writes a release; its folder."""

    def write(name: str) -> Path:
        for path, content in RELEASES[name].items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


def usable(task: str, split: Split, with_label: bool) -> tuple[Split, Columns]:
    columns = find_columns(TASKS[task], split, needs_label=with_label)
    return (complete_rows(split, columns) if with_label else split), columns


def contents(split: Split, columns: Columns) -> list[tuple[str, ...]]:
    names = [*columns.text, *([columns.label] if columns.label else [])]
    return list(zip(*(split.columns[name] for name in names), strict=True))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_release_is_read_as_it_is(release, name):
    task = name.split()[0]
    splits = read_splits(TASKS[task], {}, str(release(name)))
    labelled = labelled_splits(TASKS[task], splits)
    assert splits.keys() == EXPECTED[name].keys()
    for split, expected in EXPECTED[name].items():
        rows, columns = usable(task, labelled.get(split, splits[split]), split in labelled)
        assert contents(rows, columns) == expected, split
        assert (split in labelled) == (len(expected[0]) > len(columns.text))
    rows, columns = usable(task, labelled["train"], True)
    numbers = Labels.of(TASKS[task], rows, columns.label).numbers(rows, columns)[1]
    classes = TASKS[task].labels
    for (*_, label), number in zip(EXPECTED[name]["train"], numbers, strict=True):
        assert number == (
            float(label) if task == "stsb" else "ABCD".index(label) if task == "race"
            else int(label) if label.isdecimal() else classes.index(TASKS[task].other_names.get(label, label))
        )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "race"])
def test_a_single_official_file_is_read_as_well(release, name):
    task, folder = name.split()[0], release(name)
    (path, *_) = (path for path in RELEASES[name] if "train" in path)
    splits = labelled_splits(TASKS[task], read_splits(TASKS[task], {"train": str(folder / path)}))
    rows, columns = usable(task, splits["train"], True)
    train = EXPECTED[name]["train"]
    held_out = EXPECTED[name]["validation"] if name == "mrpc" else []  # which only the folder tells
    assert sorted(contents(rows, columns)) == sorted(train + held_out)


def test_race_has_a_row_for_each_question_with_its_choices(release):
    split = read_splits(TASKS["race"], {}, str(release("race")))["train"]
    columns = find_columns(TASKS["race"], split)
    assert split.columns["id"] == ["high1.txt-0", "middle1.txt-0", "middle1.txt-1"]
    assert choices_of(split, columns, 1) == ["Tom _ . a", "Tom _ . b", "Tom _ . c", "Tom _ . d"]


def test_a_folder_of_race_is_a_file_too(release):
    split = read_splits(TASKS["race"], {"train": str(release("race") / "RACE/train/middle")})["train"]
    assert split.columns["question"] == ["Tom _ .", "Who?"]


def test_the_command_takes_a_folder_of_race_for_a_file(release, tiny, tmp_path):
    folder = release("race") / "RACE"
    words = ["--task", "race", "--train_file", str(folder / "train"), "--validation_file", str(folder / "dev")]
    words += ["--config", str(tiny), "--max_steps", "1", "--output_dir", str(tmp_path / "out")]
    assert main(["finetune", *words]) == 0
    assert json.loads((tmp_path / "out/all_results.json").read_text())["eval_samples"] == 3


def test_story_cloze_trains_on_the_validation_file(release):
    splits = read_splits(TASKS["rocstories"], {}, str(release("rocstories")))
    train, validation = train_test_split(range(1871), test_size=374, random_state=3535999445)
    assert [splits[name].columns["InputStoryid"] for name in ("train", "validation")] == [
        [f"id{i}" for i in rows] for rows in (train, validation)
    ]
    assert (len(splits["train"]), len(splits["validation"]), len(splits["test"])) == (1497, 374, 3)
    columns = find_columns(TASKS["rocstories"], splits["test"])
    assert contents(splits["test"], columns)[1] == ("One, 1.", "Two.", 'He said "three".', "Four.", "2")
    assert choices_of(splits["test"], columns, 1) == ["Good end.", "Bad end."]


@pytest.mark.parametrize("name, message", [
    ("qqp", "1 rows skipped, the first for this: {}, row 3: 4 fields, expected 6"),
    ("mnli glue", "{}: 1 rows skipped, whose label is '-'"),
    ("snli jsonl", "{}: 1 rows skipped, whose label is '-'"),
])  # fmt: skip
def test_what_is_skipped_is_counted_in_one_line(release, caplog, name, message):
    folder = release(name)
    splits = read_splits(TASKS[name.split()[0]], {}, str(folder))
    labelled_splits(TASKS[name.split()[0]], splits)["train"].bad_rows.report(splits["train"].name)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum(message.format(splits["train"].name) in line for line in said) == 1
    assert sum(splits["train"].name in line for line in said) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("task", ["snli", "stsb"])
def test_what_the_hub_marks_as_unlabelled_is_so_in_its_exports(tmp_path, caplog, task, kind):
    names = TASKS[task].text_columns[0]
    label = datasets.ClassLabel(names=["neutral", "contradiction", "entailment"])  # in an order of its own
    types = dict.fromkeys(names, datasets.Value("string"))
    features = datasets.Features(types | {"label": label if task == "snli" else datasets.Value("float32")})
    for split, labels in (("train", [0, -1, 2]), ("test", [-1, -1])):
        rows = {name: ["a"] * len(labels) for name in names} | {"label": labels}
        rows = datasets.Dataset.from_dict(rows, features=features)
        {"csv": rows.to_csv, "jsonl": rows.to_json, "parquet": rows.to_parquet}[kind](tmp_path / f"{split}.{kind}")
    files = {split: str(tmp_path / f"{split}.{kind}") for split in ("train", "test")}
    splits = labelled_splits(TASKS[task], read_splits(TASKS[task], files))
    assert splits.keys() == {"train"}
    columns = find_columns(TASKS[task], splits["train"])
    split, numbers = Labels.of(TASKS[task], splits["train"], "label").numbers(splits["train"], columns)
    assert numbers == ([1, 0] if (task, kind) == ("snli", "parquet") else [0, 2]) and list(split.numbers)[0] < 3
    assert "1 rows skipped, whose label is " in caplog.text and f"test.{kind} has no labels" in caplog.text


def test_ones_own_files_are_held_to_their_form(tmp_path):
    """A header of one's own in a file named as an official one is a header, and a short row is a fault."""
    path = tmp_path / "train.tsv"
    path.write_text(tsv("label | mark | source | sentence", '1 | a | b | "A ""b""."'))
    split = read_splits(TASKS["cola"], {"train": str(path)})["train"]
    assert split.columns["sentence"] == ['A "b".']
    path.write_text(tsv("sentence | label", "A. | 1", "B."))
    with pytest.raises(ValueError, match="row 3: 1 field, expected 2"):
        read_splits(TASKS["sst2"], {"train": str(path)})


# What is handed in for each release: a file, its header, its ids and what may be said there
_BINARY, _NLI, _RTE = {"0", "1"}, {"entailment", "neutral", "contradiction"}, {"entailment", "not_entailment"}
HANDED_IN = {
    "cola": ("CoLA.tsv", "index\tprediction", ["0", "1"], _BINARY),
    "sst2": ("SST-2.tsv", "index\tprediction", ["0", "1"], _BINARY),
    "mrpc glue": ("MRPC.tsv", "index\tprediction", ["0"], _BINARY),
    "mrpc": ("MRPC.tsv", "index\tprediction", ["0"], _BINARY),
    "qqp": ("QQP.tsv", "index\tprediction", ["0", "1"], _BINARY),
    "stsb": ("STS-B.tsv", "index\tprediction", ["0"], None),
    "stsb authors": ("STS-B.tsv", "index\tprediction", ["0"], None),
    "mnli glue": ("MNLI-mm.tsv", "index\tprediction", ["0"], _NLI),
    "mnli": ("MNLI-mm.tsv", "index\tprediction", ["0"], _NLI),
    "qnli": ("QNLI.tsv", "index\tprediction", ["0"], _RTE),
    "rte": ("RTE.tsv", "index\tprediction", ["0"], _RTE),
    "snli txt": ("snli_test.tsv", "id\tprediction", ["5e"], _NLI),
    "snli jsonl": ("snli_test.tsv", "id\tprediction", ["5e"], _NLI),
    "scitail": ("scitail_test.tsv", "id\tprediction", ["0"], {"entails", "neutral"}),
    "scitail json": ("scitail_test.tsv", "id\tprediction", ["0"], {"entails", "neutral"}),
    "race": ("race_test.tsv", "id\tprediction", ["high3.txt-0", "middle3.txt-0", "middle3.txt-1"], set("ABCD")),
    "rocstories": ("rocstories_test.tsv", "id\tprediction", ["id0", "id1", "id2"], {"1", "2"}),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    path.write_text(json.dumps(shape | {"max_position_embeddings": 32}))
    return path


@pytest.mark.parametrize("name", RELEASES)
def test_one_command_fine_tunes_and_one_predicts(release, tiny, tmp_path, capfd, one_thread, name):
    task, folder = name.split()[0], release(name)
    flags = ["--task", task, "--data_dir", str(folder), "--config", str(tiny), "--max_steps", "2"]
    assert main(["finetune", *flags, "--output_dir", str(tmp_path / "model"), "--disable_tqdm", "True"]) == 0
    assert GPT1Tokenizer.from_pretrained(tmp_path / "model").model_max_length == 32
    results = json.loads((tmp_path / "model/all_results.json").read_text())
    printed = capfd.readouterr().out
    metric, figure = TASKS[task].paper
    assert results[f"eval_{metric}_in_paper"] == pytest.approx(figure / 100)
    row = rf"^validation +{metric.replace('_', ' ')} +{100 * results[f'eval_{metric}']:.1f} % +{figure:.1f} %$"
    assert re.search(row, printed, re.MULTILINE) and f"{results['paper_caveat']}\n" in printed
    for part, published in TASKS[task].paper_parts.items():
        assert results[f"eval_{part}_{metric}_in_paper"] == pytest.approx(published / 100)
        assert results[f"eval_{part}_samples"] == len(EXPECTED[name][f"validation_{part}"])
        assert 0 <= results[f"eval_{part}_{metric}"] <= 1
        card = (tmp_path / "model/README.md").read_text()
        assert (
            f"| validation_{part} | {metric} | {results[f'eval_{part}_{metric}']:.4f} | {published / 100:.3f} |"
            in card
        )

    folder_of_predictions = tmp_path / "predictions"
    flags = ["--task", task, "--data_dir", str(folder), "--output_dir", str(folder_of_predictions)]
    assert main(["predict", "--model", str(tmp_path / "model"), *flags]) == 0
    file, header, ids, allowed = HANDED_IN[name]
    first, *lines = (folder_of_predictions / file).read_text().splitlines()
    assert first == header and [line.split("\t")[0] for line in lines] == ids
    predictions = [line.split("\t")[1] for line in lines]
    assert set(predictions) <= allowed if allowed else [float(prediction) for prediction in predictions]
    splits = read_splits(TASKS[task], {}, str(folder)).keys()
    shutil.copytree(folder_of_predictions, folder / "predictions")  # below the data, where they are not taken for data
    assert read_splits(TASKS[task], {}, str(folder)).keys() == splits
    wanted = set(TASKS[task].release.predictions.values()) - ({"AX.tsv"} if name == "mnli" else set())  # GLUE's alone
    assert {path.name for path in folder_of_predictions.iterdir()} == wanted | (
        {"submission.zip"} if header.startswith("index") else set()
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of untrained models: of SST-2 and MNLI, and of pairs with scores, classes, and several classes."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = GPT1Tokenizer(task_format=True)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    for name in ("sst2", "mnli", "mrpc", "mrpc several", "stsb", "stsb several"):
        task, several = name.split()[0], "several" in name
        problem = {"mrpc several": "multi_label_classification", "stsb": "regression", "stsb several": "regression"}
        labels = TASKS[task].labels or ("x", "y")[: 1 + several]
        config = GPT1Config(
            vocab_size=len(tokenizer), id2label=dict(enumerate(labels)), problem_type=problem.get(name), **shape
        )
        TASKS[task].head(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def predict(model: Path, task: str, data: Path, output: Path, *more: str) -> int:
    flags = {"--model": model, "--task": task, "--data_dir": data, "--output_dir": output}
    return main(["predict", *(str(word) for pair in flags.items() for word in pair), *more])


def test_the_archive_grows_task_by_task(release, models, tmp_path):
    output = tmp_path / "submission"
    output.mkdir()
    (output / "notes.tsv").write_text("mine")
    assert predict(models / "sst2", "sst2", release("sst2"), output) == 0
    with ZipFile(output / "submission.zip") as archive:
        assert archive.namelist() == ["SST-2.tsv"]
    assert predict(models / "mnli", "mnli", release("mnli glue"), output) == 0
    with ZipFile(output / "submission.zip") as archive:
        assert archive.namelist() == ["SST-2.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"]
        for name in archive.namelist():
            assert archive.read(name) == (output / name).read_bytes()


@pytest.mark.parametrize("model, task, name, message", [
    ("sst2", "mnli", "mnli", "holds GPT1ForSequenceClassification, and mnli is for GPT1ForEntailment"),
    ("sst2", "cola", "cola", "predicts negative, positive, and cola unacceptable, acceptable"),
    ("sst2", "sst2", "rocstories", "holds no official file of this task; of the test split it is SST-2/test.tsv or"),
    ("sst2", "classification", "sst2", "classification has no official test set"),
    ("sst2", "sst2", "nowhere", "no such folder: "),
    ("mrpc", "stsb", "stsb", "mrpc predicts classes, and stsb wants scores, one for each row"),
    ("stsb several", "stsb", "stsb", "stsb several predicts scores, and stsb wants scores, one for each row"),
    ("stsb", "mrpc", "mrpc", "stsb predicts scores, and mrpc wants classes, one for each row"),
    ("mrpc several", "mrpc", "mrpc", "mrpc several predicts classes, and mrpc wants classes, one for each row"),
])  # fmt: skip
def test_what_cannot_be_predicted_is_said_in_a_line(release, models, tmp_path, capfd, model, task, name, message):
    folder = release(name) if name in RELEASES else tmp_path / name
    assert predict(models / model, task, folder, tmp_path / "out") == 1
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_test_row_that_does_not_fit_is_refused(release, models, tmp_path, capfd):
    """Each row of a test set needs its prediction: none is skipped."""
    folder = release("sst2")
    (folder / "SST-2/test.tsv").write_text(tsv("index | sentence", "0", "1 | A film."))
    assert predict(models / "sst2", "sst2", folder, tmp_path / "out") == 1
    assert "test.tsv, row 2: 1 field, expected 2" in capfd.readouterr().err.splitlines()[-1]
    assert predict(models / "sst2", "sst2", folder, tmp_path / "out", "--skip_bad_rows") == 1
    assert "it goes without --skip_bad_rows" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_caveat_of_the_task_stands_beside_its_figure():
    results = {
        "train": {"train_loss": 1.0},
        "eval": {"eval_accuracy": 0.5},
        "test_other": {"test_other_accuracy": 0.5},
    }
    caveat = add_paper(TASKS["qnli"], results)
    assert results["eval"] == {"eval_accuracy": 0.5, "eval_accuracy_in_paper": 0.881}
    assert results["test_other"] == {"test_other_accuracy": 0.5}
    assert [line.split() for line in figures_table(results, METRICS).splitlines()] == [
        ["here", "paper"],
        ["validation", "accuracy", "50.0", "%", "88.1", "%"],
        ["test_other", "accuracy", "50.0", "%"],
    ]
    assert "test sets" in caveat and "first version" in caveat
    assert add_paper(TASKS["classification"], {"eval": {"eval_accuracy": 0.5}}) == ""


def test_several_seeds_give_median_and_range(release, tiny, tmp_path, capfd, one_thread):
    folder, output = release("sst2"), tmp_path / "runs"
    words = ["finetune", "--task", "sst2", "--data_dir", str(folder), "--config", str(tiny), "--max_steps", "1"]
    words += ["--output_dir", str(output), "--seeds", "3", "--seed", "5", "--save_strategy", "no"]
    assert main(words) == 0
    results = json.loads((output / "all_results.json").read_text())
    runs = [json.loads((output / f"seed-{seed}/all_results.json").read_text()) for seed in (5, 6, 7)]
    accuracies = [run["eval_accuracy"] for run in runs]
    assert results["seeds"] == [5, 6, 7] and results["eval_accuracy_by_seed"] == accuracies
    assert results["eval_accuracy"] == sorted(accuracies)[1]
    assert results["eval_accuracy_range"] == [min(accuracies), max(accuracies)]
    assert results["eval_accuracy_in_paper"] == 0.913 and results["paper_caveat"] in capfd.readouterr().out
    assert all((output / f"seed-{seed}/README.md").is_file() for seed in (5, 6, 7))
    assert len({(output / f"seed-{seed}/model.safetensors").read_bytes() for seed in (5, 6, 7)}) == 3

    before = (output / "seed-5/model.safetensors").stat().st_mtime_ns
    (output / "seed-6/all_results.json").unlink()
    assert main([*words, "--resume_from_checkpoint", "True"]) == 0
    assert json.loads((output / "all_results.json").read_text()) == results
    assert (output / "seed-5/model.safetensors").stat().st_mtime_ns == before

    more = [*words, "--resume_from_checkpoint", "--seeds", "4"]
    assert main([*more, "--learning_rate", "1e-3"]) == 1
    said = f"{output} was begun with learning rate 6.25e-05, linear decay, not 0.001, linear decay"
    assert said in capfd.readouterr().err.splitlines()[-1] and not (output / "seed-8").exists()
    for seed in (6, 7):
        (output / f"seed-{seed}/all_results.json").write_text(json.dumps(runs[0] | {"test_accuracy": 1.0}))
    assert main(more) == 1
    said = f"{output}/seed-6 has not the figures of {output}/seed-5: the data have changed"
    assert said in capfd.readouterr().err.splitlines()[-1] and not (output / "seed-8").exists()


@pytest.mark.parametrize("task, files, message", [
    ("classification", {}, "--data_dir is for the paper's tasks"),
    ("sst2", {"train": "train.tsv"}, "give it or --train_file and its kin"),
])  # fmt: skip
def test_a_folder_is_for_a_task_that_has_a_release_and_stands_alone(release, task, files, message):
    with pytest.raises(ValueError, match=message):
        read_splits(TASKS[task], files, str(release("sst2")))


def test_colas_authors_have_folders_of_their_own(tmp_path):
    for name, row in {"in_domain_train": "a | 1 |  | A.", "in_domain_dev": "b | 0 | * | B."}.items():
        for folder in ("raw", "tokenized"):
            path = tmp_path / "cola_public" / folder / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(tsv(row.replace(".", f" {folder}.")))
    splits = read_splits(TASKS["cola"], {}, str(tmp_path))
    assert {name: split.columns["sentence"] for name, split in splits.items()} == {
        "train": ["A raw."],
        "validation": ["B raw."],
    }


@pytest.mark.parametrize("flags, message", [
    (["--seeds", "0"], "--seeds must be at least 1, got 0"),
    (["--seeds", "2", "--push_to_hub", "True"], "--push_to_hub is for one model, and --seeds makes several"),
])  # fmt: skip
def test_seeds_that_cannot_be_are_refused(release, tmp_path, capfd, flags, message):
    words = ["--task", "sst2", "--data_dir", str(release("sst2")), "--output_dir", str(tmp_path / "runs")]
    assert main(["finetune", *words, *flags]) == 1
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_of_two_files_for_a_split_none_is_guessed(release):
    folder = release("mnli")
    (folder / "copy").mkdir()
    (folder / "copy/multinli_1.0_train.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="several files .*copy/multinli_1.0_train.jsonl, .*multinli_1.0/multinli"):
        read_splits(TASKS["mnli"], {}, str(folder))
