"""The process of a DICOM node, which `serve.py` starts and watches. It needs no part of MONAI Label or PyTorch.

Arguments: AE title, port, peers file, studies folder, models folder.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ct2pet_app.dicom_node.layout import NodeLayout
from ct2pet_app.dicom_node.node import DicomNode
from ct2pet_app.dicom_node.settings import read_peers
from ct2pet_app.server.log_redaction import where
from lib.errors import CT2PETError

logger = logging.getLogger("ct2pet_app.dicom_node")

INVALID = 2


def main(arguments: list[str]) -> int:
    """Run a node until SIGTERM or SIGINT; return 0, or 2 if it cannot start."""
    aet, port, peers, studies, models_folder = arguments
    _keep_names_out_of_the_log()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        layout = NodeLayout(Path(studies), Path(models_folder))
        settings = read_peers(Path(peers))
        node = DicomNode(aet, int(port), layout=layout, settings=settings)
    except CT2PETError as error:
        logger.error("the DICOM node cannot start: %s", error)
        return INVALID
    except OSError as error:
        logger.error("the DICOM node cannot start: %s cannot be written (%s)", error.filename, error.strerror)
        return INVALID
    logger.info("DICOM node %s listens on %s port %d", aet, settings.node.listen, node.server.port)
    if settings.is_open:
        logger.warning(
            "other computers can send without TLS and from any IP address; limit `addresses` in each [[peer]], or add "
            "[tls]"
        )
    stopped.wait()
    node.close()
    return 0


def _keep_names_out_of_the_log() -> None:
    """Log ct2pet's own records only; those of libraries, warnings and tracebacks can quote headers."""
    logging.basicConfig(
        level=logging.INFO, format="[%(asctime)s] %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for name in ("pydicom", "pynetdicom", "py.warnings"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    threading.excepthook = lambda failed: logger.error(
        "a thread has failed: %s", where(failed.exc_value) if failed.exc_value else failed.exc_type.__name__
    )


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    os._exit(code)  # threads of connections whose peer does not answer would hold up the end
