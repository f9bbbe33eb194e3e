"""The server's sentences as the panel says them: the same, with the way out that its user has.

A server answers whoever asks, so it names addresses, parameters and start options. In the panel there are buttons, and
somebody who runs the server. A rule for each way out that differs; at the end, what is an address all the same is left
out, for it helps nobody here.
"""

from __future__ import annotations

import re

ASK = "ask who runs the server"
# what the server says, what the panel says; in this order
RULES = (
    # models, versions and trainings
    (
        r"train it here \(POST /train/\S+, or Train in Slicer\), or run `[^`]*` and put \S+ into the server's models "
        r"folder as \S+",
        f"press Train in section 7, or {ASK} to put one there",
    ),
    (
        r'To serve it all the same: POST /ct2pet/models/\S+?/serve with \{"version": (\d+)\}',
        r"To serve it all the same: choose version \1 in section 7, then press Use the chosen version.",
    ),
    (r'; name one of \[([\d, ]*)\] as \{"version": \d+\}', r"; choose one of \1 in section 7"),
    (r"not trained yet; GET /info/ says how that is done", "not trained yet: press Train in section 7"),
    (r"; start the server with --conf models \S+", f"; {ASK} to offer it"),
    (r"training is switched off on this server \(\w+\)", f"training is switched off on this server; {ASK}"),
    (
        r"give one model that was trained with validation patients \([^)]*\)",
        "untick the map of the error, or choose a model that was trained with validation patients",
    ),
    (r"lower optimiser\.\w+ \(\S+\) or set optimiser\.\w+, then start again", f"{ASK} to train with a lower rate"),
    (
        r"add patients, or set split\.validation and split\.test lower for patients who have no side yet",
        f"add pairs in section 6, or {ASK} to set fewer patients aside",
    ),
    # images and pairs
    (
        r"give the SeriesInstanceUID of one of its CT series \(GET /datastore/\S+ lists them\), or send a file",
        "choose a study of the list in section 2, or a CT of the scene",
    ),
    (r"; GET /datastore/\S+ lists them", "; the list in section 2 has those there are"),
    (r"; GET /ct2pet/(?:series|pairs) says why for each(?: series)?", f"; {ASK}, it knows why for each"),
    (r"; GET /ct2pet/pairs lists them", ""),
    (r"; look at GET /ct2pet/pairs", "; press Refresh in section 2 in a while"),
    (
        r"Whoever has looked and answers for it sends it again with despite_checks=true",
        f"If you have looked and answer for it, {ASK} to take it all the same",
    ),
    (
        r"takes no series; ask for the \.zip and store it there yourself",
        "takes no series; press Save as DICOM series, and store it there yourself",
    ),
    # the server itself
    (r", or start the server with a larger --conf max_upload_mb", f", or {ASK} to allow more"),
    (
        r"use its IP address, or, as for the name of a reverse proxy, allow it with --conf origins \S+",
        f"use its IP address, or {ASK} to allow that name",
    ),
    (r"its owner can allow them with --conf origins", f"{ASK} to allow them"),
    (
        r"(?:there is nothing at this address|this address does not take \w+); GET / lists [\w ]+",
        f"the server does not know what this panel asks: one of the two is older than the other; {ASK}",
    ),
    (r"free space and (?:ask again|resume)", f"{ASK} to free space, then press the button again"),
    (r"(?<=[,;] )free space(?=$|[.;)])", f"{ASK} to free space"),
    (r" \(MONAI_LABEL_\w+\)", ""),
    (r"--conf (\w+)", r"the server's setting \1"),
    # any address that is left
    (r" ?\((?:GET|POST|PUT|DELETE) /[^()]*\)", ""),
    (r"[;:,]? ?(?:(?:see|look at|ask) )?(?:GET|POST|PUT|DELETE) /[^.;]*", ""),
)
_COMPILED = tuple((re.compile(pattern), words) for pattern, words in RULES)
LOG_LINE = re.compile(r"^(?:\[[^\]]*\] ?)+\([^)]*\) - ")  # time, process, thread, level, place


def for_panel(sentence: str) -> str:
    """Return a sentence of the server with the way out that a user of the panel has."""
    for pattern, words in _COMPILED:
        sentence = pattern.sub(words, sentence)
    return sentence


def last_words(details: tuple[str, ...]) -> str:
    """Return why a training failed, out of the last lines of its log; empty where they do not say."""
    lines = [LOG_LINE.sub("", line).strip() for line in details]
    said = [line for line in lines if "was not trained: " in line]
    return for_panel(said[-1]) if said else ""
