"""What must not be published is named and refused; what training leaves is neither sent nor in the way."""

import os

import pytest

from hub_upload.refusals import refuse, refuse_size, scrub, size_in_bytes
from modeling_gpt1 import GPT1_MINI


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    (path / "checkpoint-10").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    # Trainer's own
    (path / "training_args.bin").write_bytes(b"pickle")
    (path / "checkpoint-10" / "optimizer.pt").write_bytes(b"pickle")
    (path / "all_results.json").write_text("{}")
    return path


def test_what_training_leaves_is_no_reason(folder):
    refuse(folder)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("pytorch_model.bin", "a pickle"),
        ("weights/model.PT", "a pickle"),
        ("labels.pkl", "a pickle"),
        ("optimizer.pt", "an optimiser or training state"),
        ("rng_state_0.pth", "an optimiser or training state"),
        ("train.csv", "a data file"),
        ("data/part.parquet", "a data file"),
        (".env", "an environment file"),
        (".env.local", "an environment file"),
        ("id_rsa", "a key or a login"),
    ],
)
def test_files_that_are_refused_by_name(folder, name, reason):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("content")
    with pytest.raises(ValueError, match="nothing was sent") as refused:
        refuse(folder)
    assert f"{name} ({reason})" in str(refused.value)


def test_data_that_the_card_links_to_is_let_through(folder):
    for name in ("sources.tsv", "train.csv", "weights.bin"):
        (folder / name).write_text("content")
    (folder / "README.md").write_text("[sources](./sources.tsv), [weights](weights.bin), `--train_file train.csv`\n")
    with pytest.raises(ValueError, match=r"train\.csv \(a data file\), weights\.bin \(a pickle\);") as refused:
        refuse(folder)
    assert "sources.tsv" not in str(refused.value)
    (folder / "train.csv").unlink()
    (folder / "weights.bin").unlink()
    refuse(folder)
    (folder / "sources.tsv").write_text("hf_" + "a1B2" * 9)
    with pytest.raises(ValueError, match=r"sources\.tsv \(holds what looks like a token"):
        refuse(folder)
    refuse(GPT1_MINI)  # with the list of its books


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a1B2" * 9,
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2" * 10,
        "AKIA" + "ABCD" * 4,
        "sk-" + "a1B2" * 10,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_tokens_are_found_and_not_repeated(folder, secret):
    # Across the border of two pieces that are read one after the other
    (folder / "notes.md").write_text(" " * ((1 << 20) - 10) + secret + " ")
    with pytest.raises(ValueError, match=r"notes\.md \(holds what looks like a token") as refused:
        refuse(folder)
    assert secret not in str(refused.value)


def test_the_logins_own_token_is_found_whatever_its_form(folder):
    (folder / "notes.md").write_text("my-own-secret")
    refuse(folder)
    with pytest.raises(ValueError, match="token") as refused:
        refuse(folder, "my-own-secret")
    assert "my-own-secret" not in str(refused.value)
    (folder / "notes.md").rename(folder / f"hf_{'x' * 30}.md")
    with pytest.raises(ValueError) as refused:
        refuse(folder)
    assert "xxx" not in str(refused.value)


def test_names_are_looked_through(folder):
    (folder / "my-own-secret").touch()
    with pytest.raises(ValueError, match="token") as refused:
        refuse(folder, "my-own-secret")
    assert "my-own-secret" not in str(refused.value)
    (folder / "my-own-secret").unlink()
    (folder / os.fsdecode(b"caf\xe9.md")).touch()
    refuse(folder, "my-own-secret")


def test_links(folder, tmp_path):
    (folder / "again.json").symlink_to("config.json")
    refuse(folder)
    (tmp_path / "elsewhere.md").write_text("private")
    (folder / "page.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(ValueError, match=r"page\.md \(a link that leaves the folder\)"):
        refuse(folder)
    (folder / "page.md").unlink()
    (folder / "all").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"all \(a link that leaves the folder\)"):
        refuse(folder)
    (folder / "all").unlink()
    (folder / "gone.md").symlink_to("nothing")
    with pytest.raises(ValueError, match="a link to nothing"):
        refuse(folder)
    # The folder's own address may be a link
    (folder / "gone.md").unlink()
    (tmp_path / "alias").symlink_to(folder)
    refuse(tmp_path / "alias")


def test_sizes():
    files = {"a": 600, "b": 500}
    refuse_size(files, 1100)
    refuse_size(files, "1.1kB")
    with pytest.raises(ValueError, match=r"1.1 kB to send, more than max_size 1.0 kB; the largest is a, 600 B"):
        refuse_size(files, "1KB")
    assert [size_in_bytes(size) for size in ("5GB", "2MiB", "7", 8, "1_000")] == [5 * 10**9, 2**21, 7, 8, 1000]
    for size in ("much", "5XB", "-1", "", "_5", "5_"):
        with pytest.raises(ValueError, match="max_size"):
            size_in_bytes(size)


def test_scrubbing():
    assert scrub(f"a hf_{'b' * 30} c secret d", "secret") == "a [token] c [token] d"
