"""
What `model.push_to_hub` and a plain `Trainer`'s do with the models of this package: all that `hub_upload.push` does.

transformers' own send what lies in a folder. These send a checked export with a licence and a card, and no pickles.
"""

from concurrent.futures import Future
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitInfo, HfApi, constants
from transformers import Trainer
from transformers.modelcard import TrainingSummary

from .modeling_gpt1 import GPT1PreTrainedModel


def install() -> None:
    """Takes the place of `push_to_hub` in this package's models, and in `Trainer` for these models alone."""
    GPT1PreTrainedModel.push_to_hub = push_model
    others = Trainer.push_to_hub

    @wraps(others)
    def push_to_hub(self: Trainer, *args, **kwargs) -> CommitInfo | Future[CommitInfo] | None:
        return (push_trained if isinstance(self.model, GPT1PreTrainedModel) else others)(self, *args, **kwargs)

    Trainer.push_to_hub = push_to_hub


def push_model(
    model: GPT1PreTrainedModel,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str | None = None,
    tags: list[str] | None = None,
) -> CommitInfo:
    """
    [`PreTrainedModel.push_to_hub`], through [`hub_upload.push`]: its arguments, its return value.

    The tokenizer has its own `push_to_hub`. A card that the repository has is kept; `max_shard_size` is without
    effect, since the weights go as one file.

    Raises:
        ValueError, OSError: as `hub_upload.push`.
    """
    from hub_upload import write_model_card

    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        write_model_card(folder, tags=[*(model.model_tags or []), *(tags or [])])
        return _push(
            folder,
            repo_id,
            commit_message or "Upload model",
            commit_description=commit_description,
            private=private,
            token=token if isinstance(token, str) else None,
            revision=revision,
            create_pr=create_pr,
            model_only=True,
        )


def push_trained(
    trainer: Trainer,
    commit_message: str | None = "End of training",
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    **card: Any,
) -> CommitInfo | Future[CommitInfo] | None:
    """
    [`Trainer.push_to_hub`], through [`hub_upload.push`]: its arguments, its return value.

    The card's results are those of `all_results.json`, which `Trainer.save_metrics` writes.

    Raises:
        ValueError, OSError: as `hub_upload.push`.
    """
    from hub_upload import write_model_card
    from hub_upload.model_card import read_facts

    args, output_dir = trainer.args, Path(trainer.args.output_dir)
    for name, ours in (("license", "mit"), ("language", "en")):
        if card.get(name) not in (None, ours):
            raise ValueError(f"the card's {name} is {ours}: for another, write {output_dir}/README.md by hand")
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    trainer.save_model(_internal_call=True)  # on all processes, as Trainer does
    if not trainer.is_world_process_zero():
        return None
    trainer.save_state()
    summary = TrainingSummary.from_trainer(trainer, **card)
    known = read_facts(output_dir)
    write_model_card(
        output_dir,
        **asdict(known)
        | {
            "base_model": summary.finetuned_from or known.base_model,
            "dataset": next(iter(_listed(summary.dataset_tags)), known.dataset),
            "settings": {name.replace("_", " "): value for name, value in summary.hyperparameters.items()},
            "tags": [*(trainer.model.model_tags or []), *_listed(card.get("tags"))],
        },
    )
    trainer._finish_current_push()
    call = partial(
        _push,
        output_dir,
        trainer.hub_model_id or args.hub_model_id or output_dir.absolute().name,
        commit_message,
        private=args.hub_private_repo if private is None else private,
        token=token or args.hub_token,
        revision=revision or args.hub_revision,
        model_only=trainer.processing_class is None,
    )
    return call() if blocking else HfApi().run_as_future(call)


def _push(directory: str | Path, repo_id: str, commit_message: str | None, **more: Any) -> CommitInfo:
    from hub_upload import push

    result = push(directory, repo_id, commit_message=commit_message, **more)
    return CommitInfo(
        commit_url=f"{result.repo_url}/commit/{result.commit}",
        commit_message=commit_message or "",
        commit_description=more.get("commit_description") or "",
        oid=result.commit,
        _endpoint=constants.ENDPOINT,
        pr_url=result.url if "/discussions/" in result.url else None,
    )


def _listed(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else names or []
