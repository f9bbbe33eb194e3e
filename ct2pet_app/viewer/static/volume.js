// A volume that arrives slab by slab, and the order in which its slabs are requested.

export const NOT_MEASURED = -1e6; // instead of NaN, which shaders cannot draw

export class SlabVolume {
  /** @param grid Of the CT. @param array Typed array of all voxels. @param fill Value of voxels that have not arrived. */
  constructor(grid, array, fill = 0) {
    this.grid = grid;
    this.array = array;
    this.fill = fill;
    if (fill !== 0) array.fill(fill);
    this.arrived = new Uint8Array(grid.shape[0]); // by slice
    this.left = grid.shape[0];
    this.isSigned = false; // whether it holds differences
  }

  get isComplete() {
    return this.left === 0;
  }

  /** Store slices from `start` on. */
  put(start, voxels) {
    const perSlice = this.grid.shape[1] * this.grid.shape[2];
    this.array.set(voxels, start * perSlice);
    for (let k = start; k < start + voxels.length / perSlice; k++) {
      if (!this.arrived[k]) this.left--;
      this.arrived[k] = 1;
    }
  }

  /** Return the value of a voxel; null where it has not arrived, or is outside. */
  value(voxel) {
    if (!this.grid.contains(voxel) || !this.arrived[voxel[2]]) return null;
    const value = this.array[this.grid.index(voxel)];
    return value === NOT_MEASURED ? null : value;
  }
}

/** Return a complete volume; voxels of NaN, outside the scanner's field of view, have no value. */
export function completeVolume({ grid, array }) {
  for (let index = 0; index < array.length; index++) if (Number.isNaN(array[index])) array[index] = NOT_MEASURED;
  const volume = new SlabVolume(grid, array);
  volume.arrived.fill(1);
  volume.left = 0;
  return volume;
}

/** Return the range [start, stop) of missing slices to request next, round the slice looked at; null if none is missing. */
export function nextSlab(arrived, looked, size) {
  const count = arrived.length;
  let nearest = -1;
  for (let distance = 0; distance < count && nearest < 0; distance++) {
    for (const k of [looked + distance, looked - distance]) if (k >= 0 && k < count && !arrived[k]) { nearest = k; break; }
  }
  if (nearest < 0) return null;
  let start = nearest, stop = nearest + 1;
  while (stop - start < size) {
    const before = start > 0 && !arrived[start - 1], after = stop < count && !arrived[stop];
    if (!before && !after) break;
    if (after && (!before || stop - looked <= looked - start)) stop++;
    else start--;
  }
  return [start, stop];
}

/** Request all slabs of a volume, one after the other, the next one always round the slice looked at.
 *  @param request Returns the voxels of slices [start, stop). @param looked Returns the slice looked at.
 *  @param sizes Numbers of slices of the first slabs; the last number is that of all others. */
export async function fetchSlabs(volume, { request, looked, sizes, onSlab, signal }) {
  for (let count = 0; ; count++) {
    const slab = nextSlab(volume.arrived, looked(), sizes[Math.min(count, sizes.length - 1)]);
    if (slab === null || signal.aborted) return;
    const voxels = await request(...slab);
    if (signal.aborted) return;
    volume.put(slab[0], voxels);
    onSlab(...slab);
  }
}

/** Return mean, maximum and volume of a sphere round a point in LPS mm; null where a slice of it has not arrived. */
export function measureSphere(volume, centre, radius) {
  const { grid } = volume, [a, b, c] = grid.toVoxel(centre);
  const from = [a, b, c].map((value, axis) => Math.max(0, Math.floor(value - radius / grid.spacing[axis])));
  const to = [a, b, c].map((value, axis) => Math.min(grid.size[axis] - 1, Math.ceil(value + radius / grid.spacing[axis])));
  let sum = 0, count = 0, max = -Infinity;
  for (let k = from[2]; k <= to[2]; k++) {
    for (let r = from[1]; r <= to[1]; r++) {
      for (let col = from[0]; col <= to[0]; col++) {
        const [x, y, z] = grid.toWorld([col, r, k]);
        if (Math.hypot(x - centre[0], y - centre[1], z - centre[2]) > radius) continue;
        if (!volume.arrived[k]) return null;
        const value = volume.array[grid.index([col, r, k])];
        if (value === NOT_MEASURED) continue;
        sum += value;
        max = Math.max(max, value);
        count++;
      }
    }
  }
  if (count === 0) return null;
  const voxelMl = (grid.spacing[0] * grid.spacing[1] * grid.spacing[2]) / 1000;
  return { mean: sum / count, max, volumeMl: count * voxelMl };
}
