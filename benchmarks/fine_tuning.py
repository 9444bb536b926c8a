"""Fine-tuning from a pre-trained model and from scratch: the same configuration, settings and seeds, on six tasks.

    python benchmarks/fine_tuning.py --data FOLDER --runs FOLDER [--tasks sst2 cola ...] [--seeds 1 2 3]

`FOLDER` of the data holds a folder a task with `train` and `validation` files. Each run is `gpt1 finetune` as users
call it, in a process of its own; what is in `--runs` already is not run again, so that the whole can be interrupted.
The floor of a task is what a simple method reaches on the same validation set: a bag of words, features of the words
that two texts share, or a window that slides over the story. A run's figure is that of its best epoch.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from measure import RESULTS, machine

from modeling_gpt1 import GPT1_MINI


# Folder of the data: the task, its metric, the floor, and flags of its own
TASKS = {
    "sst2": ("sst2", "accuracy", 0.795, ["--num_train_epochs", "4"]),
    "cola": ("cola", "matthews_correlation", 0.161, ["--num_train_epochs", "8"]),
    "mrpc": ("mrpc", "f1", 0.814, ["--num_train_epochs", "2"]),
    "sts": ("stsb", "pearson", 0.648, ["--num_train_epochs", "3", "--lm_coef", "0"]),
    "sick": ("entailment", "accuracy", 0.652, ["--num_train_epochs", "6", "--muon", "True"]),
    "mctest": ("race", "accuracy", 0.555, ["--num_train_epochs", "2", "--per_device_train_batch_size", "8"]),
}
SETTINGS = ["--learning_rate", "5e-4", "--warmup_steps", "0.1", "--save_only_model", "True"]


def run(data: Path, runs: Path, name: str, model: str, start: str, seed: int, more: list[str]) -> float:
    """The validation figure of one fine-tuning's best epoch, which is run unless its results are there."""
    task, metric, _, flags = TASKS[name]
    output_dir = runs / f"{name}-{start}-{seed}"
    results = output_dir / "all_results.json"
    if not results.is_file():
        train, validation = (next((data / name).glob(f"{split}.*")) for split in ("train", "validation"))
        command = [sys.executable, "-m", "modeling_gpt1", "finetune", "--task", task, "--model", model]
        command += ["--train_file", str(train), "--validation_file", str(validation), "--seed", str(seed)]
        command += ["--output_dir", str(output_dir), "--report_to", "none", *SETTINGS, *flags, *more]
        if output_dir.is_dir():
            command += ["--resume_from_checkpoint", "True"]
        with (runs / f"{output_dir.name}.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True)
    return json.loads(results.read_text(encoding="utf-8"))[f"eval_{metric}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of the tasks' folders")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--model", default=GPT1_MINI, help="a pre-trained checkpoint (default: gpt1-mini)")
    parser.add_argument("--scratch", default="mini", help="its configuration, by name (default: mini)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    args, more = parser.parse_known_args()  # what is left goes to every run

    args.runs.mkdir(parents=True, exist_ok=True)
    rows = {}
    print("| task | metric | floor | from scratch | pre-trained |\n| --- | --- | --- | --- | --- |")
    for name in args.tasks:
        _, metric, floor, flags = TASKS[name]
        row = rows[name] = {"metric": metric, "floor": floor, "settings": flags}
        for start, model in (("scratch", args.scratch), ("pre-trained", args.model)):
            row[start] = [run(args.data, args.runs, name, model, start, seed, more) for seed in args.seeds]
        cells = [
            f"{statistics.median(row[start]):.3f} ({min(row[start]):.3f} to {max(row[start]):.3f})"
            for start in ("scratch", "pre-trained")
        ]
        print("| " + " | ".join([name, metric, f"{floor:.3f}", *cells]) + " |", flush=True)
        result = {"machine": machine("cpu"), "settings": SETTINGS + more, "seeds": args.seeds, "tasks": rows}
        (RESULTS / "fine_tuning.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
