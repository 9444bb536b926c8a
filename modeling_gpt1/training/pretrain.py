"""
Generative pre-training with the paper's settings (section 4.1), on transformers' Trainer.

```bash
gpt1 pretrain --corpus books/ --validation_corpus held-out/ --config micro --output_dir runs/micro
torchrun --nproc_per_node 8 -m modeling_gpt1 pretrain --config gpt1 --per_device_train_batch_size 8 --bf16 True ...
```
"""

import logging
import math
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather
from torch.distributed.tensor import DTensor, distribute_tensor
from tqdm.auto import tqdm
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from tokenization import GPT1Tokenizer
from tokenization.table_files import TableArguments

from ..configuration_gpt1 import NAMED_CONFIGURATIONS, SPECIAL_IDS, GPT1Config
from ..flags import check_flags, checkpoint, lasting_name
from ..loading import (
    align,
    load_checkpoint_tokenizer,
    load_config,
    load_with_tokenizer,
    new_config,
)
from ..modeling_gpt1 import GPT1ForCausalLM, GPT1ForMaskedLM
from .books import BookWindows, encode_books, in_both
from .comparison import PAIR_LENGTH, Comparison, PairMaker, rarity
from .data import unknown_share
from .optimization import MuonTrainer
from .report import figures_table, model_line
from .run import RunArguments, RunTrainer, save_facts, save_results, set_aside, train


logger = logging.getLogger(__name__)

PAPER_PERPLEXITY = 18.4  # section 4.1
PAPER = (
    f"The paper's perplexity, {PAPER_PERPLEXITY} per token, is that of 117 million parameters on BooksCorpus: it "
    "compares with no other corpus, nor with other tokens."
)
# What the named configurations change in the arguments below: settings for a model that a GPU trains in minutes, and
# for one that 2 cores train in hours, on a few books in minutes.
RECIPES: dict[str, dict[str, Any]] = {
    "mini": {
        "dropout": 0.0,
        "learning_rate": 2e-3,
        "adam_beta2": 0.98,
        "weight_decay": 0.1,
        "muon": True,
        "warmup_steps": 0.06,
        "num_train_epochs": 2,
        "eval_steps": 0.1,
        "save_steps": 0.05,
    },
    "micro": {
        "learning_rate": 1.5e-3,
        "adam_beta2": 0.98,
        "muon": True,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "eval_steps": 0.1,
        "save_steps": 0.05,
    },
}
DEFAULT = "micro"


@dataclass
class CorpusArguments(TableArguments):
    """Pre-train a language model on texts, from scratch or from a checkpoint."""

    corpus: list[str] = field(
        metadata={
            "help": "Text files, folders, JSON lines, CSV or Parquet files, or data sets of the Hub, to learn from."
        }
    )
    validation_corpus: list[str] | None = field(
        default=None,
        metadata={
            "help": "Books to measure perplexity on; such as are in --corpus too are warned of. Of a data set of the "
            "Hub that has it, the split validation."
        },
    )
    model: str | None = field(
        default=None,
        metadata={
            "help": "A language model to go on from, a directory, a Hub id or gpt1-mini, with its tokenizer; in place "
            "of fresh weights for --config, with the settings of micro."
        },
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "A directory or Hub id of a tokenizer; the packaged one if not given."}
    )
    config: str | None = field(
        default=None,
        metadata={
            "help": f"A named configuration ({', '.join(NAMED_CONFIGURATIONS)}) or a JSON file of one. (default: "
            "micro)"
        },
    )
    objective: Literal["clm", "mlm"] = field(
        default="clm", metadata={"help": "clm, the paper's: predict the next token. mlm: find the masked ones."}
    )
    dropout: float | None = field(
        default=None,
        metadata={
            "help": "Dropout while pre-training, in place of the configuration's, which the saved model keeps for its "
            "fine-tuning: 0 learns more from text that is seen only once."
        },
    )
    repeats: float = field(
        default=0.0,
        metadata={"help": "Share of the windows in which a span is said again: teaches a small model to look back."},
    )
    pairs: int = field(
        default=0,
        metadata={
            "help": "Pairs of texts that are made of each window's tokens, to compare: teaches a small model to do so."
        },
    )
    text_column: str = field(default="text", metadata={"help": "The column of tables and data sets."})
    encoding_errors: Literal["strict", "replace"] = field(
        default="strict",
        metadata={"help": "What to do about bytes that are not of a text's encoding: stop, or replace."},
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "Where the encoded corpus is kept; the cache of `datasets` if not given."}
    )
    prompt: str = field(default="It was", metadata={"help": "Continued at each evaluation, into the log."})

    def __post_init__(self) -> None:
        super().__post_init__()
        right_pairs = self.pairs >= 0 if self.objective == "clm" else self.pairs == 0
        check_flags(
            self,
            repeats=(0 <= self.repeats <= 1, "from 0 to 1"),
            pairs=(right_pairs, "at least 0, and 0 for --objective mlm"),
        )
        if self.model is None:
            self.config = self.config or DEFAULT
        elif self.config is not None:
            raise ValueError("--model goes on from a checkpoint, --config starts from scratch: give one of them")
        else:
            self.model = checkpoint(self.model)
        self.tokenizer = self.tokenizer and checkpoint(self.tokenizer)


@dataclass
class PretrainingArguments(RunArguments):
    """
    [`TrainingArguments`] with the paper's pre-training settings as defaults. They differ from transformers' in:
    learning rate 2.5e-4, reached linearly over 2,000 updates and brought to 0 by a cosine, 100 epochs, batches of 64
    windows (all devices together, in the paper), weight decay 0.01. Windows are shuffled by the data set itself.
    """

    learning_rate: float = field(default=2.5e-4, metadata={"help": "The highest learning rate."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate comes down."})
    warmup_steps: float = field(default=2000, metadata={"help": "Steps of warm-up; below 1, a part of all steps."})
    num_train_epochs: float = field(default=100, metadata={"help": "Passes over the corpus."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Windows per step and device."})
    per_device_eval_batch_size: int = field(default=8, metadata={"help": "Windows per evaluation step and device."})
    weight_decay: float = field(default=0.01, metadata={"help": "On all parameters but biases and gains."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to evaluate: no, steps or epoch."})
    eval_steps: float | None = field(default=0.01, metadata={"help": "Steps; below 1, a part of all steps."})
    save_steps: float = field(default=0.01, metadata={"help": "Steps; below 1, a part of all steps."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    logging_steps: float = field(
        default=0.01, metadata={"help": "Log the training loss every so many steps; below 1, a part of all steps."}
    )
    train_sampling_strategy: str = field(
        default="sequential", metadata={"help": "sequential: in the order of the data set, which is a random one."}
    )
    prediction_loss_only: bool = field(default=True, metadata={"help": "Whether an evaluation takes the loss alone."})

    def __post_init__(self) -> None:
        once, anew = "sequential: it is shuffled already", "False: each epoch has windows of its own"
        check_flags(
            self,
            train_sampling_strategy=(self.train_sampling_strategy == "sequential", once),
            dataloader_persistent_workers=(not self.dataloader_persistent_workers, anew),
        )
        super().__post_init__()


def pretrain(corpus_args: CorpusArguments, training_args: PretrainingArguments) -> dict[str, float]:
    """
    Trains a model, from scratch or from a checkpoint, and writes it, its tokenizer, `all_results.json` and, for a
    model card, `card.json` to `output_dir`.

    Returns:
        `dict[str, float]`: the figures of training and evaluation, as in `all_results.json`: `eval_loss`, the mean
        over the windows of the held-out books; `eval_perplexity`, its exponential; `eval_word_perplexity`, the same
        per word between blanks, which has several tokens.

    Raises:
        OSError, ValueError: a corpus, a tokenizer or a configuration that are not as they have to be.
        FloatingPointError: a loss or a weight that is not finite; the last checkpoint is a good one.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; a checkpoint to resume from is saved.
    """
    training_args.check_output_dir()
    if corpus_args.pairs and training_args.label_smoothing_factor:
        raise ValueError(
            "--pairs adds to the model's own loss, which --label_smoothing_factor replaces: give one of them"
        )
    if not corpus_args.validation_corpus:
        training_args.do_without_evaluation()
    set_seed(training_args.seed)
    tokenizer = load_tokenizer(corpus_args)
    config = load_configuration(corpus_args, tokenizer)
    length = config.max_position_embeddings
    if corpus_args.objective == "clm" and not 0 < len(tokenizer(corpus_args.prompt)["input_ids"]) < length:
        raise ValueError(f"--prompt must be a text of fewer than {length} tokens, got {corpus_args.prompt[:60]!r}")
    training_args.remove_unused_columns = False  # pairs are not the model's own arguments
    model = load_model(corpus_args, config, tokenizer)  # a damaged one is refused before hours of encoding
    with training_args.main_process_first(desc="encoding the corpus"):
        encoded = partial(
            encode_books,
            tokenizer=tokenizer,
            text_column=corpus_args.text_column,
            encoding_errors=corpus_args.encoding_errors,
            cache_dir=corpus_args.cache_dir,
            tables=corpus_args,
        )
        books = encoded(corpus_args.corpus)
        held_out = None
        if corpus_args.validation_corpus:
            held_out = encoded(corpus_args.validation_corpus, split="validation")
    make_pairs = None
    if corpus_args.pairs:
        assert isinstance(model, GPT1ForCausalLM)
        Comparison(config.hidden_size).attach(model)
        maker = PairMaker(config, min(PAIR_LENGTH, length), rarity(books, config.vocab_size))
        make_pairs = partial(maker, corpus_args.pairs)
    order = training_args.seed_of_order
    windows = BookWindows(books, length, seed=order, repeats=corpus_args.repeats, make_pairs=make_pairs)
    measured = None if held_out is None else BookWindows(held_out, length)
    if held_out is not None and (seen := in_both(books, held_out)):
        books_of = ", ".join(seen[:3]) + f" and {len(seen) - 3:,} more" * (len(seen) > 3)
        logger.warning("held out and trained on alike, so that perplexity says little: %s", books_of)

    callbacks: list[TrainerCallback] = [LeaveComparison() if corpus_args.pairs else FreshSpecialTokens()]
    if corpus_args.objective == "clm":
        callbacks.append(Sample(corpus_args.prompt))
    trainer = PretrainingTrainer(
        model=model,
        args=training_args,
        data_collator=WindowCollator(tokenizer, mlm=corpus_args.objective == "mlm"),
        train_dataset=windows,
        eval_dataset=measured,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    read: dict[str, Any] = {"train_tokens": int(windows.tokens.sum()), "train_books": len(books)}
    read["train_unk_share"] = unknown_share(books, tokenizer, "the corpus")
    if trainer.is_world_process_zero():
        print(f"pre-training: {model_line(corpus_args.model, corpus_args.config, model.num_parameters())}")
        print(f"learns from {read['train_tokens']:,} tokens (books: {len(books):,}), in windows of {length}")
        if measured is not None and held_out is not None:
            print(f"measured on {measured.tokens.sum():,} tokens (books: {len(held_out):,})")
    results = {"train": train(trainer) | read}
    if measured is not None and held_out is not None:
        results["eval"] = trainer.evaluate() | {"eval_tokens": int(measured.tokens.sum())}
        results["eval"]["eval_unk_share"] = unknown_share(held_out, tokenizer, "the validation corpus")
        trainer.save_state()  # with the evaluation of what is saved
    figures = save_results(trainer, results)
    if trainer.is_world_process_zero():
        print(*filter(None, (figures_table(results), held_out is not None and PAPER)), sep="\n")
    samples = [entry["sample"] for entry in trainer.state.log_history if "sample" in entry]
    save_facts(
        trainer,
        corpus=f"{len(books):,} books, {sum(books['words']):,} words",
        settings=settings(corpus_args, training_args, trainer, length),
        base_model=lasting_name(corpus_args.model),
        sample=samples[-1] if samples else None,
        paper=("perplexity", PAPER_PERPLEXITY),
    )
    return figures


def load_tokenizer(args: CorpusArguments) -> GPT1Tokenizer:
    """The tokenizer that `args` name, which adds no special tokens; for a masked LM, with a token for the mask."""
    if args.model is not None:
        tokenizer = load_checkpoint_tokenizer(args.tokenizer or args.model, load_config(args.model))
    elif args.tokenizer is not None:
        tokenizer = GPT1Tokenizer.from_pretrained(args.tokenizer)
    else:
        tokenizer = GPT1Tokenizer()
    tokenizer.task_format = False
    if args.objective == "mlm" and tokenizer.mask_token is None:
        tokenizer.add_special_tokens({"mask_token": "<mask>"})
    return tokenizer


def load_configuration(args: CorpusArguments, tokenizer: GPT1Tokenizer) -> GPT1Config:
    """
    The checkpoint's configuration, or the one that `--config` names, with the tokenizer's special tokens.

    Raises:
        OSError, ValueError: neither.
    """
    if args.model is None:
        assert args.config is not None  # the one or the other is given
        return new_config(args.config, tokenizer)
    config = load_config(args.model)
    align(config, tokenizer)
    return config


def load_model(args: CorpusArguments, config: GPT1Config, tokenizer: GPT1Tokenizer) -> PreTrainedModel:
    """The model to train; `args.dropout` holds for this training, not for the configuration that is saved."""
    names = ("hidden_dropout", "embedding_dropout", "attention_dropout")
    kept = {name: getattr(config, name) for name in names}
    if args.dropout is not None:
        for name in names:
            setattr(config, name, args.dropout)
        config.validate()
    model_class = GPT1ForCausalLM if args.objective == "clm" else GPT1ForMaskedLM
    model: PreTrainedModel
    if args.model is None:
        model = model_class(config)
    else:
        model = load_with_tokenizer(model_class, args.model, config, tokenizer)
    for name, value in kept.items():
        setattr(model.config, name, value)
    return model


class WindowCollator(DataCollatorForLanguageModeling):
    """
    transformers' collator, without its work where there is none: windows of one length need no padding, nor a mask,
    to look at which would stop a GPU's queue of kernels. What a masked LM has to find depends on the batch's tokens
    alone, so that a resumed run and each evaluation have the same to find.
    """

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        columns = {name: [example[name] for example in examples] for name in examples[0]}
        windows = columns.pop("input_ids")
        pairs = {name: torch.from_numpy(np.concatenate(arrays)) for name, arrays in columns.items()}
        if self.mlm:
            self.generator = torch.Generator().manual_seed(zlib.crc32(np.concatenate(windows).tobytes()))
        if self.mlm or len({len(window) for window in windows}) > 1:
            return super().torch_call([{"input_ids": window} for window in windows]) | pairs
        ids = torch.from_numpy(np.stack(windows))
        return {"input_ids": ids, "labels": ids.clone(), **pairs}


class PretrainingTrainer(MuonTrainer):
    """
    `Trainer` that never holds all logits, and logs the tokens that it has read and, beside the loss of an evaluation,
    perplexities. Trainer's own count (`include_num_input_tokens_seen`) waits for the device at every step.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._new_tokens = torch.zeros(1, dtype=torch.int64, device=self.args.device)  # since the last count

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if model.training and self.args.include_num_input_tokens_seen == "no":  # else Trainer counts them itself
            mask = inputs.get("attention_mask")
            self._new_tokens += inputs["input_ids"].numel() if mask is None else mask.sum()
        loss = super().compute_loss(model, {**inputs, "skip_logits": True}, *args, **kwargs)
        comparison = getattr(self.model, "comparison", None)
        if model.training and comparison is not None:
            self.note({"comparison_loss": comparison.loss})
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with set_aside(self, "label_smoother", None):  # a perplexity is of the tokens as they are
            return super().evaluate(*args, **kwargs)

    def count_tokens(self) -> int:
        """How many tokens the run has read, on all devices, padding not counted."""
        self.state.num_input_tokens_seen += int(gather(self._new_tokens).sum())
        self._new_tokens.zero_()
        return self.state.num_input_tokens_seen

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "eval_loss" in logs:
            assert isinstance(self.eval_dataset, BookWindows)
            logs["eval_perplexity"] = perplexity(logs["eval_loss"])
            logs["eval_word_perplexity"] = perplexity(logs["eval_loss"] * self.eval_dataset.tokens_per_word)
        logs["num_input_tokens_seen"] = self.count_tokens()
        super().log(logs, *args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        self.count_tokens()  # a checkpoint's state goes on from it
        super().save_model(*args, **kwargs)


def perplexity(loss: float) -> float:
    """The exponential of a mean loss; infinite where that is beyond a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class FreshSpecialTokens(TrainerCallback):
    """
    Gives the special tokens new embeddings at the end, N(0, initializer_range), from which fine-tuning starts (paper,
    section 3.1). Pre-training never reads them, but drives them ever further off as tokens that never come.
    """

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        config, weight = model.config, model.get_input_embeddings().weight
        ids = [getattr(config, name) for name in SPECIAL_IDS]
        random = torch.Generator().manual_seed(args.seed)
        fresh = torch.normal(0.0, config.initializer_range, (len(ids), config.hidden_size), generator=random)
        with torch.no_grad():
            sharded = isinstance(weight, DTensor)
            whole = weight.full_tensor() if sharded else weight
            whole[ids] = fresh.to(whole)
            if sharded:
                weight.copy_(distribute_tensor(whole, weight.device_mesh, weight.placements))


class LeaveComparison(TrainerCallback):
    """Takes from the model what read its states for `--pairs`, before it is saved as what it is."""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kwargs["model"].comparison.detach(kwargs["model"])


class Sample(TrainerCallback):
    """Continues a prompt at each evaluation, into the log; the random numbers of the training stay as they were."""

    MAX_NEW_TOKENS = 60

    def __init__(self, prompt: str):
        self.prompt = prompt

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        model, processing_class = kwargs["model"], kwargs["processing_class"]
        inputs = processing_class(self.prompt, return_tensors="pt").to(model.device)
        room = model.config.max_position_embeddings - inputs["input_ids"].shape[1]
        with torch.random.fork_rng():
            torch.manual_seed(args.seed)
            ids = model.generate(**inputs, max_new_tokens=min(self.MAX_NEW_TOKENS, room), do_sample=True)[0]
        text = processing_class.decode(ids).strip()
        state.log_history.append({"sample": text, "step": state.global_step, "epoch": state.epoch})
        if state.is_world_process_zero:
            tqdm.write(f"step {state.global_step}: {text}")


def settings(
    corpus_args: CorpusArguments, training_args: PretrainingArguments, trainer: RunTrainer, length: int
) -> dict[str, Any]:
    """What a reader of the card wants to know of the run."""
    shared = training_args.card_settings()
    config = trainer.model.config
    return {
        "objective": {"clm": "next token", "mlm": "masked tokens"}[corpus_args.objective],
        "updates": trainer.state.global_step,
        "epochs": f"{trainer.state.epoch:.4g}",
        **shared,
        "batch size": f"{shared['batch size']} windows of {length} tokens",
        **{name: getattr(corpus_args, name) for name in ("repeats", "pairs") if getattr(corpus_args, name)},
        "warm-up": f"{training_args.get_warmup_steps(trainer.state.max_steps)} updates",
        "dropout": config.hidden_dropout if corpus_args.dropout is None else corpus_args.dropout,
        "precision": "bfloat16 autocast"
        if training_args.bf16
        else "float16 autocast"
        if training_args.fp16
        else "float32",
    }
