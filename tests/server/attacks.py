"""The table of attacks: what is sent where, and why it must be refused.

`{ct}` stands for the UID of a CT that is there, `{secret}` for a volume file beside the studies that nobody may read,
`{link}` for the same file by a link in the studies. A new address that takes a name, an id or a file is written into
`PLACES` or `OTHERS`: a test asks for it.
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
        name: Of the attack, unique.
        method: As sent.
        address: As the server declares it.
        ask: The path and query as sent, byte for byte.
        why: What it tries.
        sent: Words of `requests`: json, data, files, headers.
    """

    name: str
    method: str
    address: str
    ask: str
    why: str
    sent: Mapping[str, Any] = field(default_factory=dict)


# words for whatever names something, percent-encoded once on the way
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
# what no encoder would write
RAW = {
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af%c0%ae%c0%ae%c0%afetc%c0%afpasswd",
    "broken UTF-8": "%ff%fe%2fetc",
    "half an escape": "%2e%2e%2",
    "semicolons": "..;/..;/etc",
    "lone surrogate": "%ed%a0%80",
}
NRRD_FILE = ("label.nrrd", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n" + bytes(16))
EMPTY_MODEL = {"files": {"file": ("model.safetensors", b"x")}}
PLACES: tuple[tuple[str, str, str, Mapping[str, Any]], ...] = (
    ("POST", "/infer/{model}", "/infer/{trick}?image={ct}", {}),
    ("POST", "/infer/{model}", "/infer/cascade3?image={trick}", {}),
    ("POST", "/infer/{model}", "/infer/cascade3?session_id={trick}", {}),
    ("POST", "/infer/wsi/{model}", "/infer/wsi/cascade3?image={trick}", {"json": {}}),
    ("POST", "/infer/wsi_v2/{model}", "/infer/wsi_v2/cascade3?image={trick}", {"data": {"wsi": "{}"}}),
    ("POST", "/ct2pet/dicom/{model}", "/ct2pet/dicom/{trick}?image={ct}", {}),
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
    ("GET", "/logs/", "/logs/?lines={trick}", {}),
)
DEEP = "[" * 15_000 + "]" * 15_000
PARAMS = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "deeply nested": '{"slices": ' + DEEP + "}",
    "NaN": '{"slices": NaN}',
    "infinite": '{"metrics": 1e999}',
    "a number of 5,000 digits": '{"slices": "' + "9" * 5000 + ':"}',
    "a huge slice": '{"slices": "99999999999999999999:"}',
    "slices that are none": '{"slices": "5:2"}',
    "slices far below": '{"slices": "-99:-98"}',
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
    "metrics as a word": '{"metrics": "/etc/passwd"}',
    "version as a path": '{"version": "../../1"}',
    "version as a list": '{"version": [1]}',
    "slices as a lone surrogate": '{"slices": "\\ud800"}',
    "label tag as a lone surrogate": '{"save_label": true, "label_tag": "\\ud800"}',
    "version that is true": '{"version": true}',
    "version that is none": '{"version": 999999}',
    "version of 5,000 digits": '{"version": "' + "9" * 5000 + '"}',
    "uncertainty as a list": '{"uncertainty": ["only"]}',
    **{f"{key} that names a file": json.dumps({key: "{secret}"})
       for key in ("image", "images", "file", "path", "session", "label", "model")},
}  # fmt: skip
WORDS = {
    "model of another path": {"model": "../../etc"},
    "model as a list": {"model": ["cascade3"]},
    "recipe as a file": {"recipe": "/etc/passwd"},
    "recipe as an object": {"recipe": {"a": 1}},
    "setting that is none": {"set": "network.stages=10000000000000"},
    "network too large": {"set": "base_channels=100000000"},
    "tracking in a file": {"tracking": "mlflow", "tracking_uri": "file:///etc"},
    "tracking at another's address": {"tracking": "mlflow", "tracking_uri": "http://127.0.0.1:9/"},
    "tracking at the address of a cloud": {"tracking": "mlflow", "tracking_uri": "http://169.254.169.254/"},
    "NUL in a setting": {"set": "epochs=1\0"},
    "lone surrogate in a recipe": {"recipe": "\ud800"},
    "tracking at an address of the client's": {"tracking": "mlflow", "tracking_uri": "http://127.0.0.1:9/"},
    "half of a character": {"client_id": "\ud800"},
    "NUL in a word without meaning": {"client_id": "a\0b", "bundle_path": "/tmp\0"},
    "publish as a path": {"publish": "/etc/passwd"},
    "device as a path": {"device": "/dev/sda"},
    "unknown key": {"__class__": "x"},
}


def attacks(*, ct: str, secret: str, link: str) -> Iterator[Attack]:
    """Yield all attacks on a server whose CT, secret file and link to it these are."""

    def filled(text: str) -> str:
        return text.replace("{ct}", ct).replace("{secret}", secret).replace("{link}", link)

    for method, address, template, sent in PLACES:
        words = {name: quote(filled(trick), safe="") for name, trick in TRICKS.items()} | RAW
        for name, word in words.items():
            ask = template.replace("{ct}", ct).replace("{trick}", word)
            yield Attack(f"{method} {template}: {name}", method, address, ask, f"a name that is {name}", sent)
    for name, text in PARAMS.items():
        sent = {"data": {"params": filled(text)}}
        yield Attack(f"params: {name}", "POST", "/infer/{model}", f"/infer/cascade3?image={ct}", name, sent)
    for name, words in WORDS.items():
        yield Attack(f"train: {name}", "POST", "/train/{model}", "/train/cascade3", name, {"json": words})
    for name, (file, content) in uploads(secret).items():
        for method, address, ask, field_name in (
            ("POST", "/infer/{model}", "/infer/cascade3", "file"),
            ("PUT", "/datastore/image", "/datastore/image?image=attack", "file"),
            ("PUT", "/session/", "/session/?uncompress=true", "files"),
            ("POST", "/ct2pet/pairs", "/ct2pet/pairs", "study"),
        ):
            sent = {"files": {field_name: (file, content)}}
            yield Attack(f"upload to {address}: {name}", method, address, ask, f"a file that is {name}", sent)
    for name, content in checkpoints(secret).items():
        sent = {"files": {"file": ("model.safetensors", content)}}
        yield Attack(f"model: {name}", "PUT", "/model/{model}", "/model/cascade3", f"weights that are {name}", sent)
    yield from _others(ct)


def _others(ct: str) -> Iterator[Attack]:
    infer, ask = "/infer/{model}", f"/infer/cascade3?image={ct}"
    json_header = {"Content-Type": "application/json"}
    flood = {"files": [(f"f{number}", (None, "x")) for number in range(1500)]}
    rows: tuple[tuple[str, str, str, str, Mapping[str, Any]], ...] = (
        ("the same parameter twice", "POST", infer, f"{ask}&image=/etc/passwd", {}),
        ("no image at all", "POST", infer, "/infer/cascade3", {}),
        ("wrong output", "POST", infer, f"{ask}&output=/etc/passwd", {}),
        ("form flood", "POST", infer, "/infer/cascade3", flood),
        ("a form that says it is JSON", "PUT", "/session/", "/session/", {"data": b"{}", "headers": json_header}),
        ("JSON deeply nested", "POST", "/train/{model}", "/train/cascade3", {"data": DEEP, "headers": json_header}),
        ("JSON that is NaN", "POST", "/train/{model}", "/train/cascade3", {"data": "NaN", "headers": json_header}),
        ("JSON that is a list", "POST", "/train/{model}", "/train/cascade3", {"json": [1]}),
        ("JSON too long", "POST", "/train/{model}", "/train/cascade3", {"json": {"set": "x" * 50_000}}),
        ("training of all by JSON", "POST", "/train/", "/train/", {"json": {"cascade3": {"recipe": "/etc/passwd"}}}),
        ("scoring of all by JSON", "POST", "/scoring/", "/scoring/", {"json": {"metrics": [1]}}),
        ("another strategy in the words", "POST", "/activelearning/{strategy}", "/activelearning/nobody",
         {"json": {"strategy": "first"}}),
        ("version as a path", "POST", "/ct2pet/models/{model}/rollback", "/ct2pet/models/cascade3/rollback",
         {"json": {"version": "../../etc"}}),
        ("version that is none", "POST", "/ct2pet/models/{model}/serve", "/ct2pet/models/cascade3/serve",
         {"json": {"version": 10**30}}),
        ("a client that is NaN", "POST", "/activelearning/{strategy}", "/activelearning/first",
         {"data": '{"client_id": NaN}', "headers": json_header}),
        ("a client that is infinite", "POST", "/activelearning/{strategy}", "/activelearning/first",
         {"data": '{"client_id": 1e999}', "headers": json_header}),
        ("a client that is a lone surrogate", "POST", "/activelearning/{strategy}", "/activelearning/first",
         {"data": '{"client_id": "\\ud800"}', "headers": json_header}),
        ("a note that is NaN", "PUT", "/datastore/image/info", f"/datastore/image/info?image={ct}",
         {"data": {"info": '{"a": NaN}'}}),
        ("a note that is a lone surrogate", "PUT", "/datastore/image/info", f"/datastore/image/info?image={ct}",
         {"data": {"info": '{"a": "\\ud800"}'}}),
        ("a batch of a lone surrogate", "POST", "/batch/infer/{model}", "/batch/infer/cascade3",
         {"data": '{"client_id": "\\ud800", "label_tag": "\\ud800"}', "headers": json_header}),
        ("a scoring of NaN", "POST", "/scoring/{method}", "/scoring/metrics",
         {"data": '{"client_id": NaN}', "headers": json_header}),
        ("session without an end", "PUT", "/session/", "/session/?expiry=99999999999999999999",
         {"files": {"files": ("a.nrrd", b"x")}}),
        ("all the studies at once", "GET", "/datastore/dataset", "/datastore/dataset?limit_cases=-1", {}),
        ("datastore of a word", "GET", "/datastore/", "/datastore/?output=/etc/passwd", {}),
        ("training told of a word", "GET", "/train/", "/train/?all=/etc", {}),
        ("batch told of a word", "GET", "/batch/infer", "/batch/infer?all=/etc", {}),
        ("scoring told of a word", "GET", "/scoring/", "/scoring/?all=/etc", {}),
        ("another method", "PATCH", infer, ask, {}),
        ("a method of tracing", "TRACE", infer, ask, {}),
        ("a long word as method", "A" * 200, infer, ask, {}),
        ("another address", "GET", "", "/%2e%2e/%2e%2e/etc/passwd", {}),
        ("no address", "GET", "", "//etc/passwd", {}),
        ("a page of others", "POST", "/train/{model}", "/train/cascade3", {"headers": {"Origin": "http://evil.example"}}),
        ("another host", "GET", "/info/", "/info/", {"headers": {"Host": "evil.example"}}),
        ("a host that is half an address", "GET", "/info/", "/info/", {"headers": {"Host": "[::1"}}),
        ("a host with a port that is none", "GET", "/info/", "/info/", {"headers": {"Host": "127.0.0.1:99999999"}}),
        ("a host of two words", "GET", "/info/", "/info/", {"headers": {"Host": "127.0.0.1 evil"}}),
        ("a huge body announced", "PUT", "/session/", "/session/", {"headers": {"Content-Length": "9" * 15}}),
    )  # fmt: skip
    for name, method, address, asked, sent in rows:
        yield Attack(name, method, address, asked, name, sent)
