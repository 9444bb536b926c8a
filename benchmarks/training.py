"""Training steps, forward and backward, beside the peers'.

    python benchmarks/training.py [--rows lm-256 choice ...] [--device cuda] [--batch N] [--dtype D] [--rounds N]

All models have the paper's size, random weights, dropout of 0.1 and the same vocabulary; a step is a forward pass
(`--dtype bfloat16`: under autocast) and a backward pass. The tasks have real data (`--data`, or $GPT1_DATA): MCTest
and SST-2.

| rows | ours | beside |
| --- | --- | --- |
| lm-256, lm-512 | language modeling, 4 x 256 and 8 x 512 tokens | transformers' `gpt2`, in memory too |
| choice | multiple choice of 4 with the auxiliary loss | the same head on flat rows; `openai-gpt`'s double heads |
| classification | 32 texts with the auxiliary loss | padded to 512, language-modeling logits everywhere (2018) |
| update | language modeling with a fused AdamW, 64 x 512 (`--batch`), also compiled; `mini` with Muon | `gpt2` |

`update` is for a GPU, and not run on a CPU unless asked for.
"""

import argparse
import copy
import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import DATA, alternate, comparison, memory_comparison, peak_memory, report
from transformers import GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig, OpenAIGPTDoubleHeadsModel

from modeling_gpt1 import (
    NAMED_CONFIGURATIONS,
    GPT1Config,
    GPT1ForCausalLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
)
from modeling_gpt1.processor import compute_dtype
from modeling_gpt1.training.optimization import MuonAndAdamW
from tokenization import GPT1Tokenizer


POSITIONS = 512
NAMES = {"bfloat16": "bf16 autocast", "float32": "fp32"}


def training_step(
    model: torch.nn.Module,
    device: str,
    dtype: str,
    loss_of: Callable[[torch.nn.Module], torch.Tensor],
    update: Callable[[], None] = lambda: None,
) -> Callable[[], None]:
    """A forward pass, under autocast if in bfloat16, a backward pass and an update: no gradients before or after."""

    def step() -> None:
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_of(model)
        loss.backward()
        update()
        model.zero_grad()

    return step


def language_modeling(
    batch: int, length: int, device: str, dtype: str, rounds: int, least: float, most: float | None = None
) -> list[dict]:
    config = GPT1Config()
    ids = torch.randint(config.vocab_size - 4, (batch, length), device=device)
    ours = GPT1ForCausalLM(config).to(device).train()
    peer_config = GPT2Config(vocab_size=config.vocab_size, n_positions=POSITIONS, bos_token_id=None, eos_token_id=None)
    gpt2 = GPT2LMHeadModel(peer_config).to(device).train()
    steps = {
        name: training_step(model, device, dtype, lambda model: model(input_ids=ids, labels=ids).loss)
        for name, model in (("ours", ours), ("gpt2", gpt2))
    }
    memory = {name: peak_memory(step, device) for name, step in steps.items()}  # and warm-up
    times = alternate(steps, rounds, warmup=0)
    work = f"LM step, {batch} x {length}, {NAMES[dtype]}"
    return [
        comparison(work, times, "ours", "gpt2", batch * length, "tokens", least),
        memory_comparison(f"{work}: peak above the weights", "gpt2", memory["ours"], memory["gpt2"], most),
    ]


def multiple_choice(data: Path, examples: int, device: str, dtype: str, rounds: int) -> list[dict]:
    tokenizer = GPT1Tokenizer(task_format=True)
    file = data / "tasks" / "mctest" / "train.jsonl"
    stories = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:: 1200 // examples]]
    contexts = [f"{story['article']} {story['question']}" for story in stories[:examples] for _ in story["options"]]
    options = [option for story in stories[:examples] for option in story["options"]]
    encoded = tokenizer(contexts, options, truncation="only_first", max_length=POSITIONS, padding=True)
    encoded = encoded.convert_to_tensors("pt").to(device)
    ids, mask = (encoded[name].view(examples, 4, -1) for name in ("input_ids", "attention_mask"))
    labels = torch.zeros(examples, dtype=torch.long, device=device)
    flat_positions = torch.arange(ids.shape[-1], device=device).expand_as(ids)  # given, they keep rows apart
    ours = GPT1ForMultipleChoice(GPT1Config()).to(device).train()
    peer_config = OpenAIGPTConfig(vocab_size=ours.config.vocab_size, n_positions=POSITIONS, num_labels=1)
    peer = OpenAIGPTDoubleHeadsModel(peer_config).to(device).train()
    lm_labels, last = ids.masked_fill(mask == 0, -100), mask.sum(-1) - 1

    def double_heads(model: torch.nn.Module) -> torch.Tensor:
        output = model(ids, mc_token_ids=last, labels=lm_labels, mc_labels=labels)
        return output.mc_loss + 0.5 * output.loss

    steps = {
        "ours": training_step(ours, device, dtype, lambda model: model(ids, mask, labels=labels).loss),
        "flat rows": training_step(
            ours, device, dtype, lambda model: model(ids, mask, flat_positions, labels=labels).loss
        ),
        "openai-gpt": training_step(peer, device, dtype, double_heads),
    }
    times = alternate(steps, rounds)
    work = f"multiple-choice step, MCTest, {examples} x 4 x {ids.shape[-1]}, {NAMES[dtype]}"
    compare = partial(comparison, work, times, "ours", items=examples, unit="examples", least=2.5)
    return [compare(peer="flat rows"), compare(peer="openai-gpt")]


def classification(data: Path, size: int, device: str, dtype: str, rounds: int) -> list[dict]:
    tokenizer = GPT1Tokenizer(task_format=True)
    with (data / "tasks" / "sst2" / "train.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["sentence"] for row in csv.DictReader(file)][:size]
    ours = GPT1ForSequenceClassification(GPT1Config()).to(device).train()
    close = tokenizer(texts, padding=True, return_tensors="pt").to(device)
    wide = tokenizer(texts, padding="max_length", max_length=POSITIONS, return_tensors="pt").to(device)
    labels = torch.arange(size, device=device) % 2

    def as_in_2018(rows: slice, model: GPT1ForSequenceClassification) -> torch.Tensor:
        ids, mask = wide["input_ids"][rows], wide["attention_mask"][rows]
        states = model.model(ids, mask, use_cache=False).last_hidden_state
        logits = F.linear(states[:, :-1], model.model.embed_tokens.weight)
        losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        lm_loss = ((losses.view(len(ids), -1) * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)).mean()
        extract = states[torch.arange(len(ids), device=device), mask.sum(1) - 1]
        task_loss = F.cross_entropy(model.score(model.dropout(extract)).float(), labels[rows])
        return (task_loss + model.config.lm_coef * lm_loss) * len(ids) / size

    # eight at a time, as the original code: all at once take more than 16 GB
    parts = [slice(first, first + 8) for first in range(0, size, 8)]
    part_steps = [training_step(ours, device, dtype, partial(as_in_2018, rows)) for rows in parts]
    peer = "padded to 512 (2018)"
    steps = {
        "ours": training_step(ours, device, dtype, lambda model: model(**close, labels=labels).loss),
        peer: lambda: [step() for step in part_steps],
    }
    steps["ours"]()  # the other, a minute long on CPU, needs no warm-up
    times = alternate(steps, rounds, warmup=0)
    work = f"classification step with auxiliary loss, SST-2, {size} x {close['input_ids'].shape[1]}, {NAMES[dtype]}"
    return [comparison(work, times, "ours", peer, size, "texts", 10)]


def updates(batch: int, length: int, device: str, dtype: str, rounds: int) -> list[dict]:
    """Whole updates, the optimizer's part included, as pre-training makes them."""
    config = GPT1Config()
    peer_config = GPT2Config(vocab_size=config.vocab_size, n_positions=POSITIONS, bos_token_id=None, eos_token_id=None)
    mini = GPT1ForCausalLM(GPT1Config(**NAMED_CONFIGURATIONS["mini"]))
    models = {"gpt2": GPT2LMHeadModel(peer_config)}
    models |= {name: GPT1ForCausalLM(config) for name in ("ours", "ours, compiled")}
    models |= {"mini, Muon": mini, "mini, Muon, compiled": copy.deepcopy(mini)}
    ids = torch.randint(config.vocab_size - 4, (batch, length), device=device)
    steps, memory = {}, {}
    for name, model in models.items():
        model.to(device).train()
        if "compiled" in name:
            model.compile()
        adamw = partial(torch.optim.AdamW, fused=True)
        optimizer = MuonAndAdamW(model, 1e-4) if "Muon" in name else adamw(model.parameters(), 1e-4)
        more = {} if name == "gpt2" else {"skip_logits": True}

        def loss_of(model: torch.nn.Module, more: dict[str, bool] = more) -> torch.Tensor:
            return model(input_ids=ids, labels=ids, **more).loss

        steps[name] = training_step(model, device, dtype, loss_of, update=optimizer.step)
        memory[name] = peak_memory(steps[name], device)
    times = alternate(steps, rounds)
    work = f"LM step with update, {batch} x {length}, {NAMES[dtype]}"
    compare = partial(comparison, times=times, items=batch * length, unit="tokens")
    return [
        compare(f"{work}, fused AdamW", ours="ours", peer="gpt2", least=1.8),
        memory_comparison(f"{work}, fused AdamW: peak above the weights", "gpt2", memory["ours"], memory["gpt2"]),
        compare(f"{work}, fused AdamW, compiled", ours="ours, compiled", peer="gpt2", least=2.2),
        compare(f"{work}, mini, Muon, compiled", ours="mini, Muon, compiled", peer="mini, Muon"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("lm-256", "lm-512", "choice", "classification", "update")
    parser.add_argument("--rows", nargs="+", choices=names)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of data sets")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="windows of an update")
    parser.add_argument("--dtype", choices=NAMES, help="by default the one that the device computes faster")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    fast_dtype = str(compute_dtype(torch.bfloat16, torch.device(args.device))).removeprefix("torch.")
    where = args.device, args.dtype or fast_dtype
    tables: dict[str, Callable[[], list[dict]]] = {
        "lm-256": lambda: language_modeling(4, 256, *where, args.rounds, least=1.2),
        "lm-512": lambda: language_modeling(8, 512, *where, args.rounds, least=1.8, most=0.5),
        "choice": lambda: multiple_choice(args.data, 2, *where, args.rounds),
        "classification": lambda: classification(args.data, 32, *where, max(1, args.rounds // 3)),
        "update": lambda: updates(args.batch, POSITIONS, *where, args.rounds),
    }
    for name in args.rows or (names if args.device.startswith("cuda") else names[:-1]):
        report("training", tables[name](), args.device)


if __name__ == "__main__":
    main()
