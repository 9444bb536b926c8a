"""What a run shows: quiet libraries, a bar or lines, a table of its figures, where its files are."""

import io
import json
import sys
import warnings

import pytest
from transformers import TrainerControl, TrainerState
from transformers.utils import logging

from modeling_gpt1.cli import main
from modeling_gpt1.training.finetune import FinetuningArguments
from modeling_gpt1.training.report import Progress, figures_table, quiet


SHAPE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A command of seconds, run where its data lies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(SHAPE))
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(12)))
    line = "finetune --task classification --config tiny.json --train_file data.csv --validation_file data.csv"
    return f"{line} --num_train_epochs 1 --per_device_train_batch_size 4 --report_to none --output_dir out".split()


def test_a_run_tells_what_it_trains_on_what_its_figures_and_its_files(words, tmp_path, capfd):
    assert main(words) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0].startswith("classification: tiny.json from scratch (0.3 million parameters)")
    assert lines[1:4] == [
        "learns from 12 rows of data.csv",
        "measured on 12 rows of data.csv",
        "2 classes: a (6 rows), b (6 rows)",
    ]
    assert [line.partition(":")[0] for line in lines[4:8]] == [
        *(f"step {step} of 3, epoch {epoch}" for step, epoch in ((1, "0.3333"), (2, "0.6667"), (3, "1"))),
        "step 3 of 3, epoch 1",
    ]
    assert "loss" in lines[4] and "eval_accuracy" in lines[7] and "per_second" not in shown.out
    accuracy = json.loads((tmp_path / "out/all_results.json").read_text())["eval_accuracy"]
    assert lines[8].split() == ["here"]  # nothing of the paper's to compare with
    assert lines[9].split() == ["validation", "accuracy", f"{100 * accuracy:.1f}", "%"]
    files = lines[lines.index("written to out:") + 1 :]
    assert [line.split()[0] for line in files][:4] == [
        "model.safetensors",
        "README.md",
        "all_results.json",
        "eval_report.json",
    ]
    assert all((tmp_path / "out" / line.split()[0]).is_file() for line in files)


def test_verbose_shows_what_trainer_logs(words, capfd):
    assert main([*words, "--verbose", "True"]) == 0
    shown = capfd.readouterr().out
    assert "***** eval metrics *****" in shown and "'eval_samples_per_second'" in shown


def test_the_bar_tells_the_loss_and_stays_below_the_lines(tmp_path, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    args, control = FinetuningArguments(output_dir=str(tmp_path), disable_tqdm=False), TrainerControl()
    state, progress = TrainerState(max_steps=4, global_step=1, epoch=0.25), Progress()
    progress.on_train_begin(args, state, control)
    state.global_step = 2
    progress.on_step_end(args, state, control)
    # A step has a time of its own where Trainer counts the tokens
    progress.on_log(args, state, control, {"loss": 2.0, "grad_norm": 3.0, "epoch": 0.5, "train_runtime": 3.0})
    progress.on_log(args, state, control, {"eval_loss": 1.5, "eval_runtime": 9.0})
    progress.on_log(args, state, control, {"train_loss": 2.0, "train_runtime": 9.0})  # the last, of all steps
    progress.on_train_end(args, state, control)
    bar = terminal.getvalue()
    assert "2/4" in bar and "loss 2" in bar and "3" not in bar.rpartition("loss 2")[2].partition("]")[0]
    assert capsys.readouterr().out == "step 2 of 4, epoch 0.25: eval_loss 1.5\n"


def test_libraries_are_quiet_meanwhile_and_as_before_afterwards():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(RuntimeError), quiet(False), warnings.catch_warnings(record=True) as said:
        warnings.warn("about a library", stacklevel=1)
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise RuntimeError
    assert not said and (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    with quiet(True):
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_table_has_the_papers_figures_beside_the_runs():
    figures = {"eval_accuracy": 0.5, "eval_accuracy_in_paper": 0.881, "eval_loss": 0.7, "eval_runtime": 3.0}
    table = figures_table({"train": {"train_loss": 1.0}, "eval": figures}, ["accuracy"]).splitlines()
    assert [line.split() for line in table] == [
        ["here", "paper"],
        ["validation", "accuracy", "50.0", "%", "88.1", "%"],
        ["validation", "loss", "0.7"],
    ]
    assert figures_table({"train": {"train_loss": 1.0}}) == ""
