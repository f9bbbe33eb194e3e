"""Model card as HTML for the panel."""

from __future__ import annotations

from html import escape

from CT2PETLib.client.schemas import BASELINES, Card, MetricInterval, Model
from CT2PETLib.client.training import Version

METRICS = (("mae_suv_body", "MAE [SUV]"), ("psnr_db_body", "PSNR [dB]"), ("ssim_body", "SSIM"))
BASELINE_NAMES = ("zero uptake", "constant SUV", "mean SUV per HU", "median SUV per HU")
METHODS = {"model": "this model", **dict(zip(BASELINES, BASELINE_NAMES))}
BASELINE_RESULTS = {
    "beats all": "significantly better than all four baselines",
    "not surely": "better than all four baselines on average, but not significantly",
    "does not beat all": "not better than all four baselines",
    "not judged": "not evaluated on unseen patients",
}


def served_summary(model: Model) -> str:
    """Return the served version and its comparison with the baselines in a line."""
    if not model.trained:
        return "This model is not trained yet."
    version = f"Version {model.version}: " if model.version else ""
    result = BASELINE_RESULTS.get(model.baseline_result, model.baseline_result or "no comparison with baselines")
    return f"{version}{result}. See the model card."


def version_summary(version: Version) -> str:
    """Return a version that is not served and its comparison with the baselines in a line."""
    return f"Version {version.number}, not served. {version.baseline_summary}".strip()


def version_page(model: str, version: Version) -> str:
    """Return the information on a version that is not served as HTML: comparison, origin and verdict."""
    parts = [
        f"<p><b>{escape(model)}</b>, version {version.number}, not served<br>{escape(version.baseline_summary)}</p>",
        f"<p><b>Training data:</b> {_patients(version.patients)}; added {escape(version.kept[:10])}, "
        f"{escape(version.origin)}.</p>",
        f"<p><b>Verdict:</b> {escape(version.verdict)}</p>" if version.verdict else "",
    ]
    return "".join(parts)


def model_page(model: Model) -> str:
    """Return a model card as HTML: comparison with the baselines, training data, metrics and limits."""
    card = model.card
    if card is None:
        return f"<p><b>{escape(model.name)}</b>: {escape(model.baseline_summary or 'no model card.')}</p>"
    version = f", version {escape(model.version)}" if model.version else ""
    parts = [
        f"<p><b>{escape(model.name)}</b>{version}<br>{escape(model.baseline_summary)}</p>",
        f"<p><b>Training data:</b> {_patients(card.patients)}, {card.slices} slices{_origins(card)}; "
        f"{escape(card.created[:10])}, recipe {escape(card.recipe)}, {card.stages} stage(s).</p>",
        _metrics(card),
        f"<p><b>Intervals:</b> {escape(card.interval_coverage)}</p>" if card.interval_coverage else "",
        f"<p><b>Intended use:</b> {escape(card.intended_use)}</p>" if card.intended_use else "",
        f"<p><b>Limitations:</b> {escape(card.limits)}</p>" if card.limits else "",
    ]
    return "".join(parts)


def _patients(count: int) -> str:
    """Return a number of training patients; only imported networks have none, because theirs are unknown."""
    return f"{count} patients" if count else "unknown patients (imported network)"


def _origins(card: Card) -> str:
    labels = (("body_part", "body part"), ("tracer", "tracer"), ("ct_scanner", "CT"), ("pet_scanner", "PET"))
    parts = [
        f"{label}: {', '.join(f'{name} ({count})' for name, count in card.origins[key].items())}"
        for key, label in labels
        if card.origins.get(key)
    ]
    return escape(f" ({'; '.join(parts)})" if parts else "")


def _metrics(card: Card) -> str:
    if not card.metrics:
        return "<p><b>Not evaluated:</b> there are no metrics for unseen patients.</p>"
    head = "".join(f"<th align='right'>&nbsp;{title}</th>" for _, title in METRICS)
    body = "".join(
        f"<tr><td>{escape(METHODS.get(name, name))}</td>"
        + "".join(f"<td align='right'>&nbsp;{_format(interval)}</td>" for interval in intervals)
        + "</tr>"
        for name, intervals in card.rows(tuple(metric for metric, _ in METRICS))
    )
    patients = f"{card.evaluated_patients} {escape(card.evaluated_on)} patients"
    return (
        f"<p><b>Metrics in the body, {patients}</b>, mean and 95 % confidence interval:</p>"
        f"<table><tr><th></th>{head}</tr>{body}</table>"
    )


def _format(interval: MetricInterval) -> str:
    if interval.mean is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ({interval.low:.2f}–{interval.high:.2f})"
