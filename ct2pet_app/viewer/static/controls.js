// The settings of the picture: window, opacity, threshold, colours.

// Maps whose lightness rises steadily, so that they can be read without colour vision
const COLORMAPS = { inferno: "Inferno", magma: "Magma", viridis: "Viridis", cividis: "Cividis", gray: "Grey" };
const CT_WINDOWS = { "Soft tissue": [-160, 240], Lung: [-1350, 150], Bone: [-450, 1050], "All": [-1000, 1000] };

export class Controls {
  /** @param onPet Called with the settings of the PET. @param onCt Called with the window of the CT, HU. */
  constructor({ onPet, onCt, onSide, onZoom }) {
    const byId = (id) => document.getElementById(id);
    this.inputs = Object.fromEntries(["window-low", "window-high", "difference-window", "opacity", "threshold", "colormap"].map((id) => [id, byId(id)]));
    this.inputs.colormap.replaceChildren(...Object.entries(COLORMAPS).map(([value, text]) => new Option(text, value)));
    this.ctWindow = byId("ct-window");
    this.ctWindow.replaceChildren(...Object.keys(CT_WINDOWS).map((name) => new Option(name)));
    for (const input of Object.values(this.inputs)) input.addEventListener("input", () => { this.tell(); onPet(this.pet); });
    this.ctWindow.addEventListener("change", () => onCt(this.ct));
    this.isDifference = false;
    this.zoom = byId("zoom");
    this.zoom.addEventListener("input", () => onZoom(Number(this.zoom.value)));
    byId("projection-side").addEventListener("change", (event) => onSide(event.target.value));
    this.tell();
  }

  get ct() {
    return CT_WINDOWS[this.ctWindow.value];
  }

  get pet() {
    const number = (id) => Number(this.inputs[id].value) || 0;
    const common = { opacity: number("opacity") / 100, threshold: number("threshold") };
    if (this.isDifference) {
      return { low: 0, high: Math.max(number("difference-window"), 0.5), colormap: "above", below: "below", ...common };
    }
    const low = Math.max(0, number("window-low"));
    return { low, high: Math.max(number("window-high"), low + 0.1), colormap: this.inputs.colormap.value, ...common };
  }

  /** Show the settings of a difference, or those of a PET. */
  showDifference(isDifference) {
    this.isDifference = isDifference;
    for (const id of ["window-low", "window-high", "colormap"]) this.inputs[id].parentElement.hidden = isDifference;
    this.inputs["difference-window"].parentElement.hidden = !isDifference;
    this.tell();
  }

  tell() {
    const { low, high, opacity, threshold, below } = this.pet;
    document.getElementById("opacity-text").textContent = `${Math.round(100 * opacity)} %`;
    document.getElementById("threshold-text").textContent = `${threshold.toFixed(1)} SUV`;
    document.getElementById("bar-low").textContent = below ? `${-high} SUV, lower` : `SUV ${low}`;
    document.getElementById("bar-high").textContent = below ? `higher, +${high} SUV` : `SUV ${high}`;
  }

  /** Draw the colour bar.
   *  @param colours Of 256 values from the lower end of the window, or from 0. @param below Of negative values from 0 down. */
  showColours(colours, below) {
    const context = document.getElementById("colours").getContext("2d"), image = context.createImageData(256, 1);
    for (let step = 0; step < 256; step++) {
      const [map, index] = !below ? [colours, step] : step < 128 ? [below, 255 - 2 * step] : [colours, 2 * step - 255];
      image.data.set([...map.subarray(4 * index, 4 * index + 3), 255], 4 * step);
    }
    context.putImageData(image, 0, 0);
  }
}
