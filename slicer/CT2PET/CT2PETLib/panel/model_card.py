"""Model card as HTML for the panel, and warnings about a PET."""

from __future__ import annotations

from html import escape

from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.client.schemas import BASELINES, Card, MetricInterval, Model
from CT2PETLib.client.training import Version
from CT2PETLib.i18n import _

METRICS = (("mae_suv_body", "MAE [SUV]"), ("psnr_db_body", "PSNR [dB]"), ("ssim_body", "SSIM"))
BASELINE_NAMES = (_("zero uptake"), _("constant SUV"), _("mean SUV per HU"), _("median SUV per HU"))
METHODS = {"model": _("this model"), **dict(zip(BASELINES, BASELINE_NAMES))}
BASELINE_RESULTS = {
    "beats all": _("Better than all four baselines"),
    "not surely": _("Better than all four baselines on average, but not significantly"),
    "does not beat all": _("Not better than all four baselines"),
    "not judged": _("Not compared with the baselines"),
}
TESTED_ON = {
    "validation": _("tested on {count} validation patients"),
    "test": _("tested on {count} test patients"),
    "out_of_fold": _("tested on {count} patients out of fold"),
}


def served_summary(model: Model) -> str:
    """Return how the served version compares with the baselines, and on whom it was tested, in a line."""
    if not model.trained:
        return _("This model is not trained yet.")
    result = BASELINE_RESULTS.get(model.baseline_result, model.baseline_result or _("No comparison with baselines"))
    version = _(" (version {version})").format(version=model.version) if model.version else ""
    tested = f"; {_tested_on(model.card)}" if model.card is not None and model.card.evaluated_patients else ""
    return _("{result}{tested}{version}. See the model card.").format(result=result, tested=tested, version=version)


def version_summary(version: Version) -> str:
    """Return a version that is not served and its comparison with the baselines in a line."""
    return f"{version.baseline_summary} {_('Version {number}, not served.').format(number=version.number)}".strip()


def version_page(model: str, version: Version) -> str:
    """Return the information on a version that is not served as HTML: comparison, origin and verdict."""
    head = _("version {number}, not served").format(number=version.number)
    added = _("{patients}; added {date}, {origin}.").format(
        patients=_patients(version.patients), date=version.kept[:10], origin=version.origin
    )
    parts = [
        f"<p><b>{escape(version.baseline_summary)}</b><br>{escape(model)}, {escape(head)}</p>",
        _paragraph(_("Training data"), added),
        _paragraph(_("Verdict"), version.verdict),
    ]
    return "".join(parts)


def model_page(model: Model) -> str:
    """Return a model card as HTML: comparison with the baselines, training data, metrics and limits."""
    card = model.card
    if card is None:
        return f"<p><b>{escape(model.name)}</b>: {escape(model.baseline_summary or _('no model card.'))}</p>"
    version = _(", version {version}").format(version=model.version) if model.version else ""
    result, separator, numbers = model.baseline_summary.partition(". ")
    data = _("{patients}, {slices} slices{origins}; {date}, recipe {recipe}, {stages} stage(s).").format(
        patients=_patients(card.patients), slices=card.slices, origins=_origins(card), date=card.created[:10],
        recipe=card.recipe, stages=card.stages,
    )  # fmt: skip
    parts = [
        f"<p><b>{escape(result + separator.strip())}</b> {escape(numbers)}<br>{escape(model.name + version)}</p>",
        _paragraph(_("Training data"), data),
        _metrics(card),
        _paragraph(_("Intervals"), card.interval_coverage),
        _paragraph(_("Intended use"), card.intended_use),
        _paragraph(_("Limitations"), card.limits),
    ]
    return "".join(parts)


def reader_warnings(metadata: InferResult) -> str:
    """Return what a reader has to know of a PET before seeing it; empty if there is nothing."""
    seen = _("This patient was part of the training: on other patients, expect larger errors.")
    return " ".join(filter(None, (metadata.unlike_warning, seen if metadata.seen_in_training else "")))


def _paragraph(title: str, text: str) -> str:
    return f"<p><b>{escape(title)}:</b> {escape(text)}</p>" if text else ""


def _patients(count: int) -> str:
    """Return a number of training patients; only imported networks have none, because theirs are unknown."""
    if not count:
        return _("unknown patients (imported network)")
    return _("1 patient") if count == 1 else _("{count} patients").format(count=count)


def _tested_on(card: Card) -> str:
    if card.evaluated_patients == 1:
        return _("tested on 1 patient")
    side = TESTED_ON.get(card.evaluated_on, _("tested on {count} patients"))
    return side.format(count=card.evaluated_patients)


def _origins(card: Card) -> str:
    labels = (("body_part", _("body part")), ("tracer", _("tracer")), ("ct_scanner", "CT"), ("pet_scanner", "PET"))
    parts = [
        f"{label}: {', '.join(f'{_nuclide(name)} ({count})' for name, count in card.origins[key].items())}"
        for key, label in labels
        if card.origins.get(key)
    ]
    return f" ({'; '.join(parts)})" if parts else ""


def _nuclide(name: str) -> str:
    """Return a name with a nuclide as F-18, which DICOM's code meanings write as F^18^."""
    element, *rest = name.split("^")
    return f"{element}-{rest[0]}{rest[1]}" if element and len(rest) == 2 else name


def _metrics(card: Card) -> str:
    if not card.metrics:
        return _paragraph(_("Not evaluated"), _("there are no metrics for unseen patients."))
    head = "".join(f"<th align='right'>&nbsp;{title}</th>" for __, title in METRICS)
    body = "".join(
        f"<tr><td>{escape(METHODS.get(name, name))}</td>"
        + "".join(f"<td align='right'>&nbsp;{_format(interval)}</td>" for interval in intervals)
        + "</tr>"
        for name, intervals in card.rows(tuple(metric for metric, __ in METRICS))
    )
    title = _("Metrics in the body, {tested}").format(tested=_tested_on(card))
    return f"{_paragraph(title, _('mean and 95 % confidence interval'))}<table><tr><th></th>{head}</tr>{body}</table>"


def _format(interval: MetricInterval) -> str:
    if interval.mean is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ({interval.low:.2f}–{interval.high:.2f})"
