"""A run among others: signals, threads, a second run in its folder, and what is left when it goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState

from modeling_gpt1 import GPT1Config, GPT1ForSequenceClassification
from modeling_gpt1.cli import main
from modeling_gpt1.training import finetune as finetuning
from modeling_gpt1.training.finetune import FinetuningArguments, TaskArguments, finetune
from modeling_gpt1.training.run import StopOnSignal, only_run


SHAPE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
# A run for each signal in one process, since starting it takes longer than they do
PROGRAM = """
import os, pathlib, signal, sys
from transformers import TrainerCallback
from modeling_gpt1.training import finetune
class Signal(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            signal.raise_signal(getattr(signal, name))
trainer = finetune.MuonTrainer
finetune.MuonTrainer = lambda **kw: trainer(**kw, callbacks=[Signal()])
from modeling_gpt1.cli import main
for name in ("SIGINT", "SIGTERM"):
    code = main([*sys.argv[1:], "--output_dir", name])
    pathlib.Path(f"{name}-{os.environ.get('RANK', 0)}").write_text(str(code))
"""


class Fails(TrainerCallback):
    """An exception in the middle of a training."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise RuntimeError("the disk is full")


@pytest.fixture
def flags(tmp_path):
    """The flags of a training of seconds."""
    (tmp_path / "tiny.json").write_text(json.dumps(SHAPE))
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(12)))
    settings = {"per_device_train_batch_size": "2", "max_steps": "6", "save_strategy": "steps", "save_steps": "1"}
    settings |= {"eval_strategy": "no", "learning_rate": "1e-3", "report_to": "none", "save_total_limit": "9"}
    paths = {"config": tmp_path / "tiny.json", "train_file": tmp_path / "data.csv", "output_dir": tmp_path / "out"}
    pairs = {"task": "classification", **paths, **settings}
    return [word for name, value in pairs.items() for word in (f"--{name}", str(value))]


def results(folder):
    return json.loads((folder / "all_results.json").read_text())


def test_a_signal_saves_and_the_run_goes_on_to_the_same_figures(flags, tmp_path):
    """The loss of the training is that of all its steps, also where it was resumed."""
    command = [sys.executable, "-c", PROGRAM, "finetune", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    codes = {name: (tmp_path / f"{name}-0").read_text() for name in ("SIGINT", "SIGTERM")}
    assert codes == {"SIGINT": "130", "SIGTERM": "130"}, done.stderr
    assert main(["finetune", *flags]) == 0
    straight = results(tmp_path / "out")
    for name in ("SIGINT", "SIGTERM"):
        stopped = tmp_path / name
        said = f"saved to {name}; go on with --resume_from_checkpoint True"
        assert any(line.endswith(said) for line in done.stderr.splitlines())
        assert (stopped / "checkpoint-3/model.safetensors").is_file() and not (stopped / "README.md").exists()
        assert main(["finetune", *flags, "--output_dir", str(stopped), "--resume_from_checkpoint", "True"]) == 0
        assert results(stopped)["train_loss"] == pytest.approx(straight["train_loss"], rel=1e-6)


def test_a_signal_within_an_epoch_leaves_that_step_and_the_run_ends_the_same(flags, monkeypatch, tmp_path):
    """Of the default settings, which keep the best checkpoint alone, and measure at the end of an epoch."""
    data = str(tmp_path / "data.csv")
    flags = [*flags, "--validation_file", data, "--eval_strategy", "epoch", "--save_strategy", "epoch", "--max_steps"]
    flags += ["12", "--save_total_limit", "1"]  # of two epochs

    class Signal(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 8:
                signal.raise_signal(signal.SIGINT)

    assert main(["finetune", *flags]) == 0
    trainer = finetuning.MuonTrainer
    stopped = ["finetune", *flags, "--output_dir", str(tmp_path / "stopped")]
    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "MuonTrainer", lambda **kw: trainer(**kw, callbacks=[Signal()]))
        assert main(stopped) == 130
    state = TrainerState.load_from_json(str(tmp_path / "stopped/checkpoint-9/trainer_state.json"))
    assert [entry["step"] for entry in state.log_history if "eval_loss" in entry] == [6]
    assert main([*stopped, "--resume_from_checkpoint"]) == 0
    whole, resumed = results(tmp_path / "out"), results(tmp_path / "stopped")
    for name in ("train_loss", "eval_loss", "eval_accuracy"):
        assert resumed[name] == pytest.approx(whole[name], rel=1e-6)


def test_what_is_due_at_the_last_step_comes_after_its_checkpoint(tmp_path):
    """So that a process that is killed soon has it; and at the end of an epoch or of the run all is as it was."""
    args = FinetuningArguments(output_dir=str(tmp_path))
    for step, epoch, due, measured in ((3, 0.5, False, False), (3, 0.5, True, True), (6, 1.0, False, True),
                                       (12, 1.5, False, True)):  # fmt: skip
        stop, state = StopOnSignal(), TrainerState(global_step=step, epoch=epoch, max_steps=12)
        stop.interrupted = True
        control = TrainerControl(should_evaluate=due)
        stop.on_step_end(args, state, control)
        assert control.should_save and control.should_training_stop and not control.should_evaluate
        control = TrainerControl(should_evaluate=True, should_save=True)  # as at the end of any epoch
        stop.on_epoch_end(args, state, control)
        assert control.should_evaluate is control.should_save is measured
    assert args.save_total_limit == 2


def test_the_loss_of_a_run_goes_on_in_a_callback_that_was_restored(flags, tmp_path):
    restore = ["--restore_callback_states_from_checkpoint", "True", "--max_steps"]
    stopped = ["finetune", *flags, "--output_dir", str(tmp_path / "stopped"), "--lr_scheduler_type", "constant"]
    assert main([*stopped, "--max_steps", "3"]) == 0
    assert main([*stopped, *restore, "6", "--resume_from_checkpoint"]) == 0
    straight = ["finetune", *flags, "--output_dir", str(tmp_path / "straight"), "--lr_scheduler_type", "constant"]
    assert main(straight) == 0
    whole = results(tmp_path / "straight")["train_loss"]
    assert results(tmp_path / "stopped")["train_loss"] == pytest.approx(whole, rel=1e-6)


def arguments(flags):
    values = dict(zip((flag[2:] for flag in flags[::2]), flags[1::2], strict=True))
    task = TaskArguments(**{name: values.pop(name) for name in ("task", "config", "train_file")})
    numbers = {name: int(values[name]) for name in ("per_device_train_batch_size", "max_steps", "save_total_limit")}
    return task, FinetuningArguments(**values | numbers | {"save_steps": 1, "learning_rate": 1e-3})


def test_it_works_in_a_thread(flags):
    figures = []
    thread = threading.Thread(target=lambda: figures.append(finetune(*arguments(flags))))
    thread.start()
    thread.join()
    assert figures[0]["train_loss"] > 0


def test_an_exception_leaves_the_signals_as_they_were(flags, monkeypatch):
    trainer = finetuning.MuonTrainer
    monkeypatch.setattr(finetuning, "MuonTrainer", lambda **kw: trainer(**kw, callbacks=[Fails()]))
    before = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError, match="the disk is full"):
        finetune(*arguments(flags))
    assert [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_run_in_a_folder_is_refused(flags, tmp_path, capfd):
    (tmp_path / "out").mkdir()
    holder = "import sys, time; from modeling_gpt1.training.run import only_run\nwith only_run(sys.argv[1]):\n"
    holder += "    print('at work', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "out")], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"at work\n"
        assert main(["finetune", *flags, "--resume_from_checkpoint", "True"]) == 1
        assert capfd.readouterr().err.splitlines()[-1].endswith("is in use: another run is at work there")
        assert not any((tmp_path / "out").iterdir())
    finally:
        other.kill()  # without a chance to clean up
        other.wait()
    for _ in range(50):  # the lock ends with its process
        try:
            with only_run(tmp_path / "out"):
                break
        except ValueError:
            time.sleep(0.1)
    with only_run(tmp_path / "out"):
        assert not os.listdir(tmp_path / "out")


def test_there_may_be_nothing_to_resume_from_and_that_is_said(flags, tmp_path, caplog):
    assert main(["finetune", *flags, "--resume_from_checkpoint", "True"]) == 0
    assert f"no checkpoint to resume from in {tmp_path / 'out'}: training begins anew" in caplog.messages


def test_another_models_checkpoint_is_not_resumed_from(flags, tmp_path, capfd):
    checkpoint = tmp_path / "out" / "checkpoint-1"
    other = GPT1Config(hidden_size=12, num_hidden_layers=1, num_attention_heads=1)
    GPT1ForSequenceClassification(other).save_pretrained(checkpoint)
    TrainerState().save_to_json(str(checkpoint / "trainer_state.json"))
    (checkpoint / "scheduler.pt").touch()
    assert main(["finetune", *flags, "--resume_from_checkpoint", "True"]) == 1
    assert f"{checkpoint} is of another model's sizes" in capfd.readouterr().err.splitlines()[-1]


def test_a_run_that_is_done_trains_nothing_and_says_so(flags, tmp_path, caplog):
    assert main(["finetune", *flags]) == 0
    caplog.clear()
    (tmp_path / "out/checkpoint-best2").mkdir()  # somebody's own
    assert main(["finetune", *flags, "--resume_from_checkpoint"]) == 0
    assert f"{tmp_path / 'out/checkpoint-6'} has all of the run's 6 steps: nothing was trained" in caplog.messages


def test_a_model_alone_is_not_resumed_from(flags, tmp_path, capfd):
    assert main(["finetune", *flags, "--save_only_model", "True"]) == 0
    assert main(["finetune", *flags, "--resume_from_checkpoint", "True"]) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert f"{tmp_path / 'out' / 'checkpoint-6'} holds a model alone (--save_only_model True)" in said


def test_one_checkpoint_is_not_that_of_several_seeds(flags, tmp_path, capfd):
    assert main(["finetune", *flags]) == 0
    again = ["finetune", *flags, "--output_dir", str(tmp_path / "seeds"), "--seeds", "2"]
    assert main([*again, "--resume_from_checkpoint", str(tmp_path / "out/checkpoint-2")]) == 1
    assert "a checkpoint is one run's" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "seeds").exists()


def test_an_error_of_the_run_is_not_taken_for_another_run(tmp_path):
    with pytest.raises(BlockingIOError), only_run(tmp_path):
        raise BlockingIOError("write could not complete without blocking")


def test_a_signal_to_one_process_stops_all_after_the_same_step(flags, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.replace("state.global_step == 2", "state.global_step == 1 and args.process_index == 1").replace(
            '("SIGINT", "SIGTERM")', '("SIGINT",)'
        )
    )
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(program), "finetune", *flags]
    command = [sys.executable, "-m", *launch, "--logging_steps", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert [(tmp_path / f"SIGINT-{rank}").read_text() for rank in range(2)] == ["130", "130"], done.stderr
    assert (tmp_path / "SIGINT/checkpoint-3/trainer_state.json").is_file()
    assert not (tmp_path / "SIGINT/checkpoint-4").exists()


@pytest.mark.parametrize("said, message", [("False", "holds another run"), ("nowhere", "no checkpoint at nowhere")])
def test_what_to_resume_from(flags, tmp_path, capfd, said, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    assert main(["finetune", *flags, "--resume_from_checkpoint", said]) == 1
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert os.listdir(tmp_path / "out") == ["file"]
