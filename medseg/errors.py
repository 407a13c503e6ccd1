"""The errors a user can meet. Each says what was wrong, which value, and the way out."""

from __future__ import annotations


class MedsegError(Exception):
    """A problem the user can mend: shown as one message, without a traceback.

    `code` is a short stable name for tables and scripts, such as ``image-truncated``;
    `exit_status` is what the command ends with when this error ends it;
    `hint` names the arguments that offer a way out, as a caller writes them: "overwrite", "output_format=nifti".
    The command line shows them as its options.
    """

    code = "error"
    exit_status = 1

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code


class ConfigError(MedsegError):
    """The command line or a setting is wrong; nothing was read or written yet."""

    code = "config"
    exit_status = 2


class DataError(MedsegError):
    """A dataset as a whole cannot be used: a missing folder, an unreadable table, a split without cases."""

    code = "data"
    exit_status = 2


class OutputError(DataError):
    """What was made cannot be written: no space, no rights. It ends a batch, since every case would meet it."""

    code = "output"


class ImageError(MedsegError):
    """One image or mask cannot be used; the rest of a batch goes on."""

    code = "image"


class ModelError(MedsegError):
    """A run folder is missing, incomplete or altered."""

    code = "model"
    exit_status = 2


EXIT_OK, EXIT_NOTHING, EXIT_USAGE, EXIT_SOME, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
