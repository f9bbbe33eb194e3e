"""What may stand in a log: no patient's name, and one line a record.

MONAI Label logs what it is asked, names of uploaded files included, and its children's output once more; libraries warn
with the value or the file that they found strange. Records of ours name UIDs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from lib.imaging.files import silence_readers

TALKATIVE = ("monailabel", "multipart", "python_multipart", "urllib3", "PIL")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
WARNING_PLACE = re.compile(r"([\w.-]+\.py:\d+): (\w+)")


class Discreet(logging.Filter):
    """Takes out of a record what hospitals name after patients, and makes one line of it.

    Errors name the file they are about. Whoever asks the server is told; the log, which others read, is not.
    """

    def __init__(self, names_on_disk: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self._names_on_disk = names_on_disk

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record where it needs it; let every one pass."""
        words = record.getMessage()
        if record.name == "py.warnings":  # its words may be a header's value, or a path
            found = WARNING_PLACE.search(words)
            words = f"{found[2]} at {found[1]}" if found else "a warning of a library"
        words = without_names(words, self._names_on_disk())
        record.msg, record.args = CONTROL.sub(lambda sign: repr(sign[0])[1:-1], words), None
        return True


def keep_names_out(names_on_disk: Callable[[], Sequence[str]]) -> None:
    """Let this process log no more than it may.

    Args:
        names_on_disk: Gives the names of the studies' files and the paths of their folders, longest first, at once.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    silence_readers()
    loggers = [logging.getLogger(), *map(logging.getLogger, tuple(logging.Logger.manager.loggerDict))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        for kept in [kept for kept in handler.filters if type(kept).__name__ == Discreet.__name__]:
            handler.removeFilter(kept)  # of an app built before
        handler.addFilter(Discreet(names_on_disk))


def without_names(words: str, names: Sequence[str]) -> str:
    """Return a sentence in which each name that stands for itself is `a file`; names that hold others come first."""
    for name in names:
        if name in words:
            words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "a file", words)
    return words
