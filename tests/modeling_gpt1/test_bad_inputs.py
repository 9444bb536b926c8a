# ruff: noqa: E501, a row of the table is a line
"""Files and flags that a command cannot use: one line that names the place and the cause, and nothing is left."""

import gzip
import json
import os
from pathlib import Path

import pytest

from modeling_gpt1 import GPT1ForMultipleChoice, GPT1ForSequenceClassification, GPT1ForSimilarity
from modeling_gpt1.cli import main
from tokenization import GPT1Tokenizer


CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"

CLASSIFY = "finetune --task classification --train_file FILE"
COMPARE = "finetune --task similarity --train_file FILE"
CHOOSE = "finetune --task multiple-choice --train_file FILE"
VALIDATE = "finetune --task classification --train_file train.csv --validation_file FILE"
PREDICT = "predict --model classifier --input_file FILE --output_file out/labels.csv"
PRETRAIN = "pretrain --corpus FILE --cache_dir cache --config tiny.json"
LEARN = "train-tokenizer FILE"
GENERATE = "generate --prompt a"

GOOD = "text,label\ngood one,pos\nbad one,neg\ngood two,pos\nbad two,neg\n"
STARS = "text,label\n" + "".join(f"film {i},{star}\n" for i, star in enumerate("13451345"))
SCORES = "sentence1,sentence2,score\n" + "".join(f"a {i},b {i},{i / 4}\n" for i in range(8))


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def options(*choices, answer="A", **more) -> dict:
    return {"article": "a", "question": "b", "options": list(choices), "answer": answer} | more


GOOD_LINES = lines(*({"text": f"t{i}", "label": "ab"[i % 2]} for i in range(4)))

# What is wrong, the file, the command, and what its one line must say
BAD = [
    ("a field too many", "data.csv", "text,label\nA fine film, really,pos\n", CLASSIFY, "data.csv, row 2: 3 fields, expected 2"),
    ("a field too few", "data.csv", GOOD + "alone\n", CLASSIFY, "data.csv, row 6: 1 field, expected 2 (text, label)"),
    ("commas in the only column", "data.csv", "sentence\nWe came, saw\n", PREDICT, "row 2: 2 fields, expected 1 (sentence)"),
    ("a field too many in a TSV", "data.tsv", "text\tlabel\na\tb\tpos\n", CLASSIFY, "data.tsv, row 2: 3 fields"),
    ("a quotation that does not end", "data.csv", 'text,label\n"a,pos\nb,neg\n', CLASSIFY, "a quotation mark is not closed"),
    ("a line break in quotation marks and a short row", "data.tsv", 'text\tlabel\n"a\nb"\tpos\nc\n', CLASSIFY, "row 3: 1 field"),
    ("joined files", "data.csv", GOOD + GOOD, CLASSIFY, "row 6: the header again"),
    ("joined files with their marks", "data.csv", GOOD + "\ufeff" + GOOD, CLASSIFY, "row 6: the header again"),
    ("two columns of one name", "data.csv", "text,label,text\na,b,c\n", CLASSIFY, "two columns are called 'text'"),
    ("Windows' encoding", "data.csv", "text,label\ncafé,b\n".encode("cp1252"), CLASSIFY, "at byte 14; likely cp1252: give --encoding"),
    ("UTF-16 without a mark", "data.csv", GOOD.encode("utf-16-le"), CLASSIFY, "likely utf-16-le"),
    ("another encoding than said", "data.csv", "text,label\ncafé,b\n", CLASSIFY + " --encoding ascii", "not ASCII text at byte 14"),
    ("no encoding", "data.csv", GOOD, CLASSIFY + " --encoding utf-9", "'utf-9' is no encoding"),
    ("no delimiter", "data.csv", GOOD, CLASSIFY + " --delimiter ,,", "--delimiter is one character"),
    ("a workbook named csv", "data.csv", b"PK\x03\x04", CLASSIFY, "a zip archive, as .xlsx"),
    ("a workbook", "data.xlsx", b"PK\x03\x04", CLASSIFY, "unknown kind of file, expected one of .csv"),
    ("no Parquet", "data.parquet", b"PAR1", CLASSIFY, "cannot be read as Parquet"),
    ("an empty file", "data.csv", "", CLASSIFY, "data.csv is empty"),
    ("only a header", "data.csv", "text,label\n", CLASSIFY, "is empty: it has no data"),
    ("a column that is not there", "data.csv", "txt,label\na,b\n", CLASSIFY, "no column 'text' or 'sentence'; its columns are txt, label"),
    ("no JSON", "data.jsonl", GOOD_LINES + "{\n", CLASSIFY, "cannot be read as JSONL: line 5"),
    ("a list for a row", "data.jsonl", GOOD_LINES + "[1]\n", CLASSIFY, "data.jsonl, line 5: not an object"),
    ("a name twice in a row", "data.jsonl", '{"text": "a", "text": "b"}\n', CLASSIFY, "a name stands twice among text, text"),
    ("a blank text", "data.csv", GOOD + "  ,pos\n", CLASSIFY, "row 6: column 'text' holds no text: ' '"),
    ("a null text", "data.jsonl", GOOD_LINES + lines({"text": None, "label": "a"}), CLASSIFY, "line 5: column 'text' holds no text: None"),
    ("a text that is not there", "data.jsonl", GOOD_LINES + lines({"label": "a"}), CLASSIFY, "line 5: column 'text' holds no text"),
    ("a list for a text", "data.jsonl", GOOD_LINES + lines({"text": ["a"], "label": "a"}), CLASSIFY, "holds no text: ['a']"),
    ("NaN for a text", "data.jsonl", GOOD_LINES + '{"text": NaN, "label": "a"}\n', CLASSIFY, "holds no text: nan"),
    ("a blank text to label", "data.csv", "text\na\n\nb\n", PREDICT, "data.csv, row 3: column 'text' holds no text: ''"),
    ("a blank second text", "data.csv", SCORES + "a,,1.5\n", COMPARE, "row 10: column 'sentence2' holds no text"),
    ("a blank label", "data.csv", GOOD + "a,\n", CLASSIFY, "row 6: column 'label' holds no label: ''"),
    ("a null label", "data.jsonl", GOOD_LINES + lines({"text": "a", "label": None}), CLASSIFY, "line 5: column 'label' holds no label: None"),
    ("a list for a label", "data.jsonl", lines({"text": "a", "label": ["a"]}), CLASSIFY, "line 1: column 'label' holds no label: ['a']"),
    ("an object for a label", "data.jsonl", lines({"text": "a", "label": {"is": 1}}), CLASSIFY, "line 1: column 'label' holds no label"),
    ("NaN for a label", "data.jsonl", GOOD_LINES + '{"text": "a", "label": NaN}\n', CLASSIFY, "holds no label: nan"),
    ("an infinite label", "data.json", '[{"text": "a", "label": -Infinity}]', CLASSIFY, "entry 1: column 'label' holds no label: -inf"),
    ("a gap among scores", "data.csv", SCORES + "a,b,\n", COMPARE, "row 10: column 'score' holds no label: ''"),
    ("nan among scores", "data.csv", SCORES + "a,b,nan\n", COMPARE, "row 10: label 'nan' is not a finite number"),
    ("inf among scores", "data.csv", SCORES + "a,b,inf\n", COMPARE, "row 10: label 'inf' is not a finite number"),
    ("a score beyond all floats", "data.csv", SCORES + "a,b,1e999\n", COMPARE, "row 10: label '1e999' is not a finite number"),
    ("a word among scores", "data.csv", SCORES + "a,b,n/a\n", COMPARE, "row 10: label 'n/a' is not a finite number"),
    ("an underscore in a score", "data.csv", SCORES + "a,b,1_0\n", COMPARE, "row 10: label '1_0' is not a finite number"),
    ("decimal commas", "data.tsv", SCORES.replace(",", "\t").replace(".", ","), COMPARE, "row 2: label '0,0' has a decimal comma"),
    ("a word for a score", "data.csv", "sentence1,sentence2,score\na,b,x\n", COMPARE.replace("similarity", "stsb"), "'x' is not a finite number, and this is a regression"),
    ("classes for a regression", "data.csv", GOOD, CLASSIFY + " --regression True", "row 2: label 'pos' is not a finite number"),
    ("a regression of a classification", "data.csv", "sentence,label\na,1\n", CLASSIFY.replace("classification", "sst2") + " --regression True", "this task is not a regression"),
    ("one label only", "data.csv", "text,label\na,x\nb,x\n", CLASSIFY, "one label only, 'x'"),
    ("a new label", "data.csv", "text,label\na,pos\nb,new\n", VALIDATE, "label 'new' in data.csv, row 3 is unknown; the labels are neg, pos"),
    ("a label in another case", "data.csv", "text,label\na,Pos\n", VALIDATE, "label 'Pos' in data.csv, row 2 is unknown"),
    ("no position", "data.csv", "text,label\na,2\n", VALIDATE, "label '2' in data.csv, row 2 is unknown"),
    ("no position with a zero", "data.csv", "text,label\na,01\n", VALIDATE, "label '01' in data.csv, row 2 is unknown"),
    ("the place of a name among others", "data.csv", "text,label\na,0\n", VALIDATE, "label '0' in data.csv, row 2 is unknown; the labels are neg, pos"),
    ("stars that were not trained", "data.csv", "text,label\na,2\n", VALIDATE.replace("train.csv", "stars.csv"), "label '2' in data.csv, row 2 is unknown; the labels are 1, 3, 4, 5"),
    ("zeros before a number", "data.csv", "text,label\na,7\n", VALIDATE.replace("train.csv", "zeros.csv"), "label '7' in data.csv, row 2 is unknown; the labels are 007, 008"),
    ("an answer out of range", "data.jsonl", lines(options("x", "y", answer="C")), CHOOSE, "answer 'C' in data.jsonl, line 1 is none of its 2 choices"),
    ("no answer", "data.jsonl", lines(options("x", "y", answer=None)), CHOOSE, "line 1: column 'answer' holds no label: None"),
    ("one choice", "data.jsonl", lines(options("x")), CHOOSE, "line 1: column 'options' must hold lists of two or more texts: ['x']"),
    ("an empty choice", "data.jsonl", lines(options("x", "")), CHOOSE, "line 1: column 'options' must hold lists of two or more texts"),
    ("choices of two numbers", "data.jsonl", lines(options("x", "y"), options("x", "y", "z")), CHOOSE, "line 2: all rows must have the same number of choices"),
    ("a text for the choices", "data.csv", "article,question,options,answer\na,b,x y,A\n", CHOOSE, "row 2: column 'options' must hold lists"),
    ("a regression of choices", "data.jsonl", lines(options("x", "y")), CHOOSE + " --regression", "--regression True: this task is not a regression"),
    ("columns that choices cannot have", "data.jsonl", lines(options("x", "y")), CHOOSE + " --remove_unused_columns False", "remove_unused_columns must be True for a multiple choice"),
    ("choices of no multiple choice", "data.csv", GOOD, CLASSIFY + " --choice_columns text label", "--choice_columns names the answers of a multiple choice, and this is none"),
    ("choices of no multiple choice to label", "data.csv", "text\na\n", PREDICT + " --choice_columns text", "--choice_columns names the answers of a multiple choice, and this is none"),
    ("a test without labels", "data.csv", "text\na\n", VALIDATE.replace("--validation", "--test"), "no column 'label' or 'score'; its columns are text (--label_column names others; rows without a label are for `gpt1 predict --input_file`)"),
    ("nothing left", "data.csv", "text,label\n,pos\n,neg\n", CLASSIFY + " --skip_bad_rows True", "data.csv has no row that can be used"),
    ("a metric that is not measured", "data.csv", GOOD, VALIDATE + " --metric_for_best_model f2", "f2 is not measured; it is one of loss, accuracy, f1"),
    ("the input as the output", "data.csv", "text\na\n", PREDICT.replace("out/labels.csv", "data.csv"), "--output_file is --input_file"),
    ("an unknown kind of output", "data.csv", "text\na\n", PREDICT.replace("labels.csv", "labels.xlsx"), ": out/labels.xlsx: unknown kind of file"),
    ("a corpus with a field too many", "data.csv", "text\nWe came, saw\n", PRETRAIN, "data.csv, row 2: 2 fields, expected 1"),
    ("a corpus in another encoding", "data.txt", "café".encode("cp1252"), PRETRAIN, "data.txt: not UTF-8 text at byte 3; likely cp1252"),
    ("a corpus of lists", "data.jsonl", lines({"text": ["a"]}), PRETRAIN, "data.jsonl, line 1: ['a'] is no text"),
    ("a corpus without its column", "data.tsv", "body\nx\n", PRETRAIN, "data.tsv: no column 'text'; there are body"),
    ("a corpus of nothing", "data.csv", "text,n\n,1\n", PRETRAIN, "there is no text in data.csv"),
    ("no prompt", "data.txt", "a book", PRETRAIN + " --prompt ''", "--prompt must be a text of fewer than 32 tokens, got ''"),
    ("a prompt that fills the model", "data.txt", "a book", PRETRAIN + " --prompt " + "x," * 40, "--prompt must be a text of fewer than 32"),
    ("a vocabulary from broken JSON", "data.jsonl", '{"text": ', LEARN, "cannot be read as JSONL: line 1"),
    ("a vocabulary from short rows", "data.csv", "text,n\na\n", LEARN, "data.csv, row 2: 1 field, expected 2"),
    ("a compressed file named csv", "data.csv", gzip.compress(GOOD.encode() * 9999), CLASSIFY, "data.csv: not text but compressed by gzip"),
    ("a folder for a file", "data.csv", GOOD, CLASSIFY.replace("FILE", "."), "no such file: ."),
    ("a device for a file", "data.csv", GOOD, CLASSIFY.replace("FILE", "/dev/zero"), "no such file: /dev/zero"),
    ("a device for a corpus", "data.csv", GOOD, PRETRAIN.replace("FILE", "/dev/zero"), "/dev/zero is a pipe or a device"),
    ("a pipe for a corpus", "data.csv", GOOD, PRETRAIN.replace("FILE", "pipe"), "pipe is a pipe or a device, neither a file nor a folder"),
    ("a pipe for a vocabulary", "data.csv", GOOD, LEARN.replace("FILE", "pipe"), "pipe is a pipe or a device"),
    ("a pipe for a table", "data.csv", GOOD, CLASSIFY.replace("FILE", "pipe"), "no such file: pipe"),
    ("no merges to learn", "data.csv", GOOD, LEARN + " --num_merges -1", "num_merges is -1; it cannot be negative"),
    ("no frequency", "data.csv", GOOD, LEARN + " --min_frequency 0", "min_frequency is 0; it must be at least 1"),
    ("no examples at a time", "data.csv", GOOD, CLASSIFY + " --per_device_train_batch_size 0", "--per_device_train_batch_size must be at least 1, got 0"),
    ("no examples to evaluate at a time", "data.csv", GOOD, CLASSIFY + " --per_device_eval_batch_size -1", "--per_device_eval_batch_size must be at least 1, got -1"),
    ("no steps to gather", "data.csv", GOOD, CLASSIFY + " --gradient_accumulation_steps 0", "--gradient_accumulation_steps must be at least 1, got 0"),
    ("a misspelt field of a configuration", "data.json", '{"num_hidden_layer": 1, "n_ctx": 512}', PRETRAIN.replace("FILE", "train.csv").replace("tiny.json", "FILE"), "data.json: a configuration has no 'num_hidden_layer': did you mean 'num_hidden_layers'?"),
    ("no epochs", "data.csv", GOOD, CLASSIFY + " --num_train_epochs 0", "--num_train_epochs must be above 0, got 0.0"),
    ("less than no epochs", "data.csv", GOOD, CLASSIFY + " --num_train_epochs -1", "--num_train_epochs must be above 0, got -1.0"),
    ("no training", "data.csv", GOOD, CLASSIFY + " --do_train False", "--do_train must be True for a command that trains, got False"),
    ("predictions", "data.csv", GOOD, CLASSIFY + " --do_predict True", "--do_predict must be False, since `gpt1 predict` writes predictions, got True"),
    ("less than no updates", "data.csv", GOOD, CLASSIFY + " --max_steps -5", "--max_steps must be at least 1, got -5"),
    ("no updates", "data.csv", GOOD, PRETRAIN + " --max_steps 0", "--max_steps must be at least 1, got 0"),
    ("a learning rate of NaN", "data.csv", GOOD, CLASSIFY + " --learning_rate nan", "--learning_rate must be at least 0, got nan"),
    ("an infinite learning rate", "data.csv", GOOD, PRETRAIN + " --learning_rate inf", "--learning_rate must be at least 0, got inf"),
    ("weights that grow", "data.csv", GOOD, CLASSIFY + " --weight_decay -1", "--weight_decay must be at least 0, got -1.0"),
    ("less than no workers", "data.csv", GOOD, CLASSIFY + " --dataloader_num_workers -1", "--dataloader_num_workers must be at least 0, got -1"),
    ("steps of warm-up below none", "data.csv", GOOD, CLASSIFY + " --warmup_steps -5", "--warmup_steps must be at least 0, got -5.0"),
    ("no seed", "data.csv", GOOD, CLASSIFY + " --seed -1", "Seed must be between 0 and 2**32 - 1"),
    ("an auxiliary loss of NaN", "data.csv", GOOD, CLASSIFY + " --lm_coef nan", "lm_coef must be at least 0, got nan"),
    ("an auxiliary loss that is sought", "data.csv", GOOD, CLASSIFY + " --lm_coef -1", "lm_coef must be at least 0, got -1"),
    ("labels smoothed away", "data.csv", GOOD, CLASSIFY + " --label_smoothing_factor 2", "label_smoothing must lie between 0 and 1, got 2"),
    ("inputs of nothing", "data.csv", GOOD, CLASSIFY + " --max_length 0", "--max_length must lie in [4, 512], got 0"),
    ("inputs too short", "data.csv", GOOD, CLASSIFY + " --max_length 2", "--max_length must lie in [4, 512], got 2"),
    ("inputs too long", "data.csv", GOOD, CLASSIFY + " --max_length 513", "--max_length must lie in [4, 512], got 513"),
    ("three text columns", "data.csv", GOOD, CLASSIFY + " --text_columns text text text", "--text_columns takes one or two columns here, got 3"),
    ("dropout beyond one", "data.csv", GOOD, PRETRAIN + " --dropout 2", "hidden_dropout must lie between 0 and 1, got 2"),
    ("a schedule that goes by nothing", "data.csv", GOOD, CLASSIFY + " --lr_scheduler_type reduce_lr_on_plateau", "reduce_lr_on_plateau goes by validation data, and none are given"),
    ("a corpus and a schedule that goes by nothing", "data.csv", GOOD, PRETRAIN + " --lr_scheduler_type reduce_lr_on_plateau", "goes by validation data, and none are given"),
    ("the best of what is not measured", "data.csv", GOOD, CLASSIFY + " --save_strategy best", "save_strategy best goes by validation data, and none are given"),
    ("the best of a corpus that is not measured", "data.csv", GOOD, PRETRAIN + " --save_strategy best", "save_strategy best goes by validation data, and none are given"),
    ("the best without evaluations", "data.csv", GOOD, VALIDATE + " --save_strategy best --eval_strategy no", "save_strategy best goes by evaluations, and eval_strategy is no"),
    ("a first evaluation of nothing", "data.csv", GOOD, CLASSIFY + " --eval_on_start True", "eval_on_start goes by validation data, and none are given"),
    ("a corpus and a first evaluation of nothing", "data.csv", GOOD, PRETRAIN + " --eval_on_start", "eval_on_start goes by validation data, and none are given"),
    ("two starts of a pre-training", "data.csv", GOOD, PRETRAIN + " --model gpt1-mini", "--model goes on from a checkpoint, --config starts from scratch: give one of them"),
    ("the windows of the first epoch again", "data.csv", GOOD, PRETRAIN + " --dataloader_num_workers 1 --dataloader_persistent_workers True", "--dataloader_persistent_workers must be False"),
    ("windows that are shuffled already", "data.csv", GOOD, PRETRAIN + " --train_sampling_strategy random", "--train_sampling_strategy must be sequential"),
    ("pairs without their loss", "data.csv", GOOD, PRETRAIN + " --pairs 2 --label_smoothing_factor 0.1", "--pairs adds to the model's own loss"),
    ("two optimizers", "data.csv", GOOD, CLASSIFY + " --original_adam True --optim adafactor", "original_adam leaves nothing to optim"),
    ("other columns of official files", "data.csv", "", "finetune --task sst2 --data_dir . --text_columns x", "--data_dir has the task's own columns"),
    ("nothing to resume", "data.csv", GOOD, CLASSIFY + " --resume_from_checkpoint nowhere", "no checkpoint at nowhere: give the folder of one"),
    ("no texts at a time", "data.csv", "text\na\n", PREDICT + " --batch_size 0", "--batch_size must be at least 1, got 0"),
    ("no continuations", "data.csv", "", GENERATE + " --num_return_sequences 0", "--num_return_sequences must be at least 1, got 0"),
    ("no tokens", "data.csv", "", GENERATE + " --max_new_tokens 0", "--max_new_tokens must be at least 1, got 0"),
    ("no beams", "data.csv", "", GENERATE + " --num_beams 0", "--num_beams must be at least 1, got 0"),
    ("more than all probability", "data.csv", "", GENERATE + " --top_p 5", "--top_p must be above 0 and at most 1, got 5.0"),
    ("no probability", "data.csv", "", GENERATE + " --do_sample --top_p 0", "--top_p must be above 0 and at most 1, got 0.0"),
    ("less than no tokens", "data.csv", "", GENERATE + " --top_k -1", "--top_k must be at least 0, got -1"),
    ("no warmth", "data.csv", "", GENERATE + " --do_sample --temperature 0", "--temperature must be above 0, got 0.0"),
    ("warmth of NaN", "data.csv", "", GENERATE + " --temperature nan", "--temperature must be above 0, got nan"),
    ("warmth without sampling", "data.csv", "", GENERATE + " --temperature 0.3", "--temperature is of the sampling: give --do_sample True as well"),
    ("columns of one text", "data.csv", "", "predict --model classifier --text a --text_columns x", "--text_columns and --choice_columns are of --input_file, not of --text"),
    ("half a pair", "data.csv", "text\na\n", PREDICT + " --text_pair x", "--text_pair is the second text of a pair: give --text as well"),
    ("a folder for nothing", "data.csv", "", "predict --model classifier --text a --output_dir out", "--data_dir and --output_dir go with --task"),
    ("columns of official files", "data.csv", "", "predict --model classifier --task sst2 --data_dir . --output_dir out --text_columns x", "it goes without --text_pair, --output_file, --text_columns"),
    ("no penalty", "data.csv", "", GENERATE + " --repetition_penalty 0", "--repetition_penalty must be above 0, got 0.0"),
    ("an empty folder to convert", "data.csv", "", "convert cache out", "cache holds no checkpoint: it has no config.json"),
    ("no folder to convert", "data.csv", "", "convert ./cache/nowhere out", "no checkpoint at ./cache/nowhere"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny checkpoint of each head that a command here starts from; never trained, and hardly ever loaded."""
    directory = tmp_path_factory.mktemp("models")
    tokenizer = GPT1Tokenizer(task_format=True)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    heads = {"classifier": GPT1ForSequenceClassification, "pairs": GPT1ForSimilarity, "choices": GPT1ForMultipleChoice}
    for name, head in heads.items():
        head(head.config_class(vocab_size=len(tokenizer), **shape)).save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)
    (directory / "tiny.json").write_text(json.dumps(shape | {"max_position_embeddings": 32}))
    for name, content in {
        "train.csv": GOOD,
        "stars.csv": STARS,
        "zeros.csv": "text,label\na,007\nb,008\nc,007\nd,008\n",
    }.items():
        (directory / name).write_text(content)
    return directory


@pytest.fixture
def run(models, tmp_path, monkeypatch):
    """Runs a command in a folder with the models and one file; gives its status."""
    monkeypatch.chdir(tmp_path)
    for path in models.iterdir():
        (tmp_path / path.name).symlink_to(path)
    os.mkfifo("pipe")
    os.mkdir("cache")

    def command(line: str, name: str = "data.csv") -> int:
        model = [] if line.startswith(("predict", "pretrain", "train-tok", "convert")) else ["--model", "classifier"]
        output = [] if line.startswith(("predict", "generate", "convert")) else ["--output_dir", "out"]
        words = ["" if word == "''" else name if word == "FILE" else word for word in line.split()]
        return main([*words, *model, *output])

    return command


@pytest.mark.parametrize("name, content, line, message", [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(run, tmp_path, capfd, name, content, line, message):
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert run(line, name) == 1
    captured = capfd.readouterr()
    bars = ("Encoding", "reading", "words")  # of corpora, until the bad row
    said = [text for text in captured.err.splitlines() if text and not text.startswith(bars)]
    assert len(said) == 1 and captured.out == ""
    assert message in said[0] and said[0].startswith(f"gpt1 {line.split()[0]}: ")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "case, line, message",
    [
        ("longer_rows.csv", CLASSIFY, "row 2: 3 fields, expected 2"),
        ("one_column_with_commas.csv", PREDICT, "row 2: 2 fields, expected 1"),
        ("nan_score.csv", COMPARE, "label 'nan' is not a finite number"),
        ("inf_score.csv", COMPARE, "label 'inf' is not a finite number"),
        ("score_with_a_gap.csv", COMPARE, "row 4: column 'label' holds no label: ''"),
        ("decimal_commas.csv", COMPARE, "row 5: the header again"),
        ("null_label.jsonl", CLASSIFY, "column 'label' holds no label: None"),
        ("list_label.jsonl", CLASSIFY, "line 1: column 'label' holds no label: ['pos']"),
        (
            "labels_from_1.validation.csv",
            VALIDATE.replace("train.csv", "labels_from_1.train.csv"),
            "labels_from_1.validation.csv, row 2 is unknown; the labels are 1, 2, 3",
        ),
    ],
)
def test_the_cases_met_elsewhere(run, tmp_path, capfd, case, line, message):
    if not (CASES / case).is_file():
        pytest.skip(f"no small inputs at {CASES}")
    for path in CASES.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert run(line, case) == 1
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
