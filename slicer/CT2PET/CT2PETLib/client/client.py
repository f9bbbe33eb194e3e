"""What Slicer asks of a ct2pet server: one method for each thing, answered with values that do not change.

Every method blocks and may raise any `ServerError`, whose words are for the user; call them from a `Job`, not from the
thread of the window. What may be asked twice without harm is asked again where the connection is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from CT2PETLib.client.connection import Connection, check_connection
from CT2PETLib.client.errors import RefusedError, SignInError
from CT2PETLib.client.infer_result import InferResult, Slab, read_infer_result, read_slab
from CT2PETLib.client.json_fields import mapping, must, plain, word
from CT2PETLib.client.multipart import Progress, Upload
from CT2PETLib.client.pair_submission import Pair, read_pair, zip_of
from CT2PETLib.client.schemas import Server, read_server
from CT2PETLib.client.server_url import ServerUrl, parse_server_url
from CT2PETLib.client.studies import Study, read_studies, read_study
from CT2PETLib.client.training import Training, Versions, model_of_task, read_training, read_versions
from CT2PETLib.client.transport import NONE, SHORT, RetryPolicy, Token, Transport, Waiting

ANSWER_TIMEOUT_S = 300.0  # a slab behind others' work on a slow machine
SUFFIXES = (".nii.gz", ".nii", ".mha", ".zip")  # other than .nrrd, of what the server takes
REAL = "final"  # MONAI Label's tag of the label that counts


def no_progress(come: int, of: int) -> None:
    """Take no notice."""


class Client:
    """A server, as one user asks it. One thread at a time may ask; `interrupt` may be called by any."""

    def __init__(
        self,
        address: ServerUrl | str,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
        verify: bool | str = True,
        token: Token | None = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            address: As typed, or parsed.
            timeout_s: Longest wait for an answer to begin, or to go on.
            verify: True, or the file of the certificate authority that the server's certificate is from.
            token: Of who has signed in; shared by clients that ask for the same user.

        Raises:
            AddressError: It is no address.
        """
        self.address = parse_server_url(address) if isinstance(address, str) else address
        self._token = token or Token()
        self._transport = Transport(self.address, timeout_s=timeout_s, verify=verify, token=self._token)

    def __repr__(self) -> str:
        return f"Client({self.address}, {self._token!r})"

    def again(self) -> Client:
        """Return another client of the same server and user, to be used, and interrupted, by itself."""
        return Client(
            self.address, timeout_s=self._transport.timeout_s, verify=self._transport.verify, token=self._token
        )

    def interrupt(self) -> None:
        """End what is being asked at once; this client asks nothing any more."""
        self._transport.interrupt()

    def pause(self, seconds: float) -> None:
        """Return after so many seconds.

        Raises:
            CancelledError: `interrupt` was called.
        """
        self._transport.pause(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    # -- who, and what is there ----------------------------------------------------------------------------------------

    def test_connection(self) -> Connection:
        """Return what is at the other end, in a sentence; raises nothing."""
        return check_connection(self._transport)

    def sign_in(self, user: str, password: str) -> None:
        """Sign in; the token is kept in memory until `sign_out`, or the end of Slicer.

        Raises:
            SignInError: Wrong user name or password.
            RefusedError: This server has no accounts.
        """
        self._token.word = ""
        form = {"grant_type": "password", "username": user, "password": password}
        try:
            told = plain(self._transport.ask("POST", "auth", "token", form=form, retry_policy=NONE).content)
        except RefusedError as error:
            if error.status != 404:
                raise
            raise RefusedError("This server has no accounts: everybody who reaches it may use it.", 404) from error
        except SignInError as error:
            raise SignInError("Wrong user name or password.") from error
        self._token.word = word(must(told, "access_token"))

    def sign_out(self) -> None:
        """Forget the token."""
        self._token.word = ""

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a token; it may have run out."""
        return bool(self._token.word)

    def server(self) -> Server:
        """Return what the server says of itself and its models."""
        return read_server(self._transport.ask("GET", "info", "").content, self.address.base)

    def studies(self) -> tuple[Study, ...]:
        """Return the CTs that the server has, newest first."""
        return read_studies(self._transport.ask("GET", "datastore", "", query={"output": "all"}).content)

    def study(self, image_id: str) -> Study | None:
        """Return one CT of the server, or None where there is none of that id."""
        try:
            told = self._transport.ask("GET", "datastore", "image", "info", query={"image": image_id})
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return read_study(image_id, plain(told.content))

    # -- images --------------------------------------------------------------------------------------------------------

    def ct(self, image_id: str, *, progress: Progress = no_progress) -> bytes:
        """Return a CT of the server as NRRD, float32, HU."""
        query = {"image": image_id}
        return self._transport.ask("GET", "datastore", "image", query=query, progress=progress).content

    def real_pet(self, image_id: str, *, progress: Progress = no_progress) -> bytes:
        """Return the real PET of a CT as NRRD, float32, SUVbw, on its own grid."""
        query = {"label": image_id, "tag": REAL}
        return self._transport.ask("GET", "datastore", "label", query=query, progress=progress).content

    def send_ct(self, source: bytes | Path, image_id: str, *, progress: Progress = no_progress) -> bool:
        """Send a CT unless the server has it; return whether it was sent. Ask the user before.

        Args:
            source: A volume file in HU, or its content as NRRD.
            image_id: Of its voxels and geometry; see `fingerprint.image_id_of`.
            progress: Told of the bytes that have been sent.
        """
        if self.study(image_id) is not None:
            return False
        suffix = next(filter((source.name if isinstance(source, Path) else ".nrrd").endswith, SUFFIXES), ".nrrd")
        # the server is told no file name of the user's: it may be a patient's
        upload = Upload({"file": (f"ct{suffix}", source)}, {}, progress)
        self._transport.ask("PUT", "datastore", "image", query={"image": image_id}, upload=upload)
        return True

    # -- synthesis -----------------------------------------------------------------------------------------------------

    def slab(
        self,
        model: str,
        image_id: str,
        start: int,
        stop: int,
        *,
        uncertainty: str = "no",
        version: int | None = None,
        retry_policy: RetryPolicy = SHORT,
        waiting: Waiting | None = None,
        progress: Progress = no_progress,
    ) -> Slab:
        """Return the synthetic PET of a range of slices, equal to those slices of the whole.

        Args:
            model: Its name on the server.
            image_id: Of a CT on the server.
            start, stop: The slices, without `stop`.
            uncertainty: `no`, or `beside` for the map of errors to expect, too.
            version: Of the model; None for the one that is served.
            patience: How long a lost connection is tried again.
            waiting: Told before each further try.
            progress: Told of the bytes that have come.
        """
        asked = {
            "slices": f"{start}:{stop}", "uncertainty": uncertainty == "beside", "version": version, "metrics": False,
        }  # fmt: skip
        answer = self._transport.ask(
            "POST",
            "infer",
            model,
            query={"image": image_id, "output": "all"},
            form={"params": json.dumps(asked)},
            retry_policy=retry_policy,
            waiting=waiting,
            progress=progress,
        )
        return read_slab(answer.content, answer.content_type, (start, stop))

    def figures(self, model: str, image_id: str, *, version: int | None = None) -> InferResult:
        """Return the figures of the whole synthetic PET against the real one; it is drawn for that, and not sent."""
        return self._told(model, image_id, {"version": version, "metrics": True})

    def store(self, model: str, image_id: str, *, version: int | None = None) -> InferResult:
        """Put the synthetic PET as a DICOM series beside its CT, in the studies folder or PACS. Ask the user before.

        The same version and CT give the same series: storing twice does not double it.
        """
        return self._told(model, image_id, {"store": True, "version": version, "metrics": False})

    def dicom(
        self, model: str, image_id: str, *, version: int | None = None, progress: Progress = no_progress
    ) -> bytes:
        """Return the synthetic PET as a zip of a DICOM series."""
        query = {"image": image_id} if version is None else {"image": image_id, "version": str(version)}
        return self._transport.ask("POST", "ct2pet", "dicom", model, query=query, progress=progress).content

    # -- pairs to learn from -------------------------------------------------------------------------------------------

    def pairs(self) -> tuple[Pair, ...]:
        """Return the pairs that the server has."""
        return tuple(read_pair(told) for told in plain(self._transport.ask("GET", "ct2pet", "pairs").content))

    def submit_pair(
        self,
        ct: Sequence[Path],
        pet: Sequence[Path],
        *,
        despite_checks: bool = False,
        progress: Progress = no_progress,
    ) -> Pair:
        """Send a CT and its measured PET to be learnt from, and return the pair. Ask the user before.

        Sent twice it is there once. Needs the role annotator.

        Args:
            ct, pet: The DICOM files of each series; of a CT that the server has, none need be given.
            despite_checks: Take it although the server finds that it does not look like one patient's; whoever says so
                answers for it.
            progress: Told of the bytes that have been sent.

        Raises:
            RefusedError: The two do not belong together, or do not look like it; the sentence says why.
        """
        files = {"ct": ct, "pet": pet} if ct else {"pet": pet}
        zips = {name: (f"{name}.zip", zip_of(of)) for name, of in files.items()}
        upload = Upload(zips, {"despite_checks": str(despite_checks).lower()}, progress)
        return read_pair(plain(self._transport.ask("POST", "ct2pet", "pairs", upload=upload).content))

    # -- training ------------------------------------------------------------------------------------------------------

    def train(self, model: str, settings: Mapping[str, Any] | None = None) -> None:
        """Start a training; `settings` are those of `Model.settings` that differ. Needs the role admin."""
        self._transport.ask("POST", "train", model, json=dict(settings or {}), retry_policy=NONE)

    def training(self, *, retry_policy: RetryPolicy = SHORT, waiting: Waiting | None = None) -> Training:
        """Return how the newest training does, or did, with every epoch so far; whoever began it."""
        task: bytes | None = None
        try:
            task = self._transport.ask("GET", "train", "", retry_policy=retry_policy, waiting=waiting).content
        except RefusedError as error:
            if error.status != 404:  # as MONAI Label says that there was none since the server was started
                raise
        query = {} if task is None else {"model": model_of_task(task)}
        run = self._transport.ask("GET", "ct2pet", "training", query=query, retry_policy=retry_policy, waiting=waiting)
        return read_training(task, run.content)

    def stop_training(self) -> None:
        """Stop the training; asked for again, it goes on after its last finished epoch."""
        self._transport.ask("DELETE", "train", "")

    def versions(self) -> tuple[Versions, ...]:
        """Return every model's versions."""
        return tuple(read_versions(told) for told in plain(self._transport.ask("GET", "ct2pet", "models").content))

    def roll_back(self, model: str, version: int | None = None) -> Versions:
        """Serve the version before, or the one named, and return the versions. Needs the role admin."""
        asked = None if version is None else {"version": version}
        answer = self._transport.ask("POST", "ct2pet", "models", model, "rollback", json=asked, retry_policy=NONE)
        return read_versions(plain(answer.content))

    def serve(self, model: str, version: int) -> Versions:
        """Serve a version whatever was decided about it, and return the versions. Needs the role admin."""
        asked = {"version": version}
        answer = self._transport.ask("POST", "ct2pet", "models", model, "serve", json=asked, retry_policy=NONE)
        return read_versions(plain(answer.content))

    def _told(self, model: str, image_id: str, params: Mapping[str, Any]) -> InferResult:
        query, form = {"image": image_id, "output": "json"}, {"params": json.dumps(params)}
        return read_infer_result(
            mapping(plain(self._transport.ask("POST", "infer", model, query=query, form=form).content))
        )
