// The difference of two PETs, slice by slice as they arrive.

import { NOT_MEASURED, SlabVolume } from "./volume.js";

/** A PET minus another one, on the grid of the first; 0 where there is no value. */
export class Difference extends SlabVolume {
  /** @param minuend A synthetic PET. @param subtrahend Another one on the same grid, or a complete PET on its own. */
  constructor(minuend, subtrahend) {
    super(minuend.grid, new Float32Array(minuend.array.length));
    Object.assign(this, { minuend, subtrahend, isSigned: true });
    this.add(0, this.grid.shape[0]);
  }

  get isOnOneGrid() {
    return this.subtrahend.grid === this.grid;
  }

  /** Compute slices [start, stop), as far as both PETs have them. */
  add(start, stop) {
    for (let k = start; k < stop; k++) {
      const isThere = this.minuend.arrived[k] && (!this.isOnOneGrid || this.subtrahend.arrived[k]);
      if (isThere && !this.arrived[k]) this.put(k, this.isOnOneGrid ? this.slice(k) : this.sliceOfNearest(k));
    }
  }

  /** Return the difference at a voxel; null where one of the two has no value. */
  value(voxel) {
    const isThere = this.isOnOneGrid || this.subtrahend.value(this.nearest(voxel)) !== null;
    return isThere ? super.value(voxel) : null;
  }

  nearest(voxel) {
    return this.subtrahend.grid.toVoxel(this.grid.toWorld(voxel)).map(Math.round);
  }

  slice(k) {
    const size = this.grid.shape[1] * this.grid.shape[2], from = k * size, { array } = this.subtrahend;
    return this.minuend.array.subarray(from, from + size).map((value, index) => value - array[from + index]);
  }

  /** Return a slice of differences from the nearest voxels of the subtrahend. */
  sliceOfNearest(k) {
    const [, rows, columns] = this.grid.shape, { grid, array } = this.subtrahend, [width, height, depth] = grid.size;
    const found = new Float32Array(rows * columns), place = (c, r) => grid.toVoxel(this.grid.toWorld([c, r, k]));
    const [from, to] = [place(0, 0), place(1, 0)], [dx, dy, dz] = to.map((value, axis) => value - from[axis]);
    let index = k * rows * columns;
    for (let r = 0, at = 0; r < rows; r++) {
      const [x, y, z] = place(0, r);
      for (let c = 0; c < columns; c++, at++, index++) {
        const i = Math.round(x + c * dx), j = Math.round(y + c * dy), l = Math.round(z + c * dz);
        if (i < 0 || j < 0 || l < 0 || i >= width || j >= height || l >= depth) continue;
        const value = array[(l * height + j) * width + i];
        if (value !== NOT_MEASURED) found[at] = this.minuend.array[index] - value;
      }
    }
    return found;
  }
}
