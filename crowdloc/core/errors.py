"""The one exception that a user's input, files or options can raise."""

from __future__ import annotations


class CrowdlocError(Exception):
    """A problem that the user can mend; the message is one line and names the file or value and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """`text` with what no encoding can write, bytes of file names that are not UTF-8, as \\udc80 and so on."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class CrowdlocWarning(UserWarning):
    """Something that the user should know of a result that was made all the same."""
