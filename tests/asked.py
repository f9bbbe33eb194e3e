"""Every address of the server with something to ask it, and what it answers; words in braces are filled in."""

from __future__ import annotations

from typing import Any

FILE = {"files": {"file": ("new.nrrd", "{volume}")}}
LABEL = {"files": {"label": ("pet.nrrd", "{volume}")}}
NOTE = {"data": {"info": '{"looked_at": true}'}}
IN_THE_SERVER = {"params": {"run_sync": "true"}, "json": {}}
# method, address, what is sent, status, what stands in the answer (`|` between words of which one is enough)
TABLE: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/info/", {}, 200, '"strategies":{"first"'),
    ("GET", "/", {}, 200, "<html"),
    ("GET", "/docs", {}, 200, "<html"),
    ("GET", "/openapi.json", {}, 200, '"/scoring/{method}"'),
    ("GET", "/favicon.ico", {}, 200, ""),
    ("GET", "/ohif/", {}, 404, "open the studies in 3D Slicer"),
    ("GET", "/model/unet", {}, 200, ""),
    ("GET", "/model/cascade3", {}, 409, "not trained yet"),
    ("GET", "/model/unet9", {}, 404, "no model 'unet9'"),
    ("GET", "/model/info/unet", {}, 200, '"checksum":"SHA256:'),
    ("GET", "/model/info/cascade3", {}, 409, "not trained yet"),
    ("GET", "/model/info/unet9", {}, 404, "no model 'unet9'"),
    ("PUT", "/model/unet", {"files": {"file": b"junk"}}, 400, "not a readable"),
    ("DELETE", "/model/cascade3", {}, 404, "cascade3"),
    ("POST", "/infer/unet?image={ct}&output=json", {}, 200, '"unit":"SUVbw"'),
    ("POST", "/infer/unet?session_id={session}&output=json", {}, 200, '"unit":"SUVbw"'),
    ("POST", "/infer/unet?image=none", {}, 404, "no image 'none'"),
    ("POST", "/infer/unet", {}, 400, "no CT: give"),
    ("POST", "/infer/wsi/unet", {"json": {}}, 404, "no whole-slide images"),
    ("POST", "/infer/wsi_v2/unet", {"data": {"wsi": "{}"}}, 404, "no whole-slide images"),
    ("GET", "/batch/infer", {}, 404, "POST /batch/infer/<model> starts one"),
    ("POST", "/batch/infer/cascade3", {"json": {}}, 409, "not trained yet"),
    ("POST", "/batch/infer/unet9", {"json": {}}, 404, "no model 'unet9'"),
    ("POST", "/batch/infer/unet?images=most", {"json": {}}, 422, "images"),
    ("POST", "/batch/infer/unet", {"json": {"max_batch_size": "x"}}, 400, "expected a number of images"),
    ("POST", "/batch/infer/unet", IN_THE_SERVER, 400, "leave run_sync out"),
    ("DELETE", "/batch/infer", {}, 404, "no batch is running"),
    ("GET", "/train/", {}, 404, ""),
    ("POST", "/train/unet", {"json": {"max_epoch": 1}}, 400, "did you mean max_epochs"),
    ("POST", "/train/unet9", {"json": {}}, 404, "no model 'unet9'"),
    ("POST", "/activelearning/first", {"json": {}}, 200, '"id":"{alone}"'),
    ("POST", "/activelearning/newest", {"json": {"client_id": "me"}}, 200, '"id":"{alone}"'),
    ("POST", "/activelearning/uncertain", {}, 200, "POST /scoring/uncertainty finds out"),
    ("POST", "/activelearning/newset", {"json": {}}, 404, "did you mean newest? (known are first, random"),
    ("GET", "/scoring/", {}, 404, "POST /scoring/metrics starts one"),
    ("POST", "/scoring/metric", {"json": {}}, 404, "did you mean metrics"),
    ("POST", "/scoring/metrics", {"json": {"model": "cascade3"}}, 409, "not trained yet"),
    ("POST", "/scoring/metrics", {"json": {"modle": "unet"}}, 400, "did you mean model"),
    ("POST", "/scoring/metrics", IN_THE_SERVER, 400, "leave run_sync out"),
    ("DELETE", "/scoring/", {}, 404, "no scoring is running"),
    ("GET", "/datastore/", {}, 200, '"total":'),
    ("GET", "/datastore/?output=all", {}, 200, '"objects":'),
    ("GET", "/datastore/?output=train", {}, 200, '"image":"{ct}"'),
    ("GET", "/datastore/?output=some", {}, 422, "output"),
    ("PUT", "/datastore/image?image=new", FILE, 200, '"image":"new"'),
    ("PUT", "/datastore/?image=newer", FILE, 200, '"image":"newer"'),
    ("PUT", "/datastore/image?image=no", {"files": {"file": ("a.nrrd", b"junk")}}, 400, "a.nrrd|no.nrrd"),
    ("PUT", "/datastore/image?image=no", {**FILE, "data": {"params": "[1"}}, 400, "params is not JSON"),
    ("HEAD", "/datastore/image?image=new", {}, 200, ""),
    ("HEAD", "/datastore/image?image=none", {}, 404, ""),
    ("HEAD", "/datastore/image?image=new&check_sum=SHA256:00", {}, 404, ""),
    ("GET", "/datastore/image?image=new", {}, 200, ""),
    ("GET", "/datastore/image?image={ct}", {}, 200, ""),
    ("GET", "/datastore/image?image=none", {}, 404, "no image 'none'"),
    ("GET", "/datastore/image/info?image={ct}", {}, 200, '"patient_id":'),
    ("GET", "/datastore/image/info?image=none", {}, 404, "no image 'none'"),
    ("PUT", "/datastore/image/info?image={ct}", NOTE, 200, ""),
    ("PUT", "/datastore/image/info?image={ct}", {"data": {"info": "]"}}, 400, "info is not JSON"),
    ("PUT", "/datastore/label?image={ct}&tag=mine", LABEL, 200, '"label":"{ct}"'),
    ("PUT", "/datastore/label?image={ct}&tag=final", LABEL, 400, "the real PET of its study"),
    ("PUT", "/datastore/label?image=none&tag=mine", LABEL, 404, "no image 'none'"),
    ("HEAD", "/datastore/label?image={ct}&tag=mine", {}, 200, ""),
    ("GET", "/datastore/label?label={ct}&tag=mine", {}, 200, ""),
    ("GET", "/datastore/label?label={pet}&tag=final", {}, 200, ""),
    ("GET", "/datastore/label?label=none&tag=final", {}, 404, "no label 'none'"),
    ("GET", "/datastore/label/info?label={pet}&tag=final", {}, 200, '"suv":"BQML -> SUVbw"'),
    ("GET", "/datastore/label/info?label={ct}&tag=none", {}, 404, "no label"),
    ("PUT", "/datastore/label/info?label={ct}&tag=mine", NOTE, 200, ""),
    ("PUT", "/datastore/label/info?label={pet}&tag=final", NOTE, 200, ""),
    ("PUT", "/datastore/label/info?label=none&tag=final", NOTE, 404, "no label"),
    ("PUT", "/datastore/updatelabelinfo?label={ct}&tag=mine", {"data": {"params": '{"a": 1}'}}, 200, ""),
    ("GET", "/datastore/dataset", {}, 400, "does not pack its studies"),
    ("DELETE", "/datastore/label?id={ct}&tag=mine", {}, 200, ""),
    ("DELETE", "/datastore/label?id={ct}&tag=final", {}, 404, "cannot be removed"),
    ("DELETE", "/datastore/image?id=new", {}, 200, ""),
    ("DELETE", "/datastore/?id=newer", {}, 200, ""),
    ("DELETE", "/datastore/image?id={ct}", {}, 404, "cannot be removed"),
    ("GET", "/logs/", {}, 200, "<pre>"),
    ("GET", "/logs/?lines=5&text=true", {}, 200, ""),
    ("GET", "/logs/?lines=many", {}, 422, "lines"),
    ("GET", "/proxy/dicom/studies", {}, 404, "no way into the PACS"),
    ("PUT", "/session/", {"files": {"files": ("ct.nrrd", "{volume}")}}, 200, '"session_id":'),
    ("PUT", "/session/", {}, 422, "files"),
    ("GET", "/session/{session}", {}, 200, '"expiry":'),
    ("GET", "/session/{session}?image=true", {}, 200, ""),
    ("GET", "/session/none", {}, 404, "no session 'none'"),
    ("DELETE", "/session/{session}", {}, 200, ""),
    ("DELETE", "/session/{session}", {}, 404, ""),
    ("POST", "/reload", {}, 200, ""),
    ("GET", "/ct2pet/series", {}, 200, '"why_not":'),
    ("GET", "/ct2pet/scores", {}, 200, '"cascade3":null'),
    ("POST", "/ct2pet/dicom/unet?image={ct}&slices=1:3", {}, 200, ""),
]


def filled(sent: Any, words: dict[str, Any]) -> Any:
    """Return a request with the braces replaced; `{volume}` by a file's bytes."""
    if isinstance(sent, dict):
        return {key: filled(value, words) for key, value in sent.items()}
    if isinstance(sent, tuple):
        return tuple(filled(value, words) for value in sent)
    return words["volume"] if sent == "{volume}" else sent
