"""Client of a ct2pet server: one method per request, which returns immutable values.

Every method blocks and may raise any `ServerError`, whose message is for the user; call them from a `Job`, not from the
window's thread. Idempotent requests are retried if the connection is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from CT2PETLib.client import infer_result
from CT2PETLib.client.errors import RefusedError, SignInError
from CT2PETLib.client.http.connection import Connection, check_connection
from CT2PETLib.client.http.multipart import Progress, Upload
from CT2PETLib.client.http.server_url import ServerUrl, parse_server_url
from CT2PETLib.client.http.transport import NO_RETRY, SHORT_RETRY, RetryPolicy, Token, Transport, Waiting
from CT2PETLib.client.infer_result import InferResult, Slab, read_infer_result, read_slab
from CT2PETLib.client.json_fields import as_str, parse_json, require
from CT2PETLib.client.pair_submission import Pair, read_pair, zip_of
from CT2PETLib.client.schemas import Server, read_server
from CT2PETLib.client.studies import Study, read_studies, read_study
from CT2PETLib.client.training import Training, Versions, model_of_task, read_training, read_versions
from CT2PETLib.i18n import _

RESPONSE_TIMEOUT_S = 300.0  # for a slab that is queued behind other requests on a slow machine
SUFFIXES = (".nii.gz", ".nii", ".mha", ".zip")  # that the server accepts, besides .nrrd
REAL = "final"  # MONAI Label's tag of the final label


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


class Client:
    """Client of a server for one user. Not thread-safe, except for `interrupt`."""

    def __init__(
        self,
        address: ServerUrl | str,
        *,
        timeout_s: float = RESPONSE_TIMEOUT_S,
        verify: bool | str = True,
        token: Token | None = None,
    ) -> None:
        """Create the client without sending a request.

        Args:
            address: As typed, or parsed.
            timeout_s: Read timeout.
            verify: True, or the file of the certificate authority that issued the server's certificate.
            token: Token of a signed-in user; shared by the clients of that user.

        Raises:
            ServerUrlError: The address is invalid.
        """
        self.address = parse_server_url(address) if isinstance(address, str) else address
        self._token = token or Token()
        self._transport = Transport(self.address, timeout_s=timeout_s, verify=verify, token=self._token)

    def __repr__(self) -> str:
        return f"Client({self.address}, {self._token!r})"

    def copy(self) -> Client:
        """Return another client of the same server and user, which can be interrupted by itself."""
        return Client(
            self.address, timeout_s=self._transport.timeout_s, verify=self._transport.verify, token=self._token
        )

    def interrupt(self) -> None:
        """Abort the current request at once; this client sends no further ones."""
        self._transport.interrupt()

    def pause(self, seconds: float) -> None:
        """Wait for a number of seconds.

        Raises:
            CancelledError: `interrupt` was called.
        """
        self._transport.pause(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def test_connection(self) -> Connection:
        """Return the outcome of a connection test; raise nothing."""
        return check_connection(self._transport)

    def sign_in(self, user: str, password: str) -> None:
        """Sign in; the token is kept in memory until `sign_out`, or until Slicer is closed.

        Raises:
            SignInError: Wrong user name or password.
            RefusedError: This server has no accounts.
        """
        self._token.value = ""
        form = {"grant_type": "password", "username": user, "password": password}
        try:
            response = self._transport.request("POST", "auth", "token", form=form, retry_policy=NO_RETRY)
        except RefusedError as error:
            if error.status != 404:
                raise
            raise RefusedError(_("This server has no accounts: everyone with access to it may use it."), 404) from error
        except SignInError as error:
            raise SignInError(_("Wrong user name or password.")) from error
        self._token.value = as_str(require(parse_json(response.content), "access_token"))

    def sign_out(self) -> None:
        """Discard the token."""
        self._token.value = ""

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a token; it may have expired."""
        return bool(self._token.value)

    def server(self) -> Server:
        """Return the server's description of itself and its models."""
        return read_server(self._transport.request("GET", "info", "").content, self.address.base)

    def studies(self) -> tuple[Study, ...]:
        """Return the CTs of the server, newest first."""
        return read_studies(self._transport.request("GET", "datastore", "", query={"output": "all"}).content)

    def study(self, image_id: str) -> Study | None:
        """Return the CT of an id, or None if the server has none."""
        try:
            response = self._transport.request("GET", "datastore", "image", "info", query={"image": image_id})
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return read_study(image_id, parse_json(response.content))

    # -- images --------------------------------------------------------------------------------------------------------

    def ct(self, image_id: str, *, progress: Progress = no_progress) -> bytes:
        """Return a CT of the server as NRRD, float32, HU."""
        query = {"image": image_id}
        return self._transport.request("GET", "datastore", "image", query=query, progress=progress).content

    def real_pet(self, image_id: str, *, progress: Progress = no_progress) -> bytes:
        """Return the real PET of a CT as NRRD, float32, SUVbw, on its own grid."""
        query = {"label": image_id, "tag": REAL}
        return self._transport.request("GET", "datastore", "label", query=query, progress=progress).content

    def send_ct(self, source: bytes | Path, image_id: str, *, progress: Progress = no_progress) -> bool:
        """Upload a CT unless the server has it; return whether it was uploaded. Get the user's consent first.

        Args:
            source: A volume file in HU, or its content as NRRD.
            image_id: Id from its voxels and geometry; see `image_id.image_id_of`.
            progress: Called with the number of bytes sent and in total.
        """
        if self.study(image_id) is not None:
            return False
        suffix = next(filter((source.name if isinstance(source, Path) else ".nrrd").endswith, SUFFIXES), ".nrrd")
        upload = Upload({"file": (f"ct{suffix}", source)}, {}, progress)  # a file name may contain a patient's name
        self._transport.request("PUT", "datastore", "image", query={"image": image_id}, upload=upload)
        return True

    # -- synthesis -----------------------------------------------------------------------------------------------------

    def slab(
        self,
        model: str,
        image_id: str,
        start: int,
        stop: int,
        *,
        uncertainty: bool = False,
        version: int | None = None,
        allow_unlike: bool = False,
        retry_policy: RetryPolicy = SHORT_RETRY,
        waiting: Waiting | None = None,
        progress: Progress = no_progress,
    ) -> Slab:
        """Return the synthetic PET of a range of slices, identical to those slices of the full volume.

        Args:
            model: Name of the model.
            image_id: Id of a CT on the server.
            start, stop: Slices, `stop` excluded.
            uncertainty: Whether to request the uncertainty map as well.
            version: Version of the model; None for the served one.
            allow_unlike: Whether to synthesise the PET of a CT that is unlike the training CTs.
            retry_policy: For a lost connection.
            waiting: Called before each retry.
            progress: Called with the number of bytes received and in total.
        """
        params = {"slices": f"{start}:{stop}", "uncertainty": uncertainty, "version": version, "metrics": False}
        params["allow_unlike"] = allow_unlike
        response = self._transport.request(
            "POST", "infer", model, query={"image": image_id, "output": "all"}, form={"params": json.dumps(params)},
            retry_policy=retry_policy, waiting=waiting, progress=progress,
        )  # fmt: skip
        return read_slab(response.content, response.content_type, (start, stop))

    def metrics(self, model: str, image_id: str, *, version: int | None = None) -> InferResult:
        """Predict the full synthetic PET on the server, and return its metrics against the real one."""
        return self._infer(model, image_id, {"version": version, "metrics": True})

    def store(self, model: str, image_id: str, *, version: int | None = None) -> InferResult:
        """Store the synthetic PET as DICOM series with its CT, in the studies folder or PACS, with the user's consent.

        The same version and CT give the same series, so storing it twice adds no duplicate.
        """
        return self._infer(model, image_id, {"store": True, "version": version, "metrics": False})

    def intervals(
        self, model: str, regions: Sequence[infer_result.MeasuredRegion], *, version: int | None = None
    ) -> tuple[infer_result.RegionIntervals, ...]:
        """Return the intervals of regions that were measured in a synthetic PET of a model, in their order."""
        body = infer_result.intervals_body(regions, version)
        response = self._transport.request("POST", "ct2pet", "intervals", model, json=body)
        return infer_result.read_intervals(response.content)

    def dicom(
        self, model: str, image_id: str, *, version: int | None = None, progress: Progress = no_progress
    ) -> bytes:
        """Return the synthetic PET, which was synthesised before, as zip of a DICOM series."""
        query = {"image": image_id, "allow_unlike": "true", **({} if version is None else {"version": str(version)})}
        return self._transport.request("POST", "ct2pet", "dicom", model, query=query, progress=progress).content

    # -- training pairs ------------------------------------------------------------------------------------------------

    def pairs(self) -> tuple[Pair, ...]:
        """Return the pairs of the server."""
        return tuple(read_pair(data) for data in parse_json(self._transport.request("GET", "ct2pet", "pairs").content))

    def submit_pair(
        self, ct: Sequence[Path], pet: Sequence[Path], *, despite_checks: bool = False, progress: Progress = no_progress
    ) -> Pair:
        """Submit a CT and its measured PET for training, and return the pair. Get the user's consent first.

        Submitting it twice adds no duplicate. Requires the role annotator.

        Args:
            ct, pet: DICOM files of each series; `ct` may be empty if the server has the CT.
            despite_checks: Submit the pair even if the server finds it implausible; the user takes responsibility.
            progress: Called with the number of bytes sent and in total.

        Raises:
            RefusedError: The two do not form a pair, or not a plausible one; the message gives the reason.
        """
        files = {"ct": ct, "pet": pet} if ct else {"pet": pet}
        zips = {name: (f"{name}.zip", zip_of(of)) for name, of in files.items()}
        upload = Upload(zips, {"despite_checks": str(despite_checks).lower()}, progress)
        return read_pair(parse_json(self._transport.request("POST", "ct2pet", "pairs", upload=upload).content))

    # -- training ------------------------------------------------------------------------------------------------------

    def train(self, model: str, settings: Mapping[str, Any] | None = None) -> None:
        """Start a training; `settings` override `Model.settings`. Requires the role admin."""
        self._transport.request("POST", "train", model, json=dict(settings or {}), retry_policy=NO_RETRY)

    def training(self, *, retry_policy: RetryPolicy = SHORT_RETRY, waiting: Waiting | None = None) -> Training:
        """Return the state of the newest training with all epochs so far, regardless of who started it."""
        task: bytes | None = None
        try:
            task = self._transport.request("GET", "train", "", retry_policy=retry_policy, waiting=waiting).content
        except RefusedError as error:
            if error.status != 404:  # MONAI Label: no training since the server was started
                raise
        query = {} if task is None else {"model": model_of_task(task)}
        run = self._transport.request(
            "GET", "ct2pet", "training", query=query, retry_policy=retry_policy, waiting=waiting
        )
        return read_training(task, run.content)

    def stop_training(self) -> None:
        """Stop the training; starting it again continues after its last finished epoch."""
        self._transport.request("DELETE", "train", "")

    def versions(self) -> tuple[Versions, ...]:
        """Return the versions of every model."""
        response = self._transport.request("GET", "ct2pet", "models")
        return tuple(map(read_versions, parse_json(response.content)))

    def roll_back(self, model: str, version: int | None = None) -> Versions:
        """Serve the previous version, or the given one, and return the versions. Requires the role admin."""
        return self._change_version(model, "rollback", None if version is None else {"version": version})

    def serve(self, model: str, version: int) -> Versions:
        """Serve a version regardless of its verdict, and return the versions. Requires the role admin."""
        return self._change_version(model, "serve", {"version": version})

    def _change_version(self, model: str, action: str, body: Mapping[str, int] | None) -> Versions:
        response = self._transport.request("POST", "ct2pet", "models", model, action, json=body, retry_policy=NO_RETRY)
        return read_versions(parse_json(response.content))

    def _infer(self, model: str, image_id: str, params: Mapping[str, Any]) -> InferResult:
        # the PET was synthesised before, so an unlike CT was allowed then
        query, form = {"image": image_id, "output": "json"}, {"params": json.dumps({**params, "allow_unlike": True})}
        response = self._transport.request("POST", "infer", model, query=query, form=form)
        return read_infer_result(parse_json(response.content))
