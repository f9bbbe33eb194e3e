// One CT with its synthetic PET: what is fetched, shown and compared.

import { ApiError, getJson } from "./api.js";
import { Controls } from "./controls.js";
import { save } from "./downloads.js";
import { cardElements, fill, listVersions, title } from "./models.js";
import { Overlays } from "./overlays.js";
import { Planes } from "./planes.js";
import { Projection } from "./projection.js";
import { Readout } from "./readout.js";
import { Regions } from "./regions.js";
import { Scene } from "./scene.js";
import { Synthesis, emptyCt, fetchCt, fetchGrid, fetchMeasured } from "./synthesis.js";
import { notices } from "./words.js";

const UNLIKE = "unlike_training_cts";
const CHANGED_MS = 150; // while a slider moves, volumes are drawn again at most this often

const byId = (id) => document.getElementById(id);

export class CtPage {
  constructor(onError) {
    this.onError = onError;
    this.volumes = { ct: null, pet: null, other: null, real: null };
    this.planes = new Planes({ onStep: (voxel) => this.goTo(voxel), onMeasure: () => this.measure() });
    this.scene = new Scene(byId("canvas"), this.planes.elements, (point) => this.moved(point));
    this.projection = new Projection(byId("projection"));
    this.overlays = new Overlays(() => this.showOverlay());
    this.readout = new Readout();
    this.regions = new Regions(this.planes.elements, this.scene);
    this.controls = new Controls({
      onPet: () => { clearTimeout(this.changing); this.changing = setTimeout(() => this.draw(), CHANGED_MS); },
      onCt: (window) => this.scene.setCtWindow(window),
      onSide: (side) => this.projection.setSide(side),
      onZoom: (zoom) => { this.scene.zoomTo(zoom, this.at.point); this.regions.draw(); },
    });
    byId("measure").addEventListener("click", () => this.measure());
    byId("model").addEventListener("change", () => this.choose());
    byId("compare").addEventListener("change", () => this.compare());
    byId("allow-unlike").addEventListener("click", () => this.choose({ allowUnlike: true }));
    byId("projection").addEventListener("click", (event) => this.picked(event));
    for (const button of document.querySelectorAll("[data-download]")) button.addEventListener("click", () => this.download(button));
    new ResizeObserver(() => { this.projection.draw(); this.regions.draw(); }).observe(byId("views"));
  }

  /** Prepare the canvas, so that the first CT need not wait for it. */
  start() {
    this.starting ??= this.scene.start();
    return this.starting;
  }

  close() {
    this.fetching?.abort();
    this.scene.clear();
    this.overlays.clear();
    this.volumes = { ct: null, pet: null, other: null, real: null };
    this.projection.show(null, null);
    this.synthesis = this.second = null;
  }

  /** Open a CT. @param show Called once its requests have been sent: laying the views out takes a while. */
  async open(image, show) {
    this.close();
    this.fetching = new AbortController();
    const { signal } = this.fetching;
    this.image = image;
    this.clearTexts();
    const [grid, versions] = await Promise.all([fetchGrid(image, signal), listVersions(signal), this.start()]);
    this.versions = versions;
    if (signal.aborted) return;
    this.volumes.ct = emptyCt(grid);
    this.planes.show(grid);
    fill(byId("model"), versions, { chosen: versions[0]?.key, none: versions.length ? undefined : "No trained model" });
    const middle = grid.size.map((size) => Math.floor(size / 2));
    this.at = { voxel: middle, point: grid.toWorld(middle) };
    this.showAt();
    this.updateOverlays();
    const synthesized = this.choose();
    this.guard(this.fetchCt(signal), signal);
    show();
    this.guard(this.fetchMeasured(signal, synthesized), signal);
  }

  clearTexts() {
    for (const id of ["notices", "progress", "download-text", "card-text"]) byId(id).replaceChildren();
    byId("unlike").hidden = true;
    this.regions.clear();
    this.planes.label(this.overlays.label);
  }

  async guard(work, signal) {
    try {
      await work;
    } catch (error) {
      if (!signal.aborted) this.onError(error);
    }
  }

  get looked() {
    return () => this.at.voxel[2];
  }

  async fetchCt(signal) {
    const { ct } = this.volumes;
    await fetchCt(this.image, ct, {
      looked: this.looked, signal,
      onSlab: (start, stop) => {
        if (!this.scene.nv.volumes.length) {
          this.scene.showCt(ct, this.controls.ct);
          this.scene.moveTo(this.at.point);
          this.draw();
        } else this.scene.arrived(ct);
        this.projection.arrived(ct, start, stop);
        this.showAt();
      },
    });
  }

  /** Fetch what is known of the CT, and its measured PET once the first slab of the synthetic one has arrived. */
  async fetchMeasured(signal, synthesized) {
    const info = await getJson("datastore/image/info", { image: this.image }, signal);
    document.title = `${info.patient_id || this.image} - ct2pet viewer`;
    byId("title").textContent = [info.patient_id || this.image, info.description].filter(Boolean).join(", ");
    await synthesized;
    if (!info.pet || signal.aborted) return;
    this.volumes.real = await fetchMeasured(info.pet.series_instance_uid, signal);
    this.updateOverlays();
    this.showAt();
  }

  /** Show the PET of the chosen model; return when its first slab has arrived, or none will. */
  choose({ allowUnlike = false } = {}) {
    this.synthesizing?.abort();
    this.synthesizing = new AbortController();
    this.fetching.signal.addEventListener("abort", () => this.synthesizing.abort());
    const { signal } = this.synthesizing;
    this.volumes.pet = this.volumes.other = this.synthesis = this.second = null;
    this.allowUnlike = allowUnlike;
    byId("unlike").hidden = true;
    byId("notices").replaceChildren();
    const version = this.versions.find((one) => one.key === byId("model").value);
    fill(byId("compare"), this.versions.filter((one) => one !== version), { none: "nothing" });
    this.updateOverlays();
    this.showAt();
    if (version === undefined) {
      byId("progress").textContent = "No model of this server has been trained yet: the CT is shown alone.";
      return;
    }
    return new Promise((resolve) => this.guard(this.synthesize(version, signal, resolve), signal).then(resolve));
  }

  async synthesize(version, signal, onFirst) {
    this.synthesis = new Synthesis(this.image, version, this.volumes.ct.grid, { allowUnlike: this.allowUnlike, signal });
    const { synthesis } = this;
    this.showCard();
    byId("progress").textContent = "The synthetic PET is being made.";
    try {
      await synthesis.run({
        looked: this.looked,
        onFirst: (metadata) => { this.notify(metadata); this.showCard(); },
        onSlab: (start, stop) => { this.slabArrived("pet", synthesis, start, stop); onFirst(); },
      });
    } catch (error) {
      if (signal.aborted) return;
      byId("progress").textContent = "";
      if (!(error instanceof ApiError) || error.code !== UNLIKE) throw error;
      byId("unlike-text").textContent = `The synthetic PET of this CT may be wrong. What differs: ${error.params.reasons.join("; ")}.`;
      byId("unlike").hidden = false;
      byId("allow-unlike").focus();
    }
  }

  compare() {
    this.comparing?.abort();
    this.comparing = new AbortController();
    this.synthesizing.signal.addEventListener("abort", () => this.comparing.abort());
    const { signal } = this.comparing;
    const version = this.versions.find((one) => one.key === byId("compare").value);
    this.volumes.other = this.second = null;
    if (version !== undefined) {
      const second = new Synthesis(this.image, version, this.volumes.ct.grid, { allowUnlike: this.allowUnlike, signal });
      this.second = second;
      this.guard(second.run({
        looked: this.looked, onFirst: () => {}, onSlab: (start, stop) => this.slabArrived("other", second, start, stop),
      }), signal);
    }
    this.showCard();
    this.updateOverlays();
    this.showAt();
  }

  slabArrived(name, synthesis, start, stop) {
    const { volume, version } = synthesis;
    if (this.volumes[name] === null) {
      this.volumes[name] = volume;
      this.updateOverlays(name === "pet" ? "pet" : undefined);
    }
    this.overlays.shownDifference?.add(start, stop);
    for (const one of [volume, this.overlays.shownDifference].filter(Boolean)) {
      this.scene.arrived(one);
      this.projection.arrived(one, start, stop);
    }
    const count = volume.arrived.length, done = count - volume.left;
    byId("progress").textContent = volume.isComplete ? `${title(version)}: complete` : `${title(version)}: ${done} of ${count} slices`;
    this.showAt();
  }

  notify(metadata) {
    byId("notices").replaceChildren(...notices(metadata).map(({ text, isWarning }) => {
      const line = document.createElement("p");
      line.textContent = text;
      line.className = isWarning ? "warning" : "";
      return line;
    }));
  }

  showCard() {
    const { version, metadata } = this.synthesis;
    byId("card-text").replaceChildren(...cardElements(version, this.second?.version, metadata?.model.card));
  }

  /** Offer what can be shown over the CT; choose one of it, or keep the choice. */
  updateOverlays(chosen) {
    const titles = { pet: this.synthesis && title(this.synthesis.version), other: this.second && title(this.second.version) };
    this.overlays.update(this.volumes, titles, chosen);
  }

  showOverlay() {
    const { label, volume } = this.overlays, isSigned = volume?.isSigned ?? false;
    this.planes.label(label, { isSigned });
    this.controls.showDifference(isSigned);
    this.draw();
    this.projection.show(this.volumes.ct, volume);
    if (this.volumes.ct) this.showAt();
  }

  /** Draw with the present settings. */
  draw() {
    const settings = this.controls.pet, colours = this.scene.colours(settings.colormap);
    const below = settings.below && this.scene.colours(settings.below);
    this.controls.showColours(colours, below);
    this.projection.set(settings, colours, below);
    this.scene.showPet(this.overlays.volume, settings);
  }

  moved(point) {
    const { ct } = this.volumes;
    if (ct === null) return;
    const voxel = ct.grid.nearest(point);
    this.at = { voxel, point: ct.grid.toWorld(voxel) };
    this.showAt();
  }

  goTo(voxel) {
    this.at = { voxel, point: this.volumes.ct.grid.toWorld(voxel) };
    this.scene.moveTo(this.at.point);
    this.showAt();
  }

  picked(event) {
    const point = this.projection.pick(event.offsetX, event.offsetY);
    if (point !== null) this.goTo(this.volumes.ct.grid.nearest(point));
  }

  get names() {
    const name = (one) => (one ? `${one.version.model} version ${one.version.version}` : "");
    return { pet: name(this.synthesis), other: name(this.second), version: this.synthesis?.version };
  }

  showAt() {
    this.planes.at(this.at.voxel, this.at.point);
    this.readout.show(this.at, { ...this.volumes, difference: this.overlays.shownDifference }, this.names);
    this.regions.draw(this.at.point);
  }

  measure() {
    if (this.volumes.ct === null) return;
    const syntheses = [this.synthesis, this.second].filter(Boolean);
    if (!syntheses.length) return;
    const { image, allowUnlike } = this;
    this.guard(this.regions.measure(this.at.point, { image, syntheses, real: this.volumes.real, allowUnlike }), this.fetching.signal);
  }

  async download(button) {
    if (!this.synthesis) return;
    const { image, version } = this.synthesis, text = byId("download-text");
    button.disabled = true;
    text.textContent = "The server makes the file.";
    await this.guard(save(button.dataset.download, { image, version, allowUnlike: this.allowUnlike }), this.fetching.signal);
    text.textContent = "";
    button.disabled = false;
  }
}
