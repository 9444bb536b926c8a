"""Generation beside openai-gpt and gpt2: the same shapes, 117M random parameters, greedy, all tokens forced.

    python benchmarks/generation.py [--device cuda] [--rounds N]

About seven minutes on two cores, most of them openai-gpt's, which has no cache and is run once a row. The prompts have
64 tokens. "ours" is what `optimize_for_inference` makes of a model, as in `gpt1 generate`; "plain", the model itself.
"""

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from measure import RESULTS, alternate, comparison, machine_kind, memory_comparison, peak_memory, report
from transformers import GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig, OpenAIGPTLMHeadModel, PreTrainedModel

from modeling_gpt1 import GPT1Config, GPT1ForCausalLM, optimize_for_inference
from modeling_gpt1.openai_gpt import from_openai_gpt
from modeling_gpt1.processor import has_fast_bfloat16


PROMPT = 64
BATCHES = 1, 2, 4, 8, 16


class Clock:
    """A streamer that notes when each token came, in seconds from the beginning."""

    def __init__(self):
        self.start = time.perf_counter()
        self.seconds: list[float] = []

    def put(self, tokens: torch.Tensor) -> None:
        self.seconds.append(time.perf_counter() - self.start)

    def end(self) -> None:
        pass


def build(device: str) -> dict[str, PreTrainedModel]:
    """The models by name; ours has openai-gpt's weights, gpt2 our end token, which never comes."""
    config = GPT1Config()
    same = {"vocab_size": config.vocab_size, "n_positions": config.max_position_embeddings}
    peer = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**same))
    ours = GPT1ForCausalLM(config)
    ours.load_state_dict(from_openai_gpt(peer.state_dict()), strict=False)
    ours.tie_weights()
    gpt2 = GPT2LMHeadModel(GPT2Config(**same, bos_token_id=None, eos_token_id=config.eos_token_id))
    models = {"openai-gpt, fp32": peer, "plain, fp32": ours, "gpt2, fp32": gpt2}
    if device != "cpu" or has_fast_bfloat16():  # elsewhere a batch of it takes minutes, and nobody would
        models["gpt2, bf16"] = copy.deepcopy(gpt2).bfloat16()
    models = {name: model.eval().to(device) for name, model in models.items()}
    dtypes = {"fp32": "float32", "bf16": "bfloat16"} | ({"int8": "int8"} if device == "cpu" else {})
    for name, dtype in dtypes.items():
        models[f"ours, {name}"] = optimize_for_inference(copy.deepcopy(ours), dtype)
    return models


def generating(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int) -> Callable[..., None]:
    """A run of `generate`; it takes a streamer, if any."""

    def run(streamer: Clock | None = None) -> None:
        generated = model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            pad_token_id=0,
            streamer=streamer,
        )
        assert generated.shape[1] == ids.shape[1] + new_tokens

    return torch.inference_mode()(run)


def plot(seconds_by_token: dict[str, list[float]], speeds_by_batch: dict[str, list[float]], kind: str) -> None:
    """Left: when each token came. Right: tokens per second against the batch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    figure.suptitle("Generation, 117M parameters")
    left, right = figure.subplots(1, 2)
    colors = {name: f"C{index}" for index, name in enumerate(seconds_by_token)}
    for name, seconds in seconds_by_token.items():
        left.plot(range(len(seconds)), seconds, label=name, color=colors[name])
    left.set(xlabel="tokens generated, batch 1", ylabel="seconds", ylim=(0, None))
    for name, speeds in speeds_by_batch.items():
        right.plot(BATCHES, speeds, marker="o", label=name, color=colors[name])
    right.set(xlabel="batch", ylabel="tokens / second", xscale="log", yscale="log")
    for axis, ticks in ((right.xaxis, BATCHES), (right.yaxis, (10, 30, 100, 300, 1_000, 3_000, 10_000))):
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(ticks, labels=ticks)
    fastest = max(map(max, speeds_by_batch.values()))
    right.set_ylim(min(map(min, speeds_by_batch.values())) / 1.3, fastest * 1.3)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"generation-{kind}.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender that has a cache (default: 3)")
    parser.add_argument("--new_tokens", type=int, default=256, help="of the rows with batch 1 (default: 256)")
    args = parser.parse_args()
    torch.manual_seed(0)
    models = build(args.device)
    cached = [name for name in models if name != "openai-gpt, fp32"]
    vocabulary = models["ours, fp32"].config.vocab_size
    everything = torch.randint(1, vocabulary - 4, (max(BATCHES), PROMPT), device=args.device)
    rows = []

    # batch 1
    new_tokens = args.new_tokens
    prompt = everything[:1], torch.ones_like(everything[:1])
    runs = {name: generating(models[name], *prompt, new_tokens) for name in models}
    times = alternate({name: runs[name] for name in cached}, rounds=args.rounds)
    clocks = {name: Clock() for name in models}
    times |= alternate(
        {"openai-gpt, fp32": partial(runs["openai-gpt, fp32"], clocks["openai-gpt, fp32"])}, 1, warmup=0
    )
    for name in cached:
        clocks[name] = Clock()
        runs[name](clocks[name])
    table = [
        ("ours, fp32", "openai-gpt, fp32", 8),
        ("ours, fp32", "gpt2, fp32", 1.2),
        ("plain, fp32", "gpt2, fp32", 1),
        ("ours, bf16", "ours, fp32", 0.9),
        ("ours, bf16", "gpt2, bf16", 1.15),
        ("ours, int8", "ours, fp32", 1.5),
        ("ours, int8", "ours, bf16", None),
    ]
    for ours, peer, least in table:
        if ours in models and peer in models:
            work = f"generate, batch 1, {PROMPT} + {new_tokens}: {ours}"
            rows.append(comparison(work, times, ours, peer, new_tokens, "tokens", least))

    # a batch of mixed lengths
    new_tokens = 32
    lengths = torch.linspace(PROMPT // 8, PROMPT, len(everything)).long()
    mask = (torch.arange(PROMPT) >= PROMPT - lengths[:, None]).long().to(args.device)
    runs = {name: generating(models[name], everything, mask, new_tokens) for name in models}
    times = alternate({name: runs[name] for name in cached}, rounds=args.rounds)
    times |= alternate({"openai-gpt, fp32": runs["openai-gpt, fp32"]}, 1, warmup=0)
    table = [
        ("ours, fp32", "openai-gpt, fp32", 10),
        ("ours, fp32", "gpt2, fp32", 1.2),
        ("plain, fp32", "gpt2, fp32", 1),
        ("ours, bf16", "ours, fp32", 0.9),
        ("ours, bf16", "gpt2, bf16", None),
    ]
    for ours, peer, least in table:
        if peer in models:
            work = f"generate, batch {len(everything)}, {min(lengths)} to {PROMPT} + {new_tokens}, left-padded: {ours}"
            rows.append(comparison(work, times, ours, peer, len(everything) * new_tokens, "tokens", least))

    # other batches
    speeds: dict[str, list[float]] = {name: [] for name in cached}
    for batch in BATCHES:
        ids = everything[:batch]
        runs = {name: generating(models[name], ids, torch.ones_like(ids), new_tokens) for name in cached}
        times = alternate(runs, rounds=1)
        for name in cached:
            speeds[name].append(batch * new_tokens / times[name]["median"])
        for dtype in (dtype for dtype in ("fp32", "bf16") if f"gpt2, {dtype}" in models):
            work = f"generate, batch {batch}, {PROMPT} + {new_tokens}: ours, {dtype}"
            rows.append(comparison(work, times, f"ours, {dtype}", f"gpt2, {dtype}", batch * new_tokens, "tokens"))

    memory = {
        name: peak_memory(generating(models[name], *prompt, new_tokens), args.device)
        for name in ("ours, fp32", "gpt2, fp32")
    }
    work = f"peak memory above the weights, batch 1, {PROMPT} + {new_tokens}"
    rows.append(memory_comparison(work, "gpt2, fp32", memory["ours, fp32"], memory["gpt2, fp32"]))

    seconds = {name: [round(second, 4) for second in clock.seconds[1:]] for name, clock in clocks.items()}
    curves = {"seconds until each token, batch 1": seconds, f"tokens/s, batches {BATCHES}": speeds}
    report("generation", rows, args.device, **curves)
    plot(seconds, speeds, machine_kind(args.device))


if __name__ == "__main__":
    main()
