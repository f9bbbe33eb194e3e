// Which model and version to show and to compare with, and the model card.

import { getJson } from "./api.js";

const METRICS = { mae_suv_body: "Mean absolute error in the body, SUV" };

/** Return every usable version of every model, the served ones first. */
export async function listVersions(signal) {
  const models = await getJson("ct2pet/models", {}, signal);
  const found = models.flatMap(({ model, versions }) =>
    versions.filter((one) => !one.card.unusable).map((one) => ({ ...one, model, key: `${model}/${one.version}` })),
  );
  return [...found.filter((one) => one.served), ...found.filter((one) => !one.served).reverse()];
}

export function title({ model, version, served }) {
  return `${model} version ${version}${served ? ", served" : ""}`;
}

export function fill(select, versions, { none, chosen }) {
  const options = none === undefined ? [] : [new Option(none, "")];
  options.push(...versions.map((one) => new Option(title(one), one.key, false, one.key === chosen)));
  select.replaceChildren(...options);
}

/** Return the elements that show a version's card, next to that of the version it is compared with. */
export function cardElements(version, other, card) {
  const versions = other ? [version, other] : [version];
  const table = document.createElement("table");
  const row = (name, values) => {
    const line = table.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    line.append(head);
    for (const value of values) line.insertCell().textContent = value ?? "";
  };
  row("", versions.map(title));
  row("Better than the baselines?", versions.map((one) => one.card.standing));
  row("Patients it was trained on", versions.map((one) => one.card.training_patients));
  row("Evaluated on", versions.map((one) => one.card.judged_on ?? "no patients"));
  for (const [name, values] of metricRows(versions)) row(name, values);
  row("Made", versions.map((one) => one.card.created?.slice(0, 10)));
  row("Recipe", versions.map((one) => one.card.recipe));
  row("Checksum", versions.map((one) => one.checksum.slice(0, 12)));
  row("Decision", versions.map((one) => one.verdict?.verdict ?? one.origin));
  const texts = ["intended_use", "limits"].filter((key) => card?.[key]).map((key) => {
    const text = document.createElement("p");
    text.textContent = card[key];
    return text;
  });
  return [...texts, table];
}

function metricRows(versions) {
  const rows = new Map();
  versions.forEach((one, column) => {
    for (const [method, numbers] of Object.entries(one.card.figures ?? {})) {
      for (const [metric, value] of Object.entries(numbers)) {
        const name = `${METRICS[metric] ?? metric}: ${method === "model" ? "this model" : `baseline ${method}`}`;
        if (!rows.has(name)) rows.set(name, versions.map(() => ""));
        rows.get(name)[column] = value === null ? "" : value.toFixed(3);
      }
    }
  });
  return rows;
}
