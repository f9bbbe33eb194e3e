"""The real server's refusals: each has a code, and the panel a message of its own for it."""

from __future__ import annotations

import re

import pytest
from CT2PETLib.client.client import Client
from CT2PETLib.client.error_messages import ADMINISTRATOR, MESSAGES, message_of
from CT2PETLib.client.errors import RefusedError, UntrainedError

from tests.error_codes import all_codes, check_problem
from tests.server.endpoint_requests import TABLE
from tests.slicer.client.conftest import Clinic
from tests.slicer.client.test_error_messages import NEVER_SENT, NOT_FOR_A_PANEL

# refused whatever the server holds: without files, ids of another server, and the model that is trained here
REFUSED = [
    (method, path, sent, status)
    for method, path, sent, status, _ in TABLE
    if status >= 400 and method in ("GET", "POST") and "{" not in path and "cascade3" not in f"{path}{sent}"
    if not {"files", "data"} & set(sent) and path not in ("/train/", "/batch/infer", "/scoring/")
]


def test_the_panel_has_a_message_for_every_refusal_of_a_real_server(clinic: Clinic) -> None:
    server, seen = clinic.server.logged_in_as("ada"), set()
    for method, path, sent, status in REFUSED:
        problem = check_problem(server.ask(method, path, **sent))
        assert problem["status"] == status, f"{method} {path}: {problem}"
        message = message_of(problem)
        assert problem["code"] in MESSAGES and message, f"{method} {path}: {problem}"
        assert not NOT_FOR_A_PANEL.search(message), f"{method} {path}: {message}"
        seen.add(problem["code"])
    for path, token in (("/nothing/here", server.token), ("/info/", "wrong")):
        seen.add(check_problem(clinic.server.ask("GET", path, headers={"Authorization": f"Bearer {token}"}))["code"])
    expected = {"model_not_found", "image_not_found", "not_authenticated", "endpoint_not_found", "invalid_parameter"}
    assert expected <= seen
    assert seen <= all_codes() - NEVER_SENT


def test_the_client_raises_the_panels_message(clinic: Clinic, client: Client) -> None:
    with pytest.raises(UntrainedError) as untrained:
        client.dicom("cascade2", clinic.ct_uid)
    assert ADMINISTRATOR in str(untrained.value)
    with pytest.raises(RefusedError, match=re.escape("Choose one in section 3 or 7.")):
        client.roll_back("cascade3", 99)
