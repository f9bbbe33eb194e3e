"""Images as the viewer lists them."""

from __future__ import annotations

from ct2pet_app.api_object import ApiObject


class ListedImage(ApiObject):
    """A CT in a list.

    Attributes:
        image: Its id.
        study_date: YYYYMMDD, or empty.
        slices: Their number; null for an upload.
        has_pet: Whether there is a real PET of the same study.
        labels: Tags of its other labels, such as `synthetic`.
        trained_on: The models whose served version was trained on this patient.
        warnings: About the series.
    """

    image: str
    patient_id: str
    study_date: str
    description: str
    slices: int | None
    has_pet: bool
    labels: list[str]
    trained_on: list[str]
    warnings: list[str]


class ImageList(ApiObject):
    """A part of the CTs, newest first.

    Attributes:
        total: Number of all CTs.
        matching: Number of those that match the search.
        incomplete: Why CTs may be missing; empty if none is known to be.
    """

    total: int
    matching: int
    images: list[ListedImage]
    incomplete: str


class ImageGrid(ApiObject):
    """The grid of a CT.

    Attributes:
        shape: Slices, rows, columns.
        spacing_mm: Between slices, rows, columns.
        affine_lps: 4 x 4, from (column, row, slice, 1) to (x, y, z, 1) in LPS mm.
    """

    image: str
    shape: list[int]
    spacing_mm: list[float]
    affine_lps: list[list[float]]
