// Sentences that a reader meets: first what a number means, then the number.

export const LEVEL = 0.9;
const SEEN = {
  true: "This CT was part of the training: on other patients the estimate is less close.",
  false: "This CT was not part of the training.",
};

export function suv(value) {
  return value.toFixed(Math.abs(value) < 1 ? 2 : 1);
}

/** Return an estimate with its interval, or without one. */
export function estimate(value, found) {
  const text = suv(value);
  return found.low === null ? text : `${text} (${100 * found.level} % interval ${suv(found.low)} to ${suv(found.high)})`;
}

/** Return why estimates have no interval, as a sentence; empty where they have one. */
export function whyNoInterval(...found) {
  const reasons = new Set(found.filter((one) => one.low === null).map((one) => one.sentence));
  return [...reasons].map((text) => ` ${text}`).join("");
}

export function difference(value, other, than) {
  const by = value - other;
  if (Math.abs(by) < 0.005) return `the same as ${than}`;
  return `${suv(Math.abs(by))} ${by > 0 ? "above" : "below"} ${than}`;
}

/** Return what to tell about a synthetic PET before it is shown: text, and whether it is a warning. */
export function notices(metadata) {
  const { familiarity, seen_in_training: seen, warnings } = metadata;
  const found = [];
  if (familiarity.level === "unlike") {
    found.push({ text: `CT unlike those the model has learnt from. ${familiarity.sentence}`, isWarning: true });
  } else if (familiarity.level === "unusual") {
    found.push({ text: familiarity.sentence, isWarning: true });
  } else if (familiarity.level === "unknown") {
    const why = familiarity.reasons.length ? `: ${familiarity.reasons.join("; ")}` : "";
    found.push({ text: `It is not known whether this CT resembles those the model has learnt from${why}.`, isWarning: false });
  }
  if (seen !== null) found.push({ text: SEEN[seen], isWarning: seen });
  const told = new Set(found.map((one) => one.text));
  for (const text of warnings) {
    if (!told.has(text) && !(familiarity.sentence && text.includes(familiarity.sentence))) found.push({ text, isWarning: true });
  }
  return found;
}

export function date(text) {
  return /^\d{8}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text;
}

export function status(image) {
  const found = [image.has_pet ? "Measured PET available" : "No measured PET"];
  if (image.trained_on.length) found.push(`Part of the training of ${image.trained_on.join(", ")}`);
  if (image.labels.length) found.push(`Saved: ${image.labels.join(", ")}`);
  if (image.warnings.length) found.push(`${image.warnings.length} ${image.warnings.length === 1 ? "warning" : "warnings"}`);
  return found.join(". ");
}
