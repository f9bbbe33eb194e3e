"""Functional group macros and attributes of true Enhanced CT and PET: scanner, isotope, corrections, units."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence


def _item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _items(**values: Any) -> DicomSequence:
    return DicomSequence([_item(**values)])


def code(value: str, scheme: str, meaning: str) -> DicomSequence:
    """Return a code sequence of one item."""
    return _items(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def anatomy() -> DicomSequence:
    """Return a frame anatomy sequence for the chest."""
    return _items(FrameLaterality="U", AnatomicRegionSequence=code("51185008", "SCT", "Chest"))


def describe_ct(dataset: Dataset, first: Dataset) -> None:
    """Add the top-level attributes of an Enhanced CT."""
    dataset.AcquisitionDateTime, dataset.AcquisitionDuration = f"{first.AcquisitionDate}{first.AcquisitionTime}", 5.0
    dataset.AcquisitionNumber, dataset.MultienergyCTAcquisition = 1, "NO"


def ct_macros(one: Dataset) -> Dataset:
    """Return the macros of an original Enhanced CT frame."""
    group = Dataset()
    group.IrradiationEventIdentificationSequence = _items(IrradiationEventUID="2.25.1001")
    group.CTAcquisitionTypeSequence = _items(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    group.CTAcquisitionDetailsSequence = _items(
        RotationDirection="CW", RevolutionTime=0.5, SingleCollimationWidth=0.6, TotalCollimationWidth=38.4,
        TableHeight=150.0, GantryDetectorTilt=0.0, DataCollectionDiameter=500.0,
    )  # fmt: skip
    group.CTTableDynamicsSequence = _items(TableSpeed=50.0, TableFeedPerRotation=25.0, SpiralPitchFactor=0.65)
    group.CTPositionSequence = _items(
        TablePosition=float(one.ImagePositionPatient[2]), DataCollectionCenterPatient=[0.0, 0.0, 0.0],
        ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
    )  # fmt: skip
    group.CTGeometrySequence = _items(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=500.0)
    group.CTReconstructionSequence = _items(
        ReconstructionAlgorithm="FILTER_BACK_PROJ", ConvolutionKernel=one.get("ConvolutionKernel", "PHANTOM"),
        ConvolutionKernelGroup="SOFT_TISSUE", ReconstructionDiameter=500.0, ReconstructionPixelSpacing=[1.0, 1.0],
        ReconstructionAngle=360.0, ImageFilter="NONE",
    )  # fmt: skip
    group.CTExposureSequence = _items(
        ExposureTimeInms=500.0, XRayTubeCurrentInmA=100.0, ExposureInmAs=50.0, ExposureModulationType="NONE",
        CTDIvol=5.0,
    )  # fmt: skip
    group.CTXRayDetailsSequence = _items(KVP=120, FocalSpots=[1.0], FilterType="NONE", FilterMaterial="NONE")
    return group


def describe_pet(dataset: Dataset, first: Dataset) -> None:
    """Add the top-level attributes of an Enhanced PET: isotope (dose in MBq), acquisition, corrections."""
    old = first.RadiopharmaceuticalInformationSequence[0]
    dataset.RadiopharmaceuticalInformationSequence = _items(
        RadiopharmaceuticalAgentNumber=1, RadionuclideCodeSequence=code("77004003", "SCT", "^18^Fluorine"),
        AdministrationRouteCodeSequence=code("47625008", "SCT", "Intravenous route"),
        RadiopharmaceuticalStartDateTime=old.RadiopharmaceuticalStartDateTime,
        RadionuclideTotalDose=f"{float(old.RadionuclideTotalDose) / 1e6:.6f}",
        RadionuclideHalfLife=old.RadionuclideHalfLife,
        RadionuclidePositronFraction=old.RadionuclidePositronFraction,
        RadiopharmaceuticalCodeSequence=code("35321007", "SCT", "Fluorodeoxyglucose F^18^"),
        RadiopharmaceuticalSpecificActivity="",
    )  # fmt: skip
    dataset.AcquisitionDateTime, dataset.AcquisitionDuration = f"{first.SeriesDate}{first.SeriesTime}", 360.0
    dataset.AcquisitionNumber = 1
    dataset.AcquisitionStartCondition, dataset.AcquisitionTerminationCondition = "MANU", "TIME"
    dataset.TerminationTimeThreshold, dataset.DetectorGeometry = 180.0, "CYLINDRICAL_RING"
    dataset.TransverseDetectorSeparation, dataset.AxialDetectorDimension = 4.0, 150.0
    dataset.CoincidenceWindowWidth = 6.0
    dataset.EnergyWindowRangeSequence = _items(EnergyWindowLowerLimit=440, EnergyWindowUpperLimit=650)
    dataset.ViewCodeSequence = code("24422004", "SCT", "Axial")
    dataset.SliceProgressionDirection = "APEX_TO_BASE"
    dataset.TypeOfDetectorMotion, dataset.CollimatorType, dataset.TableMotion = "STATIONARY", "NONE", "STATIC"
    dataset.CountsSource, dataset.TimeOfFlightInformationUsed = "EMISSION", "FALSE"
    corrected = "Decay", "Attenuation", "Scatter", "DeadTime", "Randoms"
    for what in ("GantryMotion", "PatientMotion", "CountLossNormalization", "NonUniformRadialSampling", *corrected):
        setattr(dataset, f"{what}Corrected", "YES" if what in corrected else "NO")
    dataset.SensitivityCalibrated, dataset.DetectorNormalizationCorrection = "YES", "YES"
    dataset.RandomsCorrectionMethod = "DLYD"
    dataset.ScatterCorrectionMethod, dataset.AttenuationCorrectionMethod = "computed phantom", "computed phantom"
    dataset.AttenuationCorrectionSource, dataset.AttenuationCorrectionTemporalRelationship = "CT", "SIMULTANEOUS"
    dataset.DecayCorrectionDateTime = f"{first.SeriesDate}{first.SeriesTime}"


def pet_macros(one: Dataset, *, slope: float) -> Dataset:
    """Return the macros of an original Enhanced PET frame; stored values times `slope` are Bq/mL."""
    group = Dataset()
    group.FrameVOILUTSequence = _items(WindowCenter=5000, WindowWidth=10000)
    group.RadiopharmaceuticalUsageSequence = _items(RadiopharmaceuticalAgentNumber=1)
    mapping = _item(RealWorldValueIntercept=0.0, RealWorldValueSlope=slope, LUTExplanation="activity", LUTLabel="BQML")
    mapping.add_new(0x00409216, "SS", -32768)  # RealWorldValueFirstValueMapped
    mapping.add_new(0x00409211, "SS", 32767)  # RealWorldValueLastValueMapped
    mapping.MeasurementUnitsCodeSequence = code("Bq/ml", "UCUM", "Becquerels/milliliter")
    group.RealWorldValueMappingSequence = DicomSequence([mapping])
    group.PETFrameAcquisitionSequence = _items(
        TableHeight=150.0, GantryDetectorTilt=0.0, GantryDetectorSlew=0.0, DataCollectionDiameter=600.0
    )
    group.PETPositionSequence = _items(
        TablePosition=float(one.ImagePositionPatient[2]), DataCollectionCenterPatient=[0.0, 0.0, 0.0],
        ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
    )  # fmt: skip
    group.PETFrameCorrectionFactorsSequence = _items(
        PrimaryPromptsCountsAccumulated=100000, SliceSensitivityFactor=1, DecayFactor=one.DecayFactor,
        ScatterFractionFactor=0.3, DeadTimeFactor=1,
    )  # fmt: skip
    group.PETReconstructionSequence = _items(
        ReconstructionType="3D", ReconstructionAlgorithm="REPROJECTION", IterativeReconstructionMethod="NO",
        ReconstructionDiameter=600.0,
    )  # fmt: skip
    return group
