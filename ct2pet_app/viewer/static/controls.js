// The settings of the picture: window, opacity, threshold, colours.

// Maps whose lightness rises steadily, so that they can be read without colour vision
const COLORMAPS = { inferno: "Inferno", magma: "Magma", viridis: "Viridis", cividis: "Cividis", gray: "Grey" };
const CT_WINDOWS = { "Soft tissue": [-160, 240], Lung: [-1350, 150], Bone: [-450, 1050], "All": [-1000, 1000] };

export class Controls {
  /** @param onPet Called with the settings of the PET. @param onCt Called with the window of the CT, HU. */
  constructor({ onPet, onCt, onSide, onZoom }) {
    const byId = (id) => document.getElementById(id);
    this.inputs = Object.fromEntries(["window-low", "window-high", "opacity", "threshold", "colormap"].map((id) => [id, byId(id)]));
    this.inputs.colormap.replaceChildren(...Object.entries(COLORMAPS).map(([value, text]) => new Option(text, value)));
    this.ctWindow = byId("ct-window");
    this.ctWindow.replaceChildren(...Object.keys(CT_WINDOWS).map((name) => new Option(name)));
    for (const input of Object.values(this.inputs)) input.addEventListener("input", () => { this.tell(); onPet(this.pet); });
    this.ctWindow.addEventListener("change", () => onCt(this.ct));
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
    const low = Math.max(0, number("window-low"));
    return {
      low, high: Math.max(number("window-high"), low + 0.1), opacity: number("opacity") / 100,
      threshold: number("threshold"), colormap: this.inputs.colormap.value,
    };
  }

  tell() {
    const { low, high, opacity, threshold } = this.pet;
    document.getElementById("opacity-text").textContent = `${Math.round(100 * opacity)} %`;
    document.getElementById("threshold-text").textContent = `${threshold.toFixed(1)} SUV`;
    document.getElementById("bar-low").textContent = `SUV ${low}`;
    document.getElementById("bar-high").textContent = `SUV ${high}`;
  }

  /** Draw the colour bar. */
  showColours(colours) {
    const context = document.getElementById("colours").getContext("2d"), image = context.createImageData(256, 1);
    for (let step = 0; step < 256; step++) image.data.set([...colours.subarray(4 * step, 4 * step + 3), 255], 4 * step);
    context.putImageData(image, 0, 0);
  }
}
