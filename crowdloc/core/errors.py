"""The one exception that a user's input, files or options can raise."""

from __future__ import annotations


class CrowdlocError(Exception):
    """A problem that the user can mend; the message is one line and names the file or value and the remedy."""
