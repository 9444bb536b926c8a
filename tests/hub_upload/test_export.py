"""What an export holds, that it is checked where the package is not, and what its card says."""

import importlib.util
import json
import sys

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from safetensors.torch import load_file, save_file

from hub_upload import export, push, write_model_card
from modeling_gpt1 import (
    GPT1ForCausalLM,
    GPT1ForEntailment,
    GPT1ForMaskedLM,
    GPT1ForMultipleChoice,
    GPT1ForSequenceClassification,
    GPT1ForSimilarity,
)
from modeling_gpt1.configuration_gpt1 import LICENSE


PLOTS = importlib.util.find_spec("matplotlib") is not None
EXPORT = sys.modules["hub_upload.export"]  # the module, which the function of its name hides


@pytest.fixture
def without_fresh_process(monkeypatch):
    monkeypatch.setattr(EXPORT, "compare", lambda *_: None)


def test_an_export_is_complete_checked_and_nothing_more(trained, tmp_path, flat_files):
    directory = trained()
    (directory / "pictures").mkdir()
    (directory / "pictures" / "one.png").write_bytes(b"\x89PNG")
    path = export(directory, tmp_path / "export", repo_id="user/model")
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert names == {
        "LICENSE",
        "README.md",
        "config.json",
        *(["loss.png"] if PLOTS else []),
        "model.safetensors",
        *flat_files,
        "pictures/one.png",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    auto_map = json.loads((path / "config.json").read_text())["auto_map"]
    assert {"AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForMultipleChoice"} <= set(auto_map)
    assert sorted(tmp_path.iterdir()) == [path, directory]
    with pytest.raises(FileExistsError, match="not empty"):
        export(directory, path)


def test_an_export_twice_is_the_same_bytes(trained, tmp_path, without_fresh_process):
    directory = trained(GPT1ForCausalLM)
    first = export(directory, tmp_path / "first", repo_id="user/model")
    second = export(first, tmp_path / "second", repo_id="user/model")
    assert (first / "generation_config.json").is_file()
    for path in first.iterdir():
        if path.name not in ("README.md", "loss.png"):  # whose numbers an export does not carry
            assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize("damage", ["weights", "code"])
def test_an_export_that_answers_otherwise_stops_the_push(hub, trained, monkeypatch, damage):
    copy_card = EXPORT.copy_card

    def and_damage(source, output_dir, *more):
        if damage == "weights":
            weights = load_file(output_dir / "model.safetensors")
            weights["score.bias"] += 0.01
            save_file(weights, output_dir / "model.safetensors", metadata={"format": "pt"})
        else:
            code = output_dir / "modeling_gpt1.py"
            code.write_text(code.read_text() + "\nimport modeling_gpt1.loading\n")
        return copy_card(source, output_dir, *more)

    monkeypatch.setattr(EXPORT, "copy_card", and_damage)
    message = "does not give the logits" if damage == "weights" else "the export does not load without this package"
    with pytest.raises(ValueError, match=message) as stopped:
        push(trained(), "user/model")
    assert "\n" not in str(stopped.value)
    assert not hub.repos


def test_what_sees_both_sides_claims_no_language_model(trained, tmp_path, without_fresh_process):
    path = export(trained(GPT1ForMaskedLM), tmp_path / "export")
    auto_map = json.loads((path / "config.json").read_text())["auto_map"]
    assert "AutoModelForMaskedLM" in auto_map and "AutoModelForCausalLM" not in auto_map
    card = ModelCard.load(path / "README.md")
    assert card.data.pipeline_tag == "fill-mask" and card.data.widget == [{"text": "A delightful [MASK]."}]


@pytest.mark.parametrize("model_class", [GPT1ForCausalLM, GPT1ForSequenceClassification])
def test_the_format_openai_gpt_needs_no_remote_code(trained, tmp_path, model_class):
    path = export(trained(model_class, intermediate_size=32), tmp_path / "export", format="openai-gpt")
    config = json.loads((path / "config.json").read_text())
    assert config["model_type"] == "openai-gpt" and "auto_map" not in config
    assert not list(path.glob("*.py"))
    assert "trust_remote_code" not in (path / "README.md").read_text()


def test_what_openai_gpt_has_no_class_for_is_refused(trained, tmp_path, without_fresh_process):
    for model_class in (GPT1ForMultipleChoice, GPT1ForSimilarity):
        directory = trained(model_class, model_class.__name__, intermediate_size=32)
        with pytest.raises(ValueError, match=model_class.__name__):
            export(directory, tmp_path / "export", format="openai-gpt")
    assert not (tmp_path / "export").exists()


def test_what_cannot_be_exported_is_one_line(trained, tmp_path):
    directory = trained()
    (directory / "tokenizer.json").rename(directory / "tokenizer.json.old")
    with pytest.raises(OSError, match="has no tokenizer"):
        export(directory, tmp_path / "export")
    (directory / "tokenizer.json.old").rename(directory / "tokenizer.json")
    weights = load_file(directory / "model.safetensors")
    save_file({"model.embed_tokens.weight": weights["model.embed_tokens.weight"]}, directory / "model.safetensors")
    with pytest.raises(ValueError, match="have num_hidden_layers 0, the configuration 1"):
        export(directory, tmp_path / "export")
    (directory / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        export(directory, tmp_path / "export")
    with pytest.raises(OSError, match="no checkpoint"):
        export(tmp_path / "nowhere", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_the_licence_is_the_projects(request):
    assert (request.config.rootpath / "LICENSE").read_text(encoding="utf-8") == LICENSE


def test_a_card_tells_what_the_run_wrote(trained, tmp_path, without_fresh_process):
    directory = trained()
    write_model_card(
        directory,
        task="sst2",
        dataset="nyu-mll/glue",
        base_model="openai-community/openai-gpt",
        settings={"epochs": "3", "learning rate": "6.25e-05"},
        paper=("accuracy", 91.3),
    )
    path = export(directory, tmp_path / "export", repo_id="user/model")
    card = ModelCard.load(path / "README.md")  # which validates the metadata
    data = card.data
    assert (data.pipeline_tag, data.library_name, data.license) == ("text-classification", "transformers", "mit")
    assert (data.base_model, data.datasets) == ("openai-community/openai-gpt", ["nyu-mll/glue"])
    assert (data.language, data.metrics) == ("en", ["accuracy"])
    assert data.widget
    # model-index, as huggingface_hub reads it: what all_results.json has, and nothing else
    name, results = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "user/model"
    found = {
        (result.dataset_type, result.dataset_split, result.metric_type): result.metric_value for result in results
    }
    assert found == {
        ("nyu-mll/glue", "validation", "accuracy"): 0.8125,
        ("nyu-mll/glue", "test", "accuracy"): 0.75,
    }
    assert "| validation | accuracy | 0.8125 | 0.913 |" in card.text
    assert "learning rate: 6.25e-05" in card.text
    if PLOTS:
        assert "](loss.png)" in card.text and (path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert 'model="user/model", trust_remote_code=True' in card.text
    for heading in ("Use", "Training", "Results", "Limits and biases", "Citation"):
        assert f"\n## {heading}\n" in card.text
    assert "unknown" not in card.text and "None" not in card.text and "{{" not in card.text


def test_a_card_says_what_is_unknown(trained, tmp_path, without_fresh_process):
    directory = trained()
    (directory / "all_results.json").unlink()
    (directory / "trainer_state.json").unlink()
    card = ModelCard.load(export(directory, tmp_path / "export") / "README.md")
    assert "- data: unknown" in card.text and "- settings: unknown" in card.text
    assert "what this model reaches is unknown" in card.text
    assert "What it was trained from is unknown" in card.text
    assert "model-index" not in card.data.to_dict() and not (tmp_path / "export" / "loss.png").exists()


def test_a_card_of_a_language_model(trained, tmp_path, without_fresh_process):
    directory = trained(GPT1ForCausalLM)
    results = {"eval_loss": 3.5, "eval_perplexity": 33.1, "eval_word_perplexity": 70.2, "eval_runtime": 1.0}
    (directory / "all_results.json").write_text(json.dumps(results | {"train_loss": 4.0, "eval_accuracy": 0.3}))
    write_model_card(
        directory,
        corpus="three novels, 400,000 words",
        settings={"steps": 1000},
        command="gpt1 pretrain --corpus novels",
        sample="it was a bright cold day in april, " * 5,
        paper=("perplexity", 18.4),
    )
    card = ModelCard.load(export(directory, tmp_path / "export", repo_id="user/model") / "README.md")
    assert card.data.pipeline_tag == "text-generation" and card.data.base_model is None
    assert card.data.metrics == ["loss", "perplexity", "word_perplexity"]
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert {(result.dataset_split, result.metric_type, result.metric_value) for result in results} == {
        ("validation", "loss", 3.5),
        ("validation", "perplexity", 33.1),
        ("validation", "word_perplexity", 70.2),
    }
    assert {result.dataset_name for result in results} == {"three novels, 400,000 words"}
    for line in (
        "| validation | loss | 3.5000 | - |",
        "| validation | perplexity | 33.1000 | 18.4 |",
        "- data: three novels, 400,000 words",
        "- steps: 1000",
        "gpt1 pretrain --corpus novels",
        "## Sample",
    ):
        assert f"\n{line}\n" in card.text
    assert "Trained from scratch." in card.text and "unknown" not in card.text
    assert ("](loss.png)" in card.text) == PLOTS


def test_a_directory_that_was_fine_tuned_from_is_not_shown(trained, tmp_path, without_fresh_process):
    directory = trained()
    base = tmp_path / "secret-place" / "base"
    base.mkdir(parents=True)
    write_model_card(directory, task="sst2", base_model=str(base))
    text = (export(directory, tmp_path / "export") / "README.md").read_text()
    assert "Fine-tuned from `base`" in text and "secret-place" not in text and "base_model" not in text


def test_a_card_that_was_edited_is_kept_and_trainers_own_is_not(trained, tmp_path, without_fresh_process):
    directory = trained()
    card = write_model_card(directory, task="sst2")
    edited = card.read_text().replace("## Use", "## How I use it")
    card.write_text(edited)
    exported = export(directory, tmp_path / "edited")
    assert (exported / "README.md").read_text() == edited
    assert (exported / "loss.png").is_file() == PLOTS
    card.write_text("---\ntags:\n- generated_from_trainer\n---\n\n# run\n")
    assert "## Limits and biases" in (export(directory, tmp_path / "trainers") / "README.md").read_text()


def test_results_of_several_validation_sets_and_regressions(trained, tmp_path, without_fresh_process):
    directory = trained(GPT1ForSimilarity, num_labels=1, problem_type="regression")
    results = {"eval_pearson": 0.5, "eval_mismatched_pearson": 0.25, "eval_samples": 3, "train_accuracy": 1.0}
    (directory / "all_results.json").write_text(json.dumps(results))
    write_model_card(directory, task="stsb", paper=("pearson", 82.0))
    text = (export(directory, tmp_path / "export") / "README.md").read_text()
    assert "| validation | pearson | 0.5000 | 0.820 |" in text
    assert "| validation_mismatched | pearson | 0.2500 | 0.820 |" in text
    assert "LABEL_0" not in text and 'function_to_apply="none"' in text


@pytest.mark.parametrize(
    "model_class, tag",
    [
        (GPT1ForSequenceClassification, "text-classification"),
        (GPT1ForEntailment, "text-classification"),
        (GPT1ForMultipleChoice, "multiple-choice"),
        (GPT1ForCausalLM, "text-generation"),
    ],
)
def test_the_tag_is_the_heads(trained, tmp_path, without_fresh_process, model_class, tag):
    path = export(trained(model_class), tmp_path / "export")
    assert ModelCard.load(path / "README.md").data.pipeline_tag == tag


def test_without_matplotlib_the_card_goes_without_its_picture(
    trained, tmp_path, without_fresh_process, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = export(trained(), tmp_path / "export")
    assert "loss.png" not in (path / "README.md").read_text()
    assert 'pip install "gpt1[plots]"' in capsys.readouterr().err
