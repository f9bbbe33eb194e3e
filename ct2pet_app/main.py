"""The file MONAI Label loads: ``monailabel start_server --app ct2pet_app --studies STUDIES``.

MONAI Label runs it as a module that never enters ``sys.modules`` and takes the first class it finds here, so there is
nothing but one import.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, wherever the server is started

from ct2pet_app.app import CT2PETApp  # noqa: F401
