"""The errors that ct2pet raises on purpose, and their codes.

The tree. ``main.py`` exits with the first number; the server responds with the second, an HTTP status. The code is what
programs compare: it never changes, while a message may. A raise site may pass a more specific code; docs/errors.md
lists all of them::

    CT2PETError                        1  500  internal_error         a fault of ct2pet or of the machine
    ├── TrainingError                  1  500  training_failed        a run cannot continue (not finite, disk full)
    ├── DownloadError                  1  500  download_failed        an archive is unreachable or incomplete
    ├── OutputError                    1  507  write_failed           a result cannot be written (disk full)
    ├── RemoteError                    1  502  pacs_failed            a PACS is unreachable, refuses or breaks off
    ├── ClusterError                   1  500  cluster_failed         a Ray cluster is unreachable or its workers die
    ├── BusyError                      1  503  busy                   too many operations are waiting
    ├── OperationCancelledError        1  499  cancelled              the result is no longer wanted
    │   └── FetchCancelledError        1  499  fetch_cancelled        the caller cancelled a fetch from a PACS
    └── InputError                     2  400  invalid_input          only the owner of the input can correct it
        ├── StudiesError               2  400  no_usable_studies      a folder of studies holds nothing usable
        ├── DicomError                 2  400  invalid_dicom          a DICOM file or series is damaged or inconsistent
        │   ├── MissingAttributeError  2  400  missing_attribute      a header lacks what a calculation needs
        │   ├── UnsupportedSeriesError 2  400  unsupported_series     well formed, but of a kind that is not supported
        │   ├── UndecodableError       2  400  undecodable_pixels     compressed pixels that cannot be decoded
        │   └── SliceOrderError        2  400  irregular_slices       slices that do not form one regular stack
        ├── ImageFileError             2  400  invalid_image_file     a NIfTI, NRRD or MHA that is not a CT volume in HU
        ├── PairingError               2  400  not_a_pair             a CT and a PET that do not belong together
        ├── SplitFileError             2  400  invalid_split_file     the split file cannot be parsed
        ├── RecipeError                2  400  invalid_recipe         an unknown key, a wrong type, an invalid setting
        ├── PreparedDataError          2  400  invalid_prepared_data  arrays are missing, damaged or of another recipe
        ├── CheckpointError            2  400  invalid_checkpoint     a file that is not a ct2pet model
        ├── AccountsError              2  400  invalid_accounts       an invalid users file, name, role or password
        ├── UnlikeTrainingError        2  422  unlike_training_cts    a CT unlike those a model was trained on
        ├── MemoryLimitError           2  413  memory_limit           an operation needs more memory than allowed
        └── ModelNotTrainedError       2  409  model_not_trained      a model without weights

A message says what is wrong, where, what was found and expected, and what to change in the input. It names UIDs and
files, never a patient's name; and no command, option, HTTP request or server setting: the front ends add those by code.
"""

from __future__ import annotations

from typing import Any, Self


class CT2PETError(Exception):
    """Any failure ct2pet raises on purpose.

    Args:
        message: What is wrong, for people.
        code: More specific than the class's.
        params: The values of the message, for programs: JSON values, never a path or a patient's name.
    """

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, **params: Any) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.params = params

    def with_message(self, message: str) -> Self:
        """Return the same error, code and params included, with another message."""
        copied = type(self).__new__(type(self), message)
        copied.__dict__.update(self.__dict__)
        return copied


class TrainingError(CT2PETError):
    """A training run that cannot continue."""

    code = "training_failed"


class DownloadError(CT2PETError):
    """An archive that is unreachable, lacks what its list promises, or sends too little."""

    code = "download_failed"


class RemoteError(CT2PETError):
    """A PACS that is unreachable, refuses a request, breaks off, or sends an invalid response."""

    code = "pacs_failed"


class ClusterError(CT2PETError):
    """A cluster that cannot be reached, or whose workers do not start."""

    code = "cluster_failed"


class OutputError(CT2PETError):
    """A result that cannot be written; no partial file is left."""

    code = "write_failed"


class BusyError(CT2PETError):
    """Too many operations are waiting; the same request may succeed later."""

    code = "busy"


class OperationCancelledError(CT2PETError):
    """Work that ended early because its result is no longer wanted."""

    code = "cancelled"


class FetchCancelledError(OperationCancelledError):
    """A fetch from a PACS that was cancelled by its caller; what arrived before stays in the cache."""

    code = "fetch_cancelled"


class InputError(CT2PETError):
    """Input that only its owner can correct."""

    code = "invalid_input"


class StudiesError(InputError):
    """A folder of studies that holds nothing usable."""

    code = "no_usable_studies"


class DicomError(InputError):
    """A DICOM file or series that is damaged or inconsistent."""

    code = "invalid_dicom"


class MissingAttributeError(DicomError):
    """A header without an attribute that a calculation needs."""

    code = "missing_attribute"


class UnsupportedSeriesError(DicomError):
    """A well-formed series of a kind that is not supported (colour, MIP, other SUV type, ...)."""

    code = "unsupported_series"


class UndecodableError(DicomError):
    """Compressed pixels that cannot be decoded: the same bytes would fail again."""

    code = "undecodable_pixels"


class SliceOrderError(DicomError):
    """Slices that do not form one regular stack (gap, duplicate, mixed orientation, tilt)."""

    code = "irregular_slices"


class ImageFileError(InputError):
    """A volume file (NIfTI, NRRD, MHA) that is not a CT in HU."""

    code = "invalid_image_file"


class PairingError(InputError):
    """A CT and a PET that do not belong together."""

    code = "not_a_pair"


class SplitFileError(InputError):
    """A file of each patient's side of the split that cannot be parsed; it is never overwritten."""

    code = "invalid_split_file"


class RecipeError(InputError):
    """A recipe with an unknown key, a wrong type or an invalid setting."""

    code = "invalid_recipe"


class PreparedDataError(InputError):
    """Prepared arrays that are missing, damaged, or made under another recipe."""

    code = "invalid_prepared_data"


class CheckpointError(InputError):
    """A file that is not a ct2pet checkpoint, or whose weights and card disagree."""

    code = "invalid_checkpoint"


class AccountsError(InputError):
    """An invalid users file, name, role or password."""

    code = "invalid_accounts"


class UnlikeTrainingError(InputError):
    """A CT that is so unlike the CTs a model was trained on that its PET would be misleading."""

    code = "unlike_training_cts"


class MemoryLimitError(InputError):
    """An operation that needs more memory than allowed."""

    code = "memory_limit"


class ModelNotTrainedError(InputError):
    """A model without weights."""

    code = "model_not_trained"
