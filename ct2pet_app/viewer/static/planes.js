// The views as elements: labels, slice sliders and keys.

const WORLD = { axial: 2, coronal: 1, sagittal: 0 }; // the world axis along which a plane's slices follow each other
const TITLES = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", projection: "Projection, maximum of the PET" };
const LARGEST = "Projection, largest difference";
// in the picture: the world axis to the right and up, and the sign of each (LPS)
const SCREEN = { axial: [[0, 1], [1, -1]], coronal: [[0, 1], [2, 1]], sagittal: [[1, 1], [2, 1]] };
const ARROWS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1] };
const SVG = "http://www.w3.org/2000/svg";

export class Planes {
  /** @param onStep Called with the voxel that the crosshair moves to. @param onMeasure Called on Enter in a view. */
  constructor({ onStep, onMeasure }) {
    this.elements = Object.fromEntries(Object.keys(TITLES).map((plane) => [plane, document.getElementById(`view-${plane}`)]));
    this.onStep = onStep;
    this.sliders = {};
    for (const [plane, view] of Object.entries(this.elements)) {
      view.append(span("label"), span("plane"));
      if (!(plane in WORLD)) continue;
      view.append(document.createElementNS(SVG, "svg"));
      const slider = document.createElement("input");
      slider.type = "range";
      slider.min = 0;
      slider.setAttribute("aria-label", `${TITLES[plane]} slice`);
      slider.addEventListener("input", () => this.step(plane, Number(slider.value)));
      this.sliders[plane] = slider;
      view.append(slider);
      view.addEventListener("keydown", (event) => this.key(plane, event, onMeasure));
    }
  }

  show(grid) {
    this.grid = grid;
    for (const [plane, slider] of Object.entries(this.sliders)) slider.max = grid.size[grid.axisOf[WORLD[plane]]] - 1;
  }

  /** Label all views. @param isSigned Whether they show a difference. */
  label(text, { isSigned = false } = {}) {
    for (const [plane, view] of Object.entries(this.elements)) {
      view.querySelector(".label").textContent = text;
      const name = plane === "projection" && isSigned ? LARGEST : TITLES[plane];
      view.setAttribute("aria-label", `${name}: ${text}`);
      if (!(plane in WORLD)) view.querySelector(".plane").textContent = name;
    }
  }

  /** Show where the crosshair is. */
  at(voxel, point) {
    this.voxel = voxel;
    for (const [plane, slider] of Object.entries(this.sliders)) {
      const axis = this.grid.axisOf[WORLD[plane]];
      slider.value = voxel[axis];
      const place = `${TITLES[plane]} ${voxel[axis] + 1} of ${this.grid.size[axis]}, ${"xyz"[WORLD[plane]]} ${point[WORLD[plane]].toFixed(1)} mm`;
      this.elements[plane].querySelector(".plane").textContent = place;
      slider.setAttribute("aria-valuetext", place);
    }
  }

  step(plane, index) {
    const axis = this.grid.axisOf[WORLD[plane]], voxel = [...this.voxel];
    voxel[axis] = Math.min(this.grid.size[axis] - 1, Math.max(0, index));
    this.onStep(voxel);
  }

  key(plane, event, onMeasure) {
    if (!this.grid || event.target !== this.elements[plane] || event.ctrlKey || event.altKey || event.metaKey) return;
    const axis = this.grid.axisOf[WORLD[plane]], sign = this.grid.sign(WORLD[plane]), size = this.grid.size[axis];
    if (event.key in ARROWS) {
      const [direction, step] = ARROWS[event.key], [world, onScreen] = SCREEN[plane][direction], voxel = [...this.voxel];
      const along = this.grid.axisOf[world];
      voxel[along] = Math.min(this.grid.size[along] - 1, Math.max(0, voxel[along] + step * onScreen * this.grid.sign(world)));
      this.onStep(voxel);
    } else if (event.key === "PageUp") this.step(plane, this.voxel[axis] + sign);
    else if (event.key === "PageDown") this.step(plane, this.voxel[axis] - sign);
    else if (event.key === "Home") this.step(plane, 0);
    else if (event.key === "End") this.step(plane, size - 1);
    else if (event.key === "Enter") onMeasure();
    else return;
    event.preventDefault();
  }
}

function span(name) {
  const made = document.createElement("span");
  made.className = name;
  return made;
}
