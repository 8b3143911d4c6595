"""A finished run as a small HTTP service.

python -m train.serve DIR --port 8000
curl localhost:8000/predict -H 'content-type: application/json' \
  -d '{"inputs": ["what is on my calendar"]}'
"""

import argparse
import signal
import socket
import sys
from typing import Any

from PIL import Image

from .command.cli import make_parser, run, use_compilation_cache
from .errors import ConfigError, DataError, TrainerError, reason
from .predict import Predictor
from .serving.batching import Batcher
from .tasks.ordinal import reads_media

# Of a request, where nobody says; pictures and recordings are larger.
_MOST_BYTES, _MOST_MEDIA_BYTES, _MOST_ROWS = 2**20, 2**24, 256
# Times what one request may hold: of all that wait.
_WAITING = 16
# Of a picture.
_MOST_PIXELS = 2**26
# Connections at once, and seconds that open requests have once the service ends.
_CONNECTIONS, _GRACE = 256, 30


def main(arguments: list[str] | None = None) -> int:
    """Serves until a signal comes, and returns the process's exit code."""
    parser = make_parser(
        "serve",
        "Answers over HTTP from a finished run: POST /predict, GET /health, /docs and "
        "/openapi.json.",
        "Where the inputs are other than in training: --config.data.input_column=NAME, "
        "--config.data.bad_files=skip",
    )
    add = parser.add_argument
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("place", nargs="?", metavar="WORKDIR", help="the run's folder")
    place.add_argument("--workdir", help="the same")
    add("--host", default="127.0.0.1", help="0.0.0.0: all (default: %(default)s)")
    add("--port", type=int, default=8000, help="0: a free one (default: %(default)s)")
    add("--batch-size", type=int, default=0, help="(default: that of training)")
    add(
        "--max-bytes",
        type=int,
        default=0,
        help="of a request (default: 1 MiB; of pictures and recordings 16)",
    )
    add(
        "--max-rows",
        type=int,
        default=_MOST_ROWS,
        help="inputs of a request (default: %(default)s)",
    )
    add(
        "--no-warm-up",
        action="store_true",
        help="compile a shape when it first comes, not all before the first request",
    )
    flags, overrides = parser.parse_known_args(arguments)
    return run(lambda: _serve(flags, overrides), interrupted="nothing was served")


def _serve(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Loads, compiles, listens; returns once a signal has come and all is answered."""
    try:
        import uvicorn

        from .serving.app import make_app
        from .serving.requests import Limits
    except ModuleNotFoundError as error:
        raise TrainerError(
            f"serve takes {error.name}: pip install 'as_softmax_jax[serve]'"
        ) from error
    _check(flags)
    use_compilation_cache(flags.compilation_cache)
    predictor = Predictor(flags.workdir or flags.place, overrides)
    media = reads_media(predictor.run.config.task)
    most_bytes = flags.max_bytes or (_MOST_MEDIA_BYTES if media else _MOST_BYTES)
    limits = Limits(most_bytes, flags.max_rows, _WAITING * most_bytes)
    # A file of a few bytes may say that it is a picture of any size.
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # Pillow refuses twice as many.
    with _listening(flags.host, flags.port) as listener:
        batcher = Batcher(
            predictor,
            batch_size=flags.batch_size,
            most_waiting=_WAITING * flags.max_rows,
            warm_up=not flags.no_warm_up,
        )
        try:
            compiled = batcher.ready.result()
            server = uvicorn.Server(
                uvicorn.Config(
                    make_app(batcher, limits),
                    log_level="warning",
                    access_log=False,
                    lifespan="on",
                    limit_concurrency=_CONNECTIONS,
                    timeout_graceful_shutdown=_GRACE,
                )
            )
            _announce(predictor, listener, compiled)
            _run(server, listener)
        finally:
            batcher.close()
    print("stopped; all that was asked is answered")
    return 0


def _check(flags: argparse.Namespace) -> None:
    """Refuses numbers that mean nothing."""
    least = {"port": 0, "batch_size": 0, "max_bytes": 0, "max_rows": 1}
    for name, value in least.items():
        if getattr(flags, name) < value:
            flag = name.replace("_", "-")
            raise DataError(f"--{flag}: {getattr(flags, name)}; give {value} or more")


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that connections wait at, before anything answers.

    Raises:
      ConfigError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host, --port: cannot listen at {host}:{port}: {reason(error)}; name "
            "others, or port 0 for a free one"
        ) from error


def _announce(predictor: Predictor, listener: socket.socket, compiled: int) -> None:
    """Says where the service is, once it answers."""
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    shapes = f"; shapes of batches compiled: {compiled}" if compiled else ""
    print(
        f"http://{host}:{port} answers from {predictor.run.origin}{shapes}; /docs says "
        "how to ask, Ctrl-C or SIGTERM ends it",
        flush=True,
    )


def _run(server: Any, listener: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C, which end it as they should: by code 0."""
    # The server raises what it has caught once more, and this is then there for it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])


if __name__ == "__main__":
    # A signal before the service takes over ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
