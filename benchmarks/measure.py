"""What every benchmark here does the same way: contenders take turns, medians, peak memory, a table and a JSON file.

from measure import alternate, comparison, peak_memory, report

times = alternate({"ours": step, "gpt2": peer_step}, rounds=5)
report("training", [comparison("LM step, 4 x 256", times, "ours", "gpt2", items=1024, unit="tokens", least=1.2)])
"""

import ctypes
import gc
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers


RESULTS = Path(__file__).resolve().parent / "results"
# Where real data is looked for: the same place as the tests have
DATA = Path(os.environ.get("GPT1_DATA", RESULTS.parents[2] / "shared" / "data"))


def alternate(contenders: dict[str, Callable[[], Any]], rounds: int = 5, warmup: int = 1) -> dict[str, dict]:
    """
    Runs the contenders in turns, so that what disturbs one disturbs all.

    Returns:
        Seconds of each: `median`, `min`, `max`, and `rounds`, how often it was run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + rounds):
        for name, run in contenders.items():
            _synchronize()
            start = time.perf_counter()
            run()
            _synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median": statistics.median(times), "min": min(times), "max": max(times), "rounds": rounds}
        for name, times in seconds.items()
    }


def peak_memory(run: Callable[[], Any], device: str = "cpu") -> int:
    """The most bytes that `run` held at once above what was held before: of the process (Linux), or of the GPU."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs freed must not serve this one unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak (VmHWM) counts from here
    before = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - before


def comparison(
    work: str, times: dict[str, dict], ours: str, peer: str, items: int, unit: str, least: float | None = None
) -> dict:
    """One row of a table: `items` (tokens, texts, ...) in `times[ours]` against `times[peer]`."""
    return {
        "work": work,
        "against": peer,
        "ours": f"{items / times[ours]['median']:,.1f} {unit}/s",
        "peer": f"{items / times[peer]['median']:,.1f} {unit}/s",
        "ratio": round(times[peer]["median"] / times[ours]["median"], 2),
        "at least": least,
        "seconds": {"ours": times[ours], "peer": times[peer]},
    }


def memory_comparison(work: str, peer: str, our_bytes: int, peer_bytes: int, most: float | None = None) -> dict:
    """One row of a table: peak memory, where less is better."""
    return {
        "work": work,
        "against": peer,
        "ours": f"{our_bytes / 2**30:.2f} GiB",
        "peer": f"{peer_bytes / 2**30:.2f} GiB",
        "ratio": round(our_bytes / peer_bytes, 2),
        "at most": most,
        "bytes": {"ours": our_bytes, "peer": peer_bytes},
    }


def report(name: str, rows: list[dict], device: str = "cpu", **curves: Any) -> Path:
    """
    Prints the rows as a Markdown table and writes them, the machine, the versions and what was drawn to
    `results/NAME-KIND.json`, one file per kind of machine; rows of other works, measured there on the same one, stay.
    """
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    file, here = RESULTS / f"{name}-{machine_kind(device)}.json", machine(device)
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"machine": None}
    if earlier["machine"] == here:
        measured = {(row["work"], row["against"]) for row in rows}
        rows = [row for row in earlier["rows"] if (row["work"], row["against"]) not in measured] + rows
    file.write_text(json.dumps({"machine": here, "rows": rows} | curves, indent=2) + "\n", encoding="utf-8")
    return file


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    columns = ("work", "against", "ours", "peer", "ratio", "wanted")
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        bounds = [f"{bound} {row[bound]}" for bound in ("at least", "at most") if row.get(bound) is not None]
        cells = [str(row[column]) if row.get(column) is not None else "" for column in columns[:-1]]
        lines.append("| " + " | ".join([*cells, "".join(bounds)]) + " |")
    return "\n".join(lines)


def machine_kind(device: str) -> str:
    """What tells machines apart whose figures are to stand side by side: the GPU, or what the CPU computes with."""
    if device.startswith("cuda"):
        return re.sub(r"\W+", "_", torch.cuda.get_device_name(device)).lower()
    capability = torch.backends.cpu.get_cpu_capability().lower()  # masked, as by ATEN_CPU_CAPABILITY=avx2, or not
    if capability != "avx512":
        return re.sub(r"\W+", "_", capability)
    flags = Path("/proc/cpuinfo").read_text().split()
    return next(
        (name for flag, name in {"amx_bf16": "amx", "avx512_bf16": "avx512_bf16"}.items() if flag in flags), capability
    )


def machine(device: str) -> dict[str, str | int]:
    """The device that was measured, and the versions."""
    if device.startswith("cuda"):
        hardware = torch.cuda.get_device_name(device)
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
        hardware = f"{model}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": hardware,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
