"""A hub on loopback: the endpoints that huggingface_hub uses for downloads, as the real one answers them.

Read from the client (huggingface_hub 2.4: `HfApi.repo_info`, `list_repo_tree`, `get_hf_file_metadata`, `http_get`):

    GET  /api/{models|datasets}/{repo}/revision/{revision}     the commit that a branch stands for
    GET  /api/{models|datasets}/{repo}/tree/{commit}           all files
    HEAD /[datasets/]{repo}/resolve/{revision}/{file}          ETag and size; large files redirect to a store
    GET  /[datasets/]{repo}/resolve/{revision}/{file}          content of a small file
    GET  /store/{digest}                                       content of a large one
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Literal
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/(?P<ask>revision|tree)/(?P<revision>[^/]+)")
RESOLVE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
STORE = re.compile(r"/store/(?P<digest>[0-9a-f]{40})")
LARGE = 100_000
"""Larger files are kept in the store, as those of git-lfs are."""


@dataclass
class Repository:
    """Files by commit, and branches that point to commits."""

    commits: dict[str, Mapping[str, Path]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: Mapping[str, Path]) -> str:
        """Let a branch point to a new commit of these files."""
        commit = token_hex(20)
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    origin: str
    """HF_HUB_USER_AGENT_ORIGIN of the process that asked."""


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    models: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    trouble: Literal["", "cut", "busy"] = ""
    """Answer no request, or each with 429."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    stored: dict[str, Path] = field(default_factory=dict)


@contextmanager
def hub_server(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends; then connections are refused."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        origin = re.search(r"origin/(\w+)", self.headers.get("User-Agent", ""))
        self.hub.asked.append(Asked(self.command, path, origin[1] if origin else ""))
        if self.hub.trouble == "cut":
            self.close_connection = True
        elif self.hub.trouble == "busy":
            self._send(429, b"", {})
        elif asked := STORE.fullmatch(path):
            self._send_file(self.hub.stored[asked["digest"]], {})
        elif asked := API.fullmatch(path) or RESOLVE.fullmatch(path):
            self._of_repository(asked.groupdict())
        else:
            self._refuse("RepoNotFound")

    def _of_repository(self, asked: Mapping[str, str | None]) -> None:
        repositories = self.hub.datasets if asked["kind"] == "datasets" else self.hub.models
        repo, revision = str(asked["repo"]), str(asked["revision"])
        if repo not in repositories:
            return self._refuse("RepoNotFound")
        repository = repositories[repo]
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse("RevisionNotFound")
        files = repository.commits[commit]
        if asked.get("ask") == "revision":
            return self._send_json({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]})
        if asked.get("ask") == "tree":
            return self._send_json([_tree_entry(name, path) for name, path in files.items()])
        in_commit = {"X-Repo-Commit": commit}
        if asked["file"] not in files:
            return self._refuse("EntryNotFound", in_commit)
        path = files[str(asked["file"])]
        if path.stat().st_size <= LARGE:
            return self._send_file(path, in_commit | {"ETag": f'"{_digest(path)}"'})
        self.hub.stored[_digest(path)] = path
        store = self.hub.url.replace("127.0.0.1", "localhost")  # another host, as the real one's is
        linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-ETag": f'"{_digest(path)}"'}
        return self._send(302, b"", in_commit | linked | {"Location": f"{store}/store/{_digest(path)}"})

    def _refuse(self, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": "not here", **(headers or {})})

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send_file(self, path: Path, headers: Mapping[str, str]) -> None:
        self._send(200, path.read_bytes(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tree_entry(name: str, path: Path) -> dict[str, object]:
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _digest(path)}


def _digest(path: Path) -> str:
    """Names a file's content well enough here."""
    return sha1(f"{path}:{path.stat().st_mtime_ns}".encode(), usedforsecurity=False).hexdigest()
