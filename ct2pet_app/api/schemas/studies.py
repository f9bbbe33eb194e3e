"""Series, pairs, images and labels of the datastore, and sessions."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from ct2pet_app.api_object import ApiObject


class SeriesEntry(ApiObject):
    """A DICOM series of the studies.

    Attributes:
        files: Their number.
        why_not: Why it cannot be used.
        why_unpaired: Why a usable series has no partner.
    """

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    description: str
    files: int
    usable: bool
    why_not: str | None
    why_unpaired: str | None
    warnings: list[str]


class PairCheckResult(ApiObject):
    """The plausibility check of a pair; what could not be measured is null.

    Attributes:
        reasons: Why the pair is implausible.
        coverage: Share of the PET that the CT covers.
        outline: Agreement of the two outlines of the body.
        mirrored: As `outline`, with the PET mirrored.
        shift_mm, shift_sd_mm: Of the PET against the CT: x, y, z, with standard deviations.
        shift_note: Why a shift could not be measured.
        dome_z_mm, diaphragm_shift_mm: Of the diaphragm along z.
    """

    result: Literal["unchecked", "plausible", "accepted", "implausible"]
    reasons: NotRequired[list[str]]
    median_suv: NotRequired[float | None]
    coverage: NotRequired[float | None]
    outline: NotRequired[float | None]
    mirrored: NotRequired[float | None]
    shift_mm: NotRequired[list[float | None] | None]
    shift_sd_mm: NotRequired[list[float | None] | None]
    shift_note: NotRequired[str | None]
    dome_z_mm: NotRequired[list[float | None] | None]
    diaphragm_shift_mm: NotRequired[float | None]


class PairEntry(ApiObject):
    """A CT series and the PET series that belongs to it.

    Attributes:
        study_instance_uid: Of the PET.
        ct_minutes_after_pet: Of the acquisitions.
        side: Permanent side of the split: `train`, `validation` or `test`.
        side_since: UTC, ISO 8601.
    """

    patient_id: str
    study_instance_uid: str
    ct_study_instance_uid: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    paired_because: str
    ct_minutes_after_pet: float | None
    side: str | None
    side_since: str | None
    side_decided_by: str | None
    check: PairCheckResult
    warning: str | None


class AddedPair(PairEntry):
    """A pair that was uploaded.

    Attributes:
        added_instances: Number of new instances by SeriesInstanceUID.
        left_out: Why a series was left out, by SeriesInstanceUID; under `files`, other files.
    """

    added_instances: dict[str, int]
    left_out: dict[str, str]


class AddedImage(ApiObject):
    """The id of an image."""

    image: str


class AddedLabel(AddedImage):
    """The ids of a label and its image."""

    label: str


class LabelInfo(ApiObject):
    """What is known of a label: attributes of the PET series, records of the server, and clients' notes.

    Attributes:
        user: Who added the last note.
        scores: Metrics of synthetic PETs against this one, by model.
        model, params: Of a synthetic PET: the model, and the metadata of the inference.
        drawn: Of a synthetic PET of a batch: the model and the files that it was made from.
    """

    study_instance_uid: NotRequired[str]
    series_instance_uid: NotRequired[str]
    description: NotRequired[str]
    slices: NotRequired[int]
    matrix: NotRequired[list[int] | None]
    spacing_mm: NotRequired[list[float] | None]
    suv: NotRequired[str | None]
    paired_because: NotRequired[str]
    user: NotRequired[str]
    scores: NotRequired[dict[str, Any]]
    model: NotRequired[str]
    params: NotRequired[dict[str, Any]]
    drawn: NotRequired[dict[str, Any]]


class ImageInfo(ApiObject):
    """What is known of an image: attributes of the CT series, records of the server, and clients' notes.

    Attributes:
        study_date: YYYYMMDD, or empty.
        pet: Of the paired PET series.
        why_no_pet: Why there is none.
        uploaded: Whether a client added the image.
        user: Who added the last note.
        strategy: When and to whom the image was given by active learning, by strategy.
        uncertainty: The expected error of a synthetic PET, by model.
    """

    patient_id: NotRequired[str]
    study_instance_uid: NotRequired[str]
    series_instance_uid: NotRequired[str]
    study_date: NotRequired[str]
    description: NotRequired[str]
    slices: NotRequired[int]
    matrix: NotRequired[list[int] | None]
    spacing_mm: NotRequired[list[float] | None]
    warnings: NotRequired[list[str]]
    pet: NotRequired[LabelInfo | None]
    why_no_pet: NotRequired[str | None]
    uploaded: NotRequired[bool]
    user: NotRequired[str]
    strategy: NotRequired[dict[str, Any]]
    uncertainty: NotRequired[dict[str, Any]]


class NextSample(ImageInfo):
    """The picked CT; without keys where every CT has a PET.

    Attributes:
        id: Of the image.
        path: Name of its volume file.
        why: Why it was picked.
        begun: When its acquisition began, YYYYMMDDHHMMSS.
        model, checksum: The model that expects the largest error.
        expected_error_suv: Mean over the body, SUVbw.
        unknown: Number of CTs whose expected error is not known.
    """

    id: NotRequired[str]
    path: NotRequired[str]
    why: NotRequired[str]
    begun: NotRequired[str]
    model: NotRequired[str]
    checksum: NotRequired[str]
    expected_error_suv: NotRequired[float]
    unknown: NotRequired[int]


class DatastoreStatus(ApiObject):
    """The numbers of images, labels and pairs.

    Attributes:
        completed: Images with a real PET.
        label_tags: Labels by tag.
        pairs: Pairs by the result of their check and by their side of the split.
        incomplete: Why the list of a PACS is not complete.
    """

    total: int
    completed: int
    label_tags: dict[str, int]
    pairs: dict[str, int | str]
    incomplete: NotRequired[str]


class DatastoreEntry(ApiObject):
    """An image and its labels by tag, each with `info`."""

    image: dict[str, Any]
    labels: dict[str, dict[str, Any]]


class DatastoreContent(ApiObject):
    """All images by id."""

    name: str
    description: str
    objects: dict[str, DatastoreEntry]


class SessionDescription(ApiObject):
    """A session.

    Attributes:
        name, path: Its id.
        image: Name of its file or folder.
        create_ts, last_access_ts: Seconds since 1970.
        expiry: Seconds without access after which it is removed.
    """

    name: str
    path: str
    image: str
    meta: dict[str, Any]
    create_ts: int
    last_access_ts: int
    expiry: int


class CreatedSession(ApiObject):
    """A new session."""

    session_id: str
    session_info: SessionDescription
