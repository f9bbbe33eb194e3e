"""Self-test that Slicer runs (Reload and Test), without a server."""

from __future__ import annotations

import numpy as np
import slicer.util
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

import slicer
from CT2PETLib.scene import comparison, display, layouts, node_attributes, volume


class CT2PETTest(ScriptedLoadableModuleTest):
    """Tests filling, display and comparison of a synthetic PET."""

    def setUp(self) -> None:
        """Clear the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests."""
        self.setUp()
        self.test_slab_is_displayed_and_compared()

    def test_slab_is_displayed_and_compared(self) -> None:
        """Fill half of a PET, fuse it, and compare it with itself."""
        hu = np.full((10, 32, 32), -1000, dtype=np.int16)
        hu[:, 6:26, 6:26] = 40
        ct = slicer.util.addVolumeFromArray(hu, name="CT", nodeClassName="vtkMRMLScalarVolumeNode")
        pet = volume.make_pet_node(slicer.mrmlScene, ct, model="test")
        suv = np.where(hu > 0, 2.0, 0.0).astype(np.float32)
        volume.fill_slab(pet, suv[:5], volume.LPS_TO_RAS @ volume.ijk_to_ras(ct))
        self.assertEqual(pet.GetAttribute(node_attributes.PRESENT), "0:5")
        display.show_suv(pet, window_suv=(0, 8), threshold_suv=0.3, colour="PET heat")
        layouts.show_fused(slicer.mrmlScene, ct=ct, pet=pet, opacity=0.5)
        result = comparison.compute(comparison.gather(ct=ct, synthetic=pet, real=pet))
        self.assertEqual(result.rows[0].mae_suv, 0.0)
        self.delayDisplay("Test passed")
