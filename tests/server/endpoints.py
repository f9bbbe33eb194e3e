"""All endpoints of the server with the role that each requires; add a row for each new endpoint."""

from __future__ import annotations

RANK = {"user": 0, "annotator": 1, "reviewer": 2, "admin": 3}

# method, path, required role; ids and models in the paths do not exist
ENDPOINTS = [
    *(
        (method, path, "user")
        for method, path in [
            ("GET", "/info/"),
            ("GET", "/train/"),
            ("GET", "/batch/infer"),
            ("POST", "/activelearning/none"),
            ("GET", "/datastore/"),
            ("HEAD", "/datastore/image?image=none"),
            ("GET", "/datastore/image?image=none"),
            ("GET", "/datastore/image/info?image=none"),
            ("HEAD", "/datastore/label?image=none&tag=final"),
            ("GET", "/datastore/label?label=none&tag=final"),
            ("GET", "/datastore/label/info?label=none&tag=final"),
            ("POST", "/infer/none?image=none"),
            ("POST", "/infer/wsi/none"),
            ("POST", "/infer/wsi_v2/none"),
            ("GET", "/ohif/index.html"),
            ("GET", "/proxy/dicom/studies"),
            ("POST", "/proxy/dicom/studies"),
            ("GET", "/proxy/dicom/wado/studies"),
            ("POST", "/proxy/dicom/wado/studies"),
            ("GET", "/proxy/dicom/qido/studies"),
            ("POST", "/proxy/dicom/qido/studies"),
            ("GET", "/proxy/dicom/stow/studies"),
            ("POST", "/proxy/dicom/stow/studies"),
            ("PUT", "/session/"),
            ("GET", "/session/none"),
            ("DELETE", "/session/none"),
            ("GET", "/scoring/"),
            ("GET", "/ct2pet/series"),
            ("GET", "/ct2pet/images"),
            ("GET", "/ct2pet/images/grid?image=none"),
            ("GET", "/ct2pet/images/thumbnail?image=none"),
            ("GET", "/ct2pet/images/voxels?image=none"),
            ("GET", "/ct2pet/models"),
            ("GET", "/ct2pet/models/none"),
            ("GET", "/ct2pet/training"),
            ("GET", "/ct2pet/pairs"),
            ("GET", "/ct2pet/scores"),
            ("POST", "/ct2pet/dicom/none?image=none"),
            ("POST", "/ct2pet/regions/none?image=none"),
            ("POST", "/ct2pet/intervals/none"),
            ("GET", "/auth/token/valid"),
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("GET", "/favicon.ico"),
            ("GET", "/static/ohif/index.html"),
            ("GET", "/nowhere"),
            ("DELETE", "/info/"),
        ]
    ),
    *(
        (method, path, "annotator")
        for method, path in [
            ("PUT", "/datastore/"),
            ("PUT", "/datastore/image"),
            ("PUT", "/datastore/image/info?image=none"),
            ("PUT", "/datastore/label?image=none"),
            ("PUT", "/datastore/label/info?label=none&tag=final"),
            ("PUT", "/datastore/updatelabelinfo?label=none&tag=final"),
            ("GET", "/datastore/dataset"),
            ("POST", "/scoring/"),
            ("POST", "/scoring/none"),
            ("DELETE", "/scoring/"),
            ("POST", "/ct2pet/pairs"),
        ]
    ),
    *(
        (method, path, "admin")
        for method, path in [
            ("POST", "/train/"),
            ("POST", "/train/none"),
            ("DELETE", "/train/"),
            ("POST", "/batch/infer/none"),
            ("DELETE", "/batch/infer"),
            ("DELETE", "/datastore/?id=none"),
            ("DELETE", "/datastore/image?id=none"),
            ("DELETE", "/datastore/label?id=none&tag=final"),
            ("GET", "/logs/"),
            ("GET", "/logs/gpu"),
            ("GET", "/model/none"),
            ("GET", "/model/info/none"),
            ("PUT", "/model/none"),
            ("DELETE", "/model/none"),  # MONAI Label itself requires only annotator
            ("POST", "/ct2pet/models/none/rollback"),
            ("POST", "/ct2pet/models/none/serve"),
            ("POST", "/ct2pet/pairs/none/accept"),
            ("POST", "/reload"),
        ]
    ),
]
