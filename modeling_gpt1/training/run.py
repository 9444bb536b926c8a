"""What every training run shares: where it writes, how it stops and goes on, and what it leaves."""

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from . import FACTS


@dataclass
class RunArguments(TrainingArguments):
    """[`TrainingArguments`] that need an `output_dir`, know Muon, and need no flag where there is no accelerator."""

    output_dir: str = field(kw_only=True, metadata={"help": "Where the model and its results are written."})
    muon: bool = field(
        default=False,
        kw_only=True,
        metadata={"help": "Take Muon's steps for the layers' matrices, AdamW's for the rest: fewer tokens to a loss."},
    )

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True  # mixed precision then needs no second flag
            self.dataloader_pin_memory = False
        super().__post_init__()
        if self.muon and self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(f"muon comes with AdamW; for optim {self.optim.value} give --muon False")
        if self.hub_token is not None:  # Trainer pickles its arguments into every checkpoint, and publishes them
            os.environ["HF_TOKEN"], self.hub_token = self.hub_token, None

    def check_output_dir(self) -> None:
        """Raises `ValueError` if `output_dir` is a file, or holds a run that is not to be resumed."""
        output_dir = Path(self.output_dir)
        if output_dir.exists() and not output_dir.is_dir():
            raise ValueError(f"output_dir {output_dir} is a file")
        if output_dir.is_dir() and any(output_dir.iterdir()) and not self.resume_from_checkpoint:
            raise ValueError(
                f"output_dir {output_dir} holds another run; choose another one, or --resume_from_checkpoint True"
            )

    def card_settings(self) -> dict[str, Any]:
        """What a reader of the card wants to know of any run; the batch size is that of all devices together."""
        return {
            "batch size": self.train_batch_size * self.gradient_accumulation_steps * self.world_size,
            "optimizer": "Muon for the layers' matrices, AdamW for the rest" if self.muon else self.optim.value,
            "learning rate": f"{self.learning_rate:g}, {self.lr_scheduler_type.value} decay",
            "weight decay": self.weight_decay,
            "seed": self.seed,
        }


class StopOnInterrupt(TrainerCallback):
    """
    On SIGINT, `Trainer` finishes the step it is in, saves a checkpoint and stops; a second SIGINT stops at once.

    Attributes:
        interrupted (`bool`): whether that happened.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def _handle(self, signum: int, frame: Any) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self._previous)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._previous = signal.signal(signal.SIGINT, self._handle)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        if self.interrupted:
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        signal.signal(signal.SIGINT, self._previous)


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """
    The latest checkpoint that was written to its end: `Trainer` writes its state last, so where that is whole, all is.
    A process that was killed while it saved leaves one without.
    """
    checkpoints = [path for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name[-1].isdigit()]
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(checkpoint)
    return None


def train(trainer: Trainer) -> dict[str, float]:
    """
    Trains, from the last complete checkpoint if the arguments say `resume_from_checkpoint`, and saves the model.

    Returns:
        The figures of the training.

    Raises:
        KeyboardInterrupt: stopped by SIGINT; a checkpoint to resume from is saved.
    """
    args = trainer.args
    interrupt = StopOnInterrupt()
    trainer.add_callback(interrupt)
    resume = args.resume_from_checkpoint
    if str(resume).lower() == "true":
        resume = last_complete_checkpoint(args.output_dir)
    trained = trainer.train(resume_from_checkpoint=resume or None)
    if interrupt.interrupted:
        raise KeyboardInterrupt(f"saved to {args.output_dir}; go on with --resume_from_checkpoint True")
    trainer.save_model(_internal_call=True)  # without a push: the results are to come
    trainer.save_state()
    return trained.metrics


def save_results(trainer: Trainer, results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Logs and writes each split's figures, together in `all_results.json`, and returns them as one dictionary."""
    for split, figures in results.items():
        trainer.log_metrics(split, figures)
        trainer.save_metrics(split, figures)
    return {name: value for figures in results.values() for name, value in figures.items()}


def save_facts(trainer: Trainer, **facts: Any) -> None:
    """Leaves what a model card tells of the run and its other files do not; what the card itself left there stays."""
    if trainer.is_world_process_zero():
        path = Path(trainer.args.output_dir, FACTS)
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps(known | facts, indent=2) + "\n", encoding="utf-8")
