"""A small phantom study shared by several test modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.phantom.generate import PhantomSettings, write_phantoms

SLICES = 24  # two bed positions of 20 and of 4 slices


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read-only folder with CT/ and PET/ of 24 single-frame slices each."""
    settings = PhantomSettings(slices=SLICES, ct_matrix=96, ct_pixel_mm=4.3, pet_matrix=100, pet_pixel_mm=4.1)
    return write_phantoms(tmp_path_factory.mktemp("phantom"), patients=1, settings=settings)[0]
