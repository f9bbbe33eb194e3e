"""Indexed series, an S3 server with their files, and a proxy whose connection can be cut."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.download.cohort import Cohort, Selection, census
from lib.download.idc import IndexedSeries
from lib.download.selection import SOP_CLASSES, ChosenPair

BUCKET = "idc-open-data"


def listed(modality: str = "CT", **changes: Any) -> IndexedSeries:
    """Return a usable series; keywords change its fields, and with them its UID."""
    usual = {
        "collection_id": "made_up", "patient_id": "P1", "study_instance_uid": "1.2.3", "study_date": "2020-01-02",
        "series_instance_uid": f"1.2.3.{zlib.crc32(repr((modality, changes)).encode())}", "description": "",
        "sop_class_uid": SOP_CLASSES[modality], "photometric_interpretation": "MONOCHROME2", "analysis_result_id": "",
        "images": 100, "size_bytes": 1000, "licence": "CC BY 4.0", "doi": "10.1/made.up",
        "url": f"s3://{BUCKET}/nothing/*",
    }  # fmt: skip
    return IndexedSeries(**{**usual, "modality": modality, **changes})


def select(*series: IndexedSeries) -> Selection:
    """Return a selection of CT, PET, CT, PET, ..."""
    pairs = tuple(ChosenPair(ct, pet) for ct, pet in zip(series[::2], series[1::2], strict=True))
    return Selection(Cohort("idc:made_up", "made_up"), "0", census(series), pairs, ())


@dataclass(frozen=True)
class Server:
    """A real S3 server on loopback, and the client that uploads to it."""

    s5cmd: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, folder: Path, prefix: str) -> str:
        """Upload the files of a folder as public objects and return their URL."""
        keys = {"AWS_ACCESS_KEY_ID": "made", "AWS_SECRET_ACCESS_KEY": "up"}
        command = [str(self.s5cmd), "--log=error", f"--endpoint-url={self.url}", "cp", "--acl=public-read"]
        subprocess.run([*command, f"{folder}/", f"s3://{BUCKET}/{prefix}/"], env={**os.environ, **keys}, check=True)
        return f"s3://{BUCKET}/{prefix}/*"

    def put_random(self, folder: Path, prefix: str, *, files: int, size_bytes: int) -> dict[str, Any]:
        """Upload files of random bytes; return the fields of their series that depend on them."""
        folder.mkdir()
        for number in range(files):
            (folder / f"{number:03d}.dcm").write_bytes(os.urandom(size_bytes))
        url = self.put(folder, prefix)
        return {"series_instance_uid": f"1.2.3.{prefix}", "url": url, "images": files, "size_bytes": files * size_bytes}


@dataclass
class CuttingProxy:
    """A proxy that counts bytes and, after `cut_after_bytes`, cuts the connection or stops sending."""

    server: Server
    cut_after_bytes: int
    stalls: bool = False
    carried_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> CuttingProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *why: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def is_cut(self) -> bool:
        return self.carried_bytes >= self.cut_after_bytes

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if self.is_cut and not self.stalls:
                client.close()
                continue
            self._threads.append(threading.Thread(target=self._carry, args=(client,)))
            self._threads[-1].start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            requests = threading.Thread(target=self._forward_requests, args=(client, upstream))
            requests.start()
            self._pump(upstream, client, counted=True)
            _shut_down(client)
            requests.join()

    def _forward_requests(self, client: socket.socket, upstream: socket.socket) -> None:
        self._pump(client, upstream)
        _shut_down(upstream)  # otherwise the server would wait forever for a client that ended before its request

    def _pump(self, source: socket.socket, sink: socket.socket, *, counted: bool = False) -> None:
        try:
            while data := source.recv(16_384):
                with self._lock:
                    if counted and self.is_cut:
                        break
                    self.carried_bytes += len(data) if counted else 0
                sink.sendall(data)
            if data and self.stalls:
                self._ended.wait()
        except OSError:
            return


def _shut_down(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def random_pair(server: Server, folder: Path, name: str, **changes: Any) -> Sequence[IndexedSeries]:
    """A CT of 8 files of 200,000 bytes and a PET of 8 of 50,000, on the server."""
    ct = server.put_random(folder / f"{name}1", f"{name}1", files=8, size_bytes=200_000)
    pet = server.put_random(folder / f"{name}2", f"{name}2", files=8, size_bytes=50_000)
    return listed("CT", **{**ct, **changes}), listed("PT", **{**pet, **changes})
