"""What libjpeg says of a damaged file: it decodes on, and its words go to the standard error stream of the process.

OpenCV hands them to nobody and Pillow discards them, so the stream is listened to while an image is decoded. Found is
whatever breaks the code of the image: lost, inserted and most replaced bytes. A changed bit that yields another valid
code is not noticed by any decoder, for JPEG has no checksum.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import numpy as np

_STDERR = 2
_WORDS = (b"Corrupt JPEG data", b"Premature end of JPEG", b"Inconsistent progression", b"Invalid SOS")
_ALONE = threading.Lock()  # one stream serves the process


class Overheard:
    """The standard error stream while it is listened to; what others write there is passed on at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._file = stack.enter_context(tempfile.TemporaryFile())
        if sys.__stderr__ is None:  # started without that stream, so the number may be another file's
            return
        self._original = os.dup(_STDERR)
        stack.callback(os.close, self._original)
        os.dup2(self._file.fileno(), _STDERR)
        stack.callback(self._pass_on)
        stack.callback(os.dup2, self._original, _STDERR)

    def __len__(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def words(self) -> list[bytes]:
        """The lines of libjpeg so far."""
        return [line for line in self._lines() if line.startswith(_WORDS)]

    def around(self, stack: ExitStack) -> TextIO:
        """`sys.stderr`, or where that is listened to, a way around: for a progress bar."""
        try:
            if sys.stderr.fileno() != _STDERR:
                return sys.stderr
        except (AttributeError, OSError, ValueError):  # there is none, or it is replaced by something that is no file
            return sys.stderr
        return stack.enter_context(os.fdopen(os.dup(self._original), "w", encoding="utf-8"))

    def _lines(self) -> list[bytes]:
        return os.pread(self._file.fileno(), len(self), 0).splitlines(keepends=True)

    def _pass_on(self) -> None:
        if others := b"".join(line for line in self._lines() if not line.startswith(_WORDS)):
            os.write(_STDERR, others)


@contextmanager
def overhear() -> Iterator[tuple[Overheard, TextIO]]:
    """Listen to the standard error stream; yields what is heard, and a stream that still leads to the user."""
    with ExitStack() as stack:
        heard = Overheard(stack)
        yield heard, heard.around(stack)


def jpeg_damage(data: bytes) -> str | None:
    """libjpeg's complaint about an encoded image, None where it has none. One thread at a time."""
    import cv2

    with _ALONE, overhear() as (heard, _):
        try:
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            return "no readable image"
        words = heard.words()
    return words[0].decode(errors="replace").strip() if words else None
