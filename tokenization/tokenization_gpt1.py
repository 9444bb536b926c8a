"""GPT-1's tokenizer for transformers: the 2018 text encoder, with OpenAI's special tokens.

References:
1. the text encoder of OpenAI's release, https://github.com/openai/finetune-transformer-lm/blob/master/text_utils.py
2. "Improving Language Understanding by Generative Pre-Training" (2018), figure 1 right: the inputs of the tasks
3. transformers' `OpenAIGPTTokenizer`, whose vocabulary this reads, and whose words differ
"""

import json
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import BatchEncoding, PreTrainedTokenizerFast
from transformers.utils import PaddingStrategy

from .english import build_tokenizer
from .spacing import SPECIAL, decoder
from .text_files import join_surrogates


PACKAGED_TOKENIZER = Path(__file__).resolve().parent / "gpt1-bpe-40k"

# In the order in which they follow the vocabulary
SPECIAL_TOKENS = dict(zip(("bos_token", "sep_token", "cls_token", "pad_token"), SPECIAL[:4], strict=True))
# Words whose pieces the BPE remembers, in some 10 MB: by default it is 10,000, of the 20,000 in a megabyte of text
CACHED_WORDS = 1 << 16


class GPT1Tokenizer(PreTrainedTokenizerFast):
    r"""
    The words and byte pairs of GPT-1's 2018 encoder, at the speed of `tokenizers`.

    Everything it does is in `tokenizer.json`, and it is saved as a `PreTrainedTokenizerFast`: where this package is
    not installed, `AutoTokenizer.from_pretrained` loads it without remote code, and gives the same ids, in the format
    that was saved. This class alone has the argument `task_format`, and takes a pair whose second text is empty for a
    pair outside of a batch too.

    A text is encoded with no special token, as pre-training wants it, unless `task_format` asks for them. Special
    tokens that occur in the text itself (`"_classify_"`) are read as such, as everywhere in transformers; pass
    `split_special_tokens=True` here or to the call, to read them as text where it comes from strangers.

    Decoding is in lower case, with natural spacing. Words come with the blank before them, so that pieces which are
    decoded apart join as they should: `decode(encode("Well, no."))` is `" well, no."`.

    Args:
        tokenizer_file (`str`, *optional*):
            A `tokenizer.json`; of openai-gpt's, which splits words otherwise, the vocabulary and the merges are taken.
            Without a source, it is the packaged tokenizer: 40,000 merges learned from English novels.
        tokenizer_object (`tokenizers.Tokenizer`, *optional*):
            A tokenizer in place of a file.
        vocab_file, merges_file (`str`, *optional*):
            A `vocab.json` and a `merges.txt` in place of one file, as openai-gpt's checkpoints have them.
        task_format (`bool`, *optional*):
            Whether a text becomes `_start_ text _classify_`, and a pair `_start_ a _delimiter_ b _classify_`. Saved
            with the tokenizer. `None` keeps what the file says; the packaged tokenizer adds nothing.
        kwargs:
            Passed to [`PreTrainedTokenizerFast`].

    Raises:
        OSError: `from_pretrained` finds neither `tokenizer.json` nor `vocab.json` and `merges.txt`.
        ValueError: files that hold no byte-pair vocabulary, several sources, or half of one.
    """

    vocab_files_names = {
        "tokenizer_file": "tokenizer.json",
        "vocab_file": "vocab.json",
        "merges_file": "merges.txt",
    }
    model_input_names = ["input_ids", "attention_mask"]

    _tokenizer: Tokenizer

    def __init__(
        self,
        tokenizer_file: str | os.PathLike | None = None,
        tokenizer_object: Tokenizer | None = None,
        task_format: bool | None = None,
        vocab_file: str | os.PathLike | None = None,
        merges_file: str | os.PathLike | None = None,
        **kwargs: Any,
    ):
        if (vocab_file is None) != (merges_file is None):
            raise ValueError("vocab_file and merges_file go together: give both")
        if sum(source is not None for source in (tokenizer_file, tokenizer_object, vocab_file)) > 1:
            raise ValueError("tokenizer_file, tokenizer_object, and vocab_file with merges_file are three: give one")
        if vocab_file is not None and merges_file is not None:
            self._tokenizer = build_tokenizer(_read_vocabulary(vocab_file), _read_merges(merges_file))
        elif tokenizer_object is None:
            self._tokenizer = _read_tokenizer(tokenizer_file or PACKAGED_TOKENIZER / "tokenizer.json")
        else:
            self._tokenizer = deepcopy(tokenizer_object)
        for name, token in {"unk_token": "<unk>", **SPECIAL_TOKENS}.items():
            kwargs.setdefault(name, token)
        kwargs.setdefault("eos_token", kwargs["cls_token"])  # the paper's end token is the extract token
        kwargs.setdefault("model_max_length", 512)
        kwargs.setdefault("model_input_names", self.model_input_names)
        kwargs.setdefault("clean_up_tokenization_spaces", False)  # the decoder has seen to it
        self._add_special_tokens(kwargs)
        super().__init__(**kwargs)
        self.init_kwargs.pop("added_tokens_decoder", None)  # a vocabulary learned anew numbers them anew
        self._space_added_tokens()
        self._tokenizer.model._resize_cache(CACHED_WORDS)
        # Made anew in any case: where a file has no template, transformers has made one that gives the second text
        # another type, and where it has one, other special tokens may have been asked for
        self.task_format = self.task_format if task_format is None else task_format

    def _add_special_tokens(self, kwargs: dict[str, Any]) -> None:
        """The tokens that a checkpoint brings along, under the numbers it has for them, then those it lacks."""
        brought = kwargs.get("added_tokens_decoder", {})
        self._tokenizer.add_tokens([token for _, token in sorted(brought.items())])
        for number, token in brought.items():
            if (found := self._tokenizer.token_to_id(str(token))) != number:
                raise ValueError(f"the token {str(token)!r} should be number {number} of the vocabulary, not {found}")
        named = [kwargs[name] for name in ("unk_token", *SPECIAL_TOKENS) if kwargs[name] is not None]
        self._tokenizer.add_special_tokens([_as_written(token, special=True) for token in named])

    def _add_tokens(self, new_tokens: Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        """As in transformers; what comes as a `str` is found as it is written, and decoded as a word of its own."""
        added = super()._add_tokens([_as_written(token, special_tokens) for token in new_tokens], special_tokens)
        self._space_added_tokens()
        return added

    def _space_added_tokens(self) -> None:
        """Tells the decoder which tokens are no words of the vocabulary; it knows those that every tokenizer has."""
        added = {str(token) for token in self._tokenizer.get_added_tokens_decoder().values()}.difference(SPECIAL)
        if added:
            self._tokenizer.decoder = decoder([*SPECIAL, *sorted(added)])

    def add_special_tokens(self, *args: Any, **kwargs: Any) -> int:
        """As in transformers; the task format takes what is now the start, delimiter or extract token."""
        added = super().add_special_tokens(*args, **kwargs)
        if self.task_format:
            self.task_format = True
        return added

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """The files of `from_pretrained` for `__init__`; transformers would rebuild a part of the tokenizer only."""
        if kwargs.get("tokenizer_file") is not None:
            kwargs["vocab_file"] = kwargs["merges_file"] = None
        elif kwargs.get("vocab_file") is None or kwargs.get("merges_file") is None:
            raise FileNotFoundError(
                f"{kwargs['name_or_path']} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"
            )
        return kwargs

    @classmethod
    def from_openai(
        cls, encoder_json: str | os.PathLike, bpe: str | os.PathLike, task_format: bool = False, **kwargs: Any
    ) -> "GPT1Tokenizer":
        """OpenAI's published vocabulary: `encoder_bpe_40000.json` and `vocab_40000.bpe`.

        Raises `ValueError` if the files do not hold a vocabulary with `<unk>` and merges of its symbols.
        """
        return cls(vocab_file=encoder_json, merges_file=bpe, task_format=task_format, **kwargs)

    @classmethod
    def from_vocabulary(
        cls, vocab: dict[str, int], merges: list[tuple[str, str]], task_format: bool = False, **kwargs: Any
    ) -> "GPT1Tokenizer":
        """A vocabulary whose symbols end words with `</w>`, and its merges, the first learned first."""
        return cls(tokenizer_object=build_tokenizer(vocab, merges), task_format=task_format, **kwargs)

    def train_new_from_iterator(self, *args: Any, **kwargs: Any) -> "GPT1Tokenizer":
        """As in transformers, but that the special tokens follow the vocabulary, where a [`GPT1Config`] has them."""
        learned = super().train_new_from_iterator(*args, **kwargs)
        state = json.loads(learned._tokenizer.to_str())
        named = (learned.bos_token, learned.sep_token, learned.cls_token, learned.pad_token)
        last = dict.fromkeys(token for token in named if token is not None)  # one token may be two of them
        vocab = state["model"]["vocab"]
        ordered = [*(token for token in sorted(vocab, key=vocab.__getitem__) if token not in last), *last]
        state["model"]["vocab"] = vocab = {token: number for number, token in enumerate(ordered)}
        for token in state["added_tokens"]:
            token["id"] = vocab[token["content"]]
        state["added_tokens"].sort(key=lambda token: token["id"])
        learned._tokenizer = Tokenizer.from_str(json.dumps(state))
        learned.task_format = self.task_format  # by the new numbers
        return learned

    @property
    def task_format(self) -> bool:
        """Whether a call adds the special tokens of the tasks' inputs."""
        return self._tokenizer.num_special_tokens_to_add(False) > 0

    @task_format.setter
    def task_format(self, value: bool) -> None:
        start, delimiter, extract = self.bos_token, self.sep_token, self.cls_token
        if value and None in (start, delimiter, extract):
            raise ValueError("the task format needs a bos_token, a sep_token and a cls_token, and one of them is None")
        self._tokenizer.post_processor = TemplateProcessing(
            single=f"{start} $A {extract}" if value else "$A",
            pair=f"{start} $A {delimiter} $B:0 {extract}" if value else "$A $B:0",
            special_tokens=[(t, self.convert_tokens_to_ids(t)) for t in (start, delimiter, extract)] if value else [],
        )

    def _encode_plus(  # type: ignore[override]  # transformers passes all but the texts by name
        self, text: Any, text_pair: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        """
        Lone surrogates, which UTF-8 cannot hold, are read as ftfy reads them; what is no text is refused. An empty
        second text is one, as it is in a batch.
        """
        if isinstance(text_pair, str) and not text_pair:
            text_pair = _Empty()
        encode = self._encode_batch if self._is_plain_batch(text, text_pair, kwargs) else super()._encode_plus
        try:
            return encode(text, text_pair, **kwargs)
        except TypeError:
            repaired = _join_surrogates(text)
            repaired_pair = None if text_pair is None else _join_surrogates(text_pair)
            if (repaired, repaired_pair) == (text, text_pair):
                raise
            return self._encode_plus(repaired, repaired_pair, **kwargs)

    def _is_plain_batch(self, text: Any, text_pair: Any, kwargs: dict[str, Any]) -> bool:
        """Whether texts or pairs of them come in lists, and nothing is asked for that only an `Encoding` has."""
        lists = (text,) if text_pair is None else (text, text_pair)
        return (
            "padding_strategy" in kwargs  # not where `tokenize` calls
            and all(isinstance(batch, (list, tuple)) and batch and isinstance(batch[0], str) for batch in lists)
            and len(lists[0]) == len(lists[-1])
            and (kwargs.get("padding_side") or self.padding_side) in ("left", "right")
            and not any(
                kwargs.get(name)
                for name in (
                    "is_split_into_words",
                    "return_offsets_mapping",
                    "return_overflowing_tokens",
                    "sanitize_control_tokens",
                )
            )
        )

    def _encode_batch(self, text: list[str], text_pair: list[str] | None, **kwargs: Any) -> BatchEncoding:
        """
        A batch in four fifths of the time: without offsets until its encodings are asked for, and padded as lists,
        where `tokenizers` writes the token's text at every place.
        """
        strategy, max_length = kwargs["padding_strategy"], kwargs["max_length"]
        self.set_truncation_and_padding(
            padding_strategy=PaddingStrategy.DO_NOT_PAD,
            truncation_strategy=kwargs["truncation_strategy"],
            max_length=max_length,
            stride=kwargs.get("stride", 0),
            pad_to_multiple_of=None,
            padding_side=None,
        )
        split = kwargs.get("split_special_tokens")
        self._tokenizer.encode_special_tokens = self.split_special_tokens if split is None else split
        encodings = self._tokenizer.encode_batch_fast(
            text if text_pair is None else list(zip(text, text_pair, strict=True)),
            add_special_tokens=kwargs.get("add_special_tokens", True),
        )
        ids = [encoding.ids for encoding in encodings]
        for row in ids:
            self._eventual_warn_about_too_long_sequence(row, max_length, kwargs.get("verbose", True))

        def wanted(name: str) -> bool:
            asked = kwargs.get(f"return_{name}")
            return name in self.model_input_names if asked is None else asked

        data: dict[str, list[Any]] = {"input_ids": ids}
        fill = {"input_ids": self.pad_token_id}
        if wanted("token_type_ids"):
            data["token_type_ids"] = [encoding.type_ids for encoding in encodings]
            fill["token_type_ids"] = self.pad_token_type_id
        if wanted("attention_mask"):
            data["attention_mask"] = [[1] * len(row) for row in ids]
            fill["attention_mask"] = 0
        if wanted("special_tokens_mask"):
            data["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
            fill["special_tokens_mask"] = 1
        if strategy != PaddingStrategy.DO_NOT_PAD:
            length = max_length if strategy == PaddingStrategy.MAX_LENGTH else max(map(len, ids))
            length += -length % (kwargs.get("pad_to_multiple_of") or 1)
            at_end = (kwargs.get("padding_side") or self.padding_side) == "right"
            for name, value in fill.items():
                for row in data[name]:
                    at = len(row) if at_end else 0
                    row[at:at] = [value] * (length - len(row))
        if wanted("length"):
            data["length"] = [len(row) for row in ids]
        # Whenever its encodings are asked for, they are of the texts of now
        texts = list(text), None if text_pair is None else list(text_pair)
        same = kwargs | {"return_tensors": None, "padding_side": kwargs.get("padding_side") or self.padding_side}
        return LazyBatch(
            data,
            lambda: super(GPT1Tokenizer, self)._encode_plus(*texts, **same),
            tensor_type=kwargs.get("return_tensors"),
            n_sequences=encodings[0].n_sequences,
        )

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        raw_spacing: bool = False,
        **kwargs: Any,
    ) -> str:
        """With `raw_spacing=True`, `decode` gives the 2018 encoder's text: a blank after each word, `do n't `."""
        if not raw_spacing:
            return super()._decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces, **kwargs)
        token_ids = [token_ids] if isinstance(token_ids, int) else token_ids
        tokens = self.convert_ids_to_tokens(token_ids, skip_special_tokens=skip_special_tokens)
        special = set(self.all_special_tokens)
        return "".join(f"{t} " if t in special else t.replace("</w>", " ") for t in tokens if t is not None)

    def _save_pretrained(
        self,
        save_directory: str | os.PathLike,
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        files = super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        # Merges as "a b", which every version of `tokenizers` reads, and without the line breaks of a pretty print
        tokenizer_file = Path(save_directory) / f"{prefix}tokenizer.json"
        content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
        content["model"]["merges"] = list(map(" ".join, content["model"]["merges"]))
        _write_json(tokenizer_file, content, separators=(",", ":"))
        # The class that is there without this package, and that keeps the pipeline as it is
        config_file = Path(save_directory) / f"{prefix}tokenizer_config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        _write_json(config_file, config, indent=2, sort_keys=True)
        return files


class _Empty(str):
    """An empty text that is true: transformers takes a second text that is not for none."""

    def __bool__(self) -> bool:
        return True


class LazyBatch(BatchEncoding):
    """A batch whose `encodings` are made once they are asked for: hardly ever.

    Args:
        data: the lists of the batch.
        encode: makes the same batch with its encodings; None where there are none, as in a batch that is made of
            another's items.
        tensor_type, n_sequences: as in [`BatchEncoding`].
    """

    _made: Sequence[Encoding] | None

    def __init__(
        self,
        data: dict | None = None,
        encode: Callable[[], BatchEncoding] | None = None,
        tensor_type: str | None = None,
        n_sequences: int | None = None,
    ):
        self._encode = encode
        super().__init__(data, None, tensor_type, n_sequences=n_sequences)

    @property
    def _encodings(self) -> Sequence[Encoding] | None:
        if self._made is None and self._encode is not None:
            self._made = self._encode().encodings
        return self._made

    @_encodings.setter
    def _encodings(self, encodings: Sequence[Encoding] | None) -> None:
        self._made = encodings

    @property
    def is_fast(self) -> bool:
        """Whether it has encodings."""
        return self._encode is not None

    def __reduce__(self) -> tuple:
        """Copied and pickled, it is a `BatchEncoding` like any other."""
        return BatchEncoding, (self.data, self._encodings, None, False, self.n_sequences)


def _as_written(token: str | AddedToken, special: bool) -> AddedToken:
    """A token to add that is found in a text before anything is done to that; what is none yet becomes one."""
    return token if isinstance(token, AddedToken) else AddedToken(token, special=special, normalized=False)


def _join_surrogates(text: Any) -> Any:
    """Of a text, or of texts in lists and pairs."""
    if isinstance(text, str):
        return join_surrogates(text)
    if isinstance(text, (list, tuple)):
        return type(text)(map(_join_surrogates, text))
    raise TypeError(f"a text is a str, not {type(text).__name__}")


def _write_json(path: Path, content: dict, **style: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, **style) + "\n", encoding="utf-8")


def _read_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """A `tokenizer.json`; one of openai-gpt's gets the words of the 2018 encoder in place of transformers' own."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` has no kinds of its own
        raise ValueError(f"{path} is no tokenizer: {error}") from error
    if not isinstance(tokenizer.model, models.BPE):
        raise ValueError(f"{path} is no byte-pair tokenizer")
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer):
        encoder = build_tokenizer({"<unk>": 0}, [])
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            setattr(tokenizer, part, getattr(encoder, part))
    return tokenizer


def _read_vocabulary(path: str | os.PathLike) -> dict[str, int]:
    try:
        vocab = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(vocab, dict) or not all(isinstance(index, int) for index in vocab.values()):
        raise ValueError(f"{path}: not a vocabulary, which is an object of symbols and their numbers")
    return vocab


def _read_merges(path: str | os.PathLike) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line or number == 1 and line.startswith("#version"):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise ValueError(f"{path}, line {number}: a merge is two symbols, here {len(pair)}")
        merges.append((pair[0], pair[1]))
    return merges
