"""The sentences of the server as the panel says them: a table of those that reach its user, made by its own code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from CT2PETLib.address import parse_address
from CT2PETLib.errors import BusyError, RefusedError, ServerFaultError, UntrainedError
from CT2PETLib.faults import refusal
from CT2PETLib.panel_words import for_panel, last_words
from CT2PETLib.retraining import Training, read_versions

from ct2pet_app.datastore.describe import why_no_image
from ct2pet_app.datastore.listing import Listing
from ct2pet_app.models import ModelStore
from ct2pet_app.server.request_body import too_large
from ct2pet_app.settings import AppSettings
from ct2pet_app.versions import how_to_serve, how_to_train
from lib.dicom.scan import ScanReport
from lib.errors import CT2PETError
from tests.conftest import REPOSITORY

# what tells a panel's user nothing: addresses, start options, the shell, words of a request
NOT_FOR_A_PANEL = re.compile(r"\b(?:GET|POST|PUT|DELETE) /|--\w|`|\{\"|\?image|despite_checks|main\.py|MONAI_LABEL_")
ASK = "ask who runs the server"
TWO_OF_ONE = "not kept, the two do not look like one patient's: the PET is mirrored. "


def said_by(what: Callable[[], object]) -> str:
    with pytest.raises(CT2PETError) as raised:
        what()
    return str(raised.value)


def store(folder: Path) -> ModelStore:
    conf = {"models": "unet", "models_folder": str(folder)}
    return ModelStore(AppSettings.from_conf(conf, app_folder=folder))


def no_image(folder: Path) -> str:
    return why_no_image("1.2.3", Listing(ScanReport(folder, (), (), ()), {}, {}, {}, {}))


TABLE: list[tuple[str, Callable[[Path], str], str]] = [
    ("an untrained model", lambda _: how_to_train("unet"),
     f"model unet is not trained yet: press Train in section 7, or {ASK} to put one there"),
    ("a verdict", lambda _: f"version 2 is kept, and not served. It is worse. {how_to_serve('unet', 2)}",
     "version 2 is kept, and not served. It is worse. To serve it all the same: choose version 2 in section 7, then "
     "press Use the chosen version."),
    ("a version that is not there", lambda folder: said_by(lambda: store(folder).version("unet", 9)),
     "unet has no version 9; known are none yet"),
    ("nothing to roll back to", lambda _: "unet: no version was served before this one; name one of [1, 2] as "
     '{"version": 2}', "unet: no version was served before this one; choose one of 1, 2 in section 7"),
    ("a model of another server", lambda folder: said_by(lambda: store(folder).known("cascade3")),
     f"no model 'cascade3' on this server; known are unet; {ASK} to offer it"),
    ("an image that is not there", no_image,
     "no image '1.2.3' in the datastore: choose a study of the list in section 2, or a CT of the scene"),
    ("a label that is not there", lambda _: "no label '1.2' with tag 'final'; GET /datastore/?output=all lists them",
     "no label '1.2' with tag 'final'; the list in section 2 has those there are"),
    ("no pairs to train on", lambda _: "nothing to train on: 3 CT series, none with a PET of the same study and frame "
     "of reference; GET /ct2pet/series says why for each series",
     "nothing to train on: 3 CT series, none with a PET of the same study and frame of reference; "
     f"{ASK}, it knows why for each"),
    ("no plausible pair", lambda _: "none of 3 pairs is plausible; GET /ct2pet/pairs says why for each",
     f"none of 3 pairs is plausible; {ASK}, it knows why for each"),
    ("an implausible pair", lambda _: f"{TWO_OF_ONE}Whoever has looked and answers for it sends it again with "
     "despite_checks=true", f"{TWO_OF_ONE}If you have looked and answer for it, {ASK} to take it all the same"),
    ("a PACS that takes nothing", lambda _: "store: the PACS takes no series; ask for the .zip and store it there "
     "yourself", "store: the PACS takes no series; press Save as DICOM series, and store it there yourself"),
    ("no map of the error", lambda _: "the model card of unet carries no calibration, so what error to expect is "
     "unknown; give one model that was trained with validation patients (split.unit patient, split.validation above "
     "0)", "the model card of unet carries no calibration, so what error to expect is unknown; untick the map of the "
     "error, or choose a model that was trained with validation patients"),
    ("a request that is too large", lambda _: too_large(10**9, 10**9),
     f"the request is larger than 1000 MB: send one CT series, or {ASK} to allow more"),
    ("another name of the machine", lambda _: "this server is not called ct; use its IP address, or, as for the name "
     "of a reverse proxy, allow it with --conf origins http://ct",
     f"this server is not called ct; use its IP address, or {ASK} to allow that name"),
    ("an older server", lambda _: "there is nothing at this address; GET / lists the addresses of this server",
     f"the server does not know what this panel asks: one of the two is older than the other; {ASK}"),
    ("a full disk", lambda _: "/m/unet: the model cannot be kept (No space left on device); nothing was changed, free "
     "space and ask again", "/m/unet: the model cannot be kept (No space left on device); nothing was changed, "
     f"{ASK} to free space, then press the button again"),
    ("trainings switched off", lambda _: "training is switched off on this server (MONAI_LABEL_TASKS_TRAIN)",
     f"training is switched off on this server; {ASK}"),
    ("what is good for both", lambda _: "looks like a PET or an MR: give the CT of the study.",
     "looks like a PET or an MR: give the CT of the study."),
    ("an address that no rule knows", lambda _: "no pair has a CT '1'; GET /ct2pet/elsewhere?all=1 tells more. Bye.",
     "no pair has a CT '1'. Bye."),
]  # fmt: skip


@pytest.mark.parametrize(("made", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_sentence_of_the_server_as_the_panel_says_it(tmp_path: Path, made: Callable[[Path], str], words: str) -> None:
    assert for_panel(made(tmp_path)) == words
    assert not NOT_FOR_A_PANEL.search(words)


def sentences() -> Iterator[tuple[str, str]]:
    """Yield every text of the server and the engine that names an address, with `7` for what is filled in."""
    for path in sorted([*(REPOSITORY / "ct2pet_app").rglob("*.py"), *(REPOSITORY / "lib").rglob("*.py")]):
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                text = node.value
            else:
                continue
            if re.search(r"\b(?:GET|POST|PUT|DELETE) /", text):
                yield f"{path.name}:{node.lineno}", text


def test_no_address_of_any_sentence_reaches_the_panel() -> None:
    found = list(sentences())
    assert len(found) > 15
    left = {where: for_panel(text) for where, text in found if re.search(r"(GET|POST|PUT|DELETE) /", for_panel(text))}
    assert not left


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RefusedError), (404, RefusedError), (409, UntrainedError), (503, BusyError),
                         (507, ServerFaultError)],
)  # fmt: skip
def test_whatever_the_status_the_words_are_the_panels(status: int, kind: type[Exception]) -> None:
    content = json.dumps({"detail": how_to_train("unet")}).encode()
    error = refusal(status, content, parse_address("http://127.0.0.1:8000"))
    assert isinstance(error, kind)
    assert "press Train in section 7" in str(error)


def test_a_verdict_that_is_listed_has_the_panels_way_out() -> None:
    told = {"version": 2, "verdict": {"published": False, "verdict": how_to_serve("unet", 2)}}
    (version,) = read_versions({"model": "unet", "versions": [told]}).versions
    assert version.verdict.endswith("press Use the chosen version.")


def test_why_a_training_failed_is_found_in_its_log() -> None:
    line = "[2026-01-01 10:00:00,123] [77] [MainThread] [ERROR] (ct2pet_app.app:281) - "
    why = "unet was not trained: none of 2 pairs is plausible; GET /ct2pet/pairs says why for each"
    details = ("training unet: 0 %", f"{line}{why}", "Return code: 1")
    assert last_words(details) == f"unet was not trained: none of 2 pairs is plausible; {ASK}, it knows why for each"
    assert last_words(("Return code: -9",)) == ""
    assert Training(state="ERROR", details=details).in_words == "failed"
