"""Libraries that score texts: lm-evaluation-harness, minicons, surprisal."""

import json

import pytest
import torch


TEXT = "the cat sat on the mat ."


@pytest.fixture
def tasks(tmp_path):
    """A task of each kind on local data, by its name."""
    rows = [{"question": "the cat sat on the", "choices": [" mat", " dog"], "answer": 0, "text": TEXT}] * 3
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    kinds = {
        "choice": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "acc"}],
        },
        "perplexity": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
        "generation": {
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "mat",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5},
            "metric_list": [{"metric": "exact_match"}],
        },
    }
    return {name: {"task": name, **files, **kind} for name, kind in kinds.items()}


def test_lm_evaluation_harness(checkpoint, tasks, surprisals, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", checkpoint)
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": checkpoint},
        tasks=list(tasks.values()),
        device="cpu",
        batch_size=2,
        bootstrap_iters=0,
        log_samples=True,
    )
    likelihoods = [-surprisals(f"the cat sat on the {word}")[4:].sum() for word in ("mat", "dog")]
    assert results["results"]["choice"]["acc,none"] == float(likelihoods[0] > likelihoods[1])
    (sample, *_) = results["samples"]["choice"]
    got = torch.tensor([float(answer[0][0]) for answer in sample["resps"]])
    torch.testing.assert_close(got, torch.stack(likelihoods), atol=1e-3, rtol=1e-4)
    assert results["results"]["perplexity"]["word_perplexity,none"] > 1
    (generated, *_) = results["samples"]["generation"]
    assert len(generated["resps"][0][0].split()) > 0


def test_minicons(checkpoint, surprisals):
    scorer = pytest.importorskip("minicons.scorer", reason="minicons is not installed")
    model = scorer.IncrementalLMScorer(checkpoint, "cpu")
    (scores,) = model.token_score([TEXT], surprisal=True, base_two=False)
    assert [token.removesuffix("</w>") for token, _ in scores] == TEXT.split()
    got = torch.tensor([score for _, score in scores[1:]])
    torch.testing.assert_close(got, surprisals(TEXT), atol=1e-4, rtol=1e-4)


def test_surprisal(checkpoint):
    surprisal = pytest.importorskip("surprisal", reason="surprisal is not installed")
    model = surprisal.AutoHuggingFaceModel.from_pretrained(checkpoint, model_class="gpt")
    results = [next(iter(model.surprise([text]))) for text in (TEXT, "the cat sat on the dog .")]
    first, second = (torch.tensor(result.surprisals.astype(float)) for result in results)
    assert len(first) == len(TEXT.split()) and (first > 0).all()
    torch.testing.assert_close(first[:5], second[:5])  # what comes later does not matter
    assert not torch.allclose(first[5:], second[5:])
