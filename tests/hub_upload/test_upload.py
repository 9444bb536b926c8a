"""Pushing to a server that fails at any request: nothing half-published, nothing sent twice, no token shown."""

import json
import shutil
from pathlib import Path

import pytest

from hub_upload import push, retry, upload
from modeling_gpt1 import cli


CARD = "---\nlicense: mit\nlibrary_name: transformers\n---\n\n# A model\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder that stands for an export of itself: what an export holds is tested in test_export.py."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 100)

    def copy(source, output_dir, **_):
        return Path(shutil.copytree(source, output_dir))

    monkeypatch.setattr(upload, "export", copy)
    return folder


def edit(folder: Path) -> None:
    """Changes the card, and adds a small and a large file."""
    (folder / "README.md").write_text(CARD + "\nMore to read.\n")
    (folder / "NOTES.md").write_text("more to read\n")
    (folder / "picture.png").write_bytes(b"\x89PNG and more")


def large_uploads(hub) -> list[str]:
    return [path for kind, path in hub.requests if kind == "upload"]


def test_a_push_is_one_commit_and_a_repeated_one_none(hub, folder):
    first = push(folder, "user/model", private=True)
    repo = hub.repo()
    assert first.committed and repo.private
    assert [title for _, _, title in repo.log] == ["initial commit", "Upload model"]
    sent = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path: content for path, content in repo.files().items() if path != ".gitattributes"} == sent

    hub.requests.clear()
    second = push(folder, "user/model")
    assert not second.committed and second.commit == first.commit
    assert {change.action for change in second.changes} == {"keep"}
    assert hub.kinds() == ["create", "refs", "tree"]


def test_only_what_changed_is_sent(hub, folder):
    push(folder, "user/model")
    before = hub.repo().files()
    edit(folder)
    hub.requests.clear()
    result = push(folder, "user/model", commit_message="More")
    actions = {change.path: change.action for change in result.changes if change.action != "keep"}
    assert actions == {"README.md": "update", "NOTES.md": "add", "picture.png": "add"}
    assert len(large_uploads(hub)) == 1
    assert set(hub.repo().files()) - set(before) == {"NOTES.md", "picture.png"}
    assert hub.repo().log[-1][2] == "More"


def test_a_name_without_a_user_is_the_logins_own(hub, folder):
    push(folder, "model")
    assert "model.safetensors" in hub.repo("user/model").files()


# Every request of a push to a branch with a tag.
REQUESTS = (
    "create",
    "refs",
    "tree",
    "preupload",
    "batch",
    "upload",
    "verify",
    "branch",
    "validate-yaml",
    "commit",
    "tag",
)


@pytest.mark.parametrize("how", [500, 429, "drop", "lose"])
@pytest.mark.parametrize("request_kind", REQUESTS)
def test_a_request_that_fails_once_is_repeated(hub, folder, request_kind, how):
    hub.fail(request_kind, how, headers={"Retry-After": "1"} if how == 429 else {})
    result = push(folder, "user/model", revision="next", tag="v1")
    repo = hub.repo()
    assert result.committed
    assert [title for _, _, title in repo.log] == ["initial commit", "Upload model"]
    assert repo.refs["refs/tags/v1"] == repo.refs["refs/heads/next"] == result.commit
    assert set(repo.files("main")) == {".gitattributes"}
    if request_kind not in ("upload", "verify"):
        assert len(large_uploads(hub)) == len(set(large_uploads(hub))), "a large file was sent twice"


@pytest.mark.parametrize("request_kind", ["create", "upload", "commit"])
def test_a_server_that_says_nothing_is_asked_again(hub, folder, monkeypatch, request_kind):
    monkeypatch.setattr(retry, "TIMEOUT", 0.4)
    hub.fail(request_kind, "hang")
    assert push(folder, "user/model").committed
    assert hub.count(request_kind) == 2 and len(hub.repo().log) == 2


@pytest.mark.parametrize("how", [503, "drop"])
@pytest.mark.parametrize("request_kind", REQUESTS)
def test_a_request_that_keeps_failing_leaves_everything_as_it_was(hub, folder, request_kind, how):
    push(folder, "user/model")
    edit(folder)
    repo = hub.repo()
    refs, log = dict(repo.refs), list(repo.log)
    hub.requests.clear()
    hub.fail(request_kind, how, float("inf"))
    with pytest.raises(OSError) as failed:
        push(folder, "user/model", revision="next", tag="v1")
    message = str(failed.value)
    assert "\n" not in message and "hf_" not in message
    if request_kind == "tag":
        assert "only the tag v1 is missing" in message
        assert len(repo.log) == len(log) + 1
    else:
        assert "the repository is as before" in message
        assert (repo.refs, repo.log) == (refs, log)
    attempts = hub.count(request_kind)
    assert 3 <= attempts <= 18, f"{attempts} attempts"  # three of ours, of up to six of huggingface_hub's

    # Run again, it finishes, and sends nothing that has arrived
    hub.failures.clear()
    arrived = set(hub.objects)
    hub.requests.clear()
    result = push(folder, "user/model", revision="next", tag="v1")
    assert repo.refs["refs/tags/v1"] == repo.refs["refs/heads/next"] == result.commit
    assert len(repo.log) == len(log) + 1
    assert not {path.rpartition("/")[2] for path in large_uploads(hub)} & arrived


def test_an_interruption_before_the_commit_leaves_everything_as_it_was(hub, folder, monkeypatch):

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(upload.HfApi, "create_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        push(folder, "user/model", revision="next")
    assert set(hub.repo().refs) == {"refs/heads/main"}
    monkeypatch.undo()


def test_a_pull_request_is_opened_once(hub, folder):
    hub.fail("commit", "lose")
    result = push(folder, "user/model", create_pr=True)
    assert result.committed
    assert result.url == f"{hub.url}/user/model/discussions/1"
    repo = hub.repo()
    assert len(repo.pull_requests) == 1
    assert set(repo.files("main")) == {".gitattributes"}
    assert "model.safetensors" in repo.files("refs/pr/1")
    again = push(folder, "user/model", create_pr=True)
    assert (again.committed, again.url) == (False, result.url)
    assert len(repo.pull_requests) == 1
    # and it can be pushed to by its name
    (folder / "NOTES.md").write_text("more\n")
    assert push(folder, "user/model", revision="refs/pr/1").committed
    assert "NOTES.md" in repo.files("refs/pr/1")


def test_what_somebody_else_commits_meanwhile_is_not_overwritten(hub, folder, monkeypatch):
    commit = upload.HfApi.create_commit

    def after_another(self, *arguments, **keywords):
        repo = hub.repo()
        if repo.log[-1][2] != "another":
            repo.add("refs/heads/main", {"README.md": (b"another", False)}, "another")
        return commit(self, *arguments, **keywords)

    monkeypatch.setattr(upload.HfApi, "create_commit", after_another)
    with pytest.raises(OSError, match="changed by somebody else meanwhile"):
        push(folder, "user/model")
    assert hub.repo().files() == {"README.md": b"another"}


def test_a_tag_that_is_taken_is_not_moved(hub, folder):
    first = push(folder, "user/model", tag="v1")
    assert push(folder, "user/model", tag="v1").commit == first.commit
    edit(folder)
    with pytest.raises(ValueError, match="the tag v1 is taken"):
        push(folder, "user/model", tag="v1")
    assert hub.repo().log[-1][1] == first.commit


def test_a_dry_run_tells_what_would_change_and_sends_nothing(hub, folder, capsys):
    arguments = ["push", str(folder), "user/model", "--dry_run"]
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert "add          700 B  model.safetensors" in output and "would create user/model" in output
    assert not hub.repos and set(hub.kinds()) == {"refs"}
    push(folder, "user/model")
    edit(folder)
    hub.requests.clear()
    assert cli.main([*arguments, "--revision", "next"]) == 0
    output = capsys.readouterr().out
    assert "keep         700 B  model.safetensors" in output
    assert "add           13 B  NOTES.md" in output and "would make the branch next" in output
    assert len(hub.repo().log) == 2 and set(hub.kinds()) == {"refs", "tree"}


def test_a_dry_run_needs_no_network(hub, folder, monkeypatch):
    push(folder, "user/model")
    for kind in ("refs", "tree"):
        hub.fail(kind, "drop", float("inf"))
        result = push(folder, "user/model", dry_run=True)
        assert {change.action for change in result.changes} == {None}
        assert "what would change is not known: no connection to the Hub" in result.notes[0]
        hub.failures.clear()


def test_a_dry_run_says_that_the_login_is_refused(hub, folder):
    # of an expired token; of any other 401 the Hub's client says that the repository is not there
    said = b'{"error": "Invalid credentials in Authorization header"}'
    headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.fail("refs", 401, float("inf"), body=said, headers=headers)
    (note,) = push(folder, "user/model", dry_run=True).notes
    assert "what would change is not known" in note and "(401): run `hf auth login`" in note


LEFT = {
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "adapter_config.json"),
    *("model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    *("generation_config.json", "additional_chat_templates/short.jinja"),
}


@pytest.mark.parametrize("create_pr", [False, True])
def test_what_would_be_read_of_an_earlier_model_is_deleted(hub, folder, capsys, create_pr):
    push(folder, "user/model")
    repo = hub.repo()
    stay = dict.fromkeys(("NOTES.md", "older/pytorch_model.bin", "model_b.safetensors"), (b"mine", False))
    left = dict.fromkeys(LEFT, (b"old", False))
    repo.add("refs/heads/main", repo.commits[repo.find("main")] | left | stay, "an earlier model")
    assert cli.main(["push", str(folder), "user/model", "--dry_run"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {line.split()[-1] for line in listed if line.startswith("delete")} == LEFT
    assert set(repo.files()) > LEFT
    result = push(folder, "user/model", create_pr=create_pr)
    assert {change.path for change in result.changes if change.action == "delete"} == LEFT
    there = repo.files("refs/pr/1" if create_pr else "main")
    assert set(there) == {".gitattributes", *stay, *(path.name for path in folder.iterdir())}
    assert not push(folder, "user/model", create_pr=create_pr).committed


def test_what_is_public_is_no_place_for_a_private_model(hub, folder, capsys):
    push(folder, "user/model")
    edit(folder)
    for more in ([], ["--dry_run"]):
        assert cli.main(["push", str(folder), "user/model", "--private", *more]) == 1
        assert "user/model is public: make it private" in capsys.readouterr().err
    assert len(hub.repo().log) == 2
    hub.repo().private = True
    assert push(folder, "user/model", private=True).committed
    # a public Space is found before the model is sent
    (folder / "config.json").write_text('{"architectures": ["GPT1Model"]}')
    push(folder, "user/model", space=True)
    edited = len(hub.repo().log)
    (folder / "NOTES.md").write_text("still more\n")
    with pytest.raises(ValueError, match="spaces/user/model is public"):
        push(folder, "user/model", private=True, space=True)
    assert len(hub.repo().log) == edited


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, PermissionError])
def test_what_python_itself_calls_a_failure_is_one_too(hub, folder, monkeypatch, error):
    commit, tries = upload.HfApi.create_commit, []

    def fails(self, *arguments, **keywords):
        tries.append(None)
        if len(tries) <= failing:
            raise error(f"of hf_{'T' * 34}\nand more")
        return commit(self, *arguments, **keywords)

    monkeypatch.setattr(upload.HfApi, "create_commit", fails)
    failing = 99
    with pytest.raises(OSError, match=r"\[token\] and more.*the repository is as before") as failed:
        push(folder, "user/model")
    assert "\n" not in str(failed.value)
    assert len(tries) == (1 if error is PermissionError else 3)
    if error is not PermissionError:
        tries.clear()
        failing = 1
        assert push(folder, "user/model").committed


@pytest.mark.parametrize("status, advice", [(401, "hf auth login"), (403, "use a token that may")])
def test_a_refused_login_is_not_repeated(hub, folder, capsys, status, advice):
    hub.fail("create", status, float("inf"))
    assert cli.main(["push", str(folder), "user/model"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("gpt1 push: ") and advice in error
    assert hub.count("create") == 1 and not hub.repos


def test_no_login_and_no_network_are_one_line_each(hub, folder, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cli.main(["push", str(folder), "user/model"]) == 1
    assert "unset HF_HUB_OFFLINE" in capsys.readouterr().err.strip().splitlines()[-1]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert cli.main(["push", str(folder), "user/model"]) == 1
    assert "no connection to the Hub" in capsys.readouterr().err.strip().splitlines()[-1]
    monkeypatch.setattr(upload, "get_token", lambda: None)
    assert cli.main(["push", str(folder), "user/model"]) == 1
    assert "hf auth login" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not hub.repos


def test_a_token_shows_nowhere(hub, folder, capsys):
    token = "hf_" + "T" * 34
    hub.fail("commit", 500, float("inf"), body=json.dumps({"error": f"what is {token}?"}).encode())
    assert cli.main(["push", str(folder), "user/model"]) == 1
    output = capsys.readouterr()
    assert "[token]" in output.err
    assert token not in output.out + output.err
    hub.failures.clear()
    assert cli.main(["push", str(folder), "user/model"]) == 0
    output = capsys.readouterr()
    assert token not in output.out + output.err
    assert not any(token.encode() in content for content in hub.repo().files().values())


@pytest.mark.parametrize(
    "keywords", [{"create_pr": True, "revision": "next"}, {"create_pr": True, "tag": "v1"}, {"max_size": "much"}]
)
def test_arguments_that_do_not_go_together(hub, folder, keywords):
    with pytest.raises(ValueError):
        push(folder, "user/model", **keywords)
    assert not hub.repos
    with pytest.raises(ValueError, match="is no repository id"):
        push(folder, "user/model/more")


@pytest.mark.parametrize("name", ["first version", "", "v1^", "v1..v2", "v:1", "two\nlines"])
@pytest.mark.parametrize("keyword", ["tag", "revision"])
def test_what_is_no_name_for_a_tag_or_branch_is_refused_before_anything_is_sent(hub, folder, keyword, name):
    for dry_run in (False, True):
        with pytest.raises(ValueError, match="can be neither a branch nor a tag"):
            push(folder, "user/model", dry_run=dry_run, **{keyword: name})
    assert not hub.repos


def test_a_space_is_shown_and_made_once(hub, folder, capsys):
    (folder / "config.json").write_text('{"architectures": ["GPT1ForSequenceClassification"], "auto_map": {}}')
    arguments = ["push", str(folder), "user/model", "--private", "--space"]
    assert cli.main([*arguments, "--dry_run"]) == 0
    assert "  app.py" in capsys.readouterr().out and not hub.repos
    assert cli.main(arguments) == 0
    assert f"\n{hub.url}/spaces/user/model\n" in capsys.readouterr().out
    space = hub.repo(kind="spaces")
    assert space.sdk == "gradio" and len(space.log) == 2
    assert space.private and hub.repo().private
    assert json.loads(space.files()["model.json"]) == {
        "model": "user/model",
        "head": "GPT1ForSequenceClassification",
        "trust_remote_code": True,
    }
    assert b"models:\n- user/model\n" in space.files()["README.md"]
    assert cli.main(arguments) == 0
    assert len(space.log) == 2 and len(hub.repo().log) == 2
    stated = (Path(__file__).parents[2] / "setup.cfg").read_text().splitlines()
    assert {f"    {line}" for line in space.files()["requirements.txt"].decode().splitlines()} <= set(stated)
    (note,) = push(folder, "user/own", private=True, space=True).space.notes
    assert "HF_TOKEN" in note
