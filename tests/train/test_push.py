"""An exported folder goes to the hub, here one of our own on this machine."""

import base64
import http.server
import json
import threading

import pytest
from huggingface_hub import constants

from train.errors import DataError
from train.push import files_of, push_to_hub
from train.push import main as push_main

SHA = "0123456789012345678901234567890123456789"


class Hub(http.server.ThreadingHTTPServer):
    """What of the hub's interface an upload of small files uses."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.created, self.files, self.messages = [], {}, []
        self.status = 200  # of the request that makes a model


class _Requests(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self._answer(self.path, body)
        status = 200 if answer is not None else self.server.status
        content = json.dumps(answer or {"error": "not yours"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, path, body):
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            url = f"http://{self.headers['Host']}/me/model"
            return {"url": url} if self.server.status == 200 else None
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            wanted = json.loads(body)["files"]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": file["path"], **how} for file in wanted]}
        assert "/commit/" in path, path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            else:
                content = base64.b64decode(value["content"])
                self.server.files[value["path"]] = content
        url = f"http://{self.headers['Host']}/me/model/commit/{SHA}"
        return {"commitUrl": url, "commitOid": SHA, "success": True}

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch):
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{hub.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        yield hub
        hub.shutdown()
        thread.join()


@pytest.fixture
def exported(tmp_path):
    folder = tmp_path / "exported"
    (folder / "parts").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / "README.md").write_text("---\ntags: [x]\n---\n# A model\n")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 9)
    (folder / "parts" / "classes.json").write_text('["a", "b"]')
    (folder / ".cache" / "left").write_text("over")
    return folder


def test_every_file_arrives_as_it_is(hub, exported):
    url = push_to_hub(exported, "me/model", private=True, message="The first one")
    assert url.endswith(f"/commit/{SHA}")
    [created] = hub.created
    assert (created["name"], created["organization"]) == ("model", "me")
    assert "private" in json.dumps(created)
    assert hub.messages == ["The first one"]
    assert sorted(hub.files) == sorted(files_of(exported))
    for name, content in hub.files.items():
        assert content == (exported / name).read_bytes()


def test_a_dry_run_uploads_nothing(hub, exported, capsys):
    flags = ["--folder", str(exported), "--repo", "me/model", "--dry-run"]
    assert push_main(flags) == 0
    shown = capsys.readouterr().out
    assert "2,304 bytes  model.safetensors" in shown
    assert "3 files would go to me/model; nothing is uploaded" in shown
    assert ".cache" not in shown
    assert not hub.created
    assert not hub.files


def test_what_the_hub_refuses_is_told_in_a_line(hub, exported, capsys):
    hub.status = 403
    flags = ["--folder", str(exported), "--repo", "other/model"]
    assert push_main(flags) == 2
    said = capsys.readouterr().err
    assert "the hub does not take other/model: " in said
    assert "hf auth login" in said
    assert not hub.files


@pytest.mark.parametrize("repo", ["me/a/b", "me/-", ""])
def test_a_name_that_is_none_is_refused(hub, exported, repo):
    with pytest.raises(DataError, match="--repo: "):
        push_to_hub(exported, repo)
    assert not hub.files


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no README\.md"):
        files_of(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        files_of(tmp_path / "none")
