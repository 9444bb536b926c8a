"""Fills the tables of benchmarks/README.md, README.md and gpt1-mini's card, between their markers, from `results/`.

    python benchmarks/tables.py

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`. The rows that README.md shows are chosen here.
"""

import json
import re
import statistics
from pathlib import Path

from measure import RESULTS, table


ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "benchmarks/README.md", "modeling_gpt1/checkpoints/gpt1-mini/README.md")
# kinds of machine in the order in which their tables stand, the others after them
KINDS = {"avx512_bf16": "AVX512-bf16", "amx": "AMX", "avx512": "AVX512", "avx2": "AVX2"}
# README.md's rows: of which work, whose beginning is enough, and against what
CHOSEN = (
    ("generation", "generate, batch 1, 64 + 256: ours, fp32", "openai-gpt, fp32"),
    ("generation", "generate, batch 1, 64 + 256: ours, fp32", "gpt2, fp32"),
    ("generation", "generate, batch 1, 64 + 256: ours, bf16", "gpt2, bf16"),
    ("generation", "generate, batch 1, 64 + 256: ours, int8", "ours, bf16"),
    ("generation", "generate, batch 16, 8 to 64 + 32, left-padded: ours, fp32", "openai-gpt, fp32"),
    ("training", "LM step, 4 x 256", "gpt2"),
    ("training", "LM step, 8 x 512", "gpt2"),
    ("training", "multiple-choice step", "openai-gpt"),
    ("training", "classification step", "padded to 512 (2018)"),
    ("prediction", "gpt1 predict --dtype bfloat16, 1,000 texts, gpt1", "a loop over a pipeline"),
)


def by_machine(name: str) -> dict[str, dict]:
    """The results of one benchmark by kind of machine."""
    found = {
        file.stem.removeprefix(f"{name}-"): json.loads(file.read_text()) for file in RESULTS.glob(f"{name}-*.json")
    }
    order = [*(kind for kind in KINDS if kind in found), *sorted(found.keys() - KINDS.keys())]
    return {KINDS.get(kind, found[kind]["machine"]["device"]): found[kind] for kind in order}


def side_by_side(name: str) -> str:
    """A table for each kind of machine, under what it is."""
    parts = []
    for kind, results in by_machine(name).items():
        machine = results["machine"]
        about = [machine["device"], f"{machine['cores']} cores" if "cores" in machine else None]
        about += [f"{part} {machine[part]}" for part in ("torch", "transformers")]
        about.append(results.get("source"))
        parts.append(f"**{kind}** ({', '.join(filter(None, about))}):\n\n{table(results['rows'])}")
    return "\n\n".join(parts)


def chosen_rows() -> str:
    """README.md's table: of each machine the rows that it has."""
    rows = []
    for name, work, against in CHOSEN:
        for kind, results in by_machine(name).items():
            for row in results["rows"]:
                if row["work"].startswith(work) and row["against"] == against:
                    cells = row["work"], kind, against, row["ours"], row["peer"], row["ratio"]
                    rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(["| work | on | against | ours | peer | ratio |", "|" + " --- |" * 6, *rows])


def fine_tuning() -> str:
    results = json.loads((RESULTS / "fine_tuning.json").read_text(encoding="utf-8"))
    starts = list(dict.fromkeys(start for row in results.values() for start in row["figures"]))
    lines = [
        f"| task | metric | simple method | {' | '.join(starts)} | runs, on |",
        "|" + " --- |" * (4 + len(starts)),
    ]
    for task, row in results.items():
        figures = (_spread(row["figures"].get(start)) for start in starts)
        runs = f"{len(row['seeds'])}, {row['machine']['device']}"
        lines.append(f"| {' | '.join([task, row['metric'], format(row['floor'], '.3f'), *figures, runs])} |")
    return "\n".join(lines)


def _spread(figures: list[float] | None) -> str:
    if not figures:
        return ""
    span = f" ({min(figures):.3f} to {max(figures):.3f})" if len(figures) > 1 else ""
    return f"{statistics.median(figures):.3f}{span}"


def filled(document: str) -> str:
    """The document with each of its tables as the results have it."""
    tables = {name: side_by_side(name) for name in ("generation", "training", "prediction")}
    tables |= {"fine_tuning": fine_tuning(), "speed": chosen_rows()}
    for name, content in tables.items():
        between = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        document = between.sub(lambda match, content=content: match[1] + content + "\n" + match[2], document)
    return document


def main() -> None:
    for name in DOCUMENTS:
        file = ROOT / name
        file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
