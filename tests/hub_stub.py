"""A Hugging Face hub on the loopback: repositories, commits, and who asked with which token."""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from tests.loopback import serving

TOKEN = "hf_stubsecret0123"


@dataclasses.dataclass
class Hub:
    """What the hub holds.

    Attributes:
      commits: by repository, {commit: {file: content}}, the newest last.
      private: repositories made so.
      refuses: uploads are answered with 403.
      asked: (method, path, the Authorization header) of every request.
    """

    url: str = ""
    commits: dict[str, dict[str, dict[str, bytes]]] = dataclasses.field(default_factory=dict)
    private: set[str] = dataclasses.field(default_factory=set)
    refuses: bool = False
    asked: list[tuple[str, str, str | None]] = dataclasses.field(default_factory=list)

    def commit(self, repository: str, files: dict[str, bytes], gone: Collection[str] = ()) -> str:
        """Adds files to the newest commit and takes some off; returns the new one."""
        held = self.commits.setdefault(repository, {})
        newest = list(held.values())[-1] if held else {}
        name = hashlib.sha1(f"{repository} {len(held)}".encode()).hexdigest()
        assert {*gone} <= {*newest}  # as the hub, which refuses to delete what is not there
        kept = {file: content for file, content in newest.items() if file not in gone}
        held[name] = kept | files
        return name

    def at(self, repository: str, revision: str) -> str | None:
        """Returns the commit of a revision."""
        held = self.commits.get(repository, {})
        return (list(held) or [None])[-1] if revision == "main" else revision * (revision in held)


def _handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def _json(self, content: Any, status: int = 200, **headers: str) -> None:
            self._send(json.dumps(content).encode(), status, **headers)

        def _send(self, content: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _note(self) -> str:
            path = self.path.partition("?")[0]
            hub.asked.append((self.command, path, self.headers["Authorization"]))
            return path

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.headers["Transfer-Encoding"] == "chunked":
                body = self._chunks()
            path = self._note()
            if hub.refuses or self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._json({"error": "You may not write here"}, 403)
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                if asked.get("private") or asked.get("visibility") == "private":
                    hub.private.add(name)
                self._json({"url": f"{hub.url}/{name}", "name": name})
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                files = json.loads(body)["files"]
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                self._json({"files": [{"path": file["path"], **modes} for file in files]})
            elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                lines = [json.loads(line) for line in body.splitlines()]
                files = [line["value"] for line in lines if line["key"] == "file"]
                gone = [line["value"]["path"] for line in lines if line["key"] == "deletedFile"]
                made = hub.commit(
                    found[1], {f["path"]: base64.b64decode(f["content"]) for f in files}, gone
                )
                url = f"{hub.url}/{found[1]}/commit/{made}"
                self._json({"success": True, "commitOid": made, "commitUrl": url})
            else:
                self._json({"error": path}, 404)

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self._note()
            if found := re.fullmatch(r"/api/models/(.+)/tree/main", path):
                held = hub.commits.get(found[1], {}).get(hub.at(found[1], "main") or "", {})
                self._json([{"type": "file", "path": f, "size": 1, "oid": "0"} for f in held])
            elif found := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+))?", path):
                commit = hub.at(found[1], found[2] or "main")
                if commit:
                    self._json({"id": found[1], "sha": commit})
                else:
                    self._json({"error": "no"}, 404, X_Error_Code="RepoNotFound")
            elif found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
                self._file(*found.groups())
            else:
                self._json({"error": path}, 404)

        def _file(self, repository: str, revision: str, file: str) -> None:
            commit = hub.at(repository, revision)
            if not commit:
                return self._json({"error": "no"}, 404, X_Error_Code="RepoNotFound")
            content = hub.commits[repository][commit].get(file)
            if content is None:
                return self._json({"error": "no"}, 404, X_Error_Code="EntryNotFound")
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self._send(content, ETag=etag, X_Repo_Commit=commit)

    return Handler


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Yields a hub at `hub.url`, in threads of its own."""
    hub = Hub()
    with serving(_handler(hub)) as hub.url:
        yield hub
