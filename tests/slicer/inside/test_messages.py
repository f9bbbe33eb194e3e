"""What the panel says of the server, of a job and of a comparison, and that it never says it of another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import slab_affine, volume_node
from CT2PETLib.client.client import Client
from CT2PETLib.client.http.connection import OK, SIGN_IN, Connection
from CT2PETLib.client.schemas import Server
from CT2PETLib.jobs.events import ConnectionLost
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob, UploadJob
from CT2PETLib.scene import metrics, volume
from panels import opened

ADDRESS = "http://127.0.0.1:9"
USABLE = Connection(OK, "Connected.", Server("0.1.0", "", (), 0, 0))


@pytest.fixture
def panel(app: Any, tmp_path: Any) -> Iterator[Any]:
    with opened(app, tmp_path) as widget:
        widget.panel.runner = SimpleNamespace(
            submit=lambda *_, **__: None, start=lambda *_: None, cancel_all=lambda: None
        )
        widget.ui.addressBox.setCurrentText(ADDRESS)
        yield widget


def connected(panel: Any, *, token: str = "") -> None:
    panel.server._token.value = token
    panel.ui.testButton.click()
    panel.server._on_tested(panel.server._tested, USABLE)
    assert panel.panel.client.address.base == ADDRESS


def test_sign_in_without_a_password_says_what_is_missing(panel: Any) -> None:
    panel.ui.userEdit.setText("una")
    panel.ui.signInButton.click()
    assert panel.ui.connectionLabel.text() == "Enter your user name and password, then press Sign in."


def test_token_is_not_sent_to_another_server(panel: Any) -> None:
    connected(panel, token="of this server")
    panel.ui.testButton.click()
    panel.server._on_tested(panel.server._tested, Connection("unreachable", "No connection."))
    assert panel.ui.signInButton.text() == "Sign out"
    panel.ui.addressBox.setCurrentText("http://127.0.0.1:8")
    assert not panel.server._client().is_signed_in
    assert (panel.ui.signInButton.text(), panel.ui.connectionLabel.text()) == ("Sign in", "Not connected.")


def test_result_of_a_test_does_not_connect_to_an_address_typed_since(panel: Any) -> None:
    panel.ui.testButton.click()
    tested = panel.server._tested
    panel.ui.addressBox.setCurrentText("http://127.0.0.1:8")
    panel.server._on_tested(tested, USABLE)
    assert panel.panel.client is None
    assert panel.ui.connectionLabel.text() == "Not connected."
    assert panel.ui.testButton.isEnabled()


def test_user_can_sign_in_again_when_the_sign_in_has_expired(panel: Any) -> None:
    connected(panel, token="expired")
    panel.server._token.value = ""  # as the client does when the server refuses the token
    panel.panel.show_error("Your sign-in has expired or was revoked: sign in again.")
    assert panel.ui.signInButton.text() == "Sign in" and panel.ui.passwordEdit.isEnabled()
    panel.ui.testButton.click()
    panel.server._on_tested(panel.server._tested, Connection(SIGN_IN, "sign in"))
    panel.ui.userEdit.setText("una")
    panel.ui.passwordEdit.setText("secret")
    panel.ui.signInButton.click()
    assert panel.ui.passwordEdit.text() == ""  # it was sent


def synthesis(state: State, missing: tuple[tuple[int, int], ...]) -> SynthesisJob:
    job = SynthesisJob(Client(ADDRESS), model="cascade3", image_id="ct", requested=(0, 10), centre=5)
    job.state, job.missing, job.message = state, missing, "Connection refused."
    return job


@pytest.mark.parametrize(
    ("state", "nothing", "some"),
    [
        (State.CANCELLED, "Cancelled before the first slices arrived.", "Cancelled. Received slices are kept."),
        (State.FAILED, "No slice has arrived.", "Incomplete. Received slices are kept."),
    ],
)
def test_slices_are_kept_only_if_some_have_arrived(
    panel: Any, scene: Any, ct: Any, state: State, nothing: str, some: str
) -> None:
    section, ui = panel.synthesise, panel.ui
    panel.panel.parameters.ct = section._ct = ct
    for missing, text in ((((0, 10),), nothing), (((2, 10),), some)):
        section._job = synthesis(state, missing)
        panel.refresh()
        assert ui.progressLabel.text() == text
    panel.panel.parameters.ct = volume_node(scene, volume.voxels(ct), volume.ijk_to_ras(ct), "another")
    assert (ui.progressLabel.text(), ui.progressBar.value()) == ("Connect to a server first.", 0)


def test_failure_and_retry_say_whether_slices_are_kept(panel: Any) -> None:
    from CT2PETLib.panel.progress import failure_text, retry_text

    nothing, some = (synthesis(State.FAILED, missing) for missing in (((0, 10),), ((2, 10),)))
    assert failure_text(nothing) == "Connection refused."
    assert failure_text(some) == "Connection refused. Received slices are kept."
    lost = ConnectionLost("Connection refused.", 0.5)
    assert retry_text(lost, nothing) == "Connection refused. Trying again in 1 s."
    assert retry_text(replace(lost, retry_in_s=4.0), some).endswith("Trying again in 4 s. Received slices are kept.")


@pytest.mark.parametrize(
    ("state", "text"),
    [(State.FAILED, "The CT was not sent."), (State.CANCELLED, "Cancelled. The CT was not sent.")],
)
def test_ct_that_was_not_sent_is_not_shown_as_being_sent(panel: Any, ct: Any, state: State, text: str) -> None:
    panel.panel.parameters.ct = panel.synthesise._ct = ct
    panel.synthesise._show_bar(0.5, "Sending the CT: 40.0 of 80.0 MB")
    panel.synthesise._job = UploadJob(Client(ADDRESS), array=volume.voxels(ct), affine=np.eye(4))
    panel.synthesise._job.state = state
    panel.refresh()
    assert (panel.ui.progressLabel.text(), panel.ui.progressBar.value()) == (text, 0)


def pet(scene: Any, ct: Any, suv: float) -> Any:
    node = volume.make_pet_node(scene, ct, model="cascade3")
    body = np.where(volume.voxels(ct) > 0, suv, 0.0).astype(np.float32)
    volume.fill_slab(node, body, slab_affine(ct, 0))
    return node


def test_metrics_are_shown_only_next_to_the_pets_that_they_belong_to(panel: Any, scene: Any, ct: Any) -> None:
    from CT2PETLib.scene import comparison

    ui, parameters = panel.ui, panel.panel.parameters
    first, second = pet(scene, ct, 1.0), pet(scene, ct, 2.0)
    real = volume_node(scene, 1.5 * volume.voxels(first), volume.ijk_to_ras(ct), "real")
    volume.declare_suv(real)
    parameters.synthetic, parameters.real = first, real
    result = comparison.compute(comparison.gather(ct=ct, synthetic=first, real=real))
    panel.compare._on_compared(ct, first, real, result)
    assert ui.figuresTable.item(0, 1).text() == "2,240"  # 10 slices of 16 x 14 voxels
    assert ui.comparisonLabel.text() == (
        "In the body, the synthetic PET is too low by 0.50 SUV on average. "
        "Where the real PET is above 2.5 SUV, it is not compared: too few voxels."
    )
    panel.compare._measured = (first, None)
    ui.uptakeTable.setRowCount(1)
    parameters.synthetic = second
    assert (ui.figuresTable.rowCount(), ui.uptakeTable.rowCount()) == (0, 0)
    assert ui.comparisonLabel.text() == ""
    parameters.synthetic = first
    assert ui.figuresTable.rowCount() == 2


@pytest.mark.parametrize(
    ("bias", "text"),
    [(0.456, "too high by 0.46 SUV"), (-0.004, "neither too high nor too low"), (-1.0, "too low by 1.00 SUV")],
)
def test_bias_is_put_in_words(panel: Any, bias: float, text: str) -> None:
    from CT2PETLib.panel.compare import comparison_text

    row = metrics.RegionMetrics("body", 100, 0.1, 0.1, 30.0, bias, 0.9)
    assert comparison_text([row]) == f"In the body, the synthetic PET is {text} on average."


def test_long_verdict_does_not_widen_the_table_of_versions(panel: Any) -> None:
    from CT2PETLib.panel.qt_helpers import set_rows

    table, verdict = panel.ui.versionsTable, "Version 1 is served, as requested. " * 20
    set_rows(table, [["1", "2026-01-02", "8", "yes", verdict]], elide_last=True)
    assert sum(table.columnWidth(column) for column in range(5)) <= max(table.viewport().width(), 300)
    assert table.item(0, 4).toolTip() == verdict


def test_long_verdict_is_beside_its_meaning_and_not_in_the_question(panel: Any) -> None:
    from CT2PETLib.client.training import Training, Version
    from CT2PETLib.panel import train

    verdict = "Version 2 is kept, but not served. " + "It is not better than a baseline. " * 20
    ui, section = panel.ui, panel.train
    section._watch = SimpleNamespace(training=None, curve=(), cancel=lambda: None, state=SimpleNamespace(is_over=True))
    section._on_event(Training("cascade3", "DONE", 2, 2, 0.1, published=False, verdict=verdict))
    assert ui.verdictLabel.text() == "Challenger: the served version is unchanged."
    assert ui.verdictBrowser.toPlainText() == verdict
    version = Version(2, False, "", "2026-01-02", "", None, False, verdict, baseline_summary="", patients=8)
    assert train.question_text(version) == (
        "Version 2 is kept, but not served. Press the button again to serve version 2 anyway."
    )


def test_tracer_is_written_as_physicians_do(panel: Any) -> None:
    from CT2PETLib.client.schemas import read_card
    from CT2PETLib.panel.model_card import _origins

    for code_meaning, expected in (
        ("Fluorodeoxyglucose F^18^", "Fluorodeoxyglucose F-18"), ("^18^Fluorine", "^18^Fluorine"), ("PSMA", "PSMA")
    ):  # fmt: skip
        card = read_card({"training": {"origins": {"tracer": {code_meaning: 7}}}})
        assert _origins(card) == f" (tracer: {expected} (7))"


def test_long_name_begins_with_what_it_is(scene: Any, ct: Any) -> None:
    node = volume.make_pet_node(scene, ct, model="cascade3", role="expected error of a synthetic PET")
    assert node.GetName() == "EXPECTED ERROR of SYNTHETIC PET cascade3 (not for diagnosis) of CT"
