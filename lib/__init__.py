"""The engine of ct2pet: read DICOM studies, train a cascade of U-Nets, synthesise PET from CT.

Research software. A synthetic PET is an estimate computed from a CT, and not for diagnosis.

Packages, each with its main topic; a package imports only from those above it (`pyproject.toml` has the contracts)::

    errors, types, files, mapping, memory, processors, sqlite_cache, accounts
    imaging      volumes, geometry, resampling, registration; volume files
    dicom        DICOM series: scan a folder or a PACS, read pixels and SUV, write a PET series
    pairing      CT/PET pairs, their quality checks, the split, prepared arrays
    networks     U-Net and cascade
    metrics      image and uptake metrics, baselines, calibration
    learning     recipe, data set, training, model card, experiment tracking
    synthesis    apply a model, or the mean of several, to a CT
    evaluation   compare a model with real PETs and baselines; report
    experiments  study of 1 to 6 stages, ablation
    download, phantom, cohort, cli
"""

from lib.processors import configure_threads

__version__ = "0.1.0"

configure_threads()  # before anything imports torch
