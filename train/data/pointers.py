"""Files that only say where the data are: what Git LFS and git-annex leave."""

_GIT_LFS = b"version https://git-lfs.github.com/spec/"
_GIT_ANNEX = b"/annex/objects/"
# How much of a file tells.
HEAD = max(len(_GIT_LFS), len(_GIT_ANNEX))


def pointer(head: bytes) -> str:
    """Returns what a file that begins so is, and what to do; empty: no pointer."""
    if head.startswith(_GIT_LFS):
        return "a Git LFS pointer, not the data; fetch them with `git lfs pull`"
    if head.startswith(_GIT_ANNEX):
        return "a git-annex pointer, not the data; fetch them with `git annex get`"
    return ""
