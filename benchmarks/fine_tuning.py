"""Fine-tuning from gpt1-mini and, if asked, from scratch: the same settings and seeds, on six tasks.

    python benchmarks/fine_tuning.py --data FOLDER --runs FOLDER [--tasks sst2 cola ...] [--seeds 1 2 3]

`FOLDER` of the data holds a folder a task with `train` and `validation` files. Each run is `gpt1 finetune` as users
call it, in a process of its own, with gpt1-mini's own settings; what is in `--runs` already is not run again, so that
the whole can be interrupted, and tasks measured before stay in the results; `tables.py` puts them into the documents.
The floor of a task is what a simple method reaches on the same validation set: a bag of words, features of the words
that two texts share, or a window that slides over the story. A run's figure is that of its best epoch.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from measure import RESULTS, machine

from modeling_gpt1.processor import device_for
from modeling_gpt1.training.finetune import recipe


FILE = RESULTS / "fine_tuning.json"

# Folder of the data: the task, its metric, the floor
TASKS = {
    "sst2": ("sst2", "accuracy", 0.795),
    "cola": ("cola", "matthews_correlation", 0.161),
    "mrpc": ("mrpc", "f1", 0.814),
    "sts": ("stsb", "pearson", 0.648),
    "sick": ("entailment", "accuracy", 0.652),
    "mctest": ("race", "accuracy", 0.555),
}


def run(data: Path, runs: Path, name: str, start: str, seed: int, more: list[str]) -> float:
    """The validation figure of one fine-tuning's best epoch, which is run unless its results are there."""
    task, metric, _ = TASKS[name]
    output_dir = runs / f"{name}-{start}-{seed}"
    results = output_dir / "all_results.json"
    if not results.is_file():
        train, validation = (next((data / name).glob(f"{split}.*")) for split in ("train", "validation"))
        command = [sys.executable, "-m", "modeling_gpt1", "finetune", "--task", task]
        if start != "gpt1-mini":
            settings = recipe(task).items()
            command += ["--config", start, *(part for key, value in settings for part in (f"--{key}", str(value)))]
        command += ["--train_file", str(train), "--validation_file", str(validation), "--seed", str(seed)]
        command += ["--output_dir", str(output_dir), "--report_to", "none"]
        command += more
        if output_dir.is_dir():
            command += ["--resume_from_checkpoint", "True"]
        with (runs / f"{output_dir.name}.log").open("w", encoding="utf-8") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True)
    return json.loads(results.read_text(encoding="utf-8"))[f"eval_{metric}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of the tasks' folders")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--config", help="a configuration to start from scratch beside it, such as mini")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    args, more = parser.parse_known_args()  # what is left goes to every run

    args.runs.mkdir(parents=True, exist_ok=True)
    for name in args.tasks:
        task, metric, floor = TASKS[name]
        figures = {
            start: [run(args.data, args.runs, name, start, seed, more) for seed in args.seeds]
            for start in (args.config, "gpt1-mini")
            if start
        }
        row = {"machine": machine(device_for()), "metric": metric, "floor": floor, "settings": recipe(task)}
        row |= {"flags": more, "seeds": args.seeds, "figures": figures}
        print(name, metric, figures, flush=True)
        results = json.loads(FILE.read_text(encoding="utf-8"))
        FILE.write_text(json.dumps(results | {name: row}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
