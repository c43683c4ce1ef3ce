"""A stand-in for the server of Weights & Biases on this machine, which keeps what the client sends about runs."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class ServedRun:
    """What arrived of a run."""

    sent: dict[str, Any] = field(default_factory=dict)  # variables of upsertBucket: displayName, groupName, tags, ...
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)  # of the history, by their number
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows in their order, without what the client adds, and without pictures."""
        rows = [self.lines[number] for number in sorted(self.lines)]
        return [{key: value for key, value in row.items() if not key.startswith(("_", "pictures/"))} for row in rows]


@dataclass
class Server:
    """The runs that arrived, and the names of the files uploaded."""

    url: str = ""
    runs: dict[str, ServedRun] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    requests_left: int | None = None  # after so many parts of a history, the server hangs up; None for never

    def stream(self, name: str, content: dict[str, Any]) -> None:
        """Take a part of a run's history and summary."""
        run, parts = self.runs[name], content.get("files", {})
        history = parts.get("wandb-history.jsonl", {"content": []})
        for number, line in enumerate(history["content"], history.get("offset", 0)):
            run.lines[number] = json.loads(line)
        for line in parts.get("wandb-summary.json", {}).get("content", []):
            run.summary = json.loads(line)
        run.exit_code = content.get("exitcode", run.exit_code)

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer what the client asks by GraphQL, of all it could ask what it needs."""
        match operation:
            case "Viewer":
                return {"viewer": {"id": "1", "entity": "me", "username": "me", "teams": {"edges": []}, "flags": "{}"}}
            case "RunResumeStatus":
                return {"model": {"id": "1", "name": "p", "bucket": self._bucket(variables["name"])}}
            case "UpsertBucket":
                run = self.runs.setdefault(variables["name"], ServedRun())
                run.sent.update({key: value for key, value in variables.items() if value is not None})
                project = {"id": "1", "name": "reldrop", "entity": {"id": "1", "name": "me"}}
                bucket = {**self._bucket(variables["name"]), "project": project}
                return {"upsertBucket": {"bucket": bucket, "inserted": not run.lines}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
                return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any] | None:
        if name not in self.runs:
            return None
        run = self.runs[name]
        last = [json.dumps(run.lines[max(run.lines)])] if run.lines else []
        return {
            "id": name,
            "name": name,
            "displayName": run.sent.get("displayName"),
            "historyLineCount": len(run.lines),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(last),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(run.summary),
            "config": run.sent.get("config", "{}"),
            "wandbConfig": '{"t": {}}',  # the run has begun
            "tags": run.sent.get("tags"),
        }


@contextmanager
def serve() -> Iterator[Server]:
    """Listen on a free port of the loopback interface."""
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            answer: dict[str, Any] = {}
            if self.path == "/graphql":
                query = json.loads(body)
                answer = {"data": served.answer(query["operationName"], query.get("variables") or {})}
            elif self.path.endswith("/file_stream"):
                served.stream(self.path.split("/")[-2], json.loads(body))
            elif self.path.startswith("/upload/"):
                served.files.add(self.path.removeprefix("/upload/"))
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST

        def log_message(self, *arguments: Any) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: Any) -> None: ...  # a client may hang up, or be killed

    with Quiet(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield served
        server.shutdown()
