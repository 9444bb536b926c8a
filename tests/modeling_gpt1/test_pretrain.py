"""`gpt1 pretrain`: books to windows to a model; stopped, killed, on two processes, and on what is no good corpus."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate.commands.config.config_args import load_config_from_file
from transformers import DataCollatorForLanguageModeling, Trainer

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM, GPT1ForMaskedLM
from modeling_gpt1.cli import main
from modeling_gpt1.training import books as books_module
from modeling_gpt1.training import run as run_module
from modeling_gpt1.training.books import BookWindows, encode_books, in_both
from modeling_gpt1.training.pretrain import PretrainingArguments, WindowCollator
from tokenization import GPT1Tokenizer, train_bpe


ACCELERATE = Path(__file__).resolve().parents[2] / "examples" / "accelerate"
TEXT = "the old house stood by a river and nobody knew who had built it or why she went there at night"


def write_book(path: Path, words: int, seed: int) -> str:
    random = np.random.default_rng(seed)
    lines = [" ".join(random.choice(TEXT.split(), size=9)) + "." for _ in range(words // 9)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two books to train on, one held out, a tokenizer of 50 merges, and a tiny configuration."""
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "books").mkdir()
    write_book(folder / "books/a.txt", 900, seed=1)
    write_book(folder / "books/b.txt", 500, seed=2)
    write_book(folder / "held-out.txt", 300, seed=3)
    train_bpe([folder / "books"], num_merges=50, show_progress=False).save_pretrained(folder / "tokenizer")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    (folder / "tiny.json").write_text(json.dumps(shape | {"max_position_embeddings": 32}))
    return folder


@pytest.fixture
def flags(folder):
    """The command's flags for a few steps, with those of the test."""

    def build(output_dir: Path, *more: str, corpus: str = "books", batch: int = 4) -> list[str]:
        given = {
            "corpus": folder / corpus,
            "tokenizer": folder / "tokenizer",
            "config": folder / "tiny.json",
            "output_dir": output_dir,
            "cache_dir": folder / "cache",
            "per_device_train_batch_size": batch,
            "max_steps": 8,
            "save_steps": 2,
            "warmup_steps": 2,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "report_to": "none",
        }
        if "--model" in more:
            del given["config"]
        return ["pretrain", *(text for name, value in given.items() for text in (f"--{name}", str(value))), *more]

    return build


def losses(output_dir: Path) -> list[float]:
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = (GPT1ForCausalLM.from_pretrained(path).state_dict() for path in (one, other))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_compiled_it_learns_the_same(flags, folder, tmp_path):
    """From books and from one that is shorter than a window."""
    (folder / "short").mkdir(exist_ok=True)
    for name, count in (("a.txt", 200), ("b.txt", 18)):
        write_book(folder / "short" / name, count, seed=4)
    compiled = ("--torch_compile", "True", "--torch_compile_backend", "eager")
    for name, more in (("plain", ()), ("compiled", compiled)):
        assert main(flags(tmp_path / name, "--dropout", "0", *more, corpus="short", batch=1)) == 0
    torch.testing.assert_close(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), atol=2e-3, rtol=0)


@pytest.fixture(scope="module")
def tokenizer(folder) -> GPT1Tokenizer:
    return GPT1Tokenizer.from_pretrained(folder / "tokenizer")


@pytest.fixture
def encoded(folder, tokenizer):
    return encode_books([folder / "books"], tokenizer, cache_dir=str(folder / "cache"))


def test_a_book_has_the_ids_of_its_whole_text(folder, tokenizer, encoded):
    for book, ids, words in zip(encoded["book"], encoded["input_ids"], encoded["words"], strict=True):
        text = Path(book).read_text()
        assert list(ids) == tokenizer(text)["input_ids"]
        assert words == len(text.split())


def test_every_kind_of_line_break_is_read_as_the_tokenizer_reads_it(tokenizer, tmp_path):
    text = (
        "".join(f"the old{character}house\n" for character in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        + "\r\nby a river"
    )
    (tmp_path / "book.txt").write_text(text, encoding="utf-8", newline="")
    books = encode_books([tmp_path / "book.txt"], tokenizer, cache_dir=str(tmp_path / "cache"))
    assert list(books["input_ids"][0]) == tokenizer(text)["input_ids"]


def test_novels_have_the_ids_of_their_whole_text(data_dir, tmp_path):
    novels = sorted((data_dir / "novels" / "valid").glob("*.txt"))[:2]
    tokenizer = GPT1Tokenizer(model_max_length=10**9)
    encoded = encode_books(novels, tokenizer, cache_dir=str(tmp_path))
    for novel, ids in zip(novels, encoded["input_ids"], strict=True):
        assert list(ids) == tokenizer(novel.read_bytes().decode())["input_ids"]


def test_a_long_book_is_kept_in_parts(folder, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(books_module, "LONGEST_PART", 100)
    text = (folder / "books/a.txt").read_text()
    parts = encode_books([folder / "books/a.txt"], tokenizer, cache_dir=str(tmp_path))
    assert len(parts) > 3 and max(map(len, parts["input_ids"])) == 100
    assert [i for ids in parts["input_ids"] for i in ids] == tokenizer(text)["input_ids"]
    assert sum(parts["words"]) == len(text.split())


def test_books_are_written_a_few_at_a_time(folder, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(books_module, "LONGEST_PART", 10)
    parts = encode_books([folder / "books/a.txt"], tokenizer, cache_dir=str(tmp_path))
    batches = parts.data.column("input_ids").chunks
    assert len(batches) > 3 and max(map(len, batches)) == 16
    windows = BookWindows(parts, 10)
    assert [windows[i]["input_ids"].tolist() for i in range(len(windows))] == list(parts["input_ids"])


def test_encoded_books_are_found_again_and_changed_ones_are_not(folder, tokenizer, tmp_path, monkeypatch):
    book = tmp_path / "book.txt"
    write_book(book, 90, seed=5)
    first = encode_books([book], tokenizer, cache_dir=str(tmp_path / "cache"))
    reads = []
    read_books = books_module.read_books
    monkeypatch.setattr(books_module, "read_books", lambda *a: reads.append(a) or read_books(*a))
    again = encode_books([book], tokenizer, cache_dir=str(tmp_path / "cache"))
    assert not reads and again["input_ids"][0] == first["input_ids"][0]
    write_book(book, 90, seed=6)  # as long as before
    changed = encode_books([book], tokenizer, cache_dir=str(tmp_path / "cache"))
    assert len(reads) == 1 and changed["input_ids"][0] != first["input_ids"][0]
    encode_books([book], GPT1Tokenizer(), cache_dir=str(tmp_path / "cache"))
    assert len(reads) == 2


def test_windows_are_contiguous_in_one_book_and_change_with_the_epoch(encoded):
    windows = BookWindows(encoded, 32, seed=7)
    texts = [np.asarray(ids) for ids in encoded["input_ids"]]
    assert len(windows) == sum(len(ids) // 32 for ids in texts)
    epochs = []
    for epoch in range(3):
        windows.set_epoch(epoch)
        drawn = [windows[index]["input_ids"] for index in range(len(windows))]
        counts = [0] * len(texts)
        for window in drawn:
            assert len(window) == 32
            (found,) = [
                index
                for index, ids in enumerate(texts)
                if (np.lib.stride_tricks.sliding_window_view(ids, 32) == window).all(1).any()
            ]
            counts[found] += 1
        assert counts == [len(ids) // 32 for ids in texts]
        epochs.append(drawn)
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])
    again = BookWindows(encoded, 32, seed=7)
    again.set_epoch(2)
    assert np.array_equal(epochs[2], [again[index]["input_ids"] for index in range(len(again))])
    other = BookWindows(encoded, 32, seed=8)
    assert not np.array_equal(epochs[0], [other[index]["input_ids"] for index in range(len(other))])


def test_a_share_of_the_windows_says_a_span_again(tmp_path, tokenizer):
    words = [f"w{number}" for number in range(40_000)]  # of which none occurs twice
    (tmp_path / "book.txt").write_text(" ".join(words))
    books = encode_books([tmp_path / "book.txt"], tokenizer, cache_dir=str(tmp_path / "cache"))
    plain, repeated = (BookWindows(books, 256, seed=7, repeats=share) for share in (0.0, 0.25))
    changed = 0
    for index in range(len(plain)):
        before, after = plain[index]["input_ids"], repeated[index]["input_ids"]
        where = np.flatnonzero(before != after)
        if not len(where):
            continue
        changed += 1
        start, length = where[0], where[-1] + 1 - where[0]
        earlier = np.lib.stride_tricks.sliding_window_view(before[:start], length)
        assert 8 <= length <= 128 and (earlier == after[start : start + length]).all(1).any()
    assert 0.15 < changed / len(plain) < 0.35
    again = BookWindows(books, 256, seed=7, repeats=0.25)
    assert all(np.array_equal(again[index]["input_ids"], repeated[index]["input_ids"]) for index in range(9))


def test_held_out_windows_hold_every_token_in_order_and_are_alike_long(encoded):
    windows = BookWindows(encoded, 32)
    start = 0
    for ids in encoded["input_ids"]:
        count = math.ceil(len(ids) / 32)
        rows = [windows[start + index]["input_ids"].tolist() for index in range(count)]
        assert all(len(row) == 32 for row in rows)
        assert sum(rows[:-1], []) == list(ids)[: 32 * (count - 1)] and rows[-1] == list(ids)[-32:]
        start += count
    assert start == len(windows)


def test_a_book_shorter_than_a_window_is_one(tmp_path, tokenizer):
    write_book(tmp_path / "short.txt", 9, seed=1)
    books = encode_books([tmp_path / "short.txt"], tokenizer, cache_dir=str(tmp_path / "cache"))
    for seed in (None, 1):
        windows = BookWindows(books, 512, seed=seed)
        assert windows[0]["input_ids"].tolist() == list(books["input_ids"][0])
        assert len(windows) == 1


@pytest.mark.parametrize("smoothing", ["0", "0.3"])
def test_a_run_leaves_model_results_curves_and_card(folder, flags, tmp_path, capsys, caplog, smoothing):
    """Perplexities are of the held-out text, also where the labels of the training are smoothed."""
    out = tmp_path / "model"
    more = ["--validation_corpus", str(folder / "held-out.txt"), "--eval_steps", "4", "--prompt", "the old"]
    more += ["--label_smoothing_factor", smoothing, "--cache_dir", str(tmp_path / "cache")]
    assert main(flags(out, *more)) == 0
    results = json.loads((out / "all_results.json").read_text())
    model = GPT1ForCausalLM.from_pretrained(out)
    tokenizer = GPT1Tokenizer.from_pretrained(out)
    assert not tokenizer.task_format and model.config.vocab_size == len(tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 32

    # Never read, and so driven off: drawn anew at the end
    special = [tokenizer.bos_token_id, tokenizer.sep_token_id, tokenizer.cls_token_id, tokenizer.pad_token_id]
    assert model.get_input_embeddings().weight[special].std().item() == pytest.approx(0.02, rel=0.4)

    # The perplexities anew, from logits, over the windows of the held-out text
    text = (folder / "held-out.txt").read_text()
    ids = torch.tensor(tokenizer(text)["input_ids"])
    starts = [*range(0, len(ids) - 32, 32), len(ids) - 32]
    rows = torch.stack([ids[start : start + 32] for start in starts])
    with torch.no_grad():
        loss = F.cross_entropy(model(rows).logits[:, :-1].flatten(0, 1).double(), rows[:, 1:].flatten()).item()
    assert results["eval_loss"] == pytest.approx(loss, rel=1e-5)
    assert results["eval_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert results["eval_word_perplexity"] == pytest.approx(math.exp(loss * len(ids) / len(text.split())), rel=1e-4)

    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    samples = [entry["sample"] for entry in history if "sample" in entry]
    assert len(samples) == 3 and all(text.startswith("the old") for text in samples)
    assert losses(out)[-1] < losses(out)[0]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "README.md").read_text()
    assert "gpt1 pretrain --corpus" in card and samples[-1][:20] in card and "2 books" in card
    assert "- batch size: 4 windows of 32 tokens\n" in card and "- optimizer: adamw_torch_fused\n" in card
    assert "Encoding" in capsys.readouterr().err


def test_dropout_of_the_training_is_not_the_saved_one(flags, tmp_path):
    for name, more in (("without", ["--dropout", "0"]), ("with", [])):
        assert main(flags(tmp_path / name, "--max_steps", "3", *more)) == 0
        assert GPT1Config.from_pretrained(tmp_path / name).hidden_dropout == 0.1
    assert losses(tmp_path / "without") != losses(tmp_path / "with")


def test_a_checkpoint_is_gone_on_from(folder, flags, tmp_path):
    assert main(flags(tmp_path / "first", "--dropout", "0")) == 0
    more = ["--model", str(tmp_path / "first"), "--data_seed", "1", "--dropout", "0", "--warmup_steps", "0"]
    assert main(flags(tmp_path / "second", *more)) == 0
    first, second = losses(tmp_path / "first"), losses(tmp_path / "second")
    assert second[0] < first[0] - 0.5 * (first[0] - first[-1])
    assert "from `first`" in (tmp_path / "second" / "README.md").read_text()
    # A masked model has one token more
    assert main(flags(tmp_path / "masked", *more, "--objective", "mlm", "--max_steps", "1")) == 0
    model = GPT1ForMaskedLM.from_pretrained(tmp_path / "masked")
    assert model.config.vocab_size == GPT1Config.from_pretrained(tmp_path / "first").vocab_size + 1


def test_masked_language_model(folder, flags, tmp_path):
    more = ["--objective", "mlm", "--validation_corpus", str(folder / "held-out.txt"), "--eval_steps", "4"]
    assert main(flags(tmp_path / "model", *more)) == 0
    model = GPT1ForMaskedLM.from_pretrained(tmp_path / "model")
    tokenizer = GPT1Tokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.mask_token_id == model.config.vocab_size - 1
    assert losses(tmp_path / "model")[-1] < losses(tmp_path / "model")[0]


def test_what_is_masked_depends_on_the_windows_alone(folder, monkeypatch):
    """So that a resumed run, which collates some batches twice, and each evaluation have the same to find."""
    tokenizer = GPT1Tokenizer.from_pretrained(folder / "tokenizer", mask_token="<mask>")
    collate = WindowCollator(tokenizer, mlm=True)
    windows = [{"input_ids": np.arange(1, 200)}, {"input_ids": np.arange(1, 100)}]
    first = collate(windows)
    before = torch.get_rng_state()
    monkeypatch.setattr(torch, "manual_seed", None)  # which an accelerator's numbers follow as well
    again, other = collate(windows), collate(windows[::-1])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["labels"], other["labels"].flip(0))


@pytest.mark.parametrize("muon", ["False", "True"])
def test_killed_and_resumed_ends_with_the_same_weights(flags, tmp_path, muon):
    more = ["--muon", muon]
    assert main(flags(tmp_path / "whole", *more)) == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "modeling_gpt1", *flags(killed, *more)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums depend on how many there are
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | threads)
    deadline = time.monotonic() + 600
    while not any(killed.glob("checkpoint-[468]/trainer_state.json")):
        assert process.poll() in (None, 0), process.stderr.read()
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    # However far it came, let it be in the middle of saving
    last = max(killed.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    state = (last / "trainer_state.json").read_bytes() if (last / "trainer_state.json").is_file() else b"{"
    (last / "trainer_state.json").write_bytes(state[: len(state) // 2])
    assert main(flags(killed, *more, "--resume_from_checkpoint", "True")) == 0
    assert_same_weights(tmp_path / "whole", killed)
    assert losses(tmp_path / "whole") == losses(killed)


def test_a_full_disk_leaves_the_last_checkpoint(flags, tmp_path, monkeypatch, capsys):
    assert main(flags(tmp_path / "whole")) == 0
    save = Trainer._save_optimizer_and_scheduler

    def full(self: Trainer, output_dir: str) -> None:
        if output_dir.endswith("checkpoint-4"):
            raise OSError(28, "No space left on device")
        save(self, output_dir)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        assert main(flags(tmp_path / "full")) == 1
    assert "gpt1 pretrain: [Errno 28] No space left on device" in capsys.readouterr().err
    assert main(flags(tmp_path / "full", "--resume_from_checkpoint", "True")) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "full")


# Several runs in one process each, since starting it takes longer than they do
RUNS = """
import json, sys
from modeling_gpt1.cli import main

sys.exit(max(main(run) for run in json.loads(sys.argv[1])))
"""


def launch(launcher: list[str], program: Path, runs: list[list[str]]) -> None:
    program.write_text(RUNS)
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(program), json.dumps(runs)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_have_the_losses_of_one(flags, tmp_path):
    """Each with all of the model, and each with a part of it; by Adam and by Muon."""
    launchers = {
        "two": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        "sharded": ["accelerate.commands.launch", "--config_file", str(ACCELERATE / "fsdp2_cpu.yaml")],
    }
    optimizers = {muon: ["--dropout", "0", "--max_steps", "4", "--muon", muon] for muon in ("False", "True")}
    for muon, more in optimizers.items():
        assert main(flags(tmp_path / f"one-{muon}", *more, "--num_train_epochs", "3")) == 0
    for name, launcher in launchers.items():
        runs = [
            flags(tmp_path / f"{name}-{muon}", *more, "--num_train_epochs", "3", batch=2)
            for muon, more in optimizers.items()
        ]
        launch(launcher, tmp_path / "runs.py", runs)
        for muon in optimizers:
            one, several = tmp_path / f"one-{muon}", tmp_path / f"{name}-{muon}"
            assert losses(several) == pytest.approx(losses(one), rel=1e-5)
            weights = GPT1ForCausalLM.from_pretrained(several).state_dict()
            for parameter, tensor in GPT1ForCausalLM.from_pretrained(one).state_dict().items():
                torch.testing.assert_close(weights[parameter], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("lengths", [(32, 32, 32), (32, 7, 32)])
def test_batches_are_what_transformers_makes_of_them(lengths):
    """A mask beside them where windows differ in length alone: without one, all tokens are real."""
    tokenizer = GPT1Tokenizer()
    windows = [{"input_ids": np.random.default_rng(n).integers(1, 40_000, size=n)} for n in lengths]
    got = WindowCollator(tokenizer, mlm=False)(windows)
    expected = DataCollatorForLanguageModeling(tokenizer, mlm=False)(windows)
    assert ("attention_mask" in got) == (len(set(lengths)) > 1)
    assert expected["attention_mask"].all() or "attention_mask" in got
    assert got.keys() - {"attention_mask"} == expected.keys() - {"attention_mask"}
    for name, tensor in got.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_where_the_processor_is_slow_at_it_has_to_be_insisted_on(monkeypatch, caplog, tmp_path, fast):
    monkeypatch.setattr(run_module, "has_fast_bfloat16", lambda: fast)
    kinds = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": True}
    assert PretrainingArguments(**kinds).bf16 == fast
    assert len([record for record in caplog.records if "slower in bfloat16" in record.message]) == (not fast)
    assert PretrainingArguments(**kinds, slow_bf16=True).bf16


@pytest.mark.parametrize("config", sorted(ACCELERATE.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configurations_parse(config):
    parsed = load_config_from_file(str(config))
    assert parsed.num_processes >= 1 and parsed.mixed_precision in ("no", "bf16")


@pytest.mark.parametrize(
    "name, content, more, said",
    [
        ("latin.txt", b"good\n" * 1000 + "caf\u00e9".encode("latin-1"), [], "latin.txt: not UTF-8 text at byte 5003"),
        ("empty.txt", b"", [], "there is no text in"),
        ("blank.txt", b" \n\n \n", [], "there is no text in"),
        ("missing", None, [], "no such file or folder"),
        ("good.txt", b"a book\n" * 99, ["--config", "giant"], "no configuration giant"),
        ("good.txt", b"a book\n" * 99, ["--config", __file__], "is no JSON"),
        ("good.txt", b"a book\n" * 99, ["--tokenizer", "no/such/folder"], "no/such/folder"),
        ("good.txt", b"a book\n" * 99, ["--model", "no/such/folder"], "no checkpoint at no/such/folder"),
        ("good.txt", b"a book\n" * 99, ["--muon", "True", "--optim", "adafactor"], "give --muon False"),
    ],
)
def test_bad_input_is_one_line(folder, flags, tmp_path, capfd, name, content, more, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    run = flags(tmp_path / "model", "--corpus", str(tmp_path / name), *more)
    assert main(run) == 1
    assert said in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "model").exists()


def test_a_corpus_that_is_neither_here_nor_on_the_hub_is_named(flags, tmp_path, offline, capfd):
    assert main(flags(tmp_path / "model", "--corpus", "novel.txt")) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("gpt1 pretrain: novel.txt: cannot be read as a file or a data set of the Hub")


def test_bytes_that_are_not_utf8_can_be_replaced(tokenizer, tmp_path):
    (tmp_path / "latin.txt").write_bytes("the old caf\u00e9 stood".encode("latin-1"))
    books = encode_books([tmp_path / "latin.txt"], tokenizer, encoding_errors="replace", cache_dir=str(tmp_path))
    assert list(books["input_ids"][0]) == tokenizer("the old caf\ufffd stood")["input_ids"]


def test_an_empty_book_among_others_is_left_out(folder, tokenizer, tmp_path, caplog):
    (tmp_path / "empty.txt").touch()
    books = encode_books([tmp_path / "empty.txt", folder / "books"], tokenizer, cache_dir=str(tmp_path / "cache"))
    assert len(books) == 2 and "empty.txt holds no text" in caplog.text


def test_a_held_out_book_that_is_trained_on_is_warned_of(folder, flags, encoded, tmp_path, caplog):
    assert in_both(encoded, encoded) == encoded["book"][:]
    more = ["--validation_corpus", str(folder / "books/b.txt"), "--max_steps", "1"]
    assert main(flags(tmp_path / "model", *more)) == 0
    assert "b.txt" in caplog.text and "held out and trained on alike" in caplog.text


def test_rows_of_a_table_are_books(tokenizer, tmp_path):
    rows = [{"story": "the old house"}, {"story": None}, {"story": "by a river"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    books = encode_books([tmp_path / "rows.jsonl"], tokenizer, "story", cache_dir=str(tmp_path / "cache"))
    assert [list(ids) for ids in books["input_ids"]] == tokenizer(["the old house", "by a river"])["input_ids"]


def test_a_data_set_of_the_hub_is_streamed_and_found_again_by_its_commit(tokenizer, tmp_path, monkeypatch):
    streamed, commits = [], iter(["one", "one", "two"])
    texts = {"train": ["the old house", "by a river"], "validation": ["the river"]}
    rows = {name: datasets.Dataset.from_dict({"text": each}).to_iterable_dataset() for name, each in texts.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **options: streamed.append((a, options)) or rows)
    info = SimpleNamespace(dataset_info=lambda name: SimpleNamespace(sha=next(commits, "two")))
    monkeypatch.setattr(books_module, "HfApi", lambda: info)
    for times in (1, 1, 2):
        books = encode_books(["somebody/stories:plain"], tokenizer, cache_dir=str(tmp_path / "cache"))
        assert len(books) == 2 and len(streamed) == times
    assert streamed[0] == (("somebody/stories",), {"streaming": True, "name": "plain"})
    for there in (2, 1):  # what is held out is the validation split, where there is one
        cache = str(tmp_path / f"cache{there}")
        books = encode_books(["somebody/stories:plain"], tokenizer, cache_dir=cache, split="validation")
        assert list(books["input_ids"][0]) == tokenizer(texts[[*rows][-1]][0])["input_ids"]
        rows.popitem()
    with pytest.raises(OSError, match="somebody/stories: cannot be .*: it has no split 'train'; there are $"):
        encode_books(["somebody/stories"], tokenizer, cache_dir=str(tmp_path / "cache"))


def test_books_of_a_corpus_that_are_held_out_too_are_counted(flags, tmp_path, caplog):
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"the old house {i}\n" for i in range(9)))
    more = ["--corpus", str(tmp_path / "rows.csv"), "--validation_corpus", str(tmp_path / "rows.csv")]
    assert main(flags(tmp_path / "model", *more, "--max_steps", "1")) == 0
    (said,) = (line for line in caplog.messages if "held out and trained on alike" in line)
    assert said.count("rows.csv, row") == 3 and said.endswith(" and 6 more")
