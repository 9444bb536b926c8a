"""GPT-1's tokenizer for transformers: the 2018 text encoder, with OpenAI's special tokens.

References:
1. the text encoder of OpenAI's release, https://github.com/openai/finetune-transformer-lm/blob/master/text_utils.py
2. "Improving Language Understanding by Generative Pre-Training" (2018), figure 1 right: the inputs of the tasks
3. transformers' `OpenAIGPTTokenizer`, whose vocabulary this reads, and whose words differ
"""

import json
import os
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BatchEncoding, PreTrainedTokenizerFast


PACKAGED_TOKENIZER = Path(__file__).resolve().parent / "gpt1-bpe-40k"

# In the order in which they follow the vocabulary
SPECIAL_TOKENS = {
    "bos_token": "_start_",
    "sep_token": "_delimiter_",
    "cls_token": "_classify_",
    "pad_token": "<pad>",
}


class GPT1Tokenizer(PreTrainedTokenizerFast):
    r"""
    The words and byte pairs of GPT-1's 2018 encoder, at the speed of `tokenizers`.

    Everything it does is in `tokenizer.json`, and it is saved as a `PreTrainedTokenizerFast`: where this package is
    not installed, `AutoTokenizer.from_pretrained` loads it without remote code, and gives the same ids.

    A text is encoded with no special token, as pre-training wants it, unless `task_format` asks for them. Special
    tokens that occur in the text itself (`"_classify_"`) are read as such, as everywhere in transformers; pass
    `split_special_tokens=True` here or to the call, to read them as text where it comes from strangers.

    Decoding is in lower case, with natural spacing. Words come with the blank before them, so that pieces which are
    decoded apart join as they should: `decode(encode("Well, no."))` is `" well, no."`.

    Args:
        tokenizer_file (`str`, *optional*):
            A `tokenizer.json`. Defaults to the packaged tokenizer: 40,000 merges learned from English novels.
        tokenizer_object (`tokenizers.Tokenizer`, *optional*):
            A tokenizer in place of a file.
        task_format (`bool`, *optional*):
            Whether a text becomes `_start_ text _classify_`, and a pair `_start_ a _delimiter_ b _classify_`. Saved
            with the tokenizer. `None` keeps what the file says; the packaged tokenizer adds nothing.
        kwargs:
            Passed to [`PreTrainedTokenizerFast`].
    """

    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        tokenizer_file: str | os.PathLike | None = None,
        tokenizer_object: Tokenizer | None = None,
        task_format: bool | None = None,
        **kwargs,
    ):
        if tokenizer_file is None and tokenizer_object is None:
            tokenizer_file = PACKAGED_TOKENIZER / "tokenizer.json"
        if tokenizer_file is not None:
            kwargs["tokenizer_file"] = str(tokenizer_file)
        if tokenizer_object is not None:
            kwargs["tokenizer_object"] = tokenizer_object
        for name, token in {"unk_token": "<unk>", **SPECIAL_TOKENS}.items():
            kwargs.setdefault(name, token)
        kwargs.setdefault("model_max_length", 512)
        kwargs.setdefault("model_input_names", self.model_input_names)
        kwargs.setdefault("clean_up_tokenization_spaces", False)  # the decoder has seen to it
        super().__init__(**kwargs)
        if task_format is not None:
            self.task_format = task_format

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs) -> dict:
        """Keeps `tokenizer_file` for `__init__`; transformers would take it to pieces and rebuild a part of them."""
        return kwargs

    @classmethod
    def from_openai(
        cls, encoder_json: str | os.PathLike, bpe: str | os.PathLike, task_format: bool = False, **kwargs
    ) -> "GPT1Tokenizer":
        """OpenAI's published vocabulary: `encoder_bpe_40000.json` and `vocab_40000.bpe`.

        Raises `ValueError` if the files do not hold a vocabulary with `<unk>` and merges of its symbols.
        """
        vocab = _read_vocabulary(encoder_json)
        return cls.from_vocabulary(vocab, _read_merges(bpe), task_format=task_format, **kwargs)

    @classmethod
    def from_vocabulary(
        cls, vocab: dict[str, int], merges: list[tuple[str, str]], task_format: bool = False, **kwargs
    ) -> "GPT1Tokenizer":
        """A vocabulary whose symbols end words with `</w>`, and its merges, the first learned first."""
        from .english import build_tokenizer

        tokenizer = build_tokenizer(vocab, merges)
        tokenizer.add_special_tokens([AddedToken("<unk>", special=True, normalized=False)])
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS.values()])
        return cls(tokenizer_object=tokenizer, task_format=task_format, **kwargs)

    @property
    def task_format(self) -> bool:
        """Whether a call adds the special tokens of the tasks' inputs."""
        return self._tokenizer.num_special_tokens_to_add(False) > 0

    @task_format.setter
    def task_format(self, value: bool) -> None:
        start, delimiter, extract = self.bos_token, self.sep_token, self.cls_token
        self._tokenizer.post_processor = TemplateProcessing(
            single=f"{start} $A {extract}" if value else "$A",
            pair=f"{start} $A {delimiter} $B:0 {extract}" if value else "$A $B:0",
            special_tokens=[(t, self.convert_tokens_to_ids(t)) for t in (start, delimiter, extract)] if value else [],
        )

    def _encode_plus(self, text, text_pair=None, **kwargs) -> BatchEncoding:
        """Lone surrogates, which UTF-8 cannot hold, are read as ftfy reads them; what is no text is refused."""
        try:
            return super()._encode_plus(text, text_pair, **kwargs)
        except TypeError:
            repaired = join_surrogates(text)
            repaired_pair = None if text_pair is None else join_surrogates(text_pair)
            if (repaired, repaired_pair) == (text, text_pair):
                raise
            return super()._encode_plus(repaired, repaired_pair, **kwargs)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        raw_spacing: bool = False,
        **kwargs,
    ) -> str:
        """With `raw_spacing=True`, `decode` gives the 2018 encoder's text: a blank after each word, `do n't `."""
        if not raw_spacing:
            return super()._decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces, **kwargs)
        token_ids = [token_ids] if isinstance(token_ids, int) else token_ids
        tokens = self.convert_ids_to_tokens(token_ids, skip_special_tokens=skip_special_tokens)
        special = set(self.all_special_tokens)
        return "".join(f"{t} " if t in special else t.replace("</w>", " ") for t in tokens if t is not None)

    def _save_pretrained(
        self, save_directory, file_names, legacy_format=None, filename_prefix=None
    ) -> tuple[str, ...]:
        files = super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        # Merges as "a b", which every version of `tokenizers` reads, and without the line breaks of a pretty print
        tokenizer_file = Path(save_directory) / f"{prefix}tokenizer.json"
        content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
        merges = content["model"]["merges"]
        content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
        _write_json(tokenizer_file, content, separators=(",", ":"))
        # The class that is there without this package, and that keeps the pipeline as it is
        config_file = Path(save_directory) / f"{prefix}tokenizer_config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        _write_json(config_file, config, indent=2, sort_keys=True)
        return files


def join_surrogates(text):
    """Texts, in lists and pairs or alone, with pairs of surrogates joined and lone ones replaced by U+FFFD."""
    if isinstance(text, str):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(text, (list, tuple)):
        return type(text)(join_surrogates(item) for item in text)
    raise TypeError(f"a text is a str, not {type(text).__name__}")


def _write_json(path: Path, content: dict, **style) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, **style) + "\n", encoding="utf-8")


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
