"""Section "Server": address, connection test and sign-in."""

from __future__ import annotations

from collections.abc import Callable

import qt

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerUrlError
from CT2PETLib.client.http.connection import SIGN_IN, Connection
from CT2PETLib.client.http.server_url import parse_server_url, remember
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
        self._token = Token()
        self._tested: Client | None = None  # the client of a test in progress
        ui = panel.ui
        set_items(ui.addressBox, _history() or [DEFAULT_ADDRESS])
        panel.on_signal(ui.testButton, "clicked", self.test)
        panel.on_signal(ui.addressBox.lineEdit(), "returnPressed", self.test)
        panel.on_signal(ui.addressBox, "currentTextChanged", self.disconnect)
        panel.on_signal(ui.signInButton, "clicked", self.sign_in)
        panel.on_signal(ui.passwordEdit, "returnPressed", self.sign_in)

    def refresh(self) -> None:
        """Update the widgets."""
        ui = self._panel.ui
        testing, signed_in = self._tested is not None, bool(self._token.value)
        ui.testButton.setEnabled(not testing)
        ui.testButton.setText(_("Testing …") if testing else _("Test connection"))
        ui.signInButton.setText(_("Sign out") if signed_in else _("Sign in"))
        for field in (ui.userEdit, ui.passwordEdit):
            field.setEnabled(not signed_in)

    def test(self) -> None:
        """Test the connection."""
        client = self._client() if self._tested is None else None
        if client is None:
            return
        self._tested = client
        self._label(_("Connecting …"), is_error=False)
        self._panel.refresh()
        self._panel.runner.submit(
            client,
            lambda job_client: job_client.test_connection(),
            lambda connection: self._on_tested(client, connection),
            on_error=self._on_error,
        )

    def disconnect(self) -> None:
        """Disconnect, as the address is being changed; a token is never sent to another server than its own."""
        self._token, self._tested = Token(), None
        self._label(_("Not connected."), is_error=False)
        if self._panel.client is not None:
            self._panel.client = self._panel.server = None
            self._connected()
        self._panel.refresh()

    def sign_in(self) -> None:
        """Sign in with user name and password, or sign out."""
        ui = self._panel.ui
        if self._token.value:
            self._token.value = ""  # active jobs share it
            self.disconnect()
            return
        user, password = get_property(ui.userEdit, "text"), get_property(ui.passwordEdit, "text")
        if not user or not password:
            self._label(_("Enter your user name and password, then press Sign in."), is_error=True)
            return
        ui.passwordEdit.clear()
        client = self._client()
        if client is None:
            return
        self._panel.runner.submit(
            client,
            lambda job_client: job_client.sign_in(user, password),
            lambda _: self.test(),
            on_error=self._on_error,
        )

    def _client(self) -> Client | None:
        """Return a client of the address; None, with a message, if it is none."""
        try:
            address = parse_server_url(get_property(self._panel.ui.addressBox, "currentText"))
        except ServerUrlError as error:
            self._label(str(error), is_error=True)
            return None
        certificate = get_property(self._panel.ui.certificatePath, "currentPath")
        return Client(address, verify=certificate or True, token=self._token)

    def _on_tested(self, client: Client, connection: Connection) -> None:
        if client is not self._tested:  # the address was changed in the meantime
            return
        self._tested = None
        panel = self._panel
        self._label(connection.message, is_error=not connection.is_usable)
        if connection.kind == SIGN_IN:
            panel.ui.userEdit.setFocus()
        if connection.is_usable:
            panel.client, panel.server = client, connection.server
            _save_history(remember(_history(), client.address))
            panel.show_message("")
        else:
            panel.client = panel.server = None
        self._connected()

    def _on_error(self, message: str) -> None:
        self._tested = None
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
