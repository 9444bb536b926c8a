"""The NumPy reference, and a record of how far from it, and from other references, the tests found the package."""

import json
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch


_DEVIATIONS = pytest.StashKey[dict[str, tuple[float, float]]]()


def pytest_configure(config):
    config.stash[_DEVIATIONS] = {}


def pytest_terminal_summary(terminalreporter, config):
    """The largest deviation per comparison, below the results."""
    if config.stash.get(_DEVIATIONS, {}):
        terminalreporter.section("largest deviations")
        for name, (largest, tolerance) in sorted(config.stash[_DEVIATIONS].items()):
            terminalreporter.write_line(f"{largest:.1e}  (allowed {tolerance:.0e})  {name}")


@pytest.fixture(scope="module")
def one_thread():
    """Models this small gain nothing from threads, and lose much where other processes want the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def reference(load_module) -> ModuleType:
    """The module tests/reference.py."""
    return load_module("tests/reference.py")


@pytest.fixture
def agree(pytestconfig):
    """Checks that two arrays agree, and remembers the largest absolute deviation under the comparison's name."""

    def check(name: str, got, expected, tolerance: float = 1e-9) -> None:
        got, expected = (np.asarray(x.detach().numpy() if isinstance(x, torch.Tensor) else x) for x in (got, expected))
        assert got.shape == expected.shape, f"{name}: {got.shape} and {expected.shape}"
        deviation = float(np.abs(got - expected).max(initial=0))
        record = pytestconfig.stash[_DEVIATIONS]
        record[name] = max(record.get(name, (0.0, 0.0))[0], deviation), tolerance
        assert deviation <= tolerance, f"{name}: {deviation:.3g} apart, {tolerance:g} allowed"

    return check


# The reference's symbols of a block's linear layers and norms, and our names.
LINEAR = {"qkv": "self_attn.qkv_proj", "o": "self_attn.o_proj", "1": "mlp.up_proj", "2": "mlp.down_proj"}
NORMS = {"n": "attn_norm", "h": "mlp_norm"}


@pytest.fixture
def symbols():
    """Turns our model's parameters, or other arrays of the same names, into the reference's `p`."""

    def translate(tensors: dict[str, np.ndarray]) -> dict:
        arrays = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        blocks = []
        while f"layers.{len(blocks)}.attn_norm.weight" in arrays:
            layer = f"layers.{len(blocks)}"
            block = {}
            for symbol, name in LINEAR.items():
                block[f"W_{symbol}"] = arrays[f"{layer}.{name}.weight"].T
                block[f"b_{symbol}"] = arrays[f"{layer}.{name}.bias"]
            for symbol, name in NORMS.items():
                block[f"g_{symbol}"] = arrays[f"{layer}.{name}.weight"]
                block[f"o_{symbol}"] = arrays[f"{layer}.{name}.bias"]
            blocks.append(block)
        p = {"W_e": arrays["embed_tokens.weight"], "blocks": blocks}
        others = {"W_p": "embed_positions.weight", "g": "norm.weight", "o": "norm.bias", "b_y": "score.bias"}
        p |= {symbol: arrays[name] for symbol, name in others.items() if name in arrays}
        return p | ({"W_y": arrays["score.weight"].T} if "score.weight" in arrays else {})

    return translate


@pytest.fixture(scope="session")
def small_vocabulary(tmp_path_factory):
    """The files of a vocabulary of letters and three merges, under OpenAI's names and under transformers'."""
    letters = "abcdefghijklmnopqrstuvwxyz.,"
    symbols = ["<unk>", *letters, *(f"{letter}</w>" for letter in letters), "th", "the</w>", "in</w>"]
    vocab = json.dumps({symbol: index for index, symbol in enumerate(symbols)})
    merges = "#version: 0.2\nt h\nth e</w>\ni n</w>\n"
    directory = tmp_path_factory.mktemp("vocabulary")
    for name, text in {
        "encoder_bpe_40000.json": vocab,
        "vocab_40000.bpe": merges,
        "vocab.json": vocab,
        "merges.txt": merges,
    }.items():
        (directory / name).write_text(text, encoding="utf-8")
    return SimpleNamespace(directory=directory, size=len(symbols))
