"""The table of attacks: requests that the server must refuse.

Placeholders: `{ct}` is the UID of an existing CT, `{secret}` the path of a volume file outside the
studies that no client may read, `{link}` a symbolic link to that file in the studies. A test requires attacks on every
endpoint that takes a name, an id or a file: add new endpoints to `TARGETS` or `_others`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.ct2pet_app.malicious_inputs import checkpoints, uploads


@dataclass(frozen=True)
class Attack:
    """One request.

    Attributes:
        name: Unique name of the attack.
        method: HTTP method.
        route: Path template of the endpoint, as the server declares it.
        request_target: Path and query, sent byte for byte.
        purpose: What the attack attempts.
        arguments: Keyword arguments of `requests.Request`: json, data, files, headers.
    """

    name: str
    method: str
    route: str
    request_target: str
    purpose: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


# malicious values for names and ids; percent-encoded once before sending
TRICKS = {
    "absolute path": "/etc/passwd",
    "path of a volume": "{secret}",
    "parents": "../../../../../../etc/passwd",
    "parents in between": "1.2.3/../../../../etc/passwd",
    "parents, encoded": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "parents, encoded twice": "%252e%252e%252fetc%252fpasswd",
    "Windows parents": "..\\..\\..\\windows\\win.ini",
    "Windows share": "\\\\127.0.0.1\\c$\\x",
    "file URL": "file:///etc/passwd",
    "web URL": "http://127.0.0.1:9/ct2pet",
    "link in the studies": "{link}",
    "home": "~/.ssh/id_rsa",
    "variable": "${HOME}/.bashrc",
    "NUL": "1.2.3\0.nrrd",
    "forged log line": "x\n[INFO] (ct2pet_app) forged",
    "terminal": "\x1b[2J\x1b]0;x\x07",
    "slashes of another alphabet": "..\u2215..\u2215etc\u2215passwd",
    "full-width dots": "\uff0e\uff0e\uff0fetc",
    "right to left": "\u202egnp.nrrd",
    "5,000 letters": "A" * 5000,
    "SQL": "' OR 1=1; DROP TABLE kept; --",
    "template": "{{7*7}}%s%n",
    "dots": "..",
    "device": "/dev/zero",
}
# malformed percent-encodings, sent as they are
RAW = {
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af%c0%ae%c0%ae%c0%afetc%c0%afpasswd",
    "broken UTF-8": "%ff%fe%2fetc",
    "half an escape": "%2e%2e%2",
    "semicolons": "..;/..;/etc",
    "lone surrogate": "%ed%a0%80",
}
NRRD_FILE = ("label.nrrd", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n" + bytes(16))
SPHERE = {"center_mm": [0, 0, 0], "radius_mm": 9}
EMPTY_MODEL = {"files": {"file": ("model.safetensors", b"x")}}
TARGETS: tuple[tuple[str, str, str, Mapping[str, Any]], ...] = (
    ("POST", "/infer/{model}", "/infer/{trick}?image={ct}", {}),
    ("POST", "/infer/{model}", "/infer/cascade3?image={trick}", {}),
    ("POST", "/infer/{model}", "/infer/cascade3?session_id={trick}", {}),
    ("POST", "/infer/wsi/{model}", "/infer/wsi/cascade3?image={trick}", {"json": {}}),
    ("POST", "/infer/wsi_v2/{model}", "/infer/wsi_v2/cascade3?image={trick}", {"data": {"wsi": "{}"}}),
    ("POST", "/ct2pet/dicom/{model}", "/ct2pet/dicom/{trick}?image={ct}", {}),
    ("POST", "/ct2pet/regions/{model}", "/ct2pet/regions/{trick}?image={ct}", {"json": SPHERE}),
    ("POST", "/ct2pet/regions/{model}", "/ct2pet/regions/cascade3?image={trick}", {"json": SPHERE}),
    ("POST", "/ct2pet/intervals/{model}", "/ct2pet/intervals/{trick}", {"json": {"regions": []}}),
    ("POST", "/ct2pet/dicom/{model}", "/ct2pet/dicom/cascade3?image={trick}&store=true", {}),
    ("POST", "/ct2pet/dicom/{model}", "/ct2pet/dicom/cascade3?image={ct}&version={trick}", {}),
    ("GET", "/ct2pet/models/{model}", "/ct2pet/models/{trick}", {}),
    ("GET", "/ct2pet/training", "/ct2pet/training?model={trick}", {}),
    ("POST", "/ct2pet/models/{model}/rollback", "/ct2pet/models/{trick}/rollback", {"json": {"version": 1}}),
    ("POST", "/ct2pet/models/{model}/serve", "/ct2pet/models/{trick}/serve", {"json": {"version": 1}}),
    ("POST", "/ct2pet/pairs/{ct}/accept", "/ct2pet/pairs/{trick}/accept", {}),
    ("GET", "/datastore/image", "/datastore/image?image={trick}", {}),
    ("HEAD", "/datastore/image", "/datastore/image?image={trick}", {}),
    ("HEAD", "/datastore/image", "/datastore/image?image={ct}&check_sum={trick}", {}),
    ("GET", "/datastore/image/info", "/datastore/image/info?image={trick}", {}),
    ("PUT", "/datastore/image/info", "/datastore/image/info?image={trick}", {"data": {"info": '{"a": 1}'}}),
    ("PUT", "/datastore/image", "/datastore/image?image={trick}", {"files": {"file": ("a.nrrd", b"x")}}),
    ("PUT", "/datastore/", "/datastore/?image={trick}", {"files": {"file": ("a.nrrd", b"x")}}),
    ("DELETE", "/datastore/image", "/datastore/image?id={trick}", {}),
    ("DELETE", "/datastore/", "/datastore/?id={trick}", {}),
    ("GET", "/datastore/label", "/datastore/label?label={trick}&tag=final", {}),
    ("GET", "/datastore/label", "/datastore/label?label={ct}&tag={trick}", {}),
    ("HEAD", "/datastore/label", "/datastore/label?image={trick}&tag=final", {}),
    ("GET", "/datastore/label/info", "/datastore/label/info?label={trick}&tag=final", {}),
    ("PUT", "/datastore/label/info", "/datastore/label/info?label={ct}&tag={trick}", {"data": {"info": "{}"}}),
    ("PUT", "/datastore/updatelabelinfo", "/datastore/updatelabelinfo?label={trick}&tag=x", {"data": {"params": "{}"}}),
    ("PUT", "/datastore/label", "/datastore/label?image={trick}&tag=x", {"files": {"label": NRRD_FILE}}),
    ("PUT", "/datastore/label", "/datastore/label?image={ct}&tag={trick}", {"files": {"label": NRRD_FILE}}),
    ("DELETE", "/datastore/label", "/datastore/label?id={trick}&tag=synthetic", {}),
    ("DELETE", "/datastore/label", "/datastore/label?id={ct}&tag={trick}", {}),
    ("GET", "/session/{session_id}", "/session/{trick}?image=true", {}),
    ("DELETE", "/session/{session_id}", "/session/{trick}", {}),
    ("GET", "/model/{model}", "/model/{trick}", {}),
    ("GET", "/model/info/{model}", "/model/info/{trick}", {}),
    ("PUT", "/model/{model}", "/model/{trick}", EMPTY_MODEL),
    ("DELETE", "/model/{model}", "/model/{trick}", {}),
    ("POST", "/train/{model}", "/train/{trick}", {"json": {}}),
    ("POST", "/batch/infer/{model}", "/batch/infer/{trick}", {"json": {}}),
    ("POST", "/batch/infer/{model}", "/batch/infer/cascade3?images={trick}", {"json": {}}),
    ("POST", "/scoring/{method}", "/scoring/{trick}", {"json": {}}),
    ("POST", "/activelearning/{strategy}", "/activelearning/{trick}", {"json": {}}),
    ("GET", "/proxy/dicom/{path:path}", "/proxy/dicom/wado/{trick}", {}),
    ("POST", "/proxy/dicom/{path:path}", "/proxy/dicom/{trick}", {"data": b"x"}),
    ("GET", "/ohif/{path:path}", "/ohif/{trick}", {}),
    ("GET", "/static/{path:path}", "/static/{trick}", {}),
    ("GET", "/ct2pet/viewer/{path:path}", "/ct2pet/viewer/{trick}", {}),
    ("GET", "/ct2pet/images", "/ct2pet/images?limit={trick}", {}),
    ("GET", "/ct2pet/images/grid", "/ct2pet/images/grid?image={trick}", {}),
    ("GET", "/ct2pet/images/thumbnail", "/ct2pet/images/thumbnail?image={trick}", {}),
    ("GET", "/ct2pet/images/voxels", "/ct2pet/images/voxels?image={trick}", {}),
    ("GET", "/ct2pet/images/voxels", "/ct2pet/images/voxels?image={ct}&slices={trick}", {}),
    ("GET", "/logs/", "/logs/?lines={trick}", {}),
)
DEEP = "[" * 15_000 + "]" * 15_000
PARAMS = {
    "invalid JSON": "{",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "deeply nested": '{"slices": ' + DEEP + "}",
    "NaN": '{"slices": NaN}',
    "infinite": '{"metrics": 1e999}',
    "a number of 5,000 digits": '{"slices": "' + "9" * 5000 + ':"}',
    "a huge slice": '{"slices": "99999999999999999999:"}',
    "slices in reverse order": '{"slices": "5:2"}',
    "slices out of range": '{"slices": "-99:-98"}',
    "slices as a list": '{"slices": [1, 2]}',
    "slices as code": '{"slices": "__import__(\'os\')"}',
    "extension as a path": '{"result_extension": "/../../x.nrrd"}',
    "extension with NUL": '{"result_extension": ".nrrd\\u0000.exe"}',
    "extension as a list": '{"result_extension": [".nrrd"]}',
    "extension of a program": '{"result_extension": ".so"}',
    "label tag as a path": '{"save_label": true, "label_tag": "../../../etc/cron.d/x"}',
    "label tag as the real PET's": '{"save_label": true, "label_tag": "final"}',
    "label tag as an object": '{"save_label": true, "label_tag": {"a": 1}}',
    "store as an object": '{"store": {"path": "/etc"}}',
    "metrics as text": '{"metrics": "/etc/passwd"}',
    "version as a path": '{"version": "../../1"}',
    "version as a list": '{"version": [1]}',
    "slices as a lone surrogate": '{"slices": "\\ud800"}',
    "label tag as a lone surrogate": '{"save_label": true, "label_tag": "\\ud800"}',
    "version as a boolean": '{"version": true}',
    "unknown version": '{"version": 999999}',
    "version of 5,000 digits": '{"version": "' + "9" * 5000 + '"}',
    "uncertainty as a list": '{"uncertainty": ["only"]}',
    **{f"{key} as the path of a file": json.dumps({key: "{secret}"})
       for key in ("image", "images", "file", "path", "session", "label", "model")},
}  # fmt: skip
TRAIN_SETTINGS = {
    "model of another path": {"model": "../../etc"},
    "model as a list": {"model": ["cascade3"]},
    "recipe as a file": {"recipe": "/etc/passwd"},
    "recipe as an object": {"recipe": {"a": 1}},
    "stages far too many": {"set": "network.stages=10000000000000"},
    "network too large": {"set": "base_channels=100000000"},
    "tracking to a file URI": {"tracking": "mlflow", "tracking_uri": "file:///etc"},
    "tracking to a local port": {"tracking": "mlflow", "tracking_uri": "http://127.0.0.1:9/"},
    "tracking to a cloud metadata service": {"tracking": "mlflow", "tracking_uri": "http://169.254.169.254/"},
    "NUL in a setting": {"set": "epochs=1\0"},
    "lone surrogate in a recipe": {"recipe": "\ud800"},
    "tracking to a URI of the client": {"tracking": "mlflow", "tracking_uri": "http://127.0.0.1:9/"},
    "lone surrogate in a client id": {"client_id": "\ud800"},
    "NUL in unused settings": {"client_id": "a\0b", "bundle_path": "/tmp\0"},
    "publish as a path": {"publish": "/etc/passwd"},
    "device as a path": {"device": "/dev/sda"},
    "unknown key": {"__class__": "x"},
}


def attacks(*, ct: str, secret: str, link: str) -> Iterator[Attack]:
    """Yield all attacks on a server with this CT, secret file and symbolic link to the secret file."""

    def fill(text: str) -> str:
        return text.replace("{ct}", ct).replace("{secret}", secret).replace("{link}", link)

    for method, route, template, arguments in TARGETS:
        tricks = {name: quote(fill(trick), safe="") for name, trick in TRICKS.items()} | RAW
        for name, trick in tricks.items():
            request_target = template.replace("{ct}", ct).replace("{trick}", trick)
            yield Attack(f"{method} {template}: {name}", method, route, request_target, f"id is: {name}", arguments)
    for name, text in PARAMS.items():
        arguments = {"data": {"params": fill(text)}}
        yield Attack(f"params: {name}", "POST", "/infer/{model}", f"/infer/cascade3?image={ct}", name, arguments)
    for name, settings in TRAIN_SETTINGS.items():
        yield Attack(f"train: {name}", "POST", "/train/{model}", "/train/cascade3", name, {"json": settings})
    for name, (file, content) in uploads(secret).items():
        for method, route, request_target, field_name in (
            ("POST", "/infer/{model}", "/infer/cascade3", "file"),
            ("PUT", "/datastore/image", "/datastore/image?image=attack", "file"),
            ("PUT", "/session/", "/session/?uncompress=true", "files"),
            ("POST", "/ct2pet/pairs", "/ct2pet/pairs", "study"),
        ):
            arguments = {"files": {field_name: (file, content)}}
            yield Attack(f"upload to {route}: {name}", method, route, request_target, f"upload is: {name}", arguments)
    for name, content in checkpoints(secret).items():
        arguments = {"files": {"file": ("model.safetensors", content)}}
        yield Attack(f"model: {name}", "PUT", "/model/{model}", "/model/cascade3", f"weights are: {name}", arguments)
    yield from _others(ct)


def _others(ct: str) -> Iterator[Attack]:
    infer, request_target = "/infer/{model}", f"/infer/cascade3?image={ct}"
    json_header = {"Content-Type": "application/json"}
    flood = {"files": [(f"f{number}", (None, "x")) for number in range(1500)]}
    rows: tuple[tuple[str, str, str, str, Mapping[str, Any]], ...] = (
        ("the same parameter twice", "POST", infer, f"{request_target}&image=/etc/passwd", {}),
        ("no image", "POST", infer, "/infer/cascade3", {}),
        ("wrong output", "POST", infer, f"{request_target}&output=/etc/passwd", {}),
        ("form flood", "POST", infer, "/infer/cascade3", flood),
        ("form data sent as JSON", "PUT", "/session/", "/session/", {"data": b"{}", "headers": json_header}),
        ("deeply nested JSON", "POST", "/train/{model}", "/train/cascade3", {"data": DEEP, "headers": json_header}),
        ("JSON NaN", "POST", "/train/{model}", "/train/cascade3", {"data": "NaN", "headers": json_header}),
        ("JSON list", "POST", "/train/{model}", "/train/cascade3", {"json": [1]}),
        ("JSON too long", "POST", "/train/{model}", "/train/cascade3", {"json": {"set": "x" * 50_000}}),
        ("recipe path for all models", "POST", "/train/", "/train/", {"json": {"cascade3": {"recipe": "/etc/passwd"}}}),
        ("scoring of all models with invalid settings", "POST", "/scoring/", "/scoring/", {"json": {"metrics": [1]}}),
        ("another strategy in the body", "POST", "/activelearning/{strategy}", "/activelearning/unknown",
         {"json": {"strategy": "first"}}),
        ("version as a path", "POST", "/ct2pet/models/{model}/rollback", "/ct2pet/models/cascade3/rollback",
         {"json": {"version": "../../etc"}}),
        ("version out of range", "POST", "/ct2pet/models/{model}/serve", "/ct2pet/models/cascade3/serve",
         {"json": {"version": 10**30}}),
        ("client id NaN", "POST", "/activelearning/{strategy}", "/activelearning/first",
         {"data": '{"client_id": NaN}', "headers": json_header}),
        ("infinite client id", "POST", "/activelearning/{strategy}", "/activelearning/first",
         {"data": '{"client_id": 1e999}', "headers": json_header}),
        ("lone surrogate as client id", "POST", "/activelearning/{strategy}", "/activelearning/first",
         {"data": '{"client_id": "\\ud800"}', "headers": json_header}),
        ("note with NaN", "PUT", "/datastore/image/info", f"/datastore/image/info?image={ct}",
         {"data": {"info": '{"a": NaN}'}}),
        ("note with a lone surrogate", "PUT", "/datastore/image/info", f"/datastore/image/info?image={ct}",
         {"data": {"info": '{"a": "\\ud800"}'}}),
        ("batch with a lone surrogate", "POST", "/batch/infer/{model}", "/batch/infer/cascade3",
         {"data": '{"client_id": "\\ud800", "label_tag": "\\ud800"}', "headers": json_header}),
        ("scoring with NaN", "POST", "/scoring/{method}", "/scoring/metrics",
         {"data": '{"client_id": NaN}', "headers": json_header}),
        ("session with an excessive expiry", "PUT", "/session/", "/session/?expiry=99999999999999999999",
         {"files": {"files": ("a.nrrd", b"x")}}),
        ("download of all studies", "GET", "/datastore/dataset", "/datastore/dataset?limit_cases=-1", {}),
        ("datastore with an unknown output", "GET", "/datastore/", "/datastore/?output=/etc/passwd", {}),
        ("training status with an invalid flag", "GET", "/train/", "/train/?all=/etc", {}),
        ("batch status with an invalid flag", "GET", "/batch/infer", "/batch/infer?all=/etc", {}),
        ("scoring status with an invalid flag", "GET", "/scoring/", "/scoring/?all=/etc", {}),
        ("another method", "PATCH", infer, request_target, {}),
        ("TRACE method", "TRACE", infer, request_target, {}),
        ("overlong method", "A" * 200, infer, request_target, {}),
        ("encoded parent folders", "GET", "", "/%2e%2e/%2e%2e/etc/passwd", {}),
        ("two leading slashes", "GET", "", "//etc/passwd", {}),
        ("foreign origin", "POST", "/train/{model}", "/train/cascade3", {"headers": {"Origin": "http://evil.example"}}),
        ("foreign host", "GET", "/info/", "/info/", {"headers": {"Host": "evil.example"}}),
        ("truncated IPv6 host", "GET", "/info/", "/info/", {"headers": {"Host": "[::1"}}),
        ("host with an invalid port", "GET", "/info/", "/info/", {"headers": {"Host": "127.0.0.1:99999999"}}),
        ("host with a space", "GET", "/info/", "/info/", {"headers": {"Host": "127.0.0.1 evil"}}),
        ("huge Content-Length", "PUT", "/session/", "/session/", {"headers": {"Content-Length": "9" * 15}}),
    )  # fmt: skip
    for name, method, route, request_target, arguments in rows:
        yield Attack(name, method, route, request_target, name, arguments)
