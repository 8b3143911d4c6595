"""The service, by real requests to a real port."""

import base64
import contextlib
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import jax
import pytest
from small_exports import TEXTS, train_kind

from train.predict import Predictor
from train.serve import main as serve_main

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
ROOT = Path(__file__).parents[3]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def workdir(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return train_kind("text", folder, encoder)[0]


@contextlib.contextmanager
def serving(workdir, *flags):
    """A service in a process of its own: the process, and its port."""
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "train.serve", workdir, "--port=0", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), line + process.stdout.read()
        yield process, int(line.split()[0].rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service(workdir):
    with serving(workdir, "--compilation-cache=", "--max-rows=40") as found:
        yield found


def ask(port, body=None, *, method="POST", path="/predict", headers=JSON):
    """The status and the JSON of one request, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        if isinstance(body, dict | list):
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_answers_are_those_of_predict(workdir, service):
    _, port = service
    status, found = ask(port, {"inputs": TEXTS, "top_k": 2, "all_probabilities": True})
    assert status == 200
    expected = Predictor(workdir)(TEXTS, top_k=2, all_probabilities=True)
    assert_close(found["answers"], expected)
    status, found = ask(port, {"inputs": [{"text": "off"}]})
    assert_close(found["answers"], Predictor(workdir)(["off"]))


def assert_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert one["margin"] == pytest.approx(other["margin"], abs=1e-4)


def test_it_says_what_it_is(workdir, service):
    _, port = service
    status, health = ask(port, method="GET", path="/health")
    assert (status, health["status"], health["classes"]) == (200, "ok", 2)
    status, described = ask(port, method="GET", path="/openapi.json")
    assert described["openapi"].startswith("3.")
    assert described["paths"].keys() == {"/predict", "/health"}
    example = described["paths"]["/predict"]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]["example"]
    assert ask(port, example)[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.request("GET", "/docs")
        assert b"openapi.json" in connection.getresponse().read()


def question(**fields):
    return json.dumps({"inputs": ["a"], **fields})


BAD = {
    "empty body": (b"", 400, "empty"),
    "no JSON": (b"turn it on", 400, "not JSON"),
    "half of JSON": (b'{"inputs": ["a"', 400, "not JSON"),
    "no UTF-8": (b'{"inputs": ["\xff"]}', 400, "UTF-8"),
    "NaN": (b'{"inputs": [NaN]}', 400, "NaN is no number"),
    "infinity": (b'{"inputs": [Infinity]}', 400, "Infinity"),
    "a long number": (b'{"inputs": [' + b"9" * 5000 + b"]}", 400, "digit"),
    "deep lists": (b'{"inputs": ' + b"[" * 100_000, 400, "deep"),
    "a list": (b'["a"]', 422, "must be an object"),
    "null": (b"null", 422, "must be an object"),
    "no inputs": (b"{}", 422, "must be a list"),
    "inputs of none": (b'{"inputs": []}', 422, "is empty"),
    "one text": (b'{"inputs": "a"}', 422, "must be a list"),
    "a number": (b'{"inputs": ["a", 3]}', 422, "`inputs[1]`: it must be a text"),
    "a blank": (b'{"inputs": [null]}', 422, "got null"),
    "words": (b'{"inputs": [["a", "b"]]}', 422, "must be a text; got a list"),
    "another column": (b'{"inputs": [{"body": "a"}]}', 422, "it lacks 'text'"),
    "a column more": (b'{"inputs": [{"text": "a", "n": 1}]}', 422, "has 'n'"),
    "half an emoji": (b'{"inputs": ["\\ud83d"]}', 422, "surrogate"),
    "unknown field": (question(temperature=1), 422, "unknown field 'temperature'"),
    "top_k of text": (question(top_k="2"), 422, "`top_k` must be"),
    "top_k true": (question(top_k=True), 422, "`top_k` must be"),
    "top_k too large": (question(top_k=9), 422, "from 0 to 2"),
    "a flag of text": (question(all_probabilities="yes"), 422, "true or false"),
    "too many rows": (json.dumps({"inputs": ["a"] * 41}), 413, "41 inputs"),
    "too large": (question(more="x" * 2**20), 413, "larger than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_has_a_reason(service, name):
    body, status, words = BAD[name]
    found, content = ask(service[1], body)
    assert (found, content.keys()) == (status, {"error"})
    assert words in content["error"]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"method": "GET"}, 405, "POST alone"),
        ({"method": "PUT"}, 405, "POST alone"),
        ({"path": "/health"}, 405, "GET alone"),
        ({"path": "/nothing"}, 404, "there are /predict"),
        ({"headers": {"content-type": "text/plain"}}, 415, "application/json"),
        ({"headers": {}}, 415, "not given"),
        ({"headers": JSON | {"content-encoding": "gzip"}}, 415, "encoded"),
    ],
)
def test_another_request_than_predict_takes(service, request_, status, words):
    found, content = ask(service[1], question(), **request_)
    assert found == status
    assert words in content["error"]


def test_a_body_without_a_length_is_limited_too(service):
    connection = http.client.HTTPConnection("127.0.0.1", service[1])

    def parts():
        for _ in range(40):
            yield b" " * 2**16

    with contextlib.closing(connection):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", "/predict", parts(), JSON, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_sigterm_ends_it_when_all_is_answered(workdir):
    found = []
    with serving(workdir, "--no-warm-up") as (process, port):
        # Its shape is not compiled yet, so the signal comes in between.
        asking = threading.Thread(
            target=lambda: found.append(ask(port, {"inputs": ["off"]}))
        )
        asking.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        asking.join()
    assert process.returncode == 0
    assert "stopped; all that was asked is answered" in output
    assert "Traceback" not in output
    assert [status for status, _ in found] == [200]


def memory(process):
    """The megabytes that a process holds."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.long
def test_eight_clients_get_each_their_answers_in_flat_memory(workdir, service):
    process, port = service
    texts = [f"turn {way} the {'lamp ' * k}" for way in ("on", "off") for k in range(8)]
    expected = dict(zip(texts, Predictor(workdir)(texts), strict=True))
    wrong, held = [], []

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for turn in range(125):
            start = (number * 5 + turn) % len(texts)
            asked = (texts[start:] + texts[:start])[: 1 + turn % 9]
            body = json.dumps({"inputs": asked})
            connection.request("POST", "/predict", body, JSON)
            response = connection.getresponse()
            found = json.loads(response.read())
            try:
                assert response.status == 200
                assert_close(found["answers"], [expected[text] for text in asked])
            except AssertionError as error:
                wrong.append(error)
            if number == 0 and turn % 25 == 24:
                held.append(memory(process))
        connection.close()

    for _ in range(2):
        clients = [threading.Thread(target=client, args=(k,)) for k in range(8)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
    assert not wrong
    assert len(held) == 10
    # From the first 200 requests to the last of 2,000.
    assert held[-1] - held[0] < 16, held


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port=-1"], "--port: -1; give 0 or more"),
        (["--max-rows=0"], "--max-rows: 0; give 1 or more"),
        (["--config.loss.delta=0.2"], "only --config.data.* can differ"),
    ],
)
def test_refuses_flags(workdir, capsys, flags, words):
    assert serve_main([str(workdir), "--compilation-cache=", *flags]) == 2
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.count("\n") == 1


def test_says_which_port_is_taken(workdir, service, capsys):
    flags = [str(workdir), "--compilation-cache=", f"--port={service[1]}"]
    assert serve_main(flags) == 2
    assert "cannot listen at 127.0.0.1" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mixed", "cnn", "audio", "tokens", "sets"])
def test_every_kind_of_input_is_served(kind, encoder, tmp_path):
    served, inputs = train_kind(kind, tmp_path, encoder)
    given = [x.tolist() if hasattr(x, "tolist") else x for x in inputs]
    with serving(served) as (_, port):
        status, found = ask(port, {"inputs": given})
        assert (status, found["answers"]) == (200, approximately(served, inputs))
        status, found = ask(port, {"inputs": ["nothing of the kind", 3]})
        assert status == 422
        assert "`inputs[" in found["error"]


def approximately(workdir, inputs):
    """What a run answers, of which numbers need not be the same to the last bit."""

    def about(value):
        if isinstance(value, list):
            return [about(entry) for entry in value]
        return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value

    return [
        {name: about(value) for name, value in answer.items()}
        for answer in Predictor(workdir)(inputs)
    ]


@pytest.mark.long
def test_a_table_takes_no_infinity_and_a_picture_no_bomb(encoder, tmp_path):
    for kind, given, words in (
        ("table", '{"x": 1e999, "y": 0}', "not finite"),
        ("table", '{"x": "east", "y": 0}', "no number"),
        ("cnn", json.dumps(_bomb()), "decompression bomb"),
    ):
        folder = tmp_path / kind
        if not folder.exists():
            folder.mkdir()
            train_kind(kind, folder, encoder)
        with serving(folder / "run") as (_, port):
            status, found = ask(port, f'{{"inputs": [{given}]}}')
        assert status == 422
        assert words in found["error"]


def _bomb():
    """A small file in base64 that says that it is a picture of a gigapixel."""
    header = struct.pack(">IIBBBBB", 2**15, 2**15, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        length, check = len(body), zlib.crc32(name + body)
        content += struct.pack(">I", length) + name + body + struct.pack(">I", check)
    return base64.b64encode(content).decode()
