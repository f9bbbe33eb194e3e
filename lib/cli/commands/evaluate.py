"""`evaluate`: measure a model on patients with a real PET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lib.cli.console import print_json, print_line, progress_bar, stderr
from lib.cli.options import AsJson, Device, Labels, ModelFiles, Register, Runtime, Studies
from lib.cli.scores import print_intervals, print_organs, print_scores
from lib.cli.studies import find_pairs, scan_studies

SHOWN_REASONS = 3  # of each program, why patients are not compared; evaluation.json has all


def evaluate(
    studies: Studies,
    models: ModelFiles,
    out: Annotated[Path, typer.Option(help="Output folder for the report.", show_default=False)],
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER|MODEL",
            help="PETs of another program, named by the CT's SeriesInstanceUID: UID.nrrd, .mha or .nii.gz; or another "
            "model, such as one written by `import-onnx`. May be repeated.",
        ),
    ] = None,
    old_compare: Annotated[
        list[str] | None, typer.Option("--beside", hidden=True, help="Old name of --compare.")
    ] = None,
    contour: Annotated[
        list[Path] | None, typer.Option(help="RT Structure Set outside STUDIES. May be repeated.", show_default=False)
    ] = None,
    labels: Labels = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    note: Annotated[str, typer.Option(help="Line below every image, such as the data's attribution.")] = "",
    register: Register = False,
    as_json: AsJson = False,
) -> None:
    """Compare a model with the real PETs in a folder, and with baselines fitted on its training patients.

    Means are over patients the model was neither trained nor validated on. Metrics are in SUVbw on the recipe's grid,
    PSNR over 0 to 10 SUV; `_body` means inside the body. Tumours contoured in RT Structure Sets are measured. All
    results are in `report.html`. With --compare, the synthetic PETs of another program, in SUVbw on any grid in the
    CT's frame of reference, are evaluated as well.

    The JSON is `{model, patients: [...], mean: {...}, baselines: {zero, constant, hu_mean, hu_median}}`, with
    `intervals`, `against` (the model minus each baseline), `not_beaten` (per metric), `beside` (the model minus each
    other program), `targets`, `lesions` and `verdict`, whose `caveats` are what a reader sees at once and the error
    inside the body does not show. With --labels, `organs` has the bias in each organ, and the baselines
    include `organ_median` where it is available for every patient.
    """
    from lib.evaluation.evaluate import evaluate_pairs
    from lib.evaluation.external_predictions import parse_external_predictions
    from lib.synthesis.ensemble import load_models

    external = parse_external_predictions([*(compare or ()), *(old_compare or ())], device=device)
    synthesizer = load_models(models, device=device, runtime=runtime)
    scan = scan_studies(studies)
    pairs = find_pairs(scan, register=register).pairs
    run = models[0].parent if len(models) == 1 else None
    with progress_bar() as progress:
        evaluation = evaluate_pairs(
            pairs, synthesizer, out, scan=scan, contours=contour or (), run=run, external=external, labels=labels,
            note=note, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(evaluation.as_json())
    else:
        _print_result(evaluation.as_json(), out / "report.html")


def _print_result(result: Mapping[str, Any], report: Path) -> None:
    from lib.metrics.criteria import LESION_DEFINITIONS

    for patient in result["patients"]:
        seen = "" if patient["seen"] == "no" else f" (in the {patient['seen']} set, excluded from the means)"
        print_scores({"model": patient, **patient["baselines"]}, f"{patient['patient_id']}{seen}")
    print_intervals(result["intervals"], f"mean of {result['judged_patients']} patients (95 % confidence)")
    for failure in result["failed"]:
        print_line(f"failed: {failure['patient_id']}: {failure['reason']}", stderr)
    _print_not_compared(result["patients"])
    for patient in result["patients"]:
        if patient["organs"]["missing"]:
            print_line(f"no organs: {patient['patient_id']}: {patient['organs']['missing']}", stderr)
    print_organs(result["organs"])
    sentences = [result["verdict"]["sentence"], result["out_of_fold"]]
    sentences += [other["sentence"] for other in result["beside"].values()]
    lesions = [
        f"Lesions above {LESION_DEFINITIONS[name]}: {text}" for name, text in result["lesions"]["sentences"].items()
    ]
    for sentence in filter(None, (*sentences, *result["targets"], *lesions)):
        print_line(sentence)
    print_line(f"report: {report}")


def _print_not_compared(patients: Sequence[Mapping[str, Any]]) -> None:
    """Print which patients are not compared with which program, and why; of many only the first."""
    reasons: dict[str, list[str]] = {}
    for patient in patients:
        for program, reason in patient["absent_peers"].items():
            reasons.setdefault(program, []).append(f"{patient['patient_id']}: {reason}")
    for program, found in reasons.items():
        for line in found[:SHOWN_REASONS]:
            print_line(f"not compared: {line}", stderr)
        if len(found) > SHOWN_REASONS:
            print_line(f"not compared with {program}: {len(found) - SHOWN_REASONS} further patients", stderr)
