// What is shown over the CT: one of the PETs that are there, or the difference of two.

import { Difference } from "./difference.js";

const SYNTHETIC = "SYNTHETIC - NOT FOR DIAGNOSIS";
const LABELS = {
  real: "MEASURED PET - NOT FOR DIAGNOSIS", minusReal: "SYNTHETIC MINUS MEASURED PET - NOT FOR DIAGNOSIS",
  minusOther: "DIFFERENCE OF TWO SYNTHETIC PETS - NOT FOR DIAGNOSIS",
};
const SUBTRAHENDS = { minusReal: "real", minusOther: "other" };

export class Overlays {
  /** @param onChange Called when something else is to be shown. */
  constructor(onChange) {
    this.fieldset = document.getElementById("overlays");
    this.onChange = onChange;
    this.name = "none";
    this.volume = null; // what is shown
  }

  /** Offer the PETs that are there and their differences; show `name`, or else what was shown.
   *  @param volumes pet, other, real; null where there is none. @param titles Of the versions of pet and other. */
  update(volumes, titles, name = this.name) {
    this.volumes = volumes;
    const { pet, other, real } = volumes, found = { none: "none" };
    if (pet) found.pet = `Synthetic: ${titles.pet}`;
    if (other) found.other = `Synthetic: ${titles.other}`;
    if (real) found.real = "Measured";
    if (pet && real) found.minusReal = "Difference from the measured PET";
    if (pet && other) found.minusOther = `Difference from ${titles.other}`;
    this.choose(name in found ? name : pet ? "pet" : "none");
    const inputs = Object.entries(found).map(([key, text]) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "overlay", value: key, checked: key === this.name });
      input.addEventListener("change", () => this.choose(key));
      label.append(input, ` ${text}`);
      return label;
    });
    this.fieldset.replaceChildren(this.fieldset.querySelector("legend"), ...inputs);
  }

  /** Forget what is shown, but not what was chosen. */
  clear() {
    this.volume = null;
    this.volumes = {};
  }

  choose(name) {
    this.name = name;
    this.volume = name in SUBTRAHENDS ? this.difference(this.volumes[SUBTRAHENDS[name]]) : this.volumes[name] ?? null;
    this.onChange();
  }

  difference(subtrahend) {
    const { pet } = this.volumes, { volume } = this;
    const isShown = volume?.isSigned && volume.minuend === pet && volume.subtrahend === subtrahend;
    return isShown ? volume : new Difference(pet, subtrahend);
  }

  /** The difference that is shown; null if a PET is. */
  get shownDifference() {
    return this.volume?.isSigned ? this.volume : null;
  }

  get label() {
    return (this.volume && LABELS[this.name]) ?? SYNTHETIC;
  }
}
