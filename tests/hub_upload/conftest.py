"""
A local server that speaks the Hub's HTTP interface, in memory, and fails where it is told to; models to push to it.

It knows what `huggingface_hub` and transformers ask for: create, refs, tree, preupload, LFS batch, upload
and verification, branches, tags, commits, pull requests, discussions, card validation, and resolve with ETags.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
import transformers
import yaml
from huggingface_hub.utils.sha import git_hash

from modeling_gpt1 import GPT1ForMaskedLM, GPT1ForSequenceClassification
from tokenization import GPT1Tokenizer


TOKEN = "hf_" + "T" * 34
LARGE = (".safetensors", ".png", ".bin", ".pt", ".pth")


@dataclass
class Repo:
    """A repository: commits as whole trees, `path -> (content, whether it is a large file)`."""

    commits: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)  # (ref, commit, title)
    refs: dict[str, str] = field(default_factory=dict)
    pull_requests: list[dict] = field(default_factory=list)
    private: bool | None = None
    sdk: str | None = None

    def add(self, ref: str, tree: dict[str, tuple[bytes, bool]], title: str) -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {title} {sorted(tree)}".encode()).hexdigest()
        self.commits[sha] = tree
        self.refs[ref] = sha
        self.log.append((ref, sha, title))
        return sha

    def find(self, revision: str) -> str | None:
        revision = unquote(revision)
        if revision in self.commits:
            return revision
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((self.refs[name] for name in names if name in self.refs), None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: content for path, (content, _) in self.commits[self.find(revision)].items()}


@dataclass
class Failure:
    """`how`: a status, or "drop" to cut the request half-way, or "lose" to do it and cut the answer, or "hang"."""

    kind: str
    how: int | str
    times: float
    body: bytes = b'{"error": "told to fail"}'
    headers: dict[str, str] = field(default_factory=dict)


class Hub:
    """The server's state, and what tests ask of it."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.sent: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}  # of those, the ones that were verified
        self.requests: list[tuple[str, str]] = []  # (kind, path)
        self.failures: list[Failure] = []
        self.lock = threading.RLock()
        self.url = ""

    def fail(self, kind: str, how: int | str = 500, times: float = 1, **more) -> None:
        self.failures.append(Failure(kind, how, times, **more))

    def count(self, kind: str) -> int:
        return sum(seen == kind for seen, _ in self.requests)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.requests]

    def repo(self, name: str = "user/model", kind: str = "models") -> Repo:
        return self.repos[kind, name]


# Kind of request by method and path; the names are what tests fail.
ROUTES = [
    ("whoami", "GET", r"/api/whoami-v2"),
    ("create", "POST", r"/api/repos/create"),
    ("validate-yaml", "POST", r"/api/validate-yaml"),
    ("refs", "GET", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/refs"),
    ("tree", "GET", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)(?P<path>/.*)?"),
    ("preupload", "POST", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/preupload/(?P<rev>[^/]+)"),
    ("commit", "POST", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/commit/(?P<rev>[^/]+)"),
    ("branch", "POST", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/branch/(?P<rev>[^/]+)"),
    ("delete-branch", "DELETE", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/branch/(?P<rev>[^/]+)"),
    ("tag", "POST", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/tag/(?P<rev>[^/]+)"),
    ("discussions", "GET", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)/discussions"),
    ("info", "GET", r"/api/(?P<type>models|spaces)/(?P<id>[^/]+/[^/]+)(/revision/(?P<rev>[^/]+))?"),
    ("batch", "POST", r"/((?P<type>spaces)/)?(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    ("upload", "PUT", r"/objects/(?P<oid>\w+)"),
    ("verify", "POST", r"/objects/verify"),
    ("head", "HEAD", r"/((?P<type>spaces)/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
    ("resolve", "GET", r"/((?P<type>spaces)/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
]
READ_ONLY = ("refs", "tree", "info", "discussions", "head", "resolve", "validate-yaml", "upload")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_) -> None:
        pass

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        kind, groups = "unknown", {}
        for name, method, pattern in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, url.path)):
                kind, groups = name, match.groupdict()
                break
        with self.hub.lock:
            self.hub.requests.append((kind, self.path))
            failure = next((f for f in self.hub.failures if f.kind == kind and f.times > 0), None)
            if failure is not None:
                failure.times -= 1
        if failure is not None and failure.how == "drop":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self.cut()
        if failure is not None and failure.how == "hang":
            threading.Event().wait(1.0)
            return self.cut()
        body = self.body()
        if failure is not None and failure.how != "lose":
            return self.answer(failure.how, failure.body, failure.headers)
        with self.hub.lock:
            if kind not in READ_ONLY and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {"error": "Invalid username or password."})
            answer = self.act(kind, groups, body, {key: value[0] for key, value in parse_qs(url.query).items()})
        if failure is not None:
            return self.cut()
        self.answer(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_request

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, status: int, content: dict | list | bytes = b"", headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def act(self, kind: str, groups: dict, body: bytes, query: dict[str, str]) -> tuple:
        method = getattr(self, kind.replace("-", "_"), None)
        if method is None:
            return 404, {"error": "no such page"}
        if "id" not in groups:
            return method(groups, body)
        repo = self.hub.repos.get((groups.get("type") or "models", groups["id"]))
        if repo is None:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        sha = repo.find(groups["rev"]) if groups.get("rev") else repo.find("main")
        if sha is None and kind not in ("branch", "batch"):
            return 404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"}
        return method(groups, body, repo, sha, query)

    def whoami(self, groups, body):
        return 200, {"type": "user", "name": "user", "auth": {"accessToken": {"role": "write"}}}

    def create(self, groups, body):
        asked = json.loads(body)
        kind, name = asked.get("type", "model") + "s", f"{asked['organization'] or 'user'}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if not name.startswith("user/"):
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        if (kind, name) in self.hub.repos:
            return 409, {"error": "You already created this repo", "url": url}
        private = asked.get("private", asked.get("visibility") == "private")
        repo = self.hub.repos[kind, name] = Repo(private=private, sdk=asked.get("sdk"))
        repo.add("refs/heads/main", {".gitattributes": (b"*.safetensors filter=lfs\n", False)}, "initial commit")
        return 200, {"url": url, "name": name, "id": "1"}

    def validate_yaml(self, groups, body):
        card = json.loads(body)["content"]
        match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
        errors = []
        if match is None:
            errors.append("there is no metadata")
        else:
            data = yaml.safe_load(match[1])
            kinds = {"license": str, "pipeline_tag": str, "library_name": str, "model-index": list, "widget": list}
            errors += [
                f'"{key}" is wrong' for key, kind in kinds.items() if not isinstance(data.get(key, kind()), kind)
            ]
            for model in data.get("model-index", []):
                for result in model["results"]:
                    if not {"type", "name"} <= set(result["dataset"]) or "type" not in result["task"]:
                        errors.append('"model-index" is wrong')
        return (400 if errors else 200), {"errors": [{"message": error} for error in errors], "warnings": []}

    def refs(self, groups, body, repo, sha, query):
        def of(prefix: str) -> list[dict]:
            return [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": commit}
                for ref, commit in repo.refs.items()
                if ref.startswith(prefix)
            ]

        answer = {"branches": of("refs/heads/"), "tags": of("refs/tags/"), "converts": []}
        return 200, answer | ({"pullRequests": of("refs/pr/")} if "include_prs" in query else {})

    def describe(self, path: str, content: bytes, large: bool) -> dict:
        answer = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
        if large:
            answer["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return answer

    def tree(self, groups, body, repo, sha, query):
        folder = unquote(groups["path"] or "").strip("/")
        found = [self.describe(path, *entry) for path, entry in repo.commits[sha].items() if path.startswith(folder)]
        if folder and not found:
            return 404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"}
        return 200, found

    def info(self, groups, body, repo, sha, query):
        files = [{"rfilename": path} for path in repo.commits[sha]]
        return 200, {"id": groups["id"], "sha": sha, "siblings": files, "private": repo.private, "tags": []}

    def preupload(self, groups, body, repo, sha, query):
        tree, answers = repo.commits[sha], []
        for file in json.loads(body)["files"]:
            path = file["path"]
            content, large = tree.get(path, (None, path.endswith(LARGE)))
            oid = None
            if content is not None:
                oid = hashlib.sha256(content).hexdigest() if large else git_hash(content)
            mode = "lfs" if large else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": answers}

    def batch(self, groups, body, repo, sha, query):
        objects = []
        for item in json.loads(body)["objects"]:
            if item["oid"] not in self.hub.objects:
                header = {"Authorization": f"Bearer {TOKEN}"}
                item["actions"] = {
                    "upload": {"href": f"{self.hub.url}/objects/{item['oid']}"},
                    "verify": {"href": f"{self.hub.url}/objects/verify", "header": header},
                }
            objects.append(item)
        return 200, {"transfer": "basic", "objects": objects}

    def upload(self, groups, body):
        if hashlib.sha256(body).hexdigest() != groups["oid"]:
            return 400, {"error": "the content is not what it should be"}
        self.hub.sent[groups["oid"]] = body
        return 200, b""

    def verify(self, groups, body):
        asked = json.loads(body)
        there = self.hub.sent.get(asked["oid"])
        if there is None or len(there) != asked["size"]:
            return 404, {}
        self.hub.objects[asked["oid"]] = there
        return 200, {}

    def commit(self, groups, body, repo, sha, query):
        lines = [json.loads(line) for line in body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, sha) and "create_pr" not in query:
            return 412, {"error": "A commit has happened since. Please refresh and try again."}
        tree = dict(repo.commits[sha])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = (base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return 400, {"error": f"LFS pointer pointed to a file that does not exist: {value['path']}"}
                tree[value["path"]] = (self.hub.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                tree.pop(value["path"], None)
        ref, answer = f"refs/heads/{unquote(groups['rev'])}", {}
        if unquote(groups["rev"]).startswith("refs/"):
            ref = unquote(groups["rev"])
        if "create_pr" in query:
            number = len(repo.pull_requests) + 1
            ref, url = f"refs/pr/{number}", f"{self.hub.url}/{groups['id']}/discussions/{number}"
            repo.pull_requests.append({"title": header["summary"], "num": number})
            answer["pullRequestUrl"] = url
        commit = repo.add(ref, tree, header["summary"])
        url = f"{self.hub.url}/{groups['id']}/commit/{commit}"
        return 200, answer | {"commitUrl": url, "commitOid": commit, "success": True}

    def branch(self, groups, body, repo, sha, query):
        ref = f"refs/heads/{unquote(groups['rev'])}"
        if ref in repo.refs:
            return 409, {"error": "Reference already exists"}
        repo.refs[ref] = repo.find(json.loads(body or b"{}").get("startingPoint", "main"))
        return 200, {}

    def delete_branch(self, groups, body, repo, sha, query):
        del repo.refs[f"refs/heads/{unquote(groups['rev'])}"]
        return 200, {}

    def tag(self, groups, body, repo, sha, query):
        ref = f"refs/tags/{json.loads(body)['tag']}"
        if ref in repo.refs:
            return 409, {"error": "Tag reference exists already"}
        repo.refs[ref] = sha
        return 200, {}

    def discussions(self, groups, body, repo, sha, query):
        found = [
            {
                "title": pull_request["title"],
                "num": pull_request["num"],
                "author": {"name": "user"},
                "createdAt": "2024-01-01T00:00:00.000Z",
                "status": "open",
                "repo": {"name": groups["id"], "type": "model"},
                "isPullRequest": True,
            }
            for pull_request in repo.pull_requests
        ]
        return 200, {"discussions": found, "count": len(found), "start": 0}

    def resolve(self, groups, body, repo, sha, query):
        path = unquote(groups["path"])
        if path not in repo.commits[sha]:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
        content, large = repo.commits[sha][path]
        etag = hashlib.sha256(content).hexdigest() if large else git_hash(content)
        return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": sha}

    head = resolve


@pytest.fixture
def hub(monkeypatch) -> Hub:
    """The server, on a free port, as what `huggingface_hub` takes for the Hub; with a login, and without waiting."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    # HF_ENDPOINT is read when huggingface_hub is imported; processes that a test starts read it themselves
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", state.url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        state.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # made once, with the address of its time
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield state
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def trained(tmp_path, tiny_config) -> Callable[..., Path]:
    """Builds a directory like those that training leaves: a tiny model, its tokenizer, results and states."""

    def build(model_class=GPT1ForSequenceClassification, name: str = "run", **settings) -> Path:
        directory = tmp_path / name
        tokenizer = GPT1Tokenizer(task_format=model_class.__name__ not in ("GPT1ForCausalLM", "GPT1ForMaskedLM"))
        if model_class is GPT1ForMaskedLM:
            tokenizer.add_special_tokens({"mask_token": "[MASK]"})
            settings["is_causal"] = False
        config = tiny_config(vocab_size=len(tokenizer), **({"hidden_size": 8, "num_hidden_layers": 1} | settings))
        model_class(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        results = {"eval_loss": 0.5, "eval_accuracy": 0.8125, "eval_runtime": 1.0, "test_accuracy": 0.75}
        (directory / "all_results.json").write_text(json.dumps(results | {"train_loss": 1.0}))
        log = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)] + [{"step": 3, "eval_loss": 0.5}]
        (directory / "trainer_state.json").write_text(json.dumps({"log_history": log}))
        (directory / "training_args.bin").write_bytes(b"a pickle of Trainer's own")
        (directory / "checkpoint-3").mkdir()
        (directory / "checkpoint-3" / "optimizer.pt").write_bytes(b"a state of Trainer's own")
        return directory

    return build
