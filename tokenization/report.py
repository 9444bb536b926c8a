"""A tokenizer learned and reported, as `gpt1 train-tokenizer` does: its folder, with figures, a picture and a card."""

from collections import Counter
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from .corpus import LINE_BREAKS, read_paths
from .markdown import code, literal
from .pictures import new_figure, save_figure
from .table_files import TableArguments
from .tokenization_gpt1 import GPT1Tokenizer
from .train import WORD_END, LearnedBPE, learn
from .write_aside import new_folder, write_object


CARD = """---
language: en
library_name: transformers
tags:
- gpt1
- tokenizer
---

# A byte-pair tokenizer in the manner of GPT-1

{merges:,} merges, learned from {corpus}. Text becomes the words of OpenAI's 2018 encoder (ftfy, its text
standardisation, spaCy's English tokenizer, lower case), and these become byte pairs; all of it is in `tokenizer.json`.

```python
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
```

Made by {command}.

| | |
| --- | --- |
{rows}

Special tokens: `_start_`, `_delimiter_`, `_classify_`, `<pad>`; `<unk>` stands for characters outside the alphabet.
"""

LABELS = {
    "vocabulary": "vocabulary with special tokens",
    "merges": "merges",
    "alphabet": "characters of the alphabet",
    "min_frequency": "least frequency of a merge",
    "last_merge": "last merge",
    "last_merge_frequency": "its frequency",
    "corpus_bytes": "bytes of the corpus",
    "corpus_words": "words of the corpus",
    "corpus_different_words": "different ones",
    "whole_words": "share of the corpus's words that are one token",
    "held_out_bytes": "bytes of held-out text",
    "held_out_bytes_per_token": "bytes per token there",
    "held_out_tokens_per_word": "tokens per word there",
    "held_out_unknown": "unknown characters there",
}


def train_tokenizer(
    paths: Iterable[str | PathLike],
    output_dir: str | PathLike,
    num_merges: int = 40_000,
    min_frequency: int = 2,
    held_out: str | PathLike | None = None,
    text_column: str = "text",
    task_format: bool = False,
    show_progress: bool = True,
    command: str = "gpt1 train-tokenizer",
    tables: TableArguments | None = None,
) -> dict:
    """Learn a tokenizer from files, folders and Hub data sets, and write its folder: `gpt1 train-tokenizer`.

    The folder gets `tokenizer.json` and `tokenizer_config.json`, `README.md` (a card), `report.json`, and `report.png`
    where matplotlib is installed.

    Args:
        paths: what to learn from; see `tokenization.corpus.read_paths`.
        output_dir: the folder to write; it must not exist, or be empty.
        num_merges, min_frequency, task_format, show_progress: as in `train_bpe`.
        held_out: a file, folder or data set for the figures of text that was not learned from.
        text_column: the column of tables and data sets that holds the text.
        command: what the card says that made it.
        tables: how tables are read, and the encoding of texts.

    Returns:
        The figures of the report.

    Raises:
        ValueError, OSError: bad input, in one line; as in `train_bpe`, and an output folder that holds files. Nothing
            is written.
    """
    paths = list(paths)
    if not paths:
        raise ValueError("no text to learn from was named")
    with new_folder(output_dir) as folder:
        learned = learn(read_paths(paths, text_column, tables), num_merges, min_frequency, show_progress)
        tokenizer = learned.tokenizer(task_format)
        held_out_texts = None if held_out is None else read_paths([held_out], text_column, tables, "validation")
        report = figures(learned, tokenizer, held_out_texts)
        tokenizer.save_pretrained(folder)
        write_object(folder / "report.json", report)
        write_card(folder, report, ", ".join(code(Path(path).name) for path in paths), command)
        draw(folder / "report.png", learned.words, tokenizer.get_vocab())
    return report


def figures(learned: LearnedBPE, tokenizer: GPT1Tokenizer, held_out: Iterable[str] | None = None) -> dict:
    """The report's figures; those of held-out text where there is some.

    Bytes are UTF-8 of the text as it came; words are those of the 2018 encoder, line breaks not counted.
    """
    words = learned.words
    total = sum(words.values())
    vocab = tokenizer.get_vocab()
    report = {
        "vocabulary": len(tokenizer),
        "merges": len(learned.merges),
        "alphabet": len(learned.alphabet),
        "min_frequency": learned.min_frequency,
        "last_merge": " ".join(learned.merges[-1]) if learned.merges else None,
        "last_merge_frequency": _last_merge_frequency(learned, tokenizer),
        "corpus_bytes": learned.bytes_read,
        "corpus_words": total,
        "corpus_different_words": len(words),
        "whole_words": sum(n for word, n in words.items() if word + WORD_END in vocab) / total,
    }
    if held_out is not None:
        report |= _held_out_figures(tokenizer, held_out)
    return report


def _last_merge_frequency(learned: LearnedBPE, tokenizer: GPT1Tokenizer) -> int | None:
    """How often the last merge was made: how often its symbol is left, since no later merge takes it up."""
    if not learned.merges:
        return None
    symbol = "".join(learned.merges[-1])
    model = tokenizer.backend_tokenizer.model
    text = symbol.removesuffix(WORD_END)
    return sum(
        count * [token.value for token in model.tokenize(word)].count(symbol)
        for word, count in learned.words.items()
        if text in word
    )


def _held_out_figures(tokenizer: GPT1Tokenizer, texts: Iterable[str]) -> dict:
    size = tokens = words = unknown = 0
    backend = tokenizer.backend_tokenizer
    for text in texts:
        # Line by line, in parallel: the same ids as at once, but for the line breaks, which are words of their own.
        lines = LINE_BREAKS.split(text)
        size += sum(len(line.encode("utf-8", "replace")) for line in lines)
        for encoding in backend.encode_batch(lines, add_special_tokens=False):
            tokens += len(encoding.ids)
            words += len(set(encoding.word_ids))
            unknown += encoding.ids.count(tokenizer.unk_token_id)
    if not tokens:
        raise ValueError("the held-out text holds no words")
    return {
        "held_out_bytes": size,
        "held_out_bytes_per_token": size / tokens,
        "held_out_tokens_per_word": tokens / words,
        "held_out_unknown": unknown,
    }


def write_card(folder: Path, report: dict, corpus: str, command: str) -> None:
    """`README.md`: corpus, command, figures."""
    rows = []
    for name, label in LABELS.items():
        value = report.get(name)
        if value is not None:
            if isinstance(value, str):
                text = code(value).replace("|", "\\|")  # the one thing that a table reads in a code span
            else:
                text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
            rows.append(f"| {label} | {text} |")
    card = CARD.format(
        merges=report["merges"],
        corpus=corpus,
        name=literal(folder.name),
        command=code(command),
        rows="\n".join(rows),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def draw(file: Path, words: Counter[str], vocab: dict[str, int]) -> None:
    """A picture of two panels, words by rank: how often each occurs, and what share of the text the first cover."""
    figure = new_figure(file.name, figsize=(10, 4))
    if figure is None:
        return
    ranked = words.most_common()
    counts = [count for _, count in ranked]
    total = sum(counts)
    covered, whole, all_words, whole_words = 0, 0, [], []
    for word, count in ranked:
        covered += count
        whole += count * (word + WORD_END in vocab)
        all_words.append(100 * covered / total)
        whole_words.append(100 * whole / total)
    ranks = range(1, len(counts) + 1)

    left, right = figure.subplots(1, 2)
    left.loglog(ranks, counts, color="#1f4e79")
    left.set(title="Rank and frequency", xlabel="rank of the word", ylabel="occurrences")
    right.semilogx(ranks, all_words, color="#1f4e79", label="all words")
    right.semilogx(ranks, whole_words, color="#c55a11", linestyle="--", label="words that are one token")
    right.set(title="Word coverage", xlabel="most frequent words", ylabel="% of the corpus's words", ylim=(0, 101))
    right.legend(loc="lower right", frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    save_figure(figure, file)
