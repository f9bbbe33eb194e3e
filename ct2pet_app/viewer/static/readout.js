// Values at the crosshair, read from the volumes, with the interval that the server computes.

import { postJson } from "./api.js";
import { LEVEL, difference, estimate, suv, whyNoInterval } from "./words.js";

const REST_MS = 120; // of the crosshair, before its interval is requested

export class Readout {
  constructor() {
    this.lines = Object.fromEntries(["position", "ct", "synthetic", "other", "real", "difference", "why"].map((name) => [name, document.getElementById(`at-${name}`)]));
  }

  /** Show the values of volumes at a point.
   *  @param at `point` in LPS mm and `voxel` of the CT. @param volumes ct, pet, other, real, and the difference that is shown; null where there is none.
   *  @param names Of `pet` and `other`: model and version. */
  show(at, volumes, names) {
    this.asking?.abort();
    clearTimeout(this.resting);
    this.lines.why.textContent = "";
    const { ct, pet, other, real, difference: shown } = volumes, [column, row, slice] = at.voxel;
    this.line("position", `Slice ${slice + 1} of ${ct.grid.shape[0]}, row ${row + 1}, column ${column + 1}. ` +
      `x ${at.point[0].toFixed(1)}, y ${at.point[1].toFixed(1)}, z ${at.point[2].toFixed(1)} mm (LPS).`, at.voxel.join(" "));
    const hu = ct.value(at.voxel), estimated = pet?.value(at.voxel) ?? null;
    this.line("ct", hu === null ? "This slice of the CT has not arrived yet." : `CT density ${hu} HU`, hu);
    const waiting = pet ? "The estimate of this slice has not arrived yet." : "";
    this.line("synthetic", estimated === null ? waiting : `Estimated SUV ${suv(estimated)}`, estimated);
    const second = other?.value(at.voxel) ?? null;
    const compared = second === null || estimated === null ? "" : `, ${difference(second, estimated, names.pet)}`;
    this.line("other", second === null ? "" : `${names.other} estimates SUV ${suv(second)}${compared}`, second);
    const measured = real?.value(nearest(real, at.point)) ?? null;
    const off = measured === null || estimated === null ? "" : `; the estimate is ${difference(estimated, measured, "it")}`;
    this.line("real", measured === null ? (real ? "No PET was measured here." : "") : `Measured SUV ${suv(measured)}${off}`, measured);
    const by = shown?.value(at.voxel) ?? null;
    this.line("difference", by === null ? "" : `Difference shown ${by > 0 ? "+" : ""}${suv(by)} SUV`, by);
    if (estimated !== null) this.resting = setTimeout(() => this.ask(estimated, ct.grid, names), REST_MS);
  }

  async ask(estimated, grid, { version }) {
    this.asking = new AbortController();
    const { signal } = this.asking;
    try {
      const value = Math.max(0, estimated), volume = (grid.spacing[0] * grid.spacing[1] * grid.spacing[2]) / 1000;
      const region = { kind: "voxel", volume_ml: volume, suv_mean: value, suv_max: value };
      const body = { regions: [region], level: LEVEL, version: version.version };
      const [found] = (await postJson(`ct2pet/intervals/${encodeURIComponent(version.model)}`, body, {}, signal)).regions;
      this.lines.synthetic.textContent = `Estimated SUV ${estimate(estimated, found.interval.mean)}`;
      this.lines.why.textContent = whyNoInterval(found.interval.mean);
    } catch {
      // the value stays without its interval: the crosshair has moved on, or the server cannot be reached
    }
  }

  line(name, text, value) {
    const line = this.lines[name];
    line.textContent = text;
    if (value === null || value === undefined) delete line.dataset.value;
    else line.dataset.value = value;
  }
}

function nearest(volume, point) {
  return volume.grid.toVoxel(point).map(Math.round);
}
