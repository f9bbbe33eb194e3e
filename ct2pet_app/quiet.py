"""What may stand in a log: no patient's name, and one line a record.

MONAI Label logs what it is asked, names of uploaded files included, and its children's output once more; libraries warn
with the value or the file that they found strange. Records of ours name UIDs.
"""

from __future__ import annotations

import logging
import re

from lib.imaging.files import silence_readers
from lib.types import Series

TALKATIVE = ("monailabel", "multipart", "python_multipart", "urllib3", "PIL")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
WARNING_PLACE = re.compile(r"([\w.-]+\.py:\d+): (\w+)")


class OneLine(logging.Filter):
    """Makes of control characters, a line's end included, what cannot be taken for another record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record where it needs it; let every one pass."""
        words = record.getMessage()
        if record.name == "py.warnings":  # its words may be a header's value, or a path
            found = WARNING_PLACE.search(words)
            words = f"{found[2]} at {found[1]}" if found else "a warning of a library"
        record.msg, record.args = CONTROL.sub(lambda sign: repr(sign[0])[1:-1], words), None
        return True


def keep_names_out() -> None:
    """Let this process log no more than it may; calling it again changes nothing."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    silence_readers()
    loggers = [logging.getLogger(), *map(logging.getLogger, tuple(logging.Logger.manager.loggerDict))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if not any(type(kept).__name__ == OneLine.__name__ for kept in handler.filters):
            handler.addFilter(OneLine())


def without_file_names(words: object, *series: Series | None) -> str:
    """Return a sentence without the names of these series' files and folders: hospitals name them after patients."""
    text = str(words)
    files = [path for one in series if one is not None for path in one.files]
    names = {name for path in files for name in (path.name, path.parent.name)}
    for name in sorted(names - {""}, key=len, reverse=True):
        text = text.replace(name, "a file")
    return text
