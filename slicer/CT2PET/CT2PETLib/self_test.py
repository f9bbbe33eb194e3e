"""Self-test that Slicer runs, by `ctest` in a build of the extension and by "Reload and Test"; it needs no server."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

import slicer
from CT2PETLib.client.error_messages import ADMINISTRATOR, message_of
from CT2PETLib.scene import comparison, display, layouts, node_attributes, volume


class CT2PETTest(ScriptedLoadableModuleTest):
    """Tests filling, display, comparison and messages."""

    def setUp(self) -> None:
        """Clear the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests, as "Reload and Test" does; unittest runs them one by one."""
        for test in (
            self.test_slab_is_displayed_and_compared,
            self.test_slab_outside_the_ct_is_refused,
            self.test_message_of_an_error,
        ):
            self.setUp()
            test()

    def test_slab_is_displayed_and_compared(self) -> None:
        """Fill half of a PET, fuse it, and compare it with itself."""
        ct, suv = _ct_and_suv()
        pet = volume.make_pet_node(slicer.mrmlScene, ct, model="test")
        volume.fill_slab(pet, suv[:5], volume.LPS_TO_RAS @ volume.ijk_to_ras(ct))
        self.assertEqual(pet.GetAttribute(node_attributes.PRESENT), "0:5")
        display.show_suv(pet, window_suv=(0, 8), threshold_suv=0.3, colour="PET heat")
        layouts.show_fused(slicer.mrmlScene, ct=ct, pet=pet, opacity=0.5)
        result = comparison.compute(comparison.gather(ct=ct, synthetic=pet, real=pet))
        self.assertEqual(result.rows[0].mae_suv, 0.0)

    def test_slab_outside_the_ct_is_refused(self) -> None:
        """Refuse a slab that begins before the first slice, and leave the PET as it was."""
        ct, suv = _ct_and_suv()
        pet = volume.make_pet_node(slicer.mrmlScene, ct, model="test")
        affine = volume.LPS_TO_RAS @ volume.ijk_to_ras(ct)
        affine[:3, 3] -= affine[:3, 2]
        with self.assertRaises(volume.SceneError):
            volume.fill_slab(pet, suv[:5], affine)
        self.assertEqual(pet.GetAttribute(node_attributes.PRESENT) or "", "")

    def test_message_of_an_error(self) -> None:
        """Word an error of the server for the panel; an unknown one keeps the server's words."""
        problem = {"code": "model_file_missing", "params": {"model": "unet"}, "detail": "no file"}
        self.assertIn(ADMINISTRATOR, message_of(problem))
        self.assertEqual(message_of({**problem, "code": "of a newer server"}), "no file")


def _ct_and_suv() -> tuple[Any, np.ndarray[Any, Any]]:
    """Return a CT of a box in air, in the scene, and the SUV of its PET."""
    hu = np.full((10, 32, 32), -1000, dtype=np.int16)
    hu[:, 6:26, 6:26] = 40
    ct = slicer.util.addVolumeFromArray(hu, name="CT", nodeClassName="vtkMRMLScalarVolumeNode")
    return ct, np.where(hu > 0, 2.0, 0.0).astype(np.float32)
