"""What the trainer refuses: one line that says what, where and what to do."""


class TrainerError(Exception):
    """Base of every refusal: a command prints it and exits with code 2."""


class ConfigError(TrainerError):
    """A configuration that cannot be run as it is written."""


class DataError(TrainerError):
    """Input data that cannot be trained on as it is."""


class WorkdirError(TrainerError):
    """A working directory that this run must not write to."""


def reason(error: Exception) -> str:
    """Returns what is behind an error, in a line."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return (str(cause).splitlines() or [type(cause).__name__])[0]
