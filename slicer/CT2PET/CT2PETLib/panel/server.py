"""Section "Server": where it is, whether it can be used, signing in."""

from __future__ import annotations

from collections.abc import Callable

import qt

from CT2PETLib.client.client import Client
from CT2PETLib.client.connection import SIGN_IN, Connection
from CT2PETLib.client.server_url import ServerUrl, parse_server_url, remember
from CT2PETLib.client.transport import Token
from CT2PETLib.panel.context import RIGHT, WRONG, Panel
from CT2PETLib.panel.qt_helpers import get_property, set_items

HISTORY = "CT2PET/Addresses"  # addresses alone; names, passwords and tokens are never kept
FIRST_ADDRESS = "http://127.0.0.1:8000"


class ServerSection:
    """Finds the server and tells the other sections."""

    def __init__(self, panel: Panel, connected: Callable[[], None]) -> None:
        """`connected` is called when a server that can be used was found, and when it was left."""
        self._panel = panel
        self._connected = connected
        self._address: ServerUrl | None = None
        self._token = Token()
        self._testing = False
        ui = panel.ui
        set_items(ui.addressBox, _history() or [FIRST_ADDRESS])
        panel.when(ui.testButton, "clicked", self.test)
        panel.when(ui.addressBox.lineEdit(), "returnPressed", self.test)
        panel.when(ui.addressBox, "currentTextChanged", self.leave)
        panel.when(ui.signInButton, "clicked", self.sign_in)
        panel.when(ui.passwordEdit, "returnPressed", self.sign_in)

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui, panel = self._panel.ui, self._panel
        ui.testButton.setEnabled(not self._testing)
        ui.testButton.setText("Testing…" if self._testing else "Test connection")
        signed_in = panel.client is not None and panel.client.is_signed_in
        ui.signInButton.setText("Sign out" if signed_in else "Sign in")
        for field in (ui.userEdit, ui.passwordEdit):
            field.setEnabled(not signed_in)

    def test(self) -> None:
        """Ask the server who it is."""
        if self._testing:
            return
        client = self._client()
        self._testing = True
        self._label("Asking …", wrong=False)
        self._panel.refresh()
        self._panel.running.ask(client, lambda asker: asker.test_connection(), self._tested, failed=self._failed)

    def leave(self) -> None:
        """Forget the server: another address is being typed."""
        if self._panel.client is not None:
            self._token = Token()
            self._panel.client = self._panel.server = None
            self._label("Not connected.", wrong=False)
            self._connected()

    def sign_in(self) -> None:
        """Exchange name and password for a token, or forget the token."""
        ui = self._panel.ui
        if self._token.word:
            self._client().sign_out()
            self.leave()
            self._panel.refresh()
            return
        user, password = get_property(ui.userEdit, "text"), get_property(ui.passwordEdit, "text")
        ui.passwordEdit.clear()
        client = self._client()
        self._panel.running.ask(
            client, lambda asker: asker.sign_in(user, password), lambda _: self.test(), failed=self._failed
        )

    def _client(self) -> Client:
        self._address = parse_server_url(get_property(self._panel.ui.addressBox, "currentText"))
        certificate = get_property(self._panel.ui.certificatePath, "currentPath")
        return Client(self._address, verify=certificate or True, token=self._token)

    def _tested(self, connection: Connection) -> None:
        self._testing = False
        panel = self._panel
        self._label(connection.sentence, wrong=not connection.is_usable)
        if connection.kind == SIGN_IN:
            panel.ui.userEdit.setFocus()
        if connection.is_usable and self._address is not None:
            panel.client, panel.server = self._client(), connection.server
            _keep(remember(_history(), self._address))
            panel.say("")
        else:
            panel.client = panel.server = None
        self._connected()

    def _failed(self, sentence: str) -> None:
        self._testing = False
        self._label(sentence, wrong=True)
        self._panel.refresh()

    def _label(self, sentence: str, *, wrong: bool) -> None:
        self._panel.ui.connectionLabel.setStyleSheet(WRONG if wrong else RIGHT)
        self._panel.ui.connectionLabel.setText(sentence)


def _history() -> list[str]:
    kept = qt.QSettings().value(HISTORY, "")
    return [line for line in str(kept or "").split("\n") if line]


def _keep(addresses: tuple[str, ...]) -> None:
    qt.QSettings().setValue(HISTORY, "\n".join(addresses))
