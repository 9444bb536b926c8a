"""`gpt1 predict` beside a loop over a pipeline.

    python benchmarks/prediction.py [--model micro gpt1] [--texts N]

A classifier of random weights labels real texts of many lengths (SST-2, MRPC, MCTest stories; `--data`, or
$GPT1_DATA): `gpt1 predict` from a file into a file, loading and writing included, and `for text in texts: pipe(text)`
with the model already loaded. The loop is timed on every tenth text and its time multiplied.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path

import torch
from measure import DATA, alternate, comparison, report
from transformers import pipeline

from modeling_gpt1 import NAMED_CONFIGURATIONS, GPT1Config, GPT1ForSequenceClassification
from modeling_gpt1.inference import PredictArguments, predict
from modeling_gpt1.processor import compute_dtype, device_for
from tokenization import GPT1Tokenizer


TEXTS = {"micro": 10_000, "gpt1": 1_000}
LOOP = "a loop over a pipeline"


def mixed_texts(data: Path, count: int) -> list[str]:
    """Sentences of SST-2 and MRPC, about as many of each, and one in thirty a story of MCTest; shuffled."""
    texts: dict[str, list[str]] = {}
    for name, columns in (("sst2", ["sentence"]), ("mrpc", ["sentence1", "sentence2"])):
        with (data / "tasks" / name / "train.csv").open(newline="", encoding="utf-8") as file:
            texts[name] = [row[column] for row in csv.DictReader(file) for column in columns]
    with (data / "tasks" / "mctest" / "train.jsonl").open(encoding="utf-8") as file:
        texts["mctest"] = list(dict.fromkeys(json.loads(line)["article"] for line in file))
    parts = {"mctest": count // 30, "mrpc": count // 2}
    parts["sst2"] = count - sum(parts.values())
    mixed = [texts[name][index % len(texts[name])] for name, part in parts.items() for index in range(part)]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    return [mixed[index] for index in order]


def prediction(size: str, texts: list[str]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        model, data, labels = (str(Path(folder, name)) for name in ("model", "texts.jsonl", "labels.jsonl"))
        config = GPT1Config(**NAMED_CONFIGURATIONS[size], num_labels=2)
        GPT1ForSequenceClassification(config).save_pretrained(model)
        GPT1Tokenizer(task_format=True).save_pretrained(model)
        Path(data).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        classify = pipeline("text-classification", model=model)
        tenth = texts[::10]

        def run(**options: str) -> None:
            predict(PredictArguments(model=model, input_file=data, output_file=labels, **options))

        ways = {"gpt1 predict": run}
        if compute_dtype(torch.bfloat16, torch.device(device_for())) == torch.bfloat16:
            ways["gpt1 predict --dtype bfloat16"] = lambda: run(dtype="bfloat16")
        contenders = {LOOP: lambda: [classify(text, truncation=True) for text in tenth]} | ways
        times = alternate(contenders, rounds=1, warmup=0)
    times[LOOP] |= {name: times[LOOP][name] * len(texts) / len(tenth) for name in ("median", "min", "max")}
    return [
        comparison(f"{name}, {len(texts):,} texts, {size}", times, name, LOOP, len(texts), "texts", 2) for name in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--texts", type=int, help="how many (default: 10,000 for micro, 1,000 for gpt1)")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of data sets")
    args = parser.parse_args()
    for size in args.model:
        rows = prediction(size, mixed_texts(args.data, args.texts or TEXTS[size]))
        report("prediction", rows, device_for())


if __name__ == "__main__":
    main()
