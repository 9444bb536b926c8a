"""
Pushing a model to the Hub: exported, checked, in one commit, and safe to repeat.

A push that meets a transient failure is done again from the top, and finds what it has done already, also where an
answer was lost. One that fails for good leaves the repository's content as it was.
"""

import fnmatch
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from modeling_gpt1.flags import Format

from .export import export
from .refusals import readable_size, refuse, refuse_size, scrub
from .retry import FAILURES, explain, timeout, with_retries
from .space import write_space


# What git takes for the name of a branch or a tag, but for names of rare endings
REF = re.compile(r"(?!.*\.\.)[^\s~^:?*\[\\]+")
# What is read beside a model's other files, or in their place: of an earlier model, it would be read with this one
READ = (
    *("model.safetensors*", "model-*-of-*.safetensors", "pytorch_model.bin*", "pytorch_model-*-of-*.bin"),
    *("tf_model.h5", "flax_model.msgpack", "adapter_config.json", "adapter_model.*", "generation_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"),
    "additional_chat_templates/*",
)


@dataclass(frozen=True)
class Change:
    """A file of the push: `action` is what becomes of it on the Hub, None where that is not known."""

    path: str
    size: int
    action: Literal["add", "update", "keep", "delete"] | None

    def __str__(self) -> str:
        return f"{self.action or '?':<7} {readable_size(self.size):>10}  {self.path}"


@dataclass
class PushResult:
    """
    What a push did, or with `dry_run` would do.

    Attributes:
        url: the repository, the branch or the pull request.
        changes: every file, and those of an earlier model that would be read with this one.
        commit: the commit that holds the files; None after a dry run.
        committed: whether this push made it.
        notes: what else there is to say, one line each.
        space: the same of the Space, where one was asked for.
    """

    url: str
    changes: list[Change]
    commit: str | None = None
    committed: bool = False
    notes: list[str] = field(default_factory=list)
    space: "PushResult | None" = None


def push(
    directory: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    commit_message: str | None = None,
    dry_run: bool = False,
    max_size: int | str = "5GB",
    format: Format = "gpt1",
    space: bool = False,
    token: str | None = None,
) -> PushResult:
    """
    Exports a model's directory and puts it on the Hub in one commit; repeated with nothing changed, in none.

    Other files that are there stay, but for weights and settings of an earlier model, which would be loaded with this
    one's: the same commit deletes them.

    Args:
        directory: what `save_pretrained`, `Trainer` or `gpt1 finetune` has written.
        repo_id: `user/name`; created if it is not there. A name alone is in the login's own namespace.
        private: whether a repository that is created is private; the Hub's default if None. One that is there and
            public is not made private, but refused.
        revision: the branch to commit to, made from `main` if it is not there; `main` if None.
        create_pr: open a pull request with the commit instead; an open one with the same files is taken for it.
        tag: a tag for the commit.
        commit_message: the commit's title, and the pull request's.
        dry_run: send nothing, and tell what would change.
        max_size: refuse to send more bytes than this, a number or like "5GB".
        format: `"gpt1"`, with its code, or `"openai-gpt"`, which transformers loads without remote code.
        space: also put the page of `app.py` into a Space of the same name.
        token: the login; by default the saved one, or HF_TOKEN.

    Raises:
        ValueError: files that must not be published, an export that does not load or answers differently, arguments
            that do not go together, or `private` for what is public. Nothing was sent.
        OSError: no checkpoint; no login; no network; the Hub refused or kept failing. What the repository held before
            is unchanged, unless the message says that only the tag is missing.
    """
    directory, secret = Path(directory), token or get_token()
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise ValueError(f"{scrub(repo_id, secret)!r} is no repository id: give USER/NAME") from None
    for name in (revision, tag):
        if name is not None and not REF.fullmatch(name):
            raise ValueError(
                f"{scrub(name, secret)!r} can be neither a branch nor a tag: no blanks, and none of ~ ^ : ? * [ \\ .."
            )
    if create_pr and (revision not in (None, "main") or tag is not None or space):
        raise ValueError("a pull request is made against main: it goes with neither revision, tag nor space")
    if secret is None and not dry_run:
        raise OSError("not logged in to the Hub: run `hf auth login`, or set HF_TOKEN to a token that may write")
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is no directory")
    refuse(directory, secret)
    api = HfApi(token=secret)
    with timeout(), TemporaryDirectory() as temporary:
        if "/" not in repo_id and secret is not None:
            repo_id = f"{with_retries(api.whoami, repo_id, secret)['name']}/{repo_id}"
        exported = export(directory, Path(temporary, "export"), format=format, repo_id=repo_id)
        refuse(exported, secret)
        files = {path.relative_to(exported).as_posix(): path for path in exported.rglob("*") if path.is_file()}
        refuse_size({name: path.stat().st_size for name, path in files.items()}, max_size)
        app = write_space(directory, exported, repo_id, Path(temporary, "space")) if space else {}
        message = commit_message or f"Upload {repo_id.partition('/')[2]}"
        upload = _Upload(api, repo_id, "model", files, revision, private)
        page = _Upload(api, repo_id, "space", app, private=private)
        if dry_run:
            result = upload.preview()
            result.space = page.preview() if space else None
        else:
            for each in (upload, page) if space else (upload,):
                with_retries(each.refuse_public, repo_id, secret)
            result = upload.push(message, create_pr, tag)
            result.space = page.push(message) if space else None
        if result.space is not None and private:
            result.space.notes.append("the model is private: give the Space a secret HF_TOKEN that may read it")
        return result


class _Upload:
    """The files that a branch of a repository is to have."""

    def __init__(
        self,
        api: HfApi,
        repo_id: str,
        repo_type: str,
        files: dict[str, Path],
        branch: str | None = None,
        private: bool | None = None,
    ):
        self.api, self.repo_id, self.branch, self.private = api, repo_id, branch or "main", private
        self.secret = api.token if isinstance(api.token, str) else None
        self.where: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
        self.url = f"{api.endpoint}/{'spaces/' if repo_type == 'space' else ''}{repo_id}"
        self.paths = files
        self.files = {name: CommitOperationAdd(name, path) for name, path in sorted(files.items())}
        self.heads: dict[str, str] = {}  # the commit of each branch and pull request
        self.read = READ if repo_type == "model" else ()
        self.parent: str | None = None  # the branch's commit before this push
        self.made_branch = self.sent = False  # by an attempt whose answer may have been lost

    def preview(self) -> PushResult:
        """What [`push`] would do."""
        result = PushResult(self.url, self._changes(None))
        try:
            self.refuse_public()
            result.changes = self._compare(None).changes
            if self.branch not in self.heads:
                result.notes.append(f"would make the branch {self.branch}")
        except RepositoryNotFoundError:
            result.notes.append(f"would create {self.repo_id}, or it is not to be seen with this login")
        except FAILURES as error:
            result.notes.append(f"what would change is not known: {explain(error, self.repo_id, self.secret)}")
            result.changes = [replace(change, action=None) for change in result.changes]
        return result

    def refuse_public(self) -> None:
        """Raises `ValueError` for a repository that is to be private, and that everybody sees."""
        with suppress(RepositoryNotFoundError):
            if self.private and not self.api.repo_info(**self.where).private:
                raise ValueError(f"{self.url} is public: make it private in its settings, or push without private")

    def push(self, message: str, create_pr: bool = False, tag: str | None = None) -> PushResult:
        """Creates the repository, the branch, the commit and the tag, as far as they are not there."""
        try:
            result = with_retries(lambda: self._commit(message, create_pr, tag), self.repo_id, self.secret)
        except BaseException:
            if self.made_branch:
                with suppress(*FAILURES):
                    self.api.delete_branch(**self.where, branch=self.branch)
            raise
        if tag is not None:
            note = f"the files are there, only the tag {tag} is missing: run again"
            new_tag = self.where | {"tag": tag, "revision": result.commit, "exist_ok": True}
            with_retries(lambda: self.api.create_tag(**new_tag), self.repo_id, self.secret, note)
        return result

    def _commit(self, message: str, create_pr: bool, tag: str | None) -> PushResult:
        sdk: dict[str, Any] = {"space_sdk": "gradio"} if self.where["repo_type"] == "space" else {}
        self.api.create_repo(**self.where, **sdk, private=self.private, exist_ok=True)
        result = self._compare(tag)
        changed = [
            CommitOperationDelete(change.path) if change.action == "delete" else self.files[change.path]
            for change in result.changes
            if change.action != "keep"
        ]
        if create_pr and changed and (number := self._pull_request(message)):
            result.commit, result.url = self.heads[f"refs/pr/{number}"], f"{self.url}/discussions/{number}"
            result.notes.append("this pull request has the same files already")
            return result
        if self.branch not in self.heads and result.commit is not None:
            self.made_branch = True
            self.api.create_branch(**self.where, branch=self.branch, revision=result.commit, exist_ok=True)
        if changed:
            self.sent = True
            info = self.api.create_commit(
                **self.where,
                operations=changed,
                commit_message=message,
                revision=self.branch,
                create_pr=create_pr,
                parent_commit=self.parent,  # what is published meanwhile by somebody else is not overwritten
            )
            result.commit, result.committed, result.url = info.oid, True, info.pr_url or result.url
        return result

    def _compare(self, tag: str | None) -> PushResult:
        """The repository as it is: where it lacks nothing, that is the push's result."""
        refs = self.api.list_repo_refs(**self.where, include_pull_requests=True)
        self.heads = {ref.name: ref.target_commit for ref in refs.branches}
        self.heads |= {ref.ref: ref.target_commit for ref in refs.pull_requests or []}
        if self.branch not in self.heads and self.branch.startswith("refs/"):
            raise ValueError(f"{self.repo_id} has no {self.branch}")
        head = self.heads.get(self.branch, self.heads.get("main"))
        self.parent = self.parent or head
        changes = self._changes(head)
        tags = {ref.name: ref.target_commit for ref in refs.tags}
        if tag in tags and (tags[tag] != head or any(change.action != "keep" for change in changes)):
            raise ValueError(f"the tag {tag} is taken by another commit of {self.repo_id}: choose another one")
        url = self.url if self.branch == "main" else f"{self.url}/tree/{self.branch}"
        return PushResult(url, changes, head, committed=self.sent)

    def _changes(self, revision: str | None) -> list[Change]:
        """Each file against what a revision has; None is a repository without a commit."""
        tree = self.api.list_repo_tree(**self.where, recursive=True, revision=revision) if revision else []
        there = {info.path: info for info in tree if isinstance(info, RepoFile)}
        stale = [info for name, info in there.items() if name not in self.files and self._is_read(name)]
        return [
            *(Change(name, file.upload_info.size, self._action(name, there)) for name, file in self.files.items()),
            *(Change(info.path, info.size, "delete") for info in stale),
        ]

    def _is_read(self, name: str) -> bool:
        """Whether a file has a part in how the model is loaded."""
        return any(fnmatch.fnmatchcase(name, each) and name.count("/") == each.count("/") for each in self.read)

    def _action(self, name: str, there: dict[str, RepoFile]) -> Literal["add", "update", "keep"]:
        if name not in there:
            return "add"
        file, info = self.files[name], there[name]
        if info.lfs is not None:
            return "keep" if file.upload_info.sha256.hex() == info.lfs.sha256 else "update"
        return "keep" if git_hash(self.paths[name].read_bytes()) == info.blob_id else "update"

    def _pull_request(self, title: str) -> int | None:
        """The number of an open pull request of this title with these files."""
        kind: dict[str, Any] = {"discussion_type": "pull_request", "discussion_status": "open"}
        for found in self.api.get_repo_discussions(**self.where, **kind):
            head = self.heads.get(f"refs/pr/{found.num}")
            if found.title == title and head and all(change.action == "keep" for change in self._changes(head)):
                return found.num
        return None
