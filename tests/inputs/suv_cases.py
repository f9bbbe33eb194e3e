"""Inputs with PET headers whose attributes for SUV are missing, in other units, or contradictory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pydicom.dataset import Dataset

from tests.inputs.study import Change, InputCase, each_file, set_attributes

HALF_LIFE_S = 6586.2


def header(**attributes: Any) -> Change:
    """Return a change to every PET file: attributes by keyword; None removes an attribute."""
    return each_file("PET", lambda dataset, _: set_attributes(dataset, attributes))


def injection(**attributes: Any) -> Change:
    """Return a change to the injection in every PET file."""
    return each_file(
        "PET", lambda dataset, _: set_attributes(dataset.RadiopharmaceuticalInformationSequence[0], attributes)
    )


def nuclide(meaning: str, code: str, half_life_s: float, **attributes: Any) -> Change:
    """Return a change to all attributes of the injection's nuclide."""

    def change(dataset: Dataset, _: int) -> None:
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        item.RadionuclideCodeSequence[0].CodeValue = code
        item.RadionuclideCodeSequence[0].CodeMeaning = meaning
        item.Radiopharmaceutical = "tracer"
        del item.RadiopharmaceuticalCodeSequence
        dataset.DecayFactor = None
        set_attributes(item, {"RadionuclideHalfLife": half_life_s, **attributes})

    return each_file("PET", change)


def _private(group: int, creator: str, element: int, vr: str, value: str) -> Change:
    return each_file(
        "PET", lambda dataset, _: dataset.private_block(group, creator, create=True).add_new(element, vr, value)
    )


def _counts(suv_factor: str | None, activity_factor: str | None, *, with_creator: bool = True) -> Change:
    def change(dataset: Dataset, _: int) -> None:
        dataset.Units = "CNTS"
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        for element, value in ((0x00, suv_factor), (0x09, activity_factor)):
            if value is not None:
                block.add_new(element, "DS", value)
        if not with_creator:
            del dataset[0x7053, 0x0010]

    return each_file("PET", change)


def _over_midnight(dataset: Dataset, number: int, *, date_stays: bool = False) -> None:
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalStartTime, item.RadiopharmaceuticalStartDateTime = "223919", "20240115223919"
    dataset.SeriesTime = "235000"
    acquired = datetime(2024, 1, 15, 23, 50) + timedelta(seconds=180 * (number // 2))
    dataset.AcquisitionTime = f"{acquired:%H%M%S}"
    dataset.AcquisitionDate = "20240115" if date_stays else f"{acquired:%Y%m%d}"
    dataset.FrameReferenceTime = 180000.0 * (number // 2) + 89858
    dataset.DecayFactor = 2 ** (dataset.FrameReferenceTime / 1000 / HALF_LIFE_S)


def _without_decay_correction(dataset: Dataset, _: int) -> None:
    """Undo the decay correction: a frame of 180 s whose mean is 89.858 s after its start, the reference time."""
    dataset.RescaleSlope = float(dataset.RescaleSlope) * 2 ** (-89.858 / HALF_LIFE_S)
    dataset.DecayCorrection, dataset.DecayFactor = "NONE", 1.0
    dataset.CorrectedImage = [value for value in dataset.CorrectedImage if value != "DECY"]


def _slices(change: Callable[[Dataset, int], None]) -> Change:
    return each_file("PET", change)


def _gml(suv_type: str, **attributes: Any) -> Change:
    """Return a change to SUV of another type, with the factor from Bq/mL to SUVbw of the unchanged header."""

    def change(dataset: Dataset, _: int) -> None:
        bw = 88.7 * 1000 / (481.23e6 * 2 ** (-4241 / HALF_LIFE_S))
        mass = 1.07 * 88.7 - 148 * (88.7 / 172) ** 2  # a woman of 172 cm
        by = {"BW": 1.0, "": 1.0, "LBMJAMES128": mass / 88.7}.get(suv_type, 1.0)
        dataset.Units, dataset.SUVType = "GML", suv_type
        dataset.RescaleSlope = f"{float(dataset.RescaleSlope) * bw * by:.10g}"
        set_attributes(dataset, attributes)

    return each_file("PET", change)


SUV_CASES: dict[str, tuple[InputCase, ...]] = {
    "Units and normalisation": (
        InputCase("Units GML, no SUVType", _gml(""), "read"),
        InputCase("Units GML, SUVType BW", _gml("BW"), "read"),
        InputCase("Units GML, SUVType LBMJAMES128", _gml("LBMJAMES128"), "read"),
        InputCase(
            "Units GML, SUVType LBMJAMES128, no PatientSize",
            _gml("LBMJAMES128", PatientSize=None),
            "refused",
            "PatientSize is missing, required by SUVType LBMJAMES128",
        ),
        InputCase("Units GML, SUVType BSA", _gml("BSA"), "refused", "expected one of BW, LBM"),
        InputCase("Units PROPCPS", header(Units="PROPCPS"), "refused", "proportional to counts per second"),
        InputCase("Units 1CM", header(Units="1CM"), "refused", "an attenuation map"),
        InputCase("Units missing", header(Units=None), "refused", "Units is missing"),
        InputCase("Units CNTS, Philips' factor to Bq/mL", _counts(None, "1.0"), "read"),
        InputCase(
            "Units CNTS, Philips' factor to Bq/mL, private creator removed",
            _counts(None, "1.0", with_creator=False),
            "read",
        ),
        InputCase(
            "Units CNTS, contradictory factors of Philips to SUV and to Bq/mL",
            _counts("0.000288", "0.5"),
            "read with a warning",
            "Philips' factor to SUV (7053,xx00) is 0.000288, but",
        ),
        InputCase("Units CNTS, no factor", _counts(None, None), "refused", "(7053,xx00) SUV and (7053,xx09) Bq/mL are"),
    ),
    "Weight and dose": (
        InputCase("PatientWeight missing", header(PatientWeight=None), "read in Bq/mL only", "Weight is missing"),
        InputCase("PatientWeight in grams", header(PatientWeight=88700), "read with a warning", "read as grams"),
        InputCase(
            "PatientWeight and PatientSize exchanged",
            header(PatientWeight=1.72, PatientSize=88.7),
            "read in Bq/mL only",
            "exchanged?",
        ),
        InputCase("dose in MBq", injection(RadionuclideTotalDose=481.23), "read with a warning", "read as MBq"),
        InputCase("dose in kBq", injection(RadionuclideTotalDose=481230), "read with a warning", "read as kBq"),
        InputCase("dose in mCi", injection(RadionuclideTotalDose="13.0062"), "read with a warning", "read as mCi"),
        InputCase(
            "dose of 40 mCi or MBq for 88.7 kg",
            injection(RadionuclideTotalDose=40),
            "read in Bq/mL only",
            "(MBq or mCi would both be plausible)",
        ),
        InputCase(
            "dose five times too large",
            injection(RadionuclideTotalDose=2406150000),
            "read with a warning",
            "27.1 MBq/kg for 88.7 kg; expected 0.3 to 20 MBq/kg of F-18: check dose and weight",
            scale=0.2,
        ),
        InputCase(
            "dose ten times too large",
            injection(RadionuclideTotalDose=4812300000),
            "read in Bq/mL only",
            "54.3 MBq/kg for 88.7 kg",
        ),
    ),
    "Nuclide": (
        InputCase("half-life in minutes", injection(RadionuclideHalfLife=109.77), "read with a warning", "as minutes"),
        InputCase("half-life missing, nuclide named", injection(RadionuclideHalfLife=None), "read"),
        InputCase(
            "half-life of Ga-68, nuclide F-18",
            injection(RadionuclideHalfLife=4062.6),
            "read in Bq/mL only",
            "RadionuclideHalfLife is 4062.6 s, but the header names",
        ),
        InputCase(
            "Zr-89 with the date of the injection",
            nuclide("^89^Zirconium", "C-168A4", 282276, RadionuclideTotalDose=74e6),
            "read",
            scale=481.23 / 74 * 2 ** (4241 / 282276 - 4241 / HALF_LIFE_S),
        ),
        InputCase(
            "Zr-89 with a time of day alone",
            nuclide(
                "^89^Zirconium", "C-168A4", 282276, RadionuclideTotalDose=74e6, RadiopharmaceuticalStartDateTime=None
            ),
            "read in Bq/mL only",
            "alone does not date an injection",
        ),
        InputCase(
            "Zr-89 with a date shifted by de-identification",
            nuclide(
                "^89^Zirconium",
                "C-168A4",
                282276,
                RadionuclideTotalDose=74e6,
                RadiopharmaceuticalStartDateTime="20100111091919",
            ),
            "read in Bq/mL only",
            "is days away from the scan",
        ),
    ),
    "Time of the injection": (
        InputCase("StartTime alone", injection(RadiopharmaceuticalStartDateTime=None), "read"),
        InputCase("StartDateTime alone", injection(RadiopharmaceuticalStartTime=None), "read"),
        InputCase(
            "neither StartTime nor StartDateTime",
            injection(RadiopharmaceuticalStartDateTime=None, RadiopharmaceuticalStartTime=None),
            "read in Bq/mL only",
            "RadiopharmaceuticalStartTime is missing",
        ),
        InputCase(
            "StartDateTime at midnight, StartTime 09:19:19",
            injection(RadiopharmaceuticalStartDateTime="20240115000000"),
            "read with a warning",
            "midnight is a placeholder",
        ),
        InputCase(
            "StartDateTime at midnight, no StartTime",
            injection(RadiopharmaceuticalStartDateTime="20240115000000", RadiopharmaceuticalStartTime=None),
            "read in Bq/mL only",
            "is exactly midnight",
        ),
        InputCase(
            "StartDateTime an hour before StartTime (UTC)",
            injection(RadiopharmaceuticalStartDateTime="20240115081919"),
            "read with a warning",
            "as UTC and a local time do",
        ),
        InputCase(
            "StartDateTime in UTC, with its offset",
            injection(RadiopharmaceuticalStartDateTime="20240115081919.000000+0000"),
            "read",
        ),
        InputCase(
            "StartDateTime 25 minutes before StartTime",
            injection(RadiopharmaceuticalStartDateTime="20240115085419"),
            "read in Bq/mL only",
            "contradict each other (SUV differs by 17%)",
        ),
        InputCase(
            "StartDateTime shifted by years",
            injection(RadiopharmaceuticalStartDateTime="20100115091919"),
            "read with a warning",
            "is days away from the scan",
        ),
        InputCase(
            "an injection after the scan",
            injection(RadiopharmaceuticalStartDateTime=None, RadiopharmaceuticalStartTime="110000"),
            "read in Bq/mL only",
            "is after the start of the scan",
        ),
        InputCase(
            "GE's private administration time 25 minutes before StartTime",
            lambda study: (
                injection(RadiopharmaceuticalStartDateTime=None)(study),
                _private(0x0009, "GEMS_PETD_01", 0x3B, "DT", "20240115085419")(study),
            )[0],
            "read in Bq/mL only",
            "GE's private administration time (0009,xx3B) 08:54:19 contradicts",
        ),
    ),
    "Reference time and decay": (
        InputCase(
            "DecayCorrection ADMIN, DecayFactor of START",
            header(DecayCorrection="ADMIN"),
            "read in Bq/mL only",
            "DecayCorrection is ADMIN, but DecayFactor",
        ),
        InputCase("DecayCorrection NONE, frame times given", _slices(_without_decay_correction), "read"),
        InputCase(
            "DecayCorrection NONE, CorrectedImage lists DECY",
            header(DecayCorrection="NONE"),
            "read in Bq/mL only",
            "DecayCorrection is NONE, but CorrectedImage lists DECY",
        ),
        InputCase(
            "DecayCorrection missing", header(DecayCorrection=None), "read in Bq/mL only", "DecayCorrection is missing"
        ),
        InputCase("a scan over midnight", each_file("PET", _over_midnight), "read"),
        InputCase(
            "a scan over midnight whose AcquisitionDate stays",
            each_file("PET", lambda dataset, number: _over_midnight(dataset, number, date_stays=True)),
            "read",
        ),
        InputCase("SeriesDate removed", header(SeriesDate=None), "read"),
        InputCase("SeriesTime removed", header(SeriesTime=None), "read"),
        InputCase(
            "SeriesTime overwritten when the series was stored again",
            header(SeriesTime="151500"),
            "read with a warning",
            "is later than the first acquisition (10:30:00): the series was stored again later",
        ),
        InputCase(
            "SeriesTime 15 minutes before the beds",
            header(SeriesTime="101500"),
            "read with a warning",
            "but AcquisitionTime and FrameReferenceTime give",
        ),
        InputCase(
            "GE's private scan time agrees with the beds, SeriesTime does not",
            lambda study: (
                header(SeriesTime="101500")(study),
                _private(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20240115103000.00")(study),
            )[0],
            "read with a warning",
            "contradicts the decay correction time 2024-01-15 10:30:00, which is used",
        ),
        InputCase(
            "three different times",
            lambda study: (
                header(SeriesTime="101500")(study),
                _private(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20240115100000.00")(study),
            )[0],
            "read in Bq/mL only",
            "three different reference times",
        ),
        InputCase(
            "DecayFactor that contradicts FrameReferenceTime",
            header(DecayFactor=1.3),
            "read with a warning",
            "DecayFactor 1.3 corrects",
        ),
    ),
}  # fmt: skip
