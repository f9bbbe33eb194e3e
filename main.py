#!/usr/bin/env python3
"""The command line of ct2pet: parses, calls the engine in lib/, prints.

Tables, JSON and paths go to stdout; progress and logs to stderr. Exit codes: 0 done, 1 our fault, 2 the user's input.
Each verb imports its part of the engine when it runs, so that `--help` and `scan` do not wait for torch.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from lib.errors import CT2PETError, InputError

if TYPE_CHECKING:
    from lib.dicom.scan.scan import ScanReport
    from lib.download.cohort import Selection
    from lib.learning.model_card.card import ModelCard
    from lib.learning.recipe import Recipe
    from lib.pairing.pairs import PairedSeries, PairingReport
    from lib.pairing.prepare import PreparationReport
    from lib.pairing.quality_checks.plausibility import PairCheck
    from lib.types import Progress

logger = logging.getLogger("ct2pet")
stdout = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
stderr = Console(stderr=True, highlight=False)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Synthesise a PET from a CT, slice by slice, and learn how from your own studies. Research only, not for "
    "diagnosis.\n\nBegin with `scan STUDIES`: what does a folder hold? Then `pair STUDIES`: what can be learnt?",
)

Studies = Annotated[
    Path, typer.Argument(metavar="STUDIES", help="Folder of DICOM studies, searched with its subfolders.")
]
StudiesOrArrays = Annotated[
    Path,
    typer.Argument(metavar="STUDIES|DIR", help="Folder of DICOM studies, or of arrays by prepare.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
ToleranceMm = Annotated[float, typer.Option(help="Largest distance of a CT slice and its PET slice.", min=0.0)]

Register = Annotated[
    bool,
    typer.Option("--register", help="Lay PETs onto CTs of another frame of reference, and pair them where they fit."),
]
RecipeName = Annotated[str, typer.Option(help="paper, quantitative, or a .toml file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: schedule.epochs=5. May be repeated."),
]
TrackingWord = Annotated[str, typer.Option("--tracking", help="none, or mlflow: mirror runs there as they go on.")]
TrackingUri = Annotated[
    str, typer.Option(help="An MLflow server or database, or a folder for one; else in the run's folder.")
]
Experiment = Annotated[str, typer.Option(help="Under which name MLflow lists the run.")]
ModelFiles = Annotated[
    list[Path],
    typer.Option("--model", help="A .safetensors file made by train; of several, the mean.", show_default=False),
]

people = typer.Typer(
    no_args_is_help=True, help="Keep the file of the people who may ask the server (--conf users FILE)."
)
app.add_typer(people, name="users")
UsersFile = Annotated[Path, typer.Option("--file", metavar="USERS", help="The users file.", show_default=False)]
PasswordFromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first input line.")
]


@app.callback()
def common(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CT2PET_DEBUG", help="Log details, and a traceback where a fault is ours.")
    ] = False,
) -> None:
    """Set up what every verb shares."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s: %(message)s", force=True)
    for name in ("lib", "ct2pet"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    # ignite logs each exception that passes through it; ours would be told twice
    logging.getLogger("ignite").setLevel(logging.NOTSET if debug else logging.CRITICAL)


@app.command()
def scan(studies: Studies, as_json: AsJson = False) -> None:
    """List the series of a folder, and why each unusable one is unusable.

    Reads headers only and remembers them: a second scan of an unchanged folder opens no file.

    The JSON is `{root, series: [...], skipped: [{path, reason}]}`.
    """
    from lib.pairing.scan_summary import series_lines

    report = _scan(studies)
    lines = series_lines(report)
    if as_json:
        _print_json({"root": str(report.root), "series": lines, "skipped": report.skipped})
        return
    table = _table("patient", "series", "modality", ">slices", ">size", ">spacing mm", "usable")
    for line in lines:
        size = f"{line.rows} x {line.columns}" if line.rows else ""
        spacing = " x ".join(f"{mm:.2f}" for mm in line.spacing_mm or ())
        notes = [
            line.reason and f"no: {line.reason}",
            line.usable and (line.suv or "yes"),
            line.pairing,
            *line.warnings,
        ]
        told = "\n".join(note for note in notes if note)
        series = f"{line.description}\n{line.series_instance_uid}".strip()
        table.add_row(*map(escape, (line.patient_id, series, line.modality, str(line.slices), size, spacing, told)))
    stdout.print(table)
    for skipped in report.skipped:
        stdout.print(f"skipped {skipped.path}: {skipped.reason}", markup=False, soft_wrap=True)
    usable = sum(line.usable for line in lines)
    stdout.print(
        f"{len(lines)} series in {len(report.studies)} studies, {usable} usable; {len(report.skipped)} other files"
    )


@app.command()
def pair(
    studies: Studies,
    tolerance_mm: ToleranceMm = 0.2,
    ct: Annotated[list[str] | None, typer.Option(help="SeriesInstanceUID of a CT to prefer; may be repeated.")] = None,
    register: Register = False,
    shift: Annotated[
        bool, typer.Option("--shift/--no-shift", help="Measure how far each PET lies off its CT; reads pixels once.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """List the CT/PET pairs of a folder and how many of their slices pair; say why the others stay alone.

    The JSON is a list with one object a pair. `max_offset_mm` is the largest distance from a PET slice to its nearest
    CT slice. `study_instance_uid` is the PET's; `ct_study_instance_uid` is another one where the PET's study holds no
    usable CT. `registered` pairs tell `translation_mm`, `rotation_deg` and `registration_quality`.

    `shift_mm` is where the PET's body lies against the CT's (x to the left, y to the back, z to the head;
    null where that cannot be measured within 2 mm, `shift_note` says why), `shift_sd_mm` its standard deviation,
    `diaphragm_shift_mm` the same of the diaphragm along z. They are measured once and remembered.
    """
    from lib.pairing.pairs import pair_record

    pairing = _pair(_scan(studies), register=register, preferred_ct=ct or ())
    records = [pair_record(paired, tolerance_mm=tolerance_mm) for paired in pairing.pairs]
    checks = _check_pairs(pairing.pairs) if shift else ()
    told = stderr if as_json else stdout
    if as_json:
        shifts = [check.shift.as_json() for check in checks] or [{} for _ in records]
        _print_json([{**dataclasses.asdict(one), **more} for one, more in zip(records, shifts, strict=True)])
    else:
        table = _table(
            "patient", "CT", "PET", ">slices CT/PET", ">slice pairs", ">max offset mm", "shift mm", "why these"
        )
        for number, (record, paired) in enumerate(zip(records, pairing.pairs, strict=True)):
            slices = f"{record.ct_slices}/{record.pet_slices}"
            numbers = (slices, str(record.slice_pairs), f"{record.max_offset_mm:.2f}")
            uids = (record.ct_series_instance_uid, record.pet_series_instance_uid)
            off = checks[number].shift.in_words() if checks else ""
            table.add_row(*map(escape, (record.patient_id, *uids, *numbers, off, paired.reason)))
        stdout.print(table)
    for record, check in zip(records, checks, strict=False):
        for reason in check.reasons:
            told.print(f"implausible: {record.patient_id}: {reason}", markup=False, soft_wrap=True)
    for alone in pairing.unpaired:
        told.print(
            f"not paired: {alone.patient_id} {alone.modality} {alone.series_uid}: {alone.reason}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    total = sum(record.slice_pairs for record in records)
    told.print(f"{len(records)} pairs, {total} slice pairs within {tolerance_mm:g} mm")


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write into; made where it is missing.")],
    patients: Annotated[int, typer.Option(help="How many, 1 to 9999.")] = 4,
    seed: Annotated[int, typer.Option(help="Another seed makes other patients.")] = 0,
    slices: Annotated[int, typer.Option(help="Slices of each scan, 3.27 mm apart.")] = 40,
    as_json: AsJson = False,
) -> None:
    """Write chest phantoms as DICOM studies of CT and PET, to try everything without a patient's data.

    The same seed gives the same files. Part of their uptake cannot be inferred from the CT, as in real life: the
    heart's, the overall level, and lesions the CT does not show. Doing well on them proves nothing about patients.

    The JSON is a list of the patients' folders.
    """
    from lib.phantom.generate import PhantomSettings, write_phantoms

    with _progress() as progress:
        settings = PhantomSettings(slices=slices)
        folders = write_phantoms(out, patients=patients, seed=seed, settings=settings, progress=progress)
    if as_json:
        _print_json(folders)
        return
    for folder in folders:
        stdout.print(str(folder), markup=False, soft_wrap=True)


@app.command()
def download(
    cohort: Annotated[
        str, typer.Argument(help="paper (its nine patients), lung (all 133 of the collection) or idc:COLLECTION.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to fetch into.", show_default=False)],
    patients: Annotated[int | None, typer.Option(help="Only so many, those that `pair` can use first.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be fetched, and fetch nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before fetching.")] = False,
    endpoint_url: Annotated[
        str, typer.Option(envvar="CT2PET_S3_ENDPOINT", help="Another S3 server, such as a mirror.")
    ] = "https://s3.amazonaws.com",
    as_json: AsJson = False,
) -> None:
    """Fetch open PET/CT studies from the Imaging Data Commons, and say whose they are.

    Chooses one CT and one PET a study from the archive's list, shows size, licence and source, and asks. Stopped or
    cut off, the same command goes on; counts and sizes are checked. Needs `pip install -r requirements-download.txt`.

    The JSON is `{out, fetched, reused, failed: [{patient_id, series_instance_uid, reason}]}`; with --dry-run the
    selection: `{cohort, index_version, archive, pairs: [{ct, pet}], left_out}`.
    """
    from lib.download.cohort import parse_cohort, select_cohort
    from lib.download.download import download as fetch_selection
    from lib.download.download import missing_bytes
    from lib.download.transfer import S3Client, find_s5cmd

    selection = select_cohort(parse_cohort(cohort), patients=patients)
    told = stderr if as_json else stdout
    if dry_run:
        _print_json(selection) if as_json else stdout.print(_selection_table(selection))
    _tell_selection(selection, told)
    if dry_run:
        return
    client = S3Client(find_s5cmd(), endpoint_url)
    missing = missing_bytes(selection, out)
    told.print(f"to fetch into {out}: {missing / 1e9:.2f} GB", markup=False, soft_wrap=True)
    if missing and not yes and not _agreed("download"):
        stderr.print("nothing was fetched")
        return
    with _progress() as progress:
        report = fetch_selection(selection, out, client=client, progress=progress)
    if as_json:
        _print_json(report)
    for failure in report.failed:
        stderr.print(f"failed: {failure.patient_id} {failure.series_instance_uid}: {failure.reason}", markup=False)
    told.print(
        f"{report.fetched} series fetched, {report.reused} were there, {len(report.failed)} failed; "
        f"whose they are: {out / 'ATTRIBUTION.md'}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if report.failed:
        raise typer.Exit(code=1)


@app.command()
def prepare(
    studies: Studies,
    out: Annotated[Path, typer.Option(help="Folder for the arrays.", show_default=False)],
    recipe: RecipeName = "quantitative",
    settings: Settings = None,
    register: Register = False,
    as_json: AsJson = False,
) -> None:
    """Write the pairs of a folder as arrays, ready to train on any machine; pairs that lie there already are kept.

    The JSON is `{out, pairs, reused, failed: [{patient_id, ct_series_instance_uid, pet_series_instance_uid, reason}]}`.
    """
    from lib.learning.recipe import load_recipe

    report = _prepare(studies, out, load_recipe(recipe, settings=settings or ()), register=register)
    if as_json:
        pairs = len(report.prepared.pairs)
        _print_json({"out": out, "pairs": pairs, "reused": report.reused, "failed": report.failed})
        return
    stdout.print(f"{len(report.prepared.pairs)} pairs in {out}, {report.reused} of them from before", soft_wrap=True)


@app.command()
def train(
    studies: Annotated[
        Path, typer.Argument(help="Folder of DICOM studies, or of prepared arrays.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    recipe: RecipeName = "quantitative",
    stages: Annotated[int | None, typer.Option(help="U-Nets in the chain, 1 to 6.")] = None,
    settings: Settings = None,
    register: Register = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in this folder was stopped.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    tracking: TrackingWord = "none",
    tracking_uri: TrackingUri = "",
    experiment: Experiment = "ct2pet",
    as_json: AsJson = False,
) -> None:
    """Train a cascade and publish it as one .safetensors file beside its figures.

    On several GPUs: `torchrun --nproc-per-node 4 main.py train ARRAYS --out RUN`, on arrays made by `prepare`.

    The JSON is `{model, epochs, stopped_because, scores, standing}`.
    """
    from lib.learning.recipe import load_recipe
    from lib.learning.tracking.options import parse_tracking
    from lib.learning.training import train as train_cascade
    from lib.pairing.prepared import PreparedSet

    mirror = parse_tracking(tracking, uri=tracking_uri, experiment=experiment)
    chosen = load_recipe(recipe, settings=[*(settings or ()), *([f"stages={stages}"] if stages is not None else [])])
    if (studies / "index.json").is_file():
        prepared = PreparedSet.open(studies)
    else:
        prepared = _prepare(studies, out / "prepared", chosen, register=register).prepared
    with _progress() as progress:
        result = train_cascade(
            prepared, chosen, out, resume=resume, device=device, tracking=mirror, progress=progress
        )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun the first process speaks for all
    if as_json:
        told = {"model": result.model, "epochs": result.epochs, "stopped_because": result.stopped_because}
        _print_json({**told, "scores": result.card.scores, "standing": result.card.standing})
        return
    _print_standing(result.card)
    stdout.print(f"{result.epochs} epochs ({result.stopped_because}); model: {result.model}", soft_wrap=True)


@app.command()
def card(
    model: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file made by train.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Show a model's card: what it learnt from, how it stands beside trivial predictors, and what it is not for.

    The JSON is the whole card, with each patient's figures (patients as hashes) and the trivial predictors.
    """
    from lib.learning.checkpoint import read_card
    from lib.learning.model_card.facts import card_facts

    found = read_card(model)
    if as_json:
        _print_json(found.as_json())
        return
    table = _table("the model", "")
    for name, told in card_facts(found).items():
        table.add_row(name, escape(told))
    stdout.print(table)
    _print_standing(found)
    stdout.print(f"Limits: {found.limits}", markup=False, soft_wrap=True)


@app.command()
def synthesize(
    ct: Annotated[Path, typer.Argument(help="DICOM folder of a CT, or a .nii.gz, .nrrd or .mha in HU.")],
    models: ModelFiles,
    out: Annotated[Path, typer.Option(help="File: .nrrd, .nii.gz or .mha; a folder for DICOM.", show_default=False)],
    form: Annotated[
        str, typer.Option("--format", help="dicom, nrrd or nifti; when empty, the file's name decides.")
    ] = "",
    slices: Annotated[str, typer.Option(help="Only these slices, A:B counted from 0; all when empty.")] = "",
    series: Annotated[str | None, typer.Option(help="SeriesInstanceUID, where the folder holds several CTs.")] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="File for the absolute error to expect of each voxel, SUVbw.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw the synthetic PET of a CT, SUVbw on the CT's grid. Research only, not for diagnosis.

    With --format dicom it is a PET series in the CT's study, one file a slice, labelled as synthetic. The same CT and
    model give the same series again.

    The JSON is `{out, model, sha256, shape, spacing_mm, suv_max, suv_mean}`, and `uncertainty` and
    `series_instance_uid` where they were asked for.
    """
    from lib.dicom.scan.open_ct import find_ct, open_ct, read_ct_series
    from lib.dicom.write.files import refuse_foreign_files, write_series
    from lib.imaging.files.volume_file import volume_suffix, wants_dicom, write_volume_file
    from lib.imaging.geometry import parse_slab
    from lib.synthesis.dicom_out import plan_pet_series
    from lib.synthesis.ensemble import load_models
    from lib.synthesis.uncertainty import apply_with_uncertainty

    as_dicom = wants_dicom(out, named=form)  # a wrong name is told before the work, not after it
    if uncertainty is not None:
        volume_suffix(uncertainty)
        if uncertainty.resolve() == out.resolve():
            raise InputError(f"{out}: the synthetic PET and its uncertainty need two files")
    synthesizer = load_models(models, device=device)
    with _progress() as progress:
        found = find_ct(ct, series_uid=series, progress=progress) if as_dicom else None
        planned = None if found is None else plan_pet_series(synthesizer, found)
        if planned is not None:
            refuse_foreign_files(out, planned.uid)
        read_ct = open_ct(ct, series_uid=series, progress=progress) if found is None else read_ct_series(found)
        if uncertainty is None:
            pet = synthesizer.apply(read_ct, parse_slab(slices), progress=progress)
        else:
            pet, error = apply_with_uncertainty(synthesizer, read_ct, parse_slab(slices), progress=progress)
            write_volume_file(error, uncertainty)
        write_volume_file(pet, out) if planned is None else write_series(planned.fill(pet), out, progress=progress)
    told = {
        "out": out,
        "model": synthesizer.card.name,
        "sha256": synthesizer.checksum,
        "shape": pet.geometry.shape,
        "spacing_mm": pet.geometry.spacing_mm,
        "suv_max": float(pet.array.max()),
        "suv_mean": float(pet.array.mean()),
        **({} if uncertainty is None else {"uncertainty": uncertainty}),
        **({} if planned is None else {"series_instance_uid": planned.uid}),
    }
    if as_json:
        _print_json(told)
        return
    stdout.print(f"{out}: SYNTHETIC PET, SUVbw {told['suv_mean']:.2f} on average, up to {told['suv_max']:.2f}. "
                 "Research only, NOT FOR DIAGNOSIS.", soft_wrap=True)  # fmt: skip


@app.command()
def evaluate(
    studies: Studies,
    models: ModelFiles,
    out: Annotated[Path, typer.Option(help="Folder for figures and pictures.", show_default=False)],
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Another program's PETs: <CT SeriesInstanceUID>.nrrd, .mha, .nii.gz."),
    ] = None,
    contour: Annotated[
        list[Path] | None, typer.Option(help="RT Structure Set outside STUDIES; may be repeated.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    note: Annotated[str, typer.Option(help="A line below every picture, such as the data's attribution.")] = "",
    register: Register = False,
    as_json: AsJson = False,
) -> None:
    """Compare a model with the real PETs of a folder, beside trivial predictors fitted on its training patients.

    Means are over patients that the model has never seen. Figures are SUVbw on the recipe's grid, PSNR of 0 to 10 SUV;
    `_body` means inside the body. Tumours drawn in RT Structure Sets are measured. `report.html` shows all of it.
    With --beside (may be repeated) another program's synthetic PETs in SUVbw stand beside the model's, on any grid of
    the CT's frame.

    The JSON is `{model, patients: [...], mean: {...}, baselines: {zero, constant, hu_mean, hu_median}}`, with
    `intervals`, `against` (the model minus each baseline), `not_beaten` (by measure), `beside` (the model minus each
    other program), `targets` and `verdict`.
    """
    from lib.evaluation.evaluate import evaluate_pairs
    from lib.evaluation.external_predictions import parse_peers
    from lib.synthesis.ensemble import load_models

    peers = parse_peers(beside or ())
    synthesizer = load_models(models, device=device)
    scanned = _scan(studies)
    pairs = _pair(scanned, register=register).pairs
    with _progress() as progress:
        result = evaluate_pairs(
            pairs, synthesizer, out,
            scan=scanned, contours=contour or (), run=models[0].parent if len(models) == 1 else None, peers=peers,
            note=note, progress=progress,
        ).as_json()  # fmt: skip
    if as_json:
        _print_json(result)
        return
    for patient in result["patients"]:
        seen = "" if patient["seen"] == "no" else f" (seen in {patient['seen']}, not in the means)"
        _print_scores({"model": patient, **patient["baselines"]}, f"{patient['patient_id']}{seen}")
    _print_intervals(result["intervals"], f"mean of {result['judged_patients']} patients (95 % confidence)")
    for failure in result["failed"]:
        stderr.print(f"failed: {failure['patient_id']}: {failure['reason']}", markup=False, soft_wrap=True)
    for patient in result["patients"]:
        for reason in patient["absent_peers"].values():
            stderr.print(f"left out: {patient['patient_id']}: {reason}", markup=False, soft_wrap=True)
    told = [result["verdict"]["sentence"], *(of["sentence"] for of in result["beside"].values()), *result["targets"]]
    for sentence in told:
        stdout.print(sentence, markup=False, soft_wrap=True)
    stdout.print(f"report: {out / 'report.html'}", markup=False, soft_wrap=True)


@app.command()
def study(
    studies: Annotated[
        Path, typer.Argument(help="Folder of DICOM studies, or of prepared arrays.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study.", show_default=False)],
    stages: Annotated[str, typer.Option(help="Which numbers of stages: 1-6, or 1,3.")] = "1-6",
    recipe: RecipeName = "quantitative",
    equal: Annotated[str, typer.Option(help="width, or flops: n stages then cost what one does.")] = "width",
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    note: Annotated[str, typer.Option(help="A line below table and figures, such as the data's attribution.")] = "",
    tracking: TrackingWord = "none",
    tracking_uri: TrackingUri = "",
    experiment: Experiment = "ct2pet",
    as_json: AsJson = False,
) -> None:
    """Train 1 to 6 stages under one recipe; fill the paper's table and draw its seven figures.

    Stopped or killed, the same command goes on. Trivial predictors stand in the table beside the models.

    The JSON is `{rows, table, figures}`.
    """
    from lib.experiments.study import parse_stages, run_study
    from lib.learning.recipe import load_recipe
    from lib.learning.tracking.options import parse_tracking
    from lib.pairing.prepared import PreparedSet

    numbers = parse_stages(stages)
    mirror = parse_tracking(tracking, uri=tracking_uri, experiment=experiment)
    chosen = load_recipe(recipe, settings=settings or ())
    is_prepared = (studies / "index.json").is_file()
    prepared = PreparedSet.open(studies) if is_prepared else _prepare(studies, out / "prepared", chosen).prepared
    with _progress() as progress:
        done = run_study(
            prepared, chosen, out, stages=numbers, equal=equal, device=device, note=note, tracking=mirror,
            progress=progress,
        )  # fmt: skip
    if as_json:
        _print_json({"rows": done.rows, "table": done.table_csv, "figures": done.figures})
        return
    stdout.print(done.table_markdown.read_text(), markup=False, soft_wrap=True)
    for path in (done.table_csv, done.table_markdown, *done.figures):
        stdout.print(str(path), markup=False, soft_wrap=True)


def _pair(scan: ScanReport, *, register: bool, preferred_ct: Sequence[str] = ()) -> PairingReport:
    """Return the pairs of a scan; on request those that registration adds, too."""
    from lib.pairing.pairs import pair_series

    pairing = pair_series(scan, preferred_ct=frozenset(preferred_ct))
    if not register:
        return pairing
    from lib.pairing.registration import register_unpaired

    with _progress() as progress:
        return register_unpaired(scan, pairing, progress=progress)


def _prepare(studies: Path, out: Path, recipe: Recipe, *, register: bool = False) -> PreparationReport:
    from lib.pairing.prepare import prepare_pairs

    scan = _scan(studies)
    pairs = _pair(scan, register=register).pairs
    with _progress() as progress:
        report = prepare_pairs(pairs, out, preparation=recipe.preparation, scan=scan, progress=progress)
    for failure in report.failed:
        stderr.print(f"left out: {failure.patient_id}: {failure.reason}", markup=False, soft_wrap=True)
    return report


def _print_standing(card: ModelCard) -> None:
    """Print a card's figures, with their confidence where it keeps it, and how its model stands."""
    if (scores := card.scores) is not None and scores.table:
        title = f"{scores.patients} {scores.side} patients"
        if scores.intervals:
            _print_intervals(scores.intervals, f"{title} (95 % confidence)")
        else:
            _print_scores(scores.table, title)
    stdout.print(card.standing.sentence, markup=False, soft_wrap=True)


def _print_scores(table: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    columns = {
        "mae_suv_body": ">body MAE [SUV]",
        "psnr_db_body": ">body PSNR [dB]",
        "correlation_body": ">body correlation",
        "ssim_body": ">body SSIM",
        "mae_suv": ">slice MAE [SUV]",
        "psnr_db": ">slice PSNR [dB]",
        "ssim": ">slice SSIM",
    }
    shown = _table("method", *columns.values(), title=title)
    for method in ("model", *(name for name in table if name != "model")):
        values = (table[method][name] for name in columns)
        shown.add_row(method, *("-" if value is None else f"{value:.3f}" for value in values))
    stdout.print(shown)


def _print_intervals(intervals: Mapping[str, Mapping[str, Mapping[str, float | None]]], title: str) -> None:
    columns = {
        "mae_suv_body": ">body MAE [SUV]",
        "psnr_db_body": ">body PSNR [dB]",
        "correlation_body": ">body correlation",
        "ssim_body": ">body SSIM",
        "tumour_suv_mean_error": ">tumour SUVmean error",
    }

    def told(interval: Mapping[str, float | None]) -> str:
        """Return a mean and its interval, where they exist."""
        mean, low, high = interval["mean"], interval["low"], interval["high"]
        sure = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        return "-" if mean is None else f"{mean:.3f}{sure}"

    columns = {name: words for name, words in columns.items() if name in intervals["model"]}
    shown = _table("method", *columns.values(), title=title)
    for method in ("model", *(name for name in intervals if name != "model")):
        shown.add_row(method, *(told(intervals[method][name]) for name in columns))
    stdout.print(shown)


def _selection_table(selection: Selection) -> Table:
    table = _table("patient", "study date", "CT", "PET", ">images CT/PET", ">MB", "CT is of")
    for pair in selection.pairs:
        megabytes = f"{(pair.ct.size_bytes + pair.pet.size_bytes) / 1e6:.0f}"
        images = f"{pair.ct.images}/{pair.pet.images}"
        where = "the PET's study" if pair.in_one_study else "another study of that day"
        texts = (pair.pet.patient_id, pair.pet.study_date, pair.ct.description, pair.pet.description)
        table.add_row(*map(escape, (*texts, images, megabytes, where)))
    return table


def _tell_selection(selection: Selection, told: Console) -> None:
    archive, joined = selection.archive, sum(pair.in_one_study for pair in selection.pairs)
    lines = [
        f"{selection.cohort.name}: in the Imaging Data Commons (index {selection.index_version}) "
        f"{len(archive.patients_with_both)} patients with CT and PET, {archive.images:,} images, "
        f"{archive.size_bytes / 1e9:.1f} GB",
        f"chosen: {len(selection.patients)} patients, {len(selection.series)} series, {selection.images:,} images, "
        f"{selection.size_bytes / 1e9:.2f} GB",
        f"licence: {', '.join(selection.licences)}; source: https://doi.org/{', https://doi.org/'.join(selection.dois)}",
    ]
    if joined < len(selection.pairs):
        lines.append(
            f"{joined} of {len(selection.pairs)} PETs have a CT in their own study; the others come with one of "
            "another study of that day, which `pair` joins where the frame of reference is one"
        )
    reasons = Counter(study.reason for study in selection.left_out)
    lines += [f"left out: {studies} studies: {reason}" for reason, studies in reasons.most_common()]
    for line in lines:
        told.print(line, markup=False, soft_wrap=True)


def _agreed(verb: str) -> bool:
    """Ask on the terminal; the answer is no unless it is yes."""
    if not sys.stdin.isatty():
        raise InputError(f"{verb} asks before it fetches, and nobody is there to answer; --yes agrees beforehand")
    return typer.confirm("Continue?", default=False, err=True)


@people.command("add")
def add_user(
    name: str,
    role: Annotated[
        str,
        typer.Option(help="user (draws PETs), annotator (also adds CTs and labels), reviewer, admin (also trains)."),
    ],
    file: UsersFile,
    password_stdin: PasswordFromStdin = False,
) -> None:
    """Add a person; the password is asked for, never an argument. Makes the file where there is none."""
    from lib.accounts import add_account

    add_account(file, name, role=role, password=_new_password(password_stdin))
    stderr.print(f"{name} may ask as {role}", markup=False)


@people.command("list")
def list_users(file: UsersFile, as_json: AsJson = False) -> None:
    """List names and roles. The JSON is a list of `{name, role}`."""
    from lib.accounts import read_accounts

    accounts = read_accounts(file).values()
    if as_json:
        _print_json([{"name": account.name, "role": account.role} for account in accounts])
        return
    table = _table("name", "role")
    for account in accounts:
        table.add_row(escape(account.name), account.role)
    stdout.print(table)


@people.command("password")
def change_user_password(name: str, file: UsersFile, password_stdin: PasswordFromStdin = False) -> None:
    """Give a person a new password; logins with the old one end at once."""
    from lib.accounts import change_password

    change_password(file, name, password=_new_password(password_stdin))
    stderr.print(f"{name} has a new password", markup=False)


@people.command("remove")
def remove_user(name: str, file: UsersFile) -> None:
    """Take a person out; what they are logged in with ends at once."""
    from lib.accounts import remove_account

    remove_account(file, name)
    stderr.print(f"{name} may not ask any more", markup=False)


def _new_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InputError("nobody is there to type a password; --password-stdin reads it from the input")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _check_pairs(pairs: Sequence[PairedSeries]) -> tuple[PairCheck, ...]:
    from lib.dicom.scan.header_index import cache_folder
    from lib.pairing.quality_checks.cached_checks import MEMORY_FILE, check_pairs
    from lib.pairing.quality_checks.check_cache import CheckCache

    with _progress() as progress:
        return check_pairs(pairs, CheckCache(cache_folder() / MEMORY_FILE), progress=progress)


def _scan(studies: Path) -> ScanReport:
    from lib.dicom.scan.header_index import default_index
    from lib.dicom.scan.scan import require_series, scan_folder

    with _progress() as progress:
        return require_series(scan_folder(studies, index=default_index(), progress=progress))


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield what long work calls as it goes on; a bar on stderr where somebody watches, else nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(what))

        yield show


def _table(*headings: str, title: str | None = None) -> Table:
    """Return an empty table; a heading that begins with > is a column of numbers."""
    table = Table(show_lines=False, title=title, title_justify="left")
    for heading in headings:
        table.add_column(
            escape(heading.lstrip(">")), justify="right" if heading.startswith(">") else "left", overflow="fold"
        )
    return table


def _print_json(value: Any) -> None:
    """Print dataclasses, paths and plain values as JSON on stdout, and nothing else."""

    def plain(part: object) -> object:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return dataclasses.asdict(part)
        return str(part)

    sys.stdout.write(json.dumps(value, default=plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code; a foreseen failure is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):  # names of files may be bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments)
    except SystemExit as left:  # how Typer ends: 0, or 2 for arguments it does not understand
        return left.code if isinstance(left.code, int) else 1
    except InputError as error:
        return _fail(error, code=2)
    except CT2PETError as error:
        return _fail(error, code=1)
    except Exception as error:
        return _fail(
            error, code=1, said=f"unexpected {type(error).__name__}: {error}; --debug before the verb tells where"
        )
    return 0


def _fail(error: Exception, *, code: int, said: str = "") -> int:
    logger.debug("traceback", exc_info=error)
    sys.stderr.write(f"error: {' '.join((said or str(error)).split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
