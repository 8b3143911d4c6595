"""An exported model on the Hugging Face hub.

python -m train.push --folder FOLDER --repo NAME/MODEL

FOLDER is what `export` wrote, its card among the files. Log in with `hf auth login`, or
set HF_TOKEN. In Python:

    from train.push import push_to_hub
    url = push_to_hub("exported", "me/my-intents", private=True)
"""

import argparse
import os
import sys
from pathlib import Path

from .command.cli import make_parser, run, user_path
from .errors import DataError

CARD = "README.md"
# What no model needs, in whatever folder.
_IGNORED = [".*", "__pycache__/*", "*.pyc"]


def files_of(folder: Path) -> dict[str, int]:
    """Returns what would be uploaded: file name -> bytes.

    Raises:
      DataError: the folder is none that `export` wrote.
    """
    if not folder.is_dir():
        raise DataError(
            f"--folder: {folder} is no folder; name what export has written"
        )
    if not (folder / CARD).is_file():
        raise DataError(
            f"--folder: {folder} has no {CARD}, the card of the model; name a folder "
            "that export has written"
        )
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder): path for path in paths}
    return {
        name.as_posix(): path.stat().st_size
        for name, path in names.items()
        if not any(part[0] == "." or part == "__pycache__" for part in name.parts)
    }


def push_to_hub(
    folder: str | os.PathLike, repo: str, *, private: bool = False, message: str = ""
) -> str:
    """Uploads an exported model in one commit, and returns the address of that.

    Args:
      folder: what `export` wrote.
      repo: the name of the model on the hub, `me/my-model`; it is made where there is
        none, and files that it has besides stay.
      private: whether a new one is for its owner alone.
      message: of the commit.

    Raises:
      DataError: the folder is not in order, huggingface_hub is not installed, or the
        hub refuses.
    """
    folder = Path(folder).expanduser()
    files_of(folder)
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise DataError(
            "to push to the hub needs the package huggingface_hub; install it with "
            "pip install 'as_softmax_jax[hub]'"
        ) from error
    hub = huggingface_hub.HfApi()
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repo,
            folder_path=folder,
            ignore_patterns=_IGNORED,
            commit_message=message or "Upload a model trained with as_softmax_jax",
        )
    except HFValidationError as error:
        raise DataError(f"--repo: {str(error).splitlines()[0]}") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(
            f"--repo: the hub does not take {repo}: {reason}; log in with `hf auth "
            "login` or set HF_TOKEN, with the right to write there"
        ) from error
    return str(commit.commit_url)


def main(arguments: list[str] | None = None) -> int:
    """Uploads, and returns the process's exit code."""
    parser = make_parser("push", "An exported model on the Hugging Face hub.")
    add = parser.add_argument
    add("--folder", required=True, type=user_path, help="what export has written")
    add("--repo", required=True, help="its name on the hub: NAME/MODEL")
    add("--private", action="store_true", help="a new one is for its owner alone")
    add("--message", default="", help="of the commit")
    add("--dry-run", action="store_true", help="say what would be uploaded")
    flags = parser.parse_args(arguments)
    return run(lambda: _push(flags), interrupted="the hub has all of it, or nothing")


def _push(flags: argparse.Namespace) -> int:
    files = files_of(flags.folder)
    for name, size in files.items():
        print(f"{size:>12,d} bytes  {name}")
    if flags.dry_run:
        print(f"{len(files)} files would go to {flags.repo}; nothing is uploaded")
        return 0
    url = push_to_hub(
        flags.folder, flags.repo, private=flags.private, message=flags.message
    )
    print(f"{len(files)} files are in {url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
