"""The engine of ct2pet: DICOM studies in, a trained cascade, a synthetic PET out.

Research software. A synthetic PET is an estimate drawn from a CT; it is never a diagnosis.

Folders in the order a study walks through them; each may import only what stands left of it::

    errors, types <- imaging <- dicom <- pairing, sources <- networks, measures
                  <- learning <- synthesis <- evaluation
"""

__version__ = "0.1.0"
