"""
Pushing a model to the Hub: exported, checked, in one commit, and safe to repeat.

Requests in their order: create the repository, read its references and what it has of the files, send the large
files that it lacks, and only then make the branch, the commit and the tag. Whatever fails before the commit leaves the
repository's content as it was, and what has arrived by then is not sent again.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_session, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from .export import Format, export
from .model_card import CARD, Facts, by_hand
from .refusals import readable_size, refuse, refuse_size, scrub
from .space import write_space


Result = TypeVar("Result")

# Waits between attempts, for the requests that huggingface_hub itself sends once only.
DELAYS = (1.0, 2.0, 4.0, 8.0)
# Seconds without a byte; huggingface_hub's own client waits for ever.
TIMEOUT = 100.0

NO_LOGIN = "not logged in to the Hub: run `hf auth login`, or set HF_TOKEN to a token that may write"

# huggingface_hub 1 speaks through httpx, 2 through httpx2: the base of its own error is the error of the one in use.
_HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]


@dataclass(frozen=True)
class Change:
    """A file of the push: `action` is what becomes of it on the Hub, None where that is not known."""

    path: str
    size: int
    action: Literal["add", "update", "keep"] | None

    def __str__(self) -> str:
        return f"{self.action or '?':<7} {readable_size(self.size):>10}  {self.path}"


@dataclass
class PushResult:
    """
    What a push did, or with `dry_run` would do.

    Attributes:
        repo_url: the repository.
        url: the repository, the branch or the pull request.
        changes: every file.
        commit: the commit that holds the files; None after a dry run.
        committed: whether this push made it.
        notes: what else there is to say, a line each.
        space: the same of the Space, where one was asked for.
    """

    repo_url: str
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
    commit_description: str | None = None,
    dry_run: bool = False,
    max_size: int | str = "5GB",
    format: Format = "gpt1",
    space: bool = False,
    model_only: bool = False,
    token: str | None = None,
) -> PushResult:
    """
    Exports a model's directory and puts it on the Hub in one commit; repeated with nothing changed, in none.

    Args:
        directory: what `save_pretrained`, `Trainer` or `gpt1 finetune` has written.
        repo_id: `user/name`; created if it is not there. A name alone is in the login's own namespace.
        private: whether a repository that is created is private; the Hub's default if None.
        revision: the branch to commit to, made from `main` if it is not there; `main` if None.
        create_pr: open a pull request with the commit instead; an open one with the same files is taken for it.
        tag: a tag for the commit.
        commit_message: the commit's title, and the pull request's.
        commit_description: what the commit, or the pull request, says beyond its title.
        dry_run: send nothing, and tell what would change.
        max_size: refuse to send more bytes than this, a number or like "5GB".
        format: `"gpt1"`, with its code, or `"openai-gpt"`, which transformers loads without remote code.
        space: also put a Gradio app for the model's task into a Space of the same name.
        model_only: go without a tokenizer where there is none, and leave the card that the repository has, unless
            transformers made it.
        token: the login; by default the saved one, or HF_TOKEN.

    Returns:
        `PushResult`.

    Raises:
        ValueError: files that must not be published, an export that does not load or answers differently, or
            arguments that do not go together. Nothing was sent.
        OSError: no checkpoint; no login; no network; the Hub refused or kept failing. What the repository held before
            is unchanged, unless the message says that only the tag is missing.
    """
    secret = token or get_token()
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise ValueError(f"{scrub(repo_id, secret)!r} is no repository id: give USER/NAME") from None
    if create_pr and (revision not in (None, "main") or tag is not None or space):
        raise ValueError("a pull request is made against main: it goes with neither revision, tag nor space")
    if secret is None and not dry_run:
        raise OSError(NO_LOGIN)
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is no directory")
    refuse(directory, secret)
    with _timeout():
        upload = _Upload(HfApi(token=secret), repo_id, secret, "model")
        try:
            if "/" not in repo_id and secret is not None:
                repo_id = f"{patiently(upload.api.whoami)['name']}/{repo_id}"
                upload = _Upload(upload.api, repo_id, secret, "model")
            with TemporaryDirectory() as temporary:
                exported = export(
                    directory,
                    Path(temporary) / "export",
                    format=format,
                    repo_id=upload.repo_id,
                    model_only=model_only,
                )
                if model_only:
                    upload.keep_card(exported, revision or "main")
                refuse(exported, secret)
                files = {
                    path.relative_to(exported).as_posix(): path
                    for path in sorted(exported.rglob("*"))
                    if path.is_file()
                }
                refuse_size({name: path.stat().st_size for name, path in files.items()}, max_size)
                app = write_space(directory, exported, upload.repo_id, Path(temporary) / "space") if space else {}
                message = commit_message or f"Upload {upload.repo_id.partition('/')[2]}"
                if dry_run:
                    result = upload.preview(files, revision)
                else:
                    result = upload.run(files, message, private, revision, create_pr, tag, commit_description)
                if space:
                    upload = _Upload(upload.api, upload.repo_id, secret, "space")
                    result.space = upload.preview(app, None) if dry_run else upload.run(app, message, private)
                return result
        except (_HTTPError, OfflineModeIsEnabled, RuntimeError) as error:
            raise OSError(upload.explain(error)) from None
        except Exception as error:
            clean = scrub(str(error), secret)
            if clean == str(error):
                raise
            raise OSError(clean) from None


class _timeout:
    """Gives huggingface_hub's shared client a timeout for a while."""

    def __enter__(self) -> None:
        self.before = get_session().timeout
        get_session().timeout = TIMEOUT

    def __exit__(self, *_) -> None:
        get_session().timeout = self.before


def patiently(call: Callable[[], Result], done: Callable[[], Result | None] = lambda: None) -> Result:
    """
    Calls until it succeeds, with back-off after a 429, a 5xx, a timeout or a dropped connection, a few times.

    Args:
        call: sends requests that huggingface_hub does not repeat by itself.
        done: asked after a failure whether the call has had its effect all the same; its result, or None.
    """
    failure: Exception | None = None
    for delay in (*DELAYS, 0.0):
        get_session().timeout = TIMEOUT  # a client that was replaced after a failure is without
        try:
            return call()
        except Exception as error:
            if not _passes(error):
                raise
            failure = error
        time.sleep(max(delay, _asked_to_wait(failure) if delay else 0))
        try:
            if (result := done()) is not None:
                return result
        except Exception as error:
            if not _passes(error):
                raise
    assert failure is not None
    raise failure


def _passes(error: Exception) -> bool:
    """Whether it may go better the next time."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    # A proxy's error page where JSON was expected is a ValueError
    return isinstance(error, _HTTPError) or type(error).__name__ == "JSONDecodeError"


def _asked_to_wait(error: Exception) -> float:
    value = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(value), 300.0) if value.isdigit() else 0.0


class _Upload:
    """One push: the client, the repository, and the steps."""

    def __init__(self, api: HfApi, repo_id: str, secret: str | None, repo_type: Literal["model", "space"]):
        self.api = api
        self.repo_id = repo_id
        self.secret = secret
        self.where: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
        self.url = f"{api.endpoint}/{'spaces/' if repo_type == 'space' else ''}{repo_id}"
        self.note = "the repository is as before; run again, and what has arrived is not sent twice"

    def preview(self, files: dict[str, Path], revision: str | None) -> PushResult:
        """What `run` would do."""
        notes, changes = [], None
        try:
            changes = patiently(lambda: self.changes(files, revision or "main"))
        except RevisionNotFoundError:
            notes.append(f"would make the branch {revision}")
            changes = patiently(lambda: self.changes(files, "main"))
        except RepositoryNotFoundError:
            notes.append(f"would create {self.repo_id}, or it is not to be seen with this login")
            changes = [Change(name, path.stat().st_size, "add") for name, path in files.items()]
        except (_HTTPError, OfflineModeIsEnabled):
            notes.append("the Hub was not reached: what would change is not known")
            changes = [Change(name, path.stat().st_size, None) for name, path in files.items()]
        return PushResult(self.url, self.url, changes, notes=notes)

    def run(
        self,
        files: dict[str, Path],
        message: str,
        private: bool | None,
        revision: str | None = None,
        create_pr: bool = False,
        tag: str | None = None,
        description: str | None = None,
    ) -> PushResult:
        """The push itself."""
        api, branch = self.api, revision or "main"
        sdk = {"space_sdk": "gradio"} if self.where["repo_type"] == "space" else {}
        patiently(lambda: api.create_repo(**self.where, **sdk, private=private, exist_ok=True))
        refs = patiently(lambda: api.list_repo_refs(**self.where, include_pull_requests=branch.startswith("refs/")))
        heads = {ref.name: ref.target_commit for ref in refs.branches}
        heads |= {ref.ref: ref.target_commit for ref in refs.pull_requests or []}
        tags = {ref.name: ref.target_commit for ref in refs.tags}
        if branch not in heads and branch.startswith("refs/"):
            raise ValueError(f"{self.repo_id} has no {branch}")
        head = heads.get(branch, heads.get("main"))
        changes = patiently(lambda: self.changes(files, head)) if head is not None else None
        if changes is None:  # a repository without a commit
            changes = [Change(name, path.stat().st_size, "add") for name, path in files.items()]
        changed = [change.path for change in changes if change.action != "keep"]
        result = PushResult(self.url, self.url if branch == "main" else f"{self.url}/tree/{branch}", changes, head)
        if tag in tags and (changed or tags[tag] != head):
            raise ValueError(f"the tag {tag} is taken by another commit of {self.repo_id}: choose another one")
        if create_pr and changed and (pull_request := patiently(lambda: self.pull_request(files, message))):
            result.commit, result.url = pull_request
            result.notes.append("this pull request has the same files already")
            return result

        new_branch = branch not in heads and head is not None
        if changed:
            operations = [CommitOperationAdd(name, files[name]) for name in changed]
            # Large files first, against main: they belong to no branch yet. huggingface_hub repeats these by itself.
            api.preupload_lfs_files(
                **self.where,
                additions=operations,
                revision="main" if new_branch else branch,
                create_pr=create_pr,
                free_memory=False,
            )
        if new_branch:
            patiently(lambda: api.create_branch(**self.where, branch=branch, revision=head, exist_ok=True))
        if changed:
            try:
                result.commit, url = patiently(
                    lambda: self.commit(operations, message, description, branch, head, create_pr),
                    lambda: self.pull_request(files, message) if create_pr else self.landed(files, branch, head),
                )
            except BaseException:
                if new_branch:
                    self._remove(branch)
                raise
            result.committed, result.url = True, url or result.url
        if tag is not None and tag not in tags:
            self.note = f"the files are there, only the tag {tag} is missing: run again"
            patiently(lambda: api.create_tag(**self.where, tag=tag, revision=result.commit, exist_ok=True))
        return result

    def keep_card(self, exported: Path, revision: str) -> None:
        """Puts the repository's own card in the place of the export's, if somebody has written one."""
        with TemporaryDirectory() as temporary:
            keywords = self.where | {"filename": CARD, "revision": revision, "local_dir": temporary}
            try:
                card = Path(patiently(lambda: self.api.hf_hub_download(**keywords)))
            except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
                return
            if by_hand(card, Facts()):
                shutil.copyfile(card, exported / CARD)

    def changes(self, files: dict[str, Path], revision: str) -> list[Change]:
        """Each file against what a revision has."""
        there = {
            info.path: info for info in self.api.get_paths_info(**self.where, paths=list(files), revision=revision)
        }
        changes = []
        for name, path in files.items():
            action: Literal["add", "update", "keep"] = "add"
            if name in there:
                large = there[name].lfs
                if large is not None:
                    same = CommitOperationAdd(name, path).upload_info.sha256.hex() == large.sha256
                else:
                    same = git_hash(path.read_bytes()) == there[name].blob_id
                action = "keep" if same else "update"
            changes.append(Change(name, path.stat().st_size, action))
        return changes

    def commit(
        self,
        operations: list[CommitOperationAdd],
        message: str,
        description: str | None,
        branch: str,
        parent: str | None,
        create_pr: bool,
    ) -> tuple[str, str | None]:
        """The commit's id, and the pull request's address."""
        info = self.api.create_commit(
            **self.where,
            operations=operations,
            commit_message=message,
            commit_description=description,
            revision=branch,
            create_pr=create_pr,
            parent_commit=parent,  # what is published meanwhile by somebody else is not overwritten
        )
        return info.oid, info.pr_url

    def landed(self, files: dict[str, Path], branch: str, before: str | None) -> tuple[str, None] | None:
        """The branch's head, if a commit whose answer was lost has moved it and it has these files."""
        refs = self.api.list_repo_refs(**self.where, include_pull_requests=True)
        heads = {name: ref.target_commit for ref in refs.branches for name in (ref.name, ref.ref)}
        heads |= {ref.ref: ref.target_commit for ref in refs.pull_requests or []}
        head = heads.get(branch)
        if head is None or head == before:
            return None
        return (head, None) if all(change.action == "keep" for change in self.changes(files, head)) else None

    def pull_request(self, files: dict[str, Path], message: str) -> tuple[str, str] | None:
        """An open pull request of this title with these files: its commit and its address."""
        open_ones = self.api.get_repo_discussions(
            **self.where, discussion_type="pull_request", discussion_status="open"
        )
        numbers = [discussion.num for discussion in open_ones if discussion.title == message]
        if not numbers:
            return None
        refs = self.api.list_repo_refs(**self.where, include_pull_requests=True).pull_requests or []
        heads = {ref.ref: ref.target_commit for ref in refs}
        for number in numbers:
            head = heads.get(f"refs/pr/{number}")
            if head is not None and all(change.action == "keep" for change in self.changes(files, head)):
                return head, f"{self.url}/discussions/{number}"
        return None

    def _remove(self, branch: str) -> None:
        """Takes back the branch that was made for a commit which then failed; as well as can be."""
        try:
            self.api.delete_branch(**self.where, branch=branch)
        except Exception as error:
            if not (isinstance(error, (_HTTPError, OSError))):
                raise
            self.note = f"the branch {branch} was made and is without the files; " + self.note

    def explain(self, error: BaseException) -> str:
        """One line on what went wrong and what to do, without a token."""
        while isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload in a thread
            error = error.__cause__
        if isinstance(error, OfflineModeIsEnabled):
            return "offline mode is on, so the Hub cannot be reached: unset HF_HUB_OFFLINE and run again"
        if not isinstance(error, HfHubHTTPError):
            reason = scrub(" ".join(str(error).split()), self.secret) or type(error).__name__
            if not isinstance(error, _HTTPError):
                return f"{reason} ({self.note})"
            return f"no connection to the Hub at {constants.ENDPOINT} ({reason}): check the network ({self.note})"
        status = error.response.status_code
        said = error.server_message or error.response.reason_phrase
        said = scrub(" ".join(str(said).split()), self.secret)
        if status == 401 or isinstance(error, RepositoryNotFoundError):
            return (
                f"the Hub does not accept the login for {self.repo_id} ({status}): run `hf auth login` with a token "
                f"that may write ({self.note})"
            )
        if status == 403:
            return f"this login may not write to {self.repo_id} (403 {said}): use a token that may ({self.note})"
        if status in (409, 412):
            return f"{self.repo_id} was changed by somebody else meanwhile ({status} {said}) ({self.note})"
        if status == 429 or status >= 500:
            return f"the Hub kept answering {status} {said}: try later ({self.note})"
        return f"the Hub refused: {status} {said} ({self.note})"
