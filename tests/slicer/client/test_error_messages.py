"""The panel's messages: one for each code that the server can send, in the panel's own wording."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from CT2PETLib.client.error_messages import ADMINISTRATOR, MESSAGES, message_of
from CT2PETLib.client.errors import (
    BusyError,
    ForbiddenError,
    InvalidResponseError,
    RefusedError,
    ServerFaultError,
    UntrainedError,
)
from CT2PETLib.client.http.error_mapping import response_error
from CT2PETLib.client.http.server_url import parse_server_url
from CT2PETLib.client.infer_result import read_slab
from CT2PETLib.client.training import read_training, read_versions

from ct2pet_app.advice import ADVICE, detail_of, error_record
from ct2pet_app.errors import NotFoundError, http_status
from ct2pet_app.model_registry.versions import not_trained
from ct2pet_app.problem import problem_response
from lib.errors import CT2PETError, MemoryLimitError, MissingAttributeError, PairingError, TrainingError
from tests.conftest import REPOSITORY
from tests.error_codes import all_codes, raised

ADDRESS = parse_server_url("http://127.0.0.1:8000")
LIBRARY = REPOSITORY / "slicer" / "CT2PET" / "CT2PETLib"
PARSERS = {"multipart.py", "nrrd.py"}
NEVER_SENT = {
    "disk_too_small", "download_failed", "download_interrupted", "invalid_manifest", "leaked_patients",
    "not_prepared", "export_differs", "invalid_formula",  # command line
    "cohort_differs", "cohort_in_use", "not_a_cohort", "cluster_failed", "ray_not_installed",  # `cohort`
    "invalid_setting", "users_file_unreadable",  # the server does not start, or reports it only in its log
}  # fmt: skip
# requests, start options, commands: of no use in a panel
NOT_FOR_A_PANEL = re.compile(r"\b(?:GET|POST|PUT|DELETE) /|--\w|`|main\.py|MONAI_LABEL_|despite_checks")
OURS = {"detail", "administrator"}


def problem(error: CT2PETError) -> dict[str, Any]:
    """Return what the server sends for an error."""
    response = problem_response(http_status(error), detail_of(error), code=error.code, params=error.params)
    return dict(json.loads(response.body))


def test_every_code_that_the_server_can_send_has_a_message_and_no_message_is_without_a_code() -> None:
    assert set(MESSAGES) == all_codes() - NEVER_SENT


def test_every_error_has_the_params_of_its_message() -> None:
    for one in raised():
        needed = set(re.findall(r"\{(\w+)\}", MESSAGES.get(one.code, ""))) - OURS
        assert needed <= one.params, f"{one.place}: {one.code} needs {needed - one.params}"


def test_no_request_and_no_option_reaches_the_panel() -> None:
    assert not [code for code in ADVICE if "{detail}" in MESSAGES.get(code, "")]
    assert not [code for code, message in MESSAGES.items() if NOT_FOR_A_PANEL.search(message)]
    shown = [one for one in raised() if "{detail}" in MESSAGES.get(one.code, "")]
    assert len(shown) > 400 and not [one for one in shown if NOT_FOR_A_PANEL.search(one.text)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (not_trained("unet"), f"Model unet is not trained yet: press Train in section 7, or {ADMINISTRATOR} for one."),
        (
            NotFoundError("unet has no version 9", code="version_not_found", model="unet", version=9, known=[1, 2]),
            "unet has no version 9; it has 1, 2. Choose one in section 3 or 7.",
        ),
        (
            MemoryLimitError("a volume needs 1,300 MB", needed_mb=1300, limit_mb=1200),
            "The server needs 1300 MB of memory for this, and may use 1200 MB. Choose fewer slices in section 3, crop "
            f"the volume, or {ADMINISTRATOR} to allow more.",
        ),
        (
            PairingError("not kept", code="implausible_pair", reasons=["it is mirrored", "it is empty"]),
            "Not kept: the CT and the PET do not look like one patient's (it is mirrored, it is empty). If you have "
            f"checked them and take responsibility, {ADMINISTRATOR} to keep the pair all the same.",
        ),
        (
            MissingAttributeError("series 1.2: PatientWeight is missing", attribute="PatientWeight"),
            "series 1.2: PatientWeight is missing. Correct the header of the series, or choose another one in "
            "section 2.",
        ),
    ],
    ids=lambda value: value.code if isinstance(value, CT2PETError) else "",
)
def test_a_message_is_made_of_code_and_params(error: CT2PETError, message: str) -> None:
    assert message_of(problem(error)) == message


@pytest.mark.parametrize(
    "sent",
    [
        {"detail": "of an older server"},
        {"detail": "of an older server", "code": "not_invented_yet", "params": {}},
        {"detail": "of an older server", "code": "memory_limit", "params": {"needed_mb": 1}},
        {"detail": "of an older server", "code": "memory_limit", "params": None},
        {"detail": "of an older server", "code": ["memory_limit"], "params": {}},
    ],
)
def test_without_a_known_code_and_its_params_the_detail_is_shown_as_it_is(sent: dict[str, Any]) -> None:
    assert message_of(sent) == "of an older server"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RefusedError), (404, RefusedError), (409, UntrainedError), (403, ForbiddenError),
                         (503, BusyError), (507, ServerFaultError)],
)  # fmt: skip
def test_at_any_status_the_message_is_the_panels(status: int, kind: type[Exception]) -> None:
    error = response_error(status, json.dumps(problem(not_trained("unet"))).encode(), ADDRESS)
    assert isinstance(error, kind)
    assert "press Train in section 7" in str(error)


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        (
            'Role "monailabel-admin" is required to perform this action',
            'Role "admin" is required to perform this action',
        ),
        ('store: role "monailabel-annotator" is required', 'store: role "annotator" is required'),
    ],
)
def test_a_refusal_names_the_role_as_accounts_do_and_whom_to_ask(detail: str, message: str) -> None:
    error = response_error(403, problem_response(403, detail).body, ADDRESS)
    assert str(error) == f"Not permitted: {message}; {ADMINISTRATOR}."


def test_a_version_of_a_training_begins_with_a_capital_letter() -> None:
    verdict = {"published": False, "verdict": "version 2 is kept."}
    (version,) = read_versions({"model": "unet", "versions": [{"version": 2, "verdict": verdict}]}).versions
    assert version.verdict == "Version 2 is kept."


def test_slices_that_were_not_requested_are_named() -> None:
    parts = [("params", b'{"slices": "4:8", "model": {}}'), ("image", b"")]
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), content)
        for name, content in parts
    )
    with pytest.raises(InvalidResponseError, match="returned slices 4:8, expected 0:4:"):
        read_slab(body + b"--x--\r\n", "multipart/form-data; boundary=x", (0, 4))


def test_a_model_that_was_not_promoted_says_how_to_use_it_in_the_panel() -> None:
    verdict = {"published": False, "verdict": "It is worse.", "advice": "POST /ct2pet/models/unet/serve"}
    (version,) = read_versions({"model": "unet", "versions": [{"version": 2, "verdict": verdict}]}).versions
    assert version.verdict == (
        "It is worse. To use it anyway, choose version 2 in section 7, then press Use the selected version."
    )
    task = {"status": "DONE", "request": {"model": "unet"}, "version": 2, **verdict}
    assert read_training(json.dumps(task).encode(), b"{}").verdict == version.verdict


def test_a_failed_training_says_why_by_its_code() -> None:
    error = TrainingError("the loss is nan", code="training_diverged", epoch=3, learning_rate=0.1)
    task = {"status": "ERROR", "request": {"model": "unet"}, "error": error_record(error), "details": ["a log line"]}
    training = read_training(json.dumps(task).encode(), b"{}")
    assert training.why_failed == (
        f"The training diverged in epoch 3 (learning rate 0.1): {ADMINISTRATOR} to train with a lower rate."
    )
    older = {name: value for name, value in task.items() if name != "error"}
    assert read_training(json.dumps(older).encode(), b"{}").why_failed == ""


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_matches_text_of_the_server(path: Path) -> None:
    """Regular expressions parse formats of files and of HTTP; none is applied to a message."""
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "re" not in imported or path.name in PARSERS, f"{path.name} uses regular expressions"
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(one, (ast.In, ast.NotIn)) for one in node.ops):
            assert "str(error)" not in ast.unparse(node), f"{path.name}:{node.lineno} looks into a message"
