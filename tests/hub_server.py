"""A hub on 127.0.0.1 that speaks as much of the hub's HTTP as huggingface_hub asks for when a model is pulled.

Small files come from the repository itself, large ones after a redirect, as on the real hub. `answers` replaces what is
said for a path, to be a hub that fails or lies.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 100  # bytes from which a file is stored apart, and listed with its sha256


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """files: path -> contents. listing: changes what the hub says of a file. gated: only who sends
    the token `good` may fetch."""

    files: dict[str, bytes]
    licence: str = "openrail++"
    gated: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    listing: Callable[[dict[str, Any]], None] = lambda entry: None
    commit: str = ""

    def __post_init__(self) -> None:
        self.commit = self.commit or hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def info(self, name: str) -> dict[str, Any]:
        siblings = []
        for path, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_hash(data)}
            if len(data) >= LARGE:
                entry["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
            self.listing(entry)
            siblings.append(entry)
        card = {"license": self.licence} if self.licence else {}
        said = {"id": name, "sha": self.commit, "gated": "auto" if self.gated else False, "private": False}
        return {**said, "tags": [], "cardData": card, "siblings": siblings, **self.fields}


@dataclass
class Hub:
    """repos: ORG/NAME -> revision -> repository. log: (method, path, Range) of each request. answers: path of a request
    -> what to do instead."""

    repos: dict[str, dict[str, Repo]] = field(default_factory=dict)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def add(self, name: str, repo: Repo, *revisions: str) -> Repo:
        for revision in ("main", repo.commit, *revisions):
            self.repos.setdefault(name, {})[revision] = repo
        return repo

    def fetched(self) -> list[str]:
        """The files that were asked for, without the repository and the commit."""
        return [path.split("/resolve/")[1].split("/", 1)[1] for _, path, _ in self.log if "/resolve/" in path]

    def find(self, digest: str) -> bytes | None:
        everything = (
            data for revisions in self.repos.values() for r in revisions.values() for data in r.files.values()
        )
        return next((data for data in everything if hashlib.sha256(data).hexdigest() == digest), None)

    def serve(self) -> ThreadingHTTPServer:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                return

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.log.append((self.command, path, self.headers.get("Range", "")))
                answer = hub.answers.get(path)
                if answer is not None:
                    answer(self)
                elif path.startswith("/api/models/"):
                    self._info(path.removeprefix("/api/models/"))
                elif path.startswith("/large/"):
                    self._data(hub.find(path.removeprefix("/large/")) or b"")
                elif "/resolve/" in path:
                    self._file(*path[1:].split("/resolve/"))
                else:
                    send(self, 404)

            def _repo(self, name: str, revision: str) -> Repo | None:
                revisions = hub.repos.get(name)
                if revisions is None:
                    send(self, 401, headers={"X-Error-Code": "RepoNotFound"})
                    return None
                if revision not in revisions:
                    send(self, 404, headers={"X-Error-Code": "RevisionNotFound"})
                    return None
                return revisions[revision]

            def _info(self, path: str) -> None:
                name, _, revision = path.partition("/revision/")
                repo = self._repo(name, revision or "main")
                if repo is not None:
                    send(self, 200, json.dumps(repo.info(name)).encode(), {"Content-Type": "application/json"})

            def _file(self, name: str, rest: str) -> None:
                revision, _, path = rest.partition("/")
                repo = self._repo(name, revision)
                if repo is None:
                    return
                if repo.gated and self.headers.get("Authorization") != "Bearer good":
                    send(self, 403, headers={"X-Error-Code": "GatedRepo"})
                elif path not in repo.files:
                    send(self, 404, headers={"X-Error-Code": "EntryNotFound"})
                elif len(repo.files[path]) >= LARGE:
                    send(self, 302, headers={"Location": "/large/" + hashlib.sha256(repo.files[path]).hexdigest()})
                else:
                    self._data(repo.files[path])

            def _data(self, data: bytes) -> None:
                start = self.headers.get("Range", "")
                if start:
                    begin = int(start.removeprefix("bytes=").split("-")[0])
                    where = f"bytes {begin}-{len(data) - 1}/{len(data)}"
                    send(self, 206, data[begin:], {"Content-Range": where})
                else:
                    send(self, 200, data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    """An answer; length: what it claims to be long, if that is a lie."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    if length is not None:
        handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = length is not None
