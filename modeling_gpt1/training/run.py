"""What every training run shares: where it writes, how it stops and goes on, and what it leaves."""

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, reduce
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Sampler
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    SchedulerType,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.training_args import OptimizerNames

from tokenization.write_aside import write_object

from ..flags import check_flags
from ..json_files import read_object
from ..loading import is_finite
from ..processor import has_fast_bfloat16, reuse_freed_memory
from . import FACTS, checkpoints_in
from .report import Progress


if sys.platform != "win32":
    import fcntl


logger = logging.getLogger(__name__)

MUON = "Muon for the layers' matrices, AdamW for the rest"


@dataclass
class RunArguments(TrainingArguments):
    """[`TrainingArguments`] that need an `output_dir`, know Muon, and need no flag where there is no accelerator."""

    output_dir: str = field(kw_only=True, metadata={"help": "Where the model and its results are written."})
    do_train: bool = field(
        default=True, kw_only=True, metadata={"help": "True: the command trains. A model is applied by gpt1 predict."}
    )
    muon: bool = field(
        default=False,
        kw_only=True,
        metadata={"help": "Take Muon's steps for the layers' matrices, AdamW's for the rest: fewer tokens to a loss."},
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        kw_only=True,
        metadata={
            "help": "Whether losses that are not finite are left out of what is logged; training stops at them."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        kw_only=True,
        metadata={"help": "True: go on from the last checkpoint in --output_dir; or the folder of another one."},
    )
    verbose: bool = field(
        default=False,
        kw_only=True,
        metadata={"help": "Whether to show all that Trainer and the libraries log, as it comes."},
    )
    slow_bf16: bool = field(
        default=False,
        kw_only=True,
        metadata={"help": "Insist on --bf16 on a CPU that computes float32 faster, which is otherwise taken."},
    )

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True  # mixed precision then needs no second flag
            self.dataloader_pin_memory = False
        if self.use_cpu and self.bf16 and not self.slow_bf16 and not has_fast_bfloat16():
            self.bf16 = False
            logger.warning("this CPU is slower in bfloat16: training in float32; --slow_bf16 True insists on bfloat16")
        counts = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        check_flags(
            self,
            do_train=(self.do_train, "True for a command that trains"),
            do_predict=(not self.do_predict, "False, since `gpt1 predict` writes predictions"),
            **{name: (getattr(self, name) >= 1, "at least 1") for name in counts},
            num_train_epochs=(0 < self.num_train_epochs < math.inf, "above 0"),
            max_steps=(self.max_steps == -1 or self.max_steps >= 1, "at least 1"),  # -1: as many as the epochs have
            learning_rate=(0 <= self.learning_rate < math.inf, "at least 0"),
            weight_decay=(0 <= self.weight_decay < math.inf, "at least 0"),
            warmup_steps=(self.warmup_steps >= 0, "at least 0"),
            dataloader_num_workers=(self.dataloader_num_workers >= 0, "at least 0"),
        )
        if self.save_strategy == "best" and self.eval_strategy == "no":
            raise ValueError("save_strategy best goes by evaluations, and eval_strategy is no")
        super().__post_init__()
        if self.muon and self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(f"muon comes with AdamW; for optim {OptimizerNames(self.optim).value} give --muon False")
        said = str(self.resume_from_checkpoint or False).lower()
        if said in ("true", "false"):  # a text, since it may be a path
            self.resume_from_checkpoint = said == "true" or None  # type: ignore[assignment]  # as Trainer takes it
        if self.hub_token is not None:  # Trainer pickles its arguments into every checkpoint, and publishes them
            os.environ["HF_TOKEN"], self.hub_token = self.hub_token, None

    @property
    def seed_of_order(self) -> int:
        """Of the order of examples: `data_seed`, or `seed` where it is not given."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def follows_evaluation(self) -> bool:
        """Whether the schedule goes by what an evaluation gives."""
        return SchedulerType(self.lr_scheduler_type).value in ("reduce_lr_on_plateau", "greedy")

    def do_without_evaluation(self) -> None:
        """For a run without validation data. Raises `ValueError` for what goes by it."""
        wants = {
            f"lr_scheduler_type {SchedulerType(self.lr_scheduler_type).value}": self.follows_evaluation,
            "save_strategy best": self.save_strategy == "best",
            "eval_on_start": self.eval_on_start,
        }
        for flag in (flag for flag, given in wants.items() if given):
            raise ValueError(f"{flag} goes by validation data, and none are given")
        self.eval_strategy = "no"
        self.load_best_model_at_end = False

    def check_output_dir(self) -> None:
        """
        Raises `ValueError` if `output_dir` is a file, or holds a run that is at work or not to be resumed, or if there
        is no checkpoint to resume from where one is named.
        """
        output_dir = Path(self.output_dir)
        if output_dir.exists() and not output_dir.is_dir():
            raise ValueError(f"output_dir {output_dir} is a file")
        if output_dir.is_dir() and any(output_dir.iterdir()) and not self.resume_from_checkpoint:
            raise ValueError(
                f"output_dir {output_dir} holds another run; choose another one, or --resume_from_checkpoint True"
            )
        if output_dir.is_dir() and self.process_index == 0:
            with only_run(output_dir):
                pass
        resume = self.resume_from_checkpoint
        if isinstance(resume, str) and not Path(resume, TRAINER_STATE_NAME).is_file():
            raise ValueError(f"no checkpoint at {resume}: give the folder of one, or --resume_from_checkpoint True")

    def card_settings(self) -> dict[str, Any]:
        """What a reader of the card wants to know of any run; the batch size is that of all devices together."""
        return {
            "batch size": self.train_batch_size * self.gradient_accumulation_steps * self.world_size,
            "optimizer": MUON if self.muon else OptimizerNames(self.optim).value,
            "learning rate": f"{self.learning_rate:g}, {SchedulerType(self.lr_scheduler_type).value} decay",
            "weight decay": self.weight_decay,
            "seed": self.seed,
        }


@contextmanager
def set_aside(owner: object, name: str, value: Any) -> Iterator[None]:
    """Gives an attribute another value, for the time of a measurement."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def only_run(folder: str | os.PathLike) -> Iterator[None]:
    """
    Raises `ValueError` if another run is at work in a folder. The lock is the folder's own, and ends with us; Windows
    has none for folders.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"output_dir {folder} is in use: another run is at work there") from None
        yield
    finally:
        os.close(descriptor)


class StopOnSignal(TrainerCallback):
    """
    As a context: on SIGINT or SIGTERM, `Trainer` finishes the step it is in, saves a checkpoint and stops; a second
    one stops at once. Several processes stop after the same step, the next that is logged, whichever of them had the
    signal. Python delivers signals to the main thread alone; in another one nothing is changed.

    Attributes:
        interrupted (`bool`): whether that happened.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._signalled = False
        self._evaluates = False  # whether an evaluation was due at the step that is the last
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            self._previous = {which: signal.signal(which, self._handle) for which in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        while self._previous:
            which, handler = self._previous.popitem()
            signal.signal(which, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, signum: int, frame: Any) -> None:
        self._signalled = True
        self.__exit__()

    def _ask(self, args: TrainingArguments) -> None:
        anywhere: Any = self._signalled
        if args.world_size > 1:
            anywhere = gather(torch.tensor([self._signalled], device=args.device)).any()
        self.interrupted = self.interrupted or bool(anywhere)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.world_size > 1 and state.global_step % state.logging_steps:
            return  # they wait for each other when they log
        self._ask(args)
        if self.interrupted:
            self._evaluates = control.should_evaluate
            control.should_save, control.should_evaluate = True, False  # first what must not be lost
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.interrupted:
            # `Trainer` ends the epoch that it leaves as one that is over
            if state.epoch is not None and state.epoch % 1 and state.global_step < state.max_steps:
                control.should_evaluate = control.should_save = False
            if self._evaluates:
                control.should_evaluate = control.should_save = True
            if args.save_total_limit == 1:
                args.save_total_limit = 2  # it would keep the best checkpoint alone, and not the last

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._ask(args)


class LossOfRun(TrainerCallback, ExportableState):
    """The sum of all steps' losses, which checkpoints keep: `Trainer` begins anew where a run is resumed."""

    def __init__(self, total: float = 0.0):
        self.total: float | torch.Tensor = total

    def state(self) -> dict[str, dict[str, float]]:
        return {"args": {"total": float(self.total)}, "attributes": {}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        states: Any = state.stateful_callbacks  # by the names of their classes
        kept = states.get(type(self).__name__)
        self.total = kept["args"]["total"] if kept else math.nan  # a checkpoint of another Trainer does not tell


class SeededLengthGroupedSampler(LengthGroupedSampler):
    """Examples by length, in an order that is the seed's and the epoch's alone, in which a resumed run goes on."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int):
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """As in torch's samplers; `Trainer` calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()


class RunTrainer(Trainer):
    """
    `Trainer` that stops at a loss which is not finite, and logs the two losses of a task head apart.

    On a CPU every loss is looked at. An accelerator would have to be waited for, so there the step of the first bad
    one is noted on the device, and looked up before anything is logged, evaluated or saved: no bad checkpoint is
    written.
    """

    args: RunArguments
    model: PreTrainedModel

    _GOOD = torch.iinfo(torch.int64).max  # the first bad step where there was none

    def __init__(self, model: PreTrainedModel, args: RunArguments, **kwargs: Any):
        args.use_cache = model.config.use_cache  # Trainer writes it into the configuration, off by default
        super().__init__(model, args, **kwargs)
        if not self.args.verbose and any(self.pop_callback(each) for each in (ProgressCallback, PrinterCallback)):
            self.add_callback(Progress)
        self.add_callback(LossOfRun())
        self._looks_at_once = self.args.device.type == "cpu" and self.args.world_size == 1
        self._bad_step = torch.tensor(self._GOOD, device=self.args.device)
        self._sums: dict[str, tuple[torch.Tensor, int]] = {}  # of the two losses, and of how many, since the last log

    @property
    def loss_of_run(self) -> LossOfRun:
        """The callback, in whose place `restore_callback_states_from_checkpoint` puts another."""
        return next(each for each in self.callback_handler.callbacks if isinstance(each, LossOfRun))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            step = torch.where(loss.detach().isfinite().all(), self._GOOD, self.state.global_step + 1)
            self._bad_step = torch.minimum(self._bad_step, step)
            if self._looks_at_once:
                self.check_loss()
            parts = outputs if isinstance(outputs, dict) else {}
            self.note({name: parts[name] for name in ("task_loss", "lm_loss") if parts.get(name) is not None})
        return (loss, outputs) if return_outputs else loss

    def note(self, parts: dict[str, torch.Tensor]) -> None:
        """Adds what a loss consists of to the means that are logged."""
        for name, part in parts.items():
            total, count = self._sums.get(name, (0, 0))
            self._sums[name] = total + part.detach().mean(), count + 1

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.loss_of_run.total += loss.double() if self.args.device.type != "mps" else loss
        return loss

    def check_loss(self) -> None:
        """Raises `FloatingPointError` if a loss of any process was not finite."""
        step = int(gather(self._bad_step.reshape(1)).min())
        if step < self._GOOD:
            raise FloatingPointError(f"the loss of step {step} is not finite; {self._advice()}")

    def _check_weights(self) -> None:
        """Raises `FloatingPointError` for a weight that is not finite, as a gradient may make it that is not."""
        weights = ((name, parameter.detach()) for name, parameter in self.model.named_parameters())
        local = ((name, weight.to_local() if isinstance(weight, DTensor) else weight) for name, weight in weights)
        bad = next((name for name, weight in local if not is_finite(weight)), None)
        if int(gather(torch.tensor([bad is not None], device=self.args.device, dtype=torch.int64)).max()):
            raise FloatingPointError(
                f"after step {self.state.global_step} {bad or 'a weight'} is not finite; {self._advice()}"
            )

    def _advice(self) -> str:
        checkpoint = last_complete_checkpoint(self.args.output_dir)
        left = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        return f"training has stopped, {left}; a lower --learning_rate or a longer warm-up may help"

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            self.check_loss()
            for name, (total, count) in self._sums.items():
                logs[name] = reduce(total / count, "mean").item()
            self._sums.clear()
        if "train_loss" in logs and not math.isnan(whole := float(self.loss_of_run.total)):
            logs["train_loss"] = whole / max(self.state.global_step, 1)
        super().log(logs, *args, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler | None:
        sampler = super()._get_train_sampler(*args, **kwargs)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        return SeededLengthGroupedSampler(sampler.batch_size, sampler.lengths, self.args.seed_of_order)

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        with set_aside(self.args, "dataloader_drop_last", False):  # it is for steps of one size
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        with set_aside(self.args, "dataloader_drop_last", False):
            return super().get_test_dataloader(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.check_loss()
        return super().evaluate(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        self.check_loss()
        self._check_weights()
        if isinstance(self.loss_of_run.total, torch.Tensor):
            self.loss_of_run.total = reduce(self.loss_of_run.total, "mean")
        super().save_model(*args, **kwargs)


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """
    The latest checkpoint that was written to its end: `Trainer` writes its state last, so where that is whole, all is.
    A process that was killed while it saved leaves one without.
    """
    for checkpoint in reversed(checkpoints_in(output_dir)):
        with suppress(OSError, ValueError):
            if read_object(checkpoint / TRAINER_STATE_NAME):
                return str(checkpoint)
    return None


def train(trainer: RunTrainer) -> dict[str, float]:
    """
    Trains, from the last complete checkpoint if the arguments say `resume_from_checkpoint`, and saves the model.

    Returns:
        The figures of the training.

    Raises:
        FloatingPointError: a loss or a weight that is not finite; the last checkpoint is a good one.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; a checkpoint to resume from is saved.
        ValueError: another run is at work in the same folder, there is no whole batch and none else is wanted, or a
            checkpoint to resume from was saved without the optimizer's state.
    """
    args = trainer.args
    examples: Any = trainer.train_dataset
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and len(examples) < batch:
        raise ValueError(f"--dataloader_drop_last True leaves none of {len(examples)} examples: a batch is {batch}")
    resume: Any = args.resume_from_checkpoint
    if resume is True:
        resume = last_complete_checkpoint(args.output_dir)
        if resume is None and args.process_index == 0:
            logger.warning("no checkpoint to resume from in %s: training begins anew", args.output_dir)
    if resume and not trainer.is_deepspeed_enabled and not Path(resume, "scheduler.pt").is_file():
        raise ValueError(
            f"{resume} holds a model alone (--save_only_model True), and no run can go on without its optimizer's "
            "state: begin anew, or from it as --model"
        )
    done = TrainerState.load_from_json(str(Path(resume, TRAINER_STATE_NAME))).global_step if resume else 0
    os.makedirs(args.output_dir, exist_ok=True)
    if args.device.type == "cpu":
        reuse_freed_memory()
    with only_run(args.output_dir) if args.process_index == 0 else nullcontext(), StopOnSignal() as stop:
        trainer.add_callback(stop)
        try:
            trained = trainer.train(resume_from_checkpoint=resume or None)
        except RuntimeError as error:
            if resume and "size mismatch" in str(error):
                raise ValueError(
                    f"{resume} is of another model's sizes: resume with what the run began with"
                ) from None
            raise
        finally:
            trainer.remove_callback(stop)
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, ProgressCallback) and callback.training_bar is not None:
                    callback.training_bar.close()  # so that an error has a line of its own
    trainer.model.config.use_cache = args.use_cache  # which Trainer may have switched off for the training
    if resume and trainer.state.global_step == done and args.process_index == 0:
        logger.warning("%s has all of the run's %d steps: nothing was trained", resume, done)
    if stop.interrupted:
        raise KeyboardInterrupt(f"saved to {args.output_dir}; go on with --resume_from_checkpoint True")
    trainer.save_model(_internal_call=True)  # without a push: the results are to come
    trainer.save_state()
    return trained.metrics


def save_results(trainer: RunTrainer, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Writes each split's figures, together in `all_results.json`, and returns them as one dictionary."""
    for split, figures in results.items():
        if trainer.args.verbose:
            trainer.log_metrics(split, figures)
        trainer.save_metrics(split, figures)
    return {name: value for figures in results.values() for name, value in figures.items()}


def save_facts(trainer: RunTrainer, **facts: Any) -> None:
    """Leaves what a model card tells of the run and its other files do not; what the card itself left there stays."""
    if trainer.is_world_process_zero():
        path = Path(trainer.args.output_dir, FACTS)
        write_object(path, read_object(path) | facts)
