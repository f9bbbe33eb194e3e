"""Every error ct2pet raises on purpose.

The tree, and what a door does with it (``main.py`` exits with the code, the server answers with the status)::

    CT2PETError                        1    500   our fault, or the machine's
    ├── TrainingError                  1    500   a run cannot go on (not finite, no memory, disk full)
    ├── DownloadError                  1    500   an archive that cannot be reached or sends too little
    ├── OutputError                    1    500   a result that cannot be written (disk full)
    ├── RemoteError                    1    502   a PACS that cannot be reached, refuses us or breaks off
    ├── BusyError                      1    503   as many operations are waiting as are allowed to
    ├── OperationCancelledError        1    499   work that ended because its result is no longer wanted
    │   └── FetchCancelledError        1    499   a fetch from a PACS that nobody waits for any more
    └── InputError                     2    400   the user's input; the message says the way out
        ├── StudiesError               2    400   a folder of studies that holds nothing usable
        ├── DicomError                 2    400   a file or series that is not what it must be
        │   ├── MissingAttributeError  2    400   a header lacks what a calculation needs
        │   ├── UnsupportedSeriesError 2    400   well formed, but of a kind we do not take
        │   ├── UndecodableError       2    400   compressed pixels that cannot be decoded, now or later
        │   └── SliceOrderError        2    400   slices that do not form one regular stack
        ├── ImageFileError             2    400   a NIfTI, NRRD or MHA that is not a CT volume in HU
        ├── PairingError               2    400   a CT and a PET that do not belong together
        ├── SplitFileError             2    400   the file of who is on which side cannot be understood
        ├── RecipeError                2    400   an unknown key, a wrong type, an impossible setting
        ├── PreparedDataError          2    400   arrays that are missing, torn or of another recipe
        ├── CheckpointError            2    400   a file that is not one of our models
        ├── AccountsError              2    400   a users file, name, role or password that cannot be
        ├── MemoryLimitError           2    413   work that needs more memory than it may have
        └── ModelNotTrainedError       2    409   a model that nobody has trained yet

A message says what, where, found against expected, and the way out. It names UIDs and files, never a patient's name.
"""


class CT2PETError(Exception):
    """Any failure ct2pet raises on purpose."""


class TrainingError(CT2PETError):
    """A training run that cannot go on."""


class DownloadError(CT2PETError):
    """An archive that cannot be reached, lacks what its list promises, or sends too little."""


class RemoteError(CT2PETError):
    """A PACS that cannot be reached, refuses us, breaks off, or says what cannot be understood."""


class OutputError(CT2PETError):
    """A result that cannot be written; nothing half-written is left."""


class BusyError(CT2PETError):
    """As many operations are waiting as are allowed to; the same request may succeed later."""


class OperationCancelledError(CT2PETError):
    """Work that ended early because its result is no longer wanted."""


class FetchCancelledError(OperationCancelledError):
    """A fetch from a PACS that was cancelled by its caller; what arrived before stays in the cache."""


class InputError(CT2PETError):
    """Input that only its owner can put right."""


class StudiesError(InputError):
    """A folder of studies that holds nothing usable."""


class DicomError(InputError):
    """A DICOM file or series that is not what it must be."""


class MissingAttributeError(DicomError):
    """A header without an attribute that a calculation needs."""


class UnsupportedSeriesError(DicomError):
    """A well-formed series of a kind that is not taken (colour, MIP, other SUV type, ...)."""


class UndecodableError(DicomError):
    """Compressed pixels that cannot be decoded: the same bytes would fail again."""


class SliceOrderError(DicomError):
    """Slices that do not form one regular stack (gap, duplicate, mixed orientation, tilt)."""


class ImageFileError(InputError):
    """A volume file (NIfTI, NRRD, MHA) that cannot be taken as a CT in HU."""


class PairingError(InputError):
    """A CT and a PET that do not belong together."""


class SplitFileError(InputError):
    """The file that says which side of the split each patient is on cannot be understood; it is never made anew."""


class RecipeError(InputError):
    """A recipe with an unknown key, a wrong type or an impossible setting."""


class PreparedDataError(InputError):
    """Prepared arrays that are missing, torn, or made under another recipe."""


class CheckpointError(InputError):
    """A file that is not a ct2pet checkpoint, or whose weights and card disagree."""


class AccountsError(InputError):
    """A users file that cannot be taken, or a name, role or password that cannot be in one."""


class MemoryLimitError(InputError):
    """An operation that needs more memory than it may have; the message names both and the way out."""


class ModelNotTrainedError(InputError):
    """A model that has no weights yet."""
