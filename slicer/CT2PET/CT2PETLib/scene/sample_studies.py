"""Sample data for Slicer: CT and PET of a phantom, generated with `main.py phantom`."""

from __future__ import annotations

from pathlib import Path

CATEGORY = "CT2PET"


def register_sample_studies(module_folder: Path) -> None:
    """Register the phantom in the module Sample Data."""
    import SampleData

    samples, icons = module_folder / "Resources" / "Samples", module_folder / "Resources" / "Icons"
    for name, file, node in (
        ("CT2PETPhantomCT", "phantom-ct.nrrd", "Phantom CT"),
        ("CT2PETPhantomPET", "phantom-pet.nrrd", "Phantom real PET"),
    ):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            thumbnailFileName=str(icons / "CT2PET.png"),
            uris=(samples / file).as_uri(),
            fileNames=file,
            nodeNames=node,
        )
