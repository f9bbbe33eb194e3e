"""The test that Slicer itself runs (Reload and Test): the scene's part, without a server."""

from __future__ import annotations

import numpy as np
import slicer.util
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

import slicer
from CT2PETLib.scene import comparison, display, layouts, node_attributes, volume


class CT2PETTest(ScriptedLoadableModuleTest):
    """A CT made here becomes a synthetic PET, is shown, and compared."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run every test."""
        self.setUp()
        self.test_a_slab_is_shown_over_its_ct()

    def test_a_slab_is_shown_over_its_ct(self) -> None:
        """Fill half a PET, fuse it, compare it with itself."""
        hu = np.full((10, 32, 32), -1000, dtype=np.int16)
        hu[:, 6:26, 6:26] = 40
        ct = slicer.util.addVolumeFromArray(hu, name="CT", nodeClassName="vtkMRMLScalarVolumeNode")
        pet = volume.make_pet_node(slicer.mrmlScene, ct, model="test")
        suv = np.where(hu > 0, 2.0, 0.0).astype(np.float32)
        volume.fill_slab(pet, suv[:5], volume.LPS_TO_RAS @ volume.ijk_to_ras(ct))
        self.assertEqual(pet.GetAttribute(node_attributes.PRESENT), "0:5")
        display.show_suv(pet, window_suv=(0, 8), threshold_suv=0.3, colour="PET heat")
        layouts.show_fused(slicer.mrmlScene, ct=ct, pet=pet, opacity=0.5)
        found = comparison.compute(comparison.gather(ct=ct, synthetic=pet, real=pet))
        self.assertEqual(found.rows[0].mae_suv, 0.0)
        self.delayDisplay("Test passed")
