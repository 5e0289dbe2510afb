"""A stand-in for a W&B server: it answers what W&B's client asks of one and keeps what it is sent.

So `wandb sync` itself, with its own reader of the offline files, is the oracle of what those files say.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40


@dataclass
class SentRun:
    """What the server has of one run: a row per history line, by its place."""

    settings: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    inserted: int = 0
    finished: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.history[place] for place in sorted(self.history)]


@dataclass
class Backend:
    """The server's memory, by run id; `views` holds what was saved with `upsertView`."""

    url: str = ""
    runs: dict[str, SentRun] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def answer(self, query: str, given: Mapping[str, Any]) -> dict[str, Any]:
        entity = {"id": "e", "name": "me"}
        project = {"id": "p", "name": given.get("project") or "p", "entity": entity}
        if "upsertBucket" in query:
            return {"upsertBucket": {"bucket": self._upsert(given) | {"project": project}, "inserted": True}}
        if "RunResumeStatus" in query:
            return {"model": project | {"bucket": self._resumed(given["name"])}}
        if "createRunFiles" in query:
            files = [{"name": n, "uploadUrl": f"{self.url}/upload/{given['run']}/{n}"} for n in given["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if "createArtifactManifest" in query or "updateArtifactManifest" in query:
            file = {"id": "f", "uploadUrl": f"{self.url}/upload/-/manifest", "uploadHeaders": []}
            kind = "updateArtifactManifest" if "updateArtifactManifest" in query else "createArtifactManifest"
            return {kind: {"artifactManifest": {"id": "m", "file": file}}}
        if "query ArtifactType" in query:
            return {"project": {"artifactType": None, "artifact": None}}
        if "createArtifactFiles" in query:
            return {
                "createArtifactFiles": {"files": {"edges": [self._file(f) for f in given["input"]["artifactFiles"]]}}
            }
        if "createArtifact" in query:
            self.runs[given["input"]["runName"]].artifacts.append(given["input"])
            return {
                "createArtifact": {
                    "artifact": {"id": "a", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
                }
            }
        if "commitArtifact" in query:
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
        if "upsertView" in query:
            self.views.append(dict(given))
            return {"upsertView": {"view": self._view(given), "inserted": True}}
        if "ProjectInternalId" in query:
            return {"project": {"id": "p", "internalId": "1"}}
        if "query Runs" in query:
            return {"project": self._listed(given)}
        if "GetProjects" in query:
            return {"models": self._projects()}
        if "viewer" in query:
            teams = {"edges": [{"node": {"name": "me"}}]}
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": teams}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": []}}
        if "markRunFilesUploaded" in query:
            return {"markRunFilesUploaded": {"success": True}}
        self.unknown.append(query)
        return {}

    def _upsert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], SentRun())
        run.inserted += 1
        run.settings |= {key: value for key, value in given.items() if value is not None}
        return {"id": f"id-{given['name']}", "name": given["name"], "displayName": given.get("displayName"),
                "description": "", "config": "{}", "sweepName": None, "historyLineCount": len(run.history)}  # fmt: skip

    def _resumed(self, name: str) -> dict[str, Any] | None:
        run = self.runs.get(name)
        if run is None:
            return None
        lines = [json.dumps(row) for row in run.rows[-1:]]
        return {"id": f"id-{name}", "name": name, "summaryMetrics": json.dumps(run.summary), "displayName": name,
                "logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0,
                "historyTail": json.dumps(lines), "eventsTail": "[]", "config": "{}", "tags": [], "notes": "",
                "wandbConfig": json.dumps({"t": 1})}  # fmt: skip

    def _listed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The runs of a group, or all."""
        group = json.loads(given.get("filters") or "{}").get("group")
        edges = []
        for name, run in self.runs.items():
            if group in (None, run.settings.get("groupName")):
                user = {"name": "me", "username": "me"}
                node = {"projectId": "1", "id": name, "tags": [], "name": name, "displayName": name, "sweepName": None,
                        "state": "finished", "config": run.settings["config"], "group": group, "jobType": None,
                        "commit": None, "readOnly": False, "createdAt": "2026-01-01T00:00:00Z", "heartbeatAt": None,
                        "description": None, "notes": None, "systemMetrics": "{}", "historyKeys": None, "user": user,
                        "summaryMetrics": json.dumps(run.summary), "historyLineCount": len(run.history)}  # fmt: skip
                edges.append({"node": node, "cursor": name})
        page = {"endCursor": None, "hasNextPage": False}
        runs = {"edges": edges, "pageInfo": page}
        return {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}

    def _projects(self) -> dict[str, Any]:
        user = {"__typename": "User", "id": "u", "name": "me", "username": "me", "email": "", "admin": False,
                "flags": "{}", "entity": "me", "deletedAt": None, "apiKeys": {"edges": []},
                "teams": {"edges": []}}  # fmt: skip
        node = {"__typename": "Project", "id": "p", "name": "heads", "entityName": "me", "isBenchmark": False,
                "createdAt": "2026-01-01T00:00:00Z", "user": user}  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"pageInfo": page, "edges": [{"node": node}]}

    def _view(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": f"view{len(self.views)}", "type": given.get("type"), "name": given.get("name"),
                "displayName": given.get("displayName"), "description": given.get("description"),
                "project": {"id": "p", "name": given.get("projectName"), "entityName": given.get("entityName")},
                "spec": given.get("spec"), "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
                "createdBy": None, "user": None, "previewUrl": None}  # fmt: skip

    def _file(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"node": {"storagePath": given.get("name"), "uploadUrl": f"{self.url}/upload/-/{given['name']}",
                         "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": "a"}}}  # fmt: skip

    def stream(self, name: str, content: Mapping[str, Any]) -> None:
        run = self.runs[name]
        for file, chunk in (content.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                for place, line in enumerate(chunk["content"], chunk["offset"]):
                    run.history[place] = json.loads(line)
            if file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        run.finished |= bool(content.get("complete"))


@contextmanager
def wandb_server() -> Iterator[Backend]:
    """The server on a free port of this machine, while entered."""
    backend, lock = Backend(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def _reply(self, content: Mapping[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._reply({})

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            _, _, run, name = self.path.split("/", 3)
            with lock:
                if run in backend.runs:
                    backend.runs[run].files.add(name)
            self._reply({})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                raw = gzip.decompress(raw)
            answer: dict[str, Any] = {}
            with lock:
                if self.path.endswith("/graphql"):
                    content = json.loads(raw)
                    answer = {"data": backend.answer(content["query"], content.get("variables") or {})}
                elif self.path.endswith("/file_stream"):
                    backend.stream(self.path.split("/")[-2], json.loads(raw))
                else:
                    backend.other.append(self.path)
            self._reply(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    backend.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
