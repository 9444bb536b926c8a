"""Using a trained model on texts: labels and probabilities from a task head, text from a language model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import (
    DataCollatorForMultipleChoice,
    DataCollatorWithPadding,
    TextGenerationPipeline,
    set_seed,
)

from tokenization.table_files import JsonTable, TableArguments, kind_of, write_table
from tokenization.write_aside import new_file

from .flags import GPT1_MINI, check_flags, check_output_file, checkpoint
from .json_files import read_object
from .loading import load_checkpoint
from .modeling_gpt1 import (
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMultipleChoice,
    GPT1ForSimilarity,
    GPT1TaskModel,
)
from .processor import InferenceDtype, device_for, optimize_for_inference
from .scoring import batches_of_like_length
from .training import FACTS, updates_of
from .training.data import Columns, Split, complete_rows, encode, find_columns, read_file, unknown_share
from .training.labels import class_names
from .training.tasks import TASKS, TaskName


@dataclass
class PredictArguments(TableArguments):
    """Label texts with a fine-tuned model."""

    model: str = field(metadata={"help": "A fine-tuned checkpoint: a directory or a Hub id."})
    text: str | None = field(default=None, metadata={"help": "One text."})
    text_pair: str | None = field(default=None, metadata={"help": "The second text of a pair."})
    input_file: str | None = field(
        default=None, metadata={"help": "CSV, TSV, JSON lines or Parquet, in place of --text."}
    )
    output_file: str | None = field(
        default=None,
        metadata={
            "help": "Where each row of --input_file is written with its label and probabilities: a CSV, TSV, JSON "
            "lines or Parquet file, as its name ends; JSON lines if it has no ending."
        },
    )
    task: TaskName | None = field(
        default=None,
        metadata={
            "help": "One of the paper's tasks, cola to rocstories, to predict the official test sets in --data_dir."
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "A folder with the task's official files."})
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where the predictions of --task are written, in the form that its benchmark takes; those of "
            "GLUE's tasks also as submission.zip."
        },
    )
    text_columns: list[str] | None = field(default=None, metadata={"help": "The column of the text, or of the pair."})
    choice_columns: list[str] | None = field(
        default=None,
        metadata={"help": "The column that lists a multiple choice's answers, or one column per answer."},
    )
    batch_size: int = field(default=32, metadata={"help": "Texts at a time."})
    dtype: InferenceDtype = field(
        default="auto",
        metadata={
            "help": "Of the weights: auto, the fastest with the same results; bfloat16, faster where the processor "
            "has it, with probabilities of two digits; int8, for the CPU."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model = checkpoint(self.model)
        check_flags(self, batch_size=(self.batch_size >= 1, "at least 1"))


@dataclass
class GenerateArguments:
    """Continue a text."""

    SAMPLING: ClassVar = ("temperature", "top_k", "top_p")

    prompt: str = field(metadata={"help": "The text to continue."})
    model: str = field(
        default=GPT1_MINI,
        metadata={
            "help": "A language model, gpt1 or openai-gpt: a directory, a Hub id or gpt1-mini, the packaged one and "
            "the default."
        },
    )
    max_new_tokens: int = field(default=40, metadata={"help": "Tokens to add at most."})
    do_sample: bool = field(default=False, metadata={"help": "Sample, rather than take the likeliest token."})
    temperature: float = field(default=1.0, metadata={"help": "Of the sampling: below 1 safer, above 1 wilder."})
    top_k: int = field(default=50, metadata={"help": "Sample among the likeliest k tokens; 0 for all."})
    top_p: float = field(
        default=1.0, metadata={"help": "Sample among the likeliest tokens of this total probability."}
    )
    num_beams: int = field(default=1, metadata={"help": "Beams of a beam search."})
    num_return_sequences: int = field(default=1, metadata={"help": "How many continuations."})
    repetition_penalty: float = field(default=1.0, metadata={"help": "Above 1, what was said is less likely."})
    seed: int = field(default=42, metadata={"help": "Of the sampling."})
    window_keep: float = field(
        default=0.5, metadata={"help": "The part of the model's positions kept when a longer text has filled them."}
    )
    dtype: InferenceDtype = field(
        default="auto",
        metadata={
            "help": "Of the weights: auto, the fastest with the same results; bfloat16, faster where the processor "
            "has it; int8, for the CPU, faster still."
        },
    )

    def __post_init__(self) -> None:
        self.model = checkpoint(self.model)
        check_flags(
            self,
            max_new_tokens=(self.max_new_tokens >= 1, "at least 1"),
            temperature=(self.temperature > 0, "above 0"),
            top_k=(self.top_k >= 0, "at least 0"),
            top_p=(0 < self.top_p <= 1, "above 0 and at most 1"),
            num_beams=(self.num_beams >= 1, "at least 1"),
            num_return_sequences=(self.num_return_sequences >= 1, "at least 1"),
            repetition_penalty=(self.repetition_penalty > 0, "above 0"),
        )
        for name in self.SAMPLING:
            if not self.do_sample and getattr(self, name) != getattr(GenerateArguments, name):
                raise ValueError(f"--{name} is of the sampling: give --do_sample True as well")


class Predictor:
    """
    A fine-tuned model with its tokenizer, ready to label texts.

    Args:
        path (`str`): a fine-tuned checkpoint, a directory or a Hub id.
        batch_size (`int`): texts at a time.
        dtype (`str`): of the weights, as in [`optimize_for_inference`].

    Raises:
        OSError, ValueError: no checkpoint there, an incomplete one, or one without a task head.
    """

    def __init__(self, path: str, batch_size: int = 32, dtype: InferenceDtype = "auto"):
        model, self.tokenizer = load_checkpoint(path)
        run = Path(path) if updates_of(path) is None else Path(path).parent  # a checkpoint's own folder tells nothing
        self.trained_columns: dict[str, list[str] | None] = read_object(run / FACTS).get("columns", {})
        if not isinstance(model, GPT1TaskModel):
            raise ValueError(f"{path} holds {type(model).__name__}, which has no task head: fine-tune it first")
        self.model = optimize_for_inference(model.to(device_for(dtype)), dtype)
        self.config = config = model.config
        self.batch_size = batch_size
        self.multiple_choice = isinstance(model, GPT1ForMultipleChoice)
        named = self.trained_columns.get("text_columns") or ["text"]
        pair = isinstance(model, (GPT1ForEntailment, GPT1ForSimilarity))
        # How many texts a row has; None where that is open, or not known
        self.texts = 2 if pair else None if self.multiple_choice or not self.trained_columns else len(named)
        self.regression = config.problem_type == "regression" or (config.num_labels == 1 and not self.multiple_choice)
        self.collator = (DataCollatorForMultipleChoice if self.multiple_choice else DataCollatorWithPadding)(
            self.tokenizer
        )

    def __call__(
        self,
        rows: Dataset,
        text_columns: list[str] | None = None,
        choice_columns: list[str] | None = None,
        name: str = "the data",
    ) -> list[dict[str, Any]]:
        """
        One dictionary per row: `label` and `probabilities` by label; for a multiple choice `label`, its number from 0,
        and `probabilities` in order; for a regression `score`.

        Raises:
            FloatingPointError: an answer that is not a finite number.
            ValueError: columns that are not there, or a row without a text.
        """
        split = Split.of(rows, name)
        columns = self.find_columns(split, text_columns, choice_columns)
        return self.label(complete_rows(split, columns), columns)

    def find_columns(
        self, split: Split, text_columns: list[str] | None = None, choice_columns: list[str] | None = None
    ) -> Columns:
        """
        The columns of the text and the choices: if they are not named those that a training here was told of, or else
        those of any task of this head. Raises `ValueError` if they are not there.
        """
        text_columns = text_columns or self.trained_columns.get("text_columns")
        choice_columns = choice_columns or self.trained_columns.get("choice_columns")
        *others, task = (task for task in TASKS.values() if task.head is type(self.model))  # the generic one is last
        task = replace(
            task,
            text_columns=tuple(dict.fromkeys(chain(task.text_columns, *(each.text_columns for each in others)))),
            choice_columns=tuple(dict.fromkeys(chain(task.choice_columns, *(each.choice_columns for each in others)))),
        )
        columns = find_columns(task, split, text_columns, None, choice_columns, needs_label=False)
        if self.texts not in (None, len(columns.text)):
            wanted = "two columns" if self.texts == 2 else "one column"
            raise ValueError(f"--text_columns takes {wanted}, as in the training, got {len(columns.text)}")
        return columns

    def label(self, split: Split, columns: Columns) -> list[dict[str, Any]]:
        """What a call gives, of complete rows."""
        max_length = min(self.tokenizer.model_max_length, self.config.max_position_embeddings)
        encoded = encode(split, columns, self.tokenizer, max_length)
        unknown_share(encoded, self.tokenizer, split.name)
        batches = batches_of_like_length(encoded["length"][:], self.batch_size)
        encoded = encoded.remove_columns("length")
        if self.multiple_choice:  # whose collator wants some
            encoded = encoded.add_column("labels", [0] * len(encoded))
        loader = DataLoader(encoded, batch_sampler=batches, collate_fn=self.collator)
        results: list[dict[str, Any]] = [{} for _ in range(len(split))]
        progress = tqdm(loader, desc="Predicting", disable=len(split) < 2)
        for indices, batch in zip(batches, progress, strict=True):
            with torch.inference_mode():
                logits = self.model(**{key: tensor.to(self.model.device) for key, tensor in batch.items()}).logits
            finite = logits.isfinite().flatten(1).all(1).tolist()
            if not all(finite):
                place = split.place(indices[finite.index(False)])
                raise FloatingPointError(f"the model's answer to {place} is not finite")
            for index, result in zip(indices, self._results(logits.float().cpu()), strict=True):
                results[index] = result
        return results

    def _results(self, logits: torch.Tensor) -> Iterator[dict[str, Any]]:
        if self.regression:
            yield from ({"score": score} for score in logits.squeeze(-1).tolist())
            return
        several = self.config.problem_type == "multi_label_classification"
        names = class_names(self.config)
        for row in (logits.sigmoid() if several else logits.softmax(-1)).tolist():
            best = max(range(len(row)), key=row.__getitem__)
            if self.multiple_choice:
                yield {"label": best, "probabilities": row}
            else:
                label = [n for n, p in zip(names, row, strict=True) if p > 0.5] if several else names[best]
                yield {"label": label, "probabilities": dict(zip(names, row, strict=True))}


def predict(args: PredictArguments) -> list[dict[str, Any]]:
    """
    Labels the one text, or every row of `input_file` into `output_file`.

    Raises:
        OSError, ValueError: files, columns or a model that are not as they have to be; nothing is written.
    """
    if (args.text is None) == (args.input_file is None):
        raise ValueError("give either --text or --input_file")
    if (args.input_file is None) != (args.output_file is None):
        raise ValueError("--input_file and --output_file go together")
    if args.text_pair is not None and args.text is None:
        raise ValueError("--text_pair is the second text of a pair: give --text as well")
    if args.data_dir is not None or args.output_dir is not None:
        raise ValueError("--data_dir and --output_dir go with --task")
    if args.text is not None and (args.text_columns or args.choice_columns):
        raise ValueError("--text_columns and --choice_columns are of --input_file, not of --text")
    if args.input_file is not None and args.output_file is not None:
        return _predict_file(args, args.input_file, args.output_file)
    predictor = Predictor(args.model, args.batch_size, args.dtype)
    if predictor.multiple_choice:
        raise ValueError("a multiple-choice model takes --input_file, with the answers of each row")
    if predictor.texts == 2 and args.text_pair is None:
        raise ValueError("this model takes a pair of texts: give --text_pair as well")
    if predictor.texts == 1 and args.text_pair is not None:
        raise ValueError("this model takes one text: it goes without --text_pair")
    pair = {} if args.text_pair is None else {"text_pair": [args.text_pair]}
    return predictor(Dataset.from_dict({"text": [args.text]} | pair), ["text", *pair])


def _predict_file(args: PredictArguments, input_file: str, output_file: str) -> list[dict[str, Any]]:
    check_output_file(output_file, input_file)
    with new_file(output_file) as file:
        nested = kind_of(output_file, JsonTable) is JsonTable
        split = read_file(input_file, args)
        predictor = Predictor(args.model, args.batch_size, args.dtype)
        columns = predictor.find_columns(split, args.text_columns, args.choice_columns)
        split = complete_rows(split, columns)
        split.bad_rows.report(split.name)
        results = predictor.label(split, columns)
        write_table(file, beside(split, results, nested))
    return results


def beside(split: Split, results: list[dict[str, Any]], nested: bool) -> dict[str, Sequence[Any]]:
    """
    The columns of a split with those of its results. An input column of the same name as one of these becomes
    `input_NAME`. Probabilities are one object a row, or a column `probability_LABEL` for each label if not `nested`.
    """
    added: dict[str, Sequence[Any]] = {name: [result[name] for result in results] for name in results[0]}
    if not nested and "probabilities" in added:
        rows = [p if isinstance(p, dict) else dict(enumerate(p)) for p in added.pop("probabilities")]
        added |= {f"probability_{name}": [row[name] for row in rows] for name in rows[0]}
    columns: dict[str, Sequence[Any]] = {}
    for name, values in split.columns.items():
        while name in added or name in columns:
            name = f"input_{name}"
        columns[name] = values
    return columns | added


def generate(args: GenerateArguments) -> list[str]:
    """
    The prompt with each continuation.

    Raises:
        OSError: no checkpoint at `model`.
        ValueError: an incomplete one, an empty prompt, or a part of a window that is none.
    """
    model, tokenizer = load_checkpoint(args.model, GPT1ForCausalLM)
    tokenizer.task_format = False
    if not tokenizer(args.prompt)["input_ids"]:
        raise ValueError("the prompt is empty")
    set_seed(args.seed)
    sampling = {name: getattr(args, name) for name in args.SAMPLING} if args.do_sample else {}
    model = optimize_for_inference(model.to(device_for(args.dtype)), args.dtype)
    outputs = TextGenerationPipeline(model=model, tokenizer=tokenizer, device=model.device)(
        args.prompt,
        max_new_tokens=args.max_new_tokens,
        do_sample=args.do_sample,
        num_beams=args.num_beams,
        num_return_sequences=args.num_return_sequences,
        repetition_penalty=args.repetition_penalty,
        window_keep=args.window_keep,
        **sampling,
    )
    return [output["generated_text"] for output in outputs]
