// What is drawn of a volume: all of its voxels, or, where a processor draws them, those of some rows and columns.

import { Grid } from "./grid.js";

// A coarse picture of a PET is of 16-bit integers, which take half the memory: up to 131 SUV, and windows end at 100
const SUV_STEP = 0.004, MAX_INT16 = 32767;

export class Picture {
  /** @param volume A SlabVolume. @param step 1 draws the volume's own array; 2 every second row and column. */
  constructor(volume, step) {
    this.volume = volume;
    this.step = step;
    this.slope = 1; // what a number of the array is worth
    const { grid, array } = volume;
    if (step === 1) {
      Object.assign(this, { grid, array });
      return;
    }
    const [slices, rows, columns] = grid.shape;
    const affine = grid.affine.map((row) => [row[0] * step, row[1] * step, row[2], row[3]]);
    this.grid = new Grid([slices, Math.ceil(rows / step), Math.ceil(columns / step)], affine);
    this.array = new Int16Array(this.grid.size[0] * this.grid.size[1] * this.grid.size[2]);
    if (!(array instanceof Int16Array)) this.slope = SUV_STEP;
    if (volume.fill !== 0) this.array.fill(this.stored(volume.fill));
    this.taken = new Uint8Array(slices); // by slice
    this.update();
  }

  stored(value) {
    return this.slope === 1 ? value : Math.max(-MAX_INT16, Math.min(MAX_INT16, Math.round(value / this.slope)));
  }

  /** Take the slices that have arrived since. */
  update() {
    if (this.step === 1) return;
    const { volume, step, array } = this, [slices, rows, columns] = volume.grid.shape;
    for (let k = 0, to = 0, size = this.grid.size[0] * this.grid.size[1]; k < slices; k++, to = k * size) {
      if (this.taken[k] || !volume.arrived[k]) continue;
      this.taken[k] = 1;
      for (let r = 0; r < rows; r += step) {
        for (let c = 0, from = (k * rows + r) * columns; c < columns; c += step) array[to++] = this.stored(volume.array[from + c]);
      }
    }
  }
}

/** Return the step that leaves about `pixels` rows or columns of a volume. */
export function stepFor(volume, pixels) {
  const [, rows, columns] = volume.grid.shape;
  return Math.max(1, Math.floor(Math.min(rows, columns) / pixels));
}

/** Return whether pictures are drawn by the processor, since there is no graphics card, or no driver for it. */
export function isSoftware(gl) {
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(info === null ? gl.RENDERER : info.UNMASKED_RENDERER_WEBGL);
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}
