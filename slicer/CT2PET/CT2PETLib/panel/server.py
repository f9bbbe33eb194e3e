"""Section "Server": address, connection test and sign-in."""

from __future__ import annotations

from collections.abc import Callable

import qt

from CT2PETLib.client.client import Client
from CT2PETLib.client.http.connection import SIGN_IN, Connection
from CT2PETLib.client.http.server_url import ServerUrl, parse_server_url, remember
from CT2PETLib.client.http.transport import Token
from CT2PETLib.i18n import _
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.qt_helpers import get_property, set_items, text_style

HISTORY = "CT2PET/Addresses"  # never includes user names, passwords or tokens
DEFAULT_ADDRESS = "http://127.0.0.1:8000"


class ServerSection:
    """Connects to a server, and notifies the other sections."""

    def __init__(self, panel: Panel, connected: Callable[[], None]) -> None:
        """Create the section; `connected` is called after each connection and disconnection."""
        self._panel = panel
        self._connected = connected
        self._address: ServerUrl | None = None
        self._token = Token()
        self._testing = False
        ui = panel.ui
        set_items(ui.addressBox, _history() or [DEFAULT_ADDRESS])
        panel.on_signal(ui.testButton, "clicked", self.test)
        panel.on_signal(ui.addressBox.lineEdit(), "returnPressed", self.test)
        panel.on_signal(ui.addressBox, "currentTextChanged", self.disconnect)
        panel.on_signal(ui.signInButton, "clicked", self.sign_in)
        panel.on_signal(ui.passwordEdit, "returnPressed", self.sign_in)

    def refresh(self) -> None:
        """Update the widgets."""
        ui, panel = self._panel.ui, self._panel
        ui.testButton.setEnabled(not self._testing)
        ui.testButton.setText(_("Testing …") if self._testing else _("Test connection"))
        signed_in = panel.client is not None and panel.client.is_signed_in
        ui.signInButton.setText(_("Sign out") if signed_in else _("Sign in"))
        for field in (ui.userEdit, ui.passwordEdit):
            field.setEnabled(not signed_in)

    def test(self) -> None:
        """Test the connection."""
        if self._testing:
            return
        client = self._client()
        self._testing = True
        self._label(_("Connecting …"), is_error=False)
        self._panel.refresh()
        self._panel.runner.submit(
            client, lambda job_client: job_client.test_connection(), self._on_tested, on_error=self._on_error
        )

    def disconnect(self) -> None:
        """Disconnect, as the address is being changed."""
        if self._panel.client is not None:
            self._token = Token()
            self._panel.client = self._panel.server = None
            self._label(_("Not connected."), is_error=False)
            self._connected()

    def sign_in(self) -> None:
        """Sign in with user name and password, or sign out."""
        ui = self._panel.ui
        if self._token.value:
            self._client().sign_out()
            self.disconnect()
            self._panel.refresh()
            return
        user, password = get_property(ui.userEdit, "text"), get_property(ui.passwordEdit, "text")
        ui.passwordEdit.clear()
        client = self._client()
        self._panel.runner.submit(
            client,
            lambda job_client: job_client.sign_in(user, password),
            lambda _: self.test(),
            on_error=self._on_error,
        )

    def _client(self) -> Client:
        self._address = parse_server_url(get_property(self._panel.ui.addressBox, "currentText"))
        certificate = get_property(self._panel.ui.certificatePath, "currentPath")
        return Client(self._address, verify=certificate or True, token=self._token)

    def _on_tested(self, connection: Connection) -> None:
        self._testing = False
        panel = self._panel
        self._label(connection.message, is_error=not connection.is_usable)
        if connection.kind == SIGN_IN:
            panel.ui.userEdit.setFocus()
        if connection.is_usable and self._address is not None:
            panel.client, panel.server = self._client(), connection.server
            _save_history(remember(_history(), self._address))
            panel.show_message("")
        else:
            panel.client = panel.server = None
        self._connected()

    def _on_error(self, message: str) -> None:
        self._testing = False
        self._label(message, is_error=True)
        self._panel.refresh()

    def _label(self, message: str, *, is_error: bool) -> None:
        self._panel.ui.connectionLabel.setStyleSheet(text_style(is_error=is_error))
        self._panel.ui.connectionLabel.setText(message)


def _history() -> list[str]:
    saved = qt.QSettings().value(HISTORY, "")
    return [line for line in str(saved or "").split("\n") if line]


def _save_history(addresses: tuple[str, ...]) -> None:
    qt.QSettings().setValue(HISTORY, "\n".join(addresses))
