"""GPT-1 as an instrument: the surprisal of words and tokens, and hidden states, with spans in the original text.

A word is what stands between blanks, punctuation and all, as `str.split` finds it and as tables of reading times count
it. A token belongs to the word that its span overlaps, the first of several. A line break between words is a token of
none; a word of nothing but characters that the tokenizer removes has no token. All that a text says is read as text,
names of special tokens included.

Texts longer than the model takes are read in windows of `context` tokens that begin `stride` apart. A token is scored
once, in the first window that holds it: after all that comes before it, or after `context - stride` tokens of that at
least. What comes later in the text changes nothing.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tokenization import GPT1Tokenizer
from tokenization.table_files import TableArguments, kind_of, open_table, text_of, write_table
from tokenization.text_files import read_lines
from tokenization.write_aside import new_file

from .flags import GPT1_MINI, check_flags, check_output_file, checkpoint
from .loading import Model, load_checkpoint
from .losses_gpt1 import upcast
from .modeling_gpt1 import GPT1ForCausalLM, GPT1Model
from .processor import device_for, optimize_for_inference


LINE_BREAK = "\n</w>"
CHUNK = 512  # rows of logits at a time: 83 MB of float32 with a vocabulary of 40,478


@dataclass
class InstrumentArguments(TableArguments):
    """What `gpt1 score` and `gpt1 features` share."""

    input_file: str = field(
        metadata={"help": "The texts: a .txt file with one per line, or CSV, TSV, JSON lines or Parquet."}
    )
    output_file: str = field(metadata={"help": "The table to write."})
    model: str = field(
        default=GPT1_MINI,
        metadata={
            "help": "A language model, gpt1 or openai-gpt: a directory, a Hub id or gpt1-mini, the packaged one and "
            "the default."
        },
    )
    text_column: str = field(default="text", metadata={"help": "The column of a table that holds the texts."})
    context: int | None = field(
        default=None, metadata={"help": "Tokens of a window, for longer texts; by default as many as the model takes."}
    )
    stride: int | None = field(
        default=None,
        metadata={"help": "How far apart windows begin, by default half a window: each token has the rest before it."},
    )
    batch_size: int = field(default=32, metadata={"help": "Windows at a time."})
    dtype: Literal["float32", "float64", "bfloat16"] = field(
        default="float32", metadata={"help": "Of the weights. bfloat16 is faster, and gives two digits."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model = checkpoint(self.model)
        if self.skip_bad_rows:
            raise ValueError("--skip_bad_rows would shift text_index, by which tables are joined: mend the rows")
        check_output_file(self.output_file, self.input_file)
        check_flags(self, batch_size=(self.batch_size >= 1, "at least 1"))


@dataclass
class ScoreArguments(InstrumentArguments):
    """Surprisal, in bits, of the words or tokens of texts: a table (CSV, TSV, JSON lines, Parquet), and perplexity."""

    unit: Literal["word", "token"] = field(default="word", metadata={"help": "What a row of the table is."})
    first: Literal["none", "line-break"] = field(
        default="none",
        metadata={"help": "What a text's first token follows: nothing, so that it has no surprisal, or a line break."},
    )


@dataclass
class FeaturesArguments(InstrumentArguments):
    """Hidden states, averaged over the words of texts or over each text (Parquet or NPZ)."""

    unit: Literal["word", "text"] = field(default="word", metadata={"help": "What states are averaged over."})
    layers: list[int] | None = field(
        default=None, metadata={"help": "Which layers: 0 for the embeddings, 1 and up; by default the last."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = self.layers or []
        check_flags(self, layers=(len(set(layers)) == len(layers), "different numbers"))  # each is a column


@dataclass(frozen=True)
class EncodedTexts:
    """
    Texts as tokens and as words.

    Attributes:
        ids: the token ids of each text.
        tokens: a row per token: text_index, word_index (or none), token_index, token, start, end.
        words: a row per word: text_index, word_index, word, start, end.
        word_rows (`np.ndarray` of shape `(tokens,)`): each token's word as a row of `words`; `len(words)` for none.
    """

    ids: list[list[int]]
    tokens: pd.DataFrame
    words: pd.DataFrame
    word_rows: np.ndarray


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> EncodedTexts:
    """
    Tokenizes texts, and finds the word that each token belongs to.

    Raises:
        TypeError: one text in place of several, or something that is no text.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("texts is a list of str")
    encoded: Any = {"input_ids": [], "offset_mapping": []}
    if len(texts):  # the column of a table, for one, has no truth value
        encoded = tokenizer(
            [re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts],  # one for one, so that spans stay
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,  # it would warn of texts longer than the model
        )
    words = _table(
        ["text_index", "word_index", "word", "start", "end"],
        [
            (t, w, m.group(), *m.span())
            for t, text in enumerate(texts)
            for w, m in enumerate(re.finditer(r"\S+", text))
        ],
    )
    tokens = _table(
        ["text_index", "token_index", "token", "start", "end"],
        [
            (t, i, token, *span)
            for t, (ids, spans) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
            for i, (token, span) in enumerate(zip(tokenizer.convert_ids_to_tokens(ids), spans, strict=True))
        ],
    )
    rows = _words_of(tokens, words, texts)
    tokens.insert(1, "word_index", pd.array([*words["word_index"], None], dtype="Int64")[rows])
    return EncodedTexts(encoded["input_ids"], tokens, words, rows)


def _words_of(tokens: pd.DataFrame, words: pd.DataFrame, texts: Sequence[str]) -> np.ndarray:
    """The first word that each token's span overlaps, as a row of `words`; `len(words)` where there is none."""
    before = np.cumsum([0, *(len(text) + 1 for text in texts)])  # as if one text began after another
    starts, ends = (tokens[side].to_numpy() + before[tokens["text_index"]] for side in ("start", "end"))
    word_starts, word_ends = (words[side].to_numpy() + before[words["text_index"]] for side in ("start", "end"))
    rows = np.searchsorted(word_ends, starts, side="right")  # the first that does not end before the token
    rows[np.append(word_starts, before[-1])[rows] >= np.maximum(ends, starts + 1)] = len(words)
    return rows


def _table(columns: list[str], rows: list[tuple]) -> pd.DataFrame:
    """Numbers as int64, texts as `object`: pandas' `str` holds no surrogates."""
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    return table.astype({name: "int64" for name in columns if name not in ("word", "token")})


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end` of a text, of which those from `first` on are in no window before."""

    text: int
    start: int
    first: int
    end: int


def windows_of(lengths: Sequence[int], context: int, stride: int) -> list[Window]:
    """The windows of texts of these lengths; none of an empty one."""
    return [
        Window(text, start, start + context - stride if start else 0, min(start + context, length))
        for text, length in enumerate(lengths)
        if length
        for start in range(0, max(length - context, 0) + stride, stride)
    ]


def batches_of_like_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """
    Which rows go together: `size` at most, none of less than half the length of another, for little padding. The
    longest come first, so that memory fails early.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not batches or len(batches[-1]) == size or 2 * lengths[index] < lengths[batches[-1][0]]:
            batches.append([])
        batches[-1].append(index)
    return batches


def read_windows(
    model: PreTrainedModel,
    ids: list[list[int]],
    context: int | None,
    stride: int | None,
    batch_size: int,
    **kwargs: Any,
) -> Iterator[tuple[Any, list[Window]]]:
    """
    The decoder's output for batches of windows, padded on the right, with the windows. Leaves the model in evaluation
    mode.

    Raises:
        ValueError: windows longer than the model takes, or with no token before those that are scored.
    """
    longest = model.config.max_position_embeddings
    context = longest if context is None else context
    stride = max(context // 2, 1) if stride is None else stride
    if not 1 < context <= longest:
        raise ValueError(f"context is from 2 to {longest} tokens, which is all that the model takes, not {context}")
    if not 0 < stride < context:
        raise ValueError(f"stride is from 1 to {context - 1} tokens, one less than the context, not {stride}")
    decoder = model.eval().get_decoder()
    windows = windows_of(list(map(len, ids)), context, stride)
    batches = batches_of_like_length([window.end - window.start for window in windows], batch_size)
    for batch in tqdm(batches, desc="Reading", disable=len(batches) < 2):
        some = [windows[index] for index in batch]
        rows = [torch.tensor(ids[window.text][window.start : window.end]) for window in some]
        input_ids = pad_sequence(rows, batch_first=True).to(model.device)  # (batch, length)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(model.device)
        yield decoder(input_ids=input_ids, attention_mask=mask, use_cache=False, **kwargs), some


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    unit: Literal["word", "token"] = "word",
    first: Literal["none", "line-break"] = "none",
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """
    Surprisal, -log2 P(token | tokens before it in the text), of each token, or the sum over the tokens of each word.

    Args:
        model: a causal language model, [`GPT1ForCausalLM`] or transformers' `OpenAIGPTLMHeadModel`.
        tokenizer: its fast tokenizer.
        texts: each is read by itself.
        unit: what a row of the table is.
        first: what a text's first token follows: nothing, so that it has no surprisal, nor has its word; or the
            tokenizer's line break.
        context: tokens of a window, for longer texts; by default as many as the model takes.
        stride: how far apart windows begin; by default half of `context`.
        batch_size: windows at a time.

    Returns:
        A row per word: `text_index`, `word_index`, `word`, `start` and `end` (its characters in the text),
        `surprisal` (float64, NaN for none), `num_tokens`, `conditioned` (whether every token of it follows another).
        Or a row per token: `text_index`, `word_index` (none for a line break between words), `token_index`, `token`,
        `start`, `end`, `surprisal`, `conditioned`. In its `attrs`: number, mean surprisal and perplexity
        (2 ** mean) of tokens and of words, over those that are conditioned.

    Raises:
        TypeError: texts that are none.
        ValueError: a model that is no causal language model, a tokenizer without a line break where one is asked for,
            or windows that do not fit.
    """
    _check("unit", unit, ("word", "token"))
    _check("first", first, ("none", "line-break"))
    head = model.get_output_embeddings()
    if head is None or not getattr(model.config, "is_causal", True):
        raise ValueError(f"surprisal is a causal language model's, and {type(model).__name__} is none")
    before = line_break(tokenizer) if first == "line-break" else []
    encoded = encode_texts(tokenizer, texts)
    tokens, words = encoded.tokens, encoded.words
    ids = [before + row if row else [] for row in encoded.ids]
    bits = surprisals(model, head, ids, context, stride, batch_size)
    tokens["surprisal"] = np.concatenate([np.empty(0), *(row[len(before) :] for row in bits)])
    tokens["conditioned"] = (tokens["token_index"] > 0) | bool(before)
    words["surprisal"] = _sum_by_word(encoded, tokens["surprisal"])
    words["num_tokens"] = _sum_by_word(encoded, np.ones(len(tokens))).astype("int64")
    words["conditioned"] = _sum_by_word(encoded, ~tokens["conditioned"]) == 0
    table = words if unit == "word" else tokens
    table.attrs = _summary("token", tokens) | _summary("word", words)
    return table


@torch.inference_mode()
def surprisals(
    model: PreTrainedModel,
    head: torch.nn.Module,
    ids: list[list[int]],
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 32,
    starts: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """
    -log2 P of each token after those before it, `(tokens,)` of each text, in float64; NaN of the first, and of those
    before the text's place in `starts`.
    """
    bits = [np.full(len(row), np.nan) for row in ids]
    for outputs, windows in read_windows(model, ids, context, stride, batch_size):
        places = [
            slice(max(window.first, 1, 0 if starts is None else starts[window.text]), window.end) for window in windows
        ]
        states = torch.cat(
            [
                row[place.start - 1 - window.start : place.stop - 1 - window.start]  # (tokens, hidden_size)
                for row, window, place in zip(outputs.last_hidden_state, windows, places, strict=True)
            ]
        )
        targets = [
            torch.tensor(ids[w.text][place], dtype=torch.long) for w, place in zip(windows, places, strict=True)
        ]
        found = token_surprisals(head, states, torch.cat(targets).to(states.device))
        for window, place, part in zip(windows, places, found.split(list(map(len, targets))), strict=True):
            bits[window.text][place] = part
    return bits


def _check(name: str, value: str, possible: tuple[str, ...]) -> None:
    if value not in possible:
        raise ValueError(f"{name} is {' or '.join(possible)}, not {value}")


def token_surprisals(head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log2 P(target | state), float64 on CPU, of `targets` `(targets,)` after `states` `(targets, hidden_size)`."""
    nats = []
    for some, target in zip(states.split(CHUNK), targets.split(CHUNK), strict=True):
        logits = head(some)  # (CHUNK, vocab_size)
        nats.append(F.cross_entropy(upcast(logits), target, reduction="none"))
    return torch.cat(nats).cpu().double() / math.log(2)


def line_break(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token of a line break, which a text's first token may follow. Raises `ValueError` where there is none."""
    vocabulary = tokenizer.get_vocab()
    if LINE_BREAK not in vocabulary:
        raise ValueError(f"the tokenizer has no token {LINE_BREAK!r} for a line break before the first token")
    return [vocabulary[LINE_BREAK]]


def _sum_by_word(encoded: EncodedTexts, values: np.ndarray) -> np.ndarray:
    """Sums over the tokens of each word, `(words,)`."""
    return np.bincount(encoded.word_rows, values, len(encoded.words) + 1)[:-1]


def _summary(unit: str, table: pd.DataFrame) -> dict[str, int | float | None]:
    bits = table["surprisal"][table["conditioned"]]
    mean = float(bits.mean()) if len(bits) else None
    with np.errstate(over="ignore"):
        perplexity = None if mean is None else float(np.exp2(mean))
    return {f"{unit}s": len(bits), f"bits_per_{unit}": mean, f"perplexity_per_{unit}": perplexity}


@torch.inference_mode()
def features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: Sequence[int] | None = None,
    unit: Literal["word", "text"] = "word",
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 32,
) -> tuple[pd.DataFrame, np.ndarray]:
    """
    Hidden states, averaged over the tokens of each word or of each text.

    Args:
        model: any GPT-1 model, gpt1 or openai-gpt.
        layers: which: 0 for the embeddings, then the blocks from 1; by default the last.
        unit: what states are averaged over, and a row is.
        tokenizer, texts, context, stride, batch_size: as in [`score`]. A token's state is of the first window that
            holds it.

    Returns:
        The rows, `text_index`, `word_index` and `word` (of words), `start`, `end`, `num_tokens`; texts without a token
        have none. And their states, float32 `(rows, layers, hidden_size)`; NaN for a word without a token.

    Raises:
        TypeError: texts that are none.
        ValueError: a layer that is not there, or windows that do not fit.
    """
    _check("unit", unit, ("word", "text"))
    last = model.config.num_hidden_layers
    layers = [last] if layers is None else list(layers)
    if wrong := [layer for layer in layers if not 0 <= layer <= last]:
        raise ValueError(f"layers are from 0 to {last}, not {wrong[0]}")
    encoded = encode_texts(tokenizer, texts)
    if unit == "word":
        table, groups = encoded.words, encoded.word_rows
    else:
        rows = [(index, 0, len(text)) for index, (text, ids) in enumerate(zip(texts, encoded.ids, strict=True)) if ids]
        table = _table(["text_index", "start", "end"], rows)
        groups = np.searchsorted(table["text_index"], encoded.tokens["text_index"])
    counts = np.bincount(groups, minlength=len(table) + 1)[:-1]
    table["num_tokens"] = counts
    group_of = torch.from_numpy(groups).split(list(map(len, encoded.ids)))
    sums = torch.zeros(len(table) + 1, len(layers), model.config.hidden_size)  # the last of tokens in no word
    for outputs, windows in read_windows(model, encoded.ids, context, stride, batch_size, output_hidden_states=True):
        states = torch.stack([outputs.hidden_states[layer] for layer in layers], dim=2).float().cpu()
        for row, window in zip(states, windows, strict=True):  # (length, layers, hidden_size)
            new = slice(window.first - window.start, window.end - window.start)
            sums.index_add_(0, group_of[window.text][window.first : window.end], row[new])
    return table, (sums[:-1] / torch.from_numpy(counts)[:, None, None]).numpy()


def write_scores(args: ScoreArguments) -> dict[str, int | float | None]:
    """
    Scores the texts of `input_file` into `output_file`; returns the summary.

    Raises:
        OSError, ValueError: files, columns or a model that are not as they have to be; nothing is written.
    """
    kind_of(args.output_file)
    with new_file(args.output_file) as path:
        texts, model, tokenizer = _read(args, GPT1ForCausalLM)
        table = score(model, tokenizer, texts, args.unit, args.first, args.context, args.stride, args.batch_size)
        write_table(path, table.astype(object).where(table.notna(), None).to_dict("list"))
    return table.attrs


def write_features(args: FeaturesArguments) -> tuple[int, ...]:
    """
    Writes the hidden states of the texts of `input_file` into `output_file`; returns their shape.

    Raises:
        OSError, ValueError: files, columns or a model that are not as they have to be; nothing is written.
    """
    write = {".npz": _write_npz, ".parquet": _write_parquet}.get(Path(args.output_file).suffix.lower())
    if write is None:
        raise ValueError(f"{args.output_file}: unknown kind of file, expected one of .npz, .parquet")
    with new_file(args.output_file) as path:
        texts, model, tokenizer = _read(args, GPT1Model)
        layers = args.layers or [model.config.num_hidden_layers]
        table, states = features(
            model, tokenizer, texts, layers, args.unit, args.context, args.stride, args.batch_size
        )
        write(table, states, layers, path)
    return states.shape


def _write_npz(table: pd.DataFrame, states: np.ndarray, layers: list[int], path: Path) -> None:
    """Numbers alone: an array of words would be as wide as the longest, and spans lead to them."""
    with path.open("wb") as file:  # to whose name nothing is added
        np.savez(file, **table.select_dtypes("number"), layers=layers, states=states)


def _write_parquet(table: pd.DataFrame, states: np.ndarray, layers: list[int], path: Path) -> None:
    """A column per layer, of lists as long as the states are wide."""
    columns = pa.Table.from_pandas(table, preserve_index=False)
    for index, layer in enumerate(layers):
        values = pa.array(states[:, index].ravel())
        columns = columns.append_column(f"layer_{layer}", pa.FixedSizeListArray.from_arrays(values, states.shape[2]))
    pq.write_table(columns, path)


def _read(args: InstrumentArguments, model_class: type[Model]) -> tuple[list[str], Model, GPT1Tokenizer]:
    texts = read_input(args.input_file, args.text_column, args)
    model, tokenizer = load_checkpoint(args.model, model_class, args.dtype)
    model = optimize_for_inference(model.to(device_for()))
    return texts, model, tokenizer


def read_input(path: str, column: str, tables: TableArguments) -> list[str]:
    """
    The lines of a .txt file, or a table's column, that of a .txt too where a delimiter is given: an empty text for an
    empty line or cell.

    Raises:
        OSError, ValueError: no such file, one that cannot be read or is empty, no such column, or one that holds
            something else than text.
    """
    if Path(path).suffix.lower() == ".txt" and tables.delimiter is None:
        texts = [line.rstrip("\r\n") for line in read_lines(path, tables.encoding)]
    else:
        table, texts = open_table(path, tables), []
        for number, value in table.column(column):
            text = value if isinstance(value, str) else text_of(value)
            if text is None:
                table.bad_rows.add(table.place(number), f"column {column!r} holds no text: {value!r}")
            else:
                texts.append(text)
    if not texts:
        raise ValueError(f"{path} is empty: it has no data")
    return texts
