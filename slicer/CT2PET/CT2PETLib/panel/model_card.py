"""A model card as a page for the panel."""

from __future__ import annotations

from html import escape

from CT2PETLib.client.schemas import BASELINES, Card, Figure, Model
from CT2PETLib.client.training import Version

MEASURES = (("mae_suv_body", "MAE [SUV]"), ("psnr_db_body", "PSNR [dB]"), ("ssim_body", "SSIM"))
METHODS = {
    "model": "this model",
    **dict(zip(BASELINES, ("no uptake at all", "one SUV everywhere", "mean SUV of each HU", "median SUV of each HU"))),
}


MARKS = {
    "beats all": "surely better than every trivial predictor",
    "not surely": "not surely better than every trivial predictor",
    "does not beat all": "worse than a trivial predictor in places",
    "not judged": "never judged on patients it has not learnt from",
}


def standing(model: Model) -> str:
    """Return in a line which version is served and how it stands; the card says it at length."""
    if not model.trained:
        return "Nobody has trained this model yet."
    version = f"Version {model.version}: " if model.version else ""
    return f"{version}{MARKS.get(model.mark, model.mark or 'has no card')}. Read the model card."


def version_summary(version: Version) -> str:
    """Return in a line how a version stands that is not the one served."""
    return f"Version {version.number}, not the one that is served. {version.standing}".strip()


def version_page(model: str, version: Version) -> str:
    """Return what is known of a version that is not served, as HTML: how it came, how it stands, what was decided."""
    parts = [
        f"<p><b>{escape(model)}</b>, version {version.number}, not the one that is served<br>"
        f"{escape(version.standing)}</p>",
        f"<p><b>Learnt from</b> {version.patients} patients; kept {escape(version.kept[:10])}, "
        f"{escape(version.origin)}.</p>",
        f"<p><b>Decided</b> {escape(version.verdict)}</p>" if version.verdict else "",
    ]
    return "".join(parts)


def model_page(model: Model) -> str:
    """Return a model's card as HTML: how it stands, what it learnt from, its figures, its limits."""
    card = model.card
    if card is None:
        return f"<p><b>{escape(model.name)}</b>: {escape(model.standing or 'has no card.')}</p>"
    version = f", version {escape(model.version)}" if model.version else ""
    parts = [
        f"<p><b>{escape(model.name)}</b>{version}<br>{escape(model.standing)}</p>",
        f"<p><b>Learnt from</b> {card.patients} patients, {card.slices} slices{_origins(card)}; "
        f"{escape(card.created[:10])}, recipe {escape(card.recipe)}, {card.stages} stage(s).</p>",
        _figures(card),
        f"<p><b>For</b> {escape(card.intended_use)}</p>" if card.intended_use else "",
        f"<p><b>Limits</b> {escape(card.limits)}</p>" if card.limits else "",
    ]
    return "".join(parts)


def _origins(card: Card) -> str:
    named = (("body_part", "body part"), ("tracer", "tracer"), ("ct_scanner", "CT"), ("pet_scanner", "PET"))
    words = [
        f"{label}: {', '.join(f'{name} ({count})' for name, count in card.origins[key].items())}"
        for key, label in named
        if card.origins.get(key)
    ]
    return escape(f" ({'; '.join(words)})" if words else "")


def _figures(card: Card) -> str:
    if not card.figures:
        return "<p><b>Not judged</b>: there are no figures of patients it has not learnt from.</p>"
    rows = card.rows(tuple(measure for measure, _ in MEASURES))
    head = "".join(f"<th align='right'>&nbsp;{title}</th>" for _, title in MEASURES)
    body = "".join(
        f"<tr><td>{escape(METHODS.get(name, name))}</td>"
        + "".join(f"<td align='right'>&nbsp;{_words(figure)}</td>" for figure in figures)
        + "</tr>"
        for name, figures in rows
    )
    where = f"{card.evaluated_patients} {escape(card.evaluated_on)} patients"
    return f"<p><b>In the body of {where}</b>, mean and 95 % interval:</p><table><tr><th></th>{head}</tr>{body}</table>"


def _words(figure: Figure) -> str:
    if figure.mean is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.mean:.2f}"
    return f"{figure.mean:.2f} ({figure.low:.2f}–{figure.high:.2f})"
