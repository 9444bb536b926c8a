"""The tokenizer beside its peers: how often the ids are the original's, and how fast they come.

    python benchmarks/tokenizer.py [--data FOLDER] [--every N] [--no_agreement] [--output FILE]

Over OpenAI's vocabulary, in one run: the 2018 procedure (`tests/tokenization/oracle.py`: ftfy, spaCy, a pure-Python
BPE), transformers' `openai-gpt` tokenizer, and ours. Agreement counts texts whose ids are all the original's.
Throughput is in MB of UTF-8 a second, the median of several rounds that take turns, in processes of one and of two
threads; `encode_batch` is the backend alone, `call` is `tokenizer(texts, padding=True)`, in batches. The original has
no threads and no batches. On lines of novels, `encode_batch_fast` and `CorpusEncoder`. Needs the package installed, or
the repository root in PYTHONPATH.
"""

import argparse
import gc
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import tokenizers
import transformers
from measure import DATA, RESULTS
from transformers import OpenAIGPTTokenizer

from tokenization import CorpusEncoder, GPT1Tokenizer


ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
BATCH = 256


def development_module(name):
    """A module of the tests' folder, where the reference and the reading of data are."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "tests" / "tokenization" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def contenders(data):
    folder = data / "openai_bpe"
    vocab_file, merges_file = folder / "encoder_bpe_40000.json", folder / "vocab_40000.bpe"
    original = development_module("oracle").Oracle.from_openai(folder)
    peer = OpenAIGPTTokenizer(vocab=original.vocab, merges=list(original.ranks), pad_token="<unk>")
    ours = GPT1Tokenizer.from_openai(vocab_file, merges_file)
    return original, peer, ours


def agreement(sets, data):
    """For each set: texts, and the share of them whose ids are the original's."""
    original, peer, ours = contenders(data)
    for tokenizer in (peer, ours):  # `<unk>` in WikiText is text, as the original reads it
        tokenizer.backend_tokenizer.encode_special_tokens = True
    table = {}
    for name, texts in sets.items():
        expected = [original(text) for text in texts]
        row = {"texts": len(texts)}
        for label, tokenizer in (("openai-gpt", peer), ("ours", ours)):
            ids = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
            row[label] = sum(a == b for a, b in zip(ids, expected, strict=True)) / len(texts)
        table[name] = row
        print(
            f"{name:16} {row['texts']:8,} texts   openai-gpt {row['openai-gpt']:8.3%}   ours {row['ours']:8.3%}",
            flush=True,
        )
    return table


def throughput(texts, lines, data):
    """MB/s of each way to encode `texts`, and of two ways to encode `lines`."""
    original, peer, ours = contenders(data)
    gc.freeze()  # collecting garbage, none has to look through all that the others keep in memory

    def backend(tokenizer, texts):
        tokenizer.backend_tokenizer.no_padding()  # a call sets it
        tokenizer.backend_tokenizer.encode_batch(texts)

    def in_batches(tokenizer, texts):
        for start in range(0, len(texts), BATCH):
            tokenizer(texts[start : start + BATCH], padding=True, verbose=False)

    ways = {
        "original": lambda texts: [original(text) for text in texts],
        "openai-gpt encode_batch": lambda texts: backend(peer, texts),
        "ours encode_batch": lambda texts: backend(ours, texts),
        "openai-gpt call": lambda texts: in_batches(peer, texts),
        "ours call": lambda texts: in_batches(ours, texts),
    }
    corpus = {
        "ours encode_batch_fast, lines of novels": ours.backend_tokenizer.encode_batch_fast,
        "ours CorpusEncoder, lines of novels": CorpusEncoder(ours),
    }
    return median_speeds(ways, texts) | median_speeds(corpus, lines)


def median_speeds(ways, texts):
    """
    The median MB/s of each way. The rounds take turns, so that what disturbs one disturbs all; each is of other texts,
    since nobody encodes a text twice: what is remembered of words, by any of them, helps as much as it does in use.
    """
    speeds = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        part = texts[turn :: ROUNDS + 1]
        size = sum(len(text.encode()) for text in part) / 1e6
        for name, run in ways.items():
            start = time.perf_counter()
            run(part)
            if turn > 0:  # the first one warms up
                speeds[name].append(size / (time.perf_counter() - start))
    return {name: round(statistics.median(speed), 3) for name, speed in speeds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of data sets")
    parser.add_argument("--every", type=int, default=1, help="take every n-th text of each set for agreement")
    parser.add_argument("--output", type=Path, default=RESULTS / "tokenizer.json")
    parser.add_argument("--no_agreement", action="store_true", help="leave the output's agreement as it is")
    parser.add_argument("--throughput_only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    found = development_module("conftest").text_sets(arguments.data)
    sets = {name: [text for text in texts if text] for name, texts in found.items()}
    if not sets:
        parser.error(f"no data in {arguments.data}")
    speed_texts = [text for name in ("mrpc", "sst2", "sts", "mctest") for text in sets[name][::2]]
    speed_texts += sets["novels/valid"]

    if arguments.throughput_only:
        corpus = sets["novels/train"][: len(sets["novels/train"]) // 16]
        print(json.dumps(throughput(speed_texts, corpus, arguments.data)))
        return
    result = {
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "throughput_MB_per_s": {},
    }
    for threads in (1, 2):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        command = [sys.executable, __file__, "--data", str(arguments.data), "--throughput_only"]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        speeds = json.loads(output.splitlines()[-1])
        speeds["ours / openai-gpt, encode_batch"] = round(
            speeds["ours encode_batch"] / speeds["openai-gpt encode_batch"], 3
        )
        speeds["ours / openai-gpt, call"] = round(speeds["ours call"] / speeds["openai-gpt call"], 3)
        speeds["ours / original, call"] = round(speeds["ours call"] / speeds["original"], 3)
        result["throughput_MB_per_s"][f"{threads} threads"] = speeds
        print(f"{threads} threads:", json.dumps(speeds, indent=2), flush=True)
    if arguments.no_agreement:
        stored = json.loads(arguments.output.read_text(encoding="utf-8"))
        result |= {name: stored[name] for name in ("every", "agreement")}
    else:
        result["every"] = arguments.every
        every = {name: texts[:: arguments.every] for name, texts in sets.items()}
        result["agreement"] = agreement(every, arguments.data)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
