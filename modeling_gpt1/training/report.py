"""What a run shows a person: how far it is, and at its end the figures, the paper's beside them, and the files."""

import os
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.utils.tqdm import enable_progress_bars
from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments

from ..flags import GPT1_MINI
from ..loading import quietly
from .data import without_data_bars


# What is no news at every step
UNSAID = ("epoch", "grad_norm", "learning_rate", "runtime", "per_second", "total_flos", "input_tokens_seen")
LOSSES = ("loss", "perplexity", "word_perplexity")
# What of a run's files a person may want to open
FILES = {
    "model.safetensors": "the model",
    "model.safetensors.index.json": "the model, in several files",
    "README.md": "its card, for the Hub",
    "all_results.json": "all figures",
    "eval_report.json": "precision, recall and F1 of each class",
    "eval_confusion_matrix.png": "which class was taken for which",
    "loss.png": "the losses by step",
}


@contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Without the libraries' warnings and their bars of seconds, unless `verbose`; those of downloads stay."""
    if verbose:
        yield
        return
    with quietly(), warnings.catch_warnings(), without_data_bars(not sys.stderr.isatty()):
        enable_progress_bars()  # the Hub's, which go with transformers'
        warnings.simplefilter("ignore")
        yield


class Progress(ProgressCallback):
    """
    A bar that tells the last loss, and a line for each evaluation; where standard error is no terminal, a line for
    each entry of the log and no bar.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.has_bar = sys.stderr.isatty() and not args.disable_tqdm
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps, desc="training", dynamic_ncols=True, disable=not self.has_bar
            )
        self.current_step = state.global_step
        if self.training_bar is not None:
            self.training_bar.update(self.current_step)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        if sys.stderr.isatty() and not args.disable_tqdm:
            super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.training_bar is None or not logs or "train_loss" in logs:
            return
        said = {name: value for name, value in logs.items() if not name.endswith(UNSAID)}
        text = ", ".join(f"{name} {value:.4g}" for name, value in said.items() if isinstance(value, int | float))
        if self.has_bar and "loss" in logs:
            self.training_bar.set_postfix_str(text)
        elif text:
            tqdm.write(f"step {state.global_step} of {state.max_steps}, epoch {state.epoch or 0:.4g}: {text}")


def model_line(source: str | None, config: str | None, parameters: int) -> str:
    """Which model is trained: the checkpoint's name, or the configuration it starts from."""
    name = f"{config} from scratch" if source is None else "gpt1-mini" if source == GPT1_MINI else source
    return f"{name} ({parameters / 1e6:.1f} million parameters)"


def figures_table(results: dict[str, dict[str, Any]], metrics: Collection[str] = ()) -> str:
    """
    A table of figures, the paper's beside the run's; empty if there are none.

    Args:
        results: the figures of each split, `SPLIT_METRIC` and `SPLIT_METRIC_in_paper`; the training's are left out.
        metrics: those that are shown, in percent, before the losses.
    """
    shares = (*metrics, "accuracy_of_majority_class")
    lines = []
    for split, figures in results.items():
        for metric in (*shares, *LOSSES):
            value, published = (figures.get(f"{split}_{metric}{end}") for end in ("", "_in_paper"))
            if split != "train" and value is not None:
                shown = (
                    f"{100 * each:.1f} %" if metric in shares else f"{each:.4g}"
                    for each in (value, published)
                    if each is not None
                )
                lines.append((split.replace("eval", "validation", 1), metric.replace("_", " "), *shown))
    if not lines:
        return ""
    head = ("", "", "here", "paper") if any(len(line) > 3 for line in lines) else ("", "", "here")
    return "\n".join(
        f"{line[0]:<22}{line[1]:<28}" + "".join(f"{cell:>10}" for cell in line[2:]) for line in (head, *lines)
    )


def files_list(directory: str | os.PathLike) -> str:
    """Where a run's files are, and what they hold."""
    there = [f"  {name:<30}{about}" for name, about in FILES.items() if Path(directory, name).is_file()]
    return "\n".join([f"written to {directory}:", *there])
