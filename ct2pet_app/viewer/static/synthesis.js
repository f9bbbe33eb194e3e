// A synthetic PET that the server synthesizes slab by slab, and the measured PET.

import { inferSlab, request } from "./api.js";
import { Grid, readNrrd } from "./grid.js";
import { SlabVolume, completeVolume, fetchSlabs } from "./volume.js";

const CT_SLABS = [16, 64];
const PET_SLABS = [2, 6, 16]; // the first ones are small, so that a picture is soon on screen
const AIR_HU = -1024;

/** A PET of one version of a model, filled as its slabs arrive. */
export class Synthesis {
  constructor(image, version, grid, { allowUnlike, signal }) {
    this.image = image;
    this.version = version;
    this.allowUnlike = allowUnlike;
    this.signal = signal;
    this.volume = new SlabVolume(grid, new Float32Array(grid.size[0] * grid.size[1] * grid.size[2]));
    this.metadata = null; // of the first slab
  }

  get params() {
    return { version: this.version.version, metrics: false, allow_unlike: this.allowUnlike };
  }

  /** Request all slabs round the slice looked at. `onFirst` is called with the metadata before the first is shown. */
  async run({ looked, onFirst, onSlab }) {
    const request = async (start, stop) => {
      const params = { ...this.params, slices: `${start}:${stop}` };
      const { metadata, file } = await inferSlab(this.version.model, this.image, params, this.signal);
      if (this.metadata === null) {
        this.metadata = metadata;
        onFirst(metadata);
      }
      return (await readNrrd(file)).array;
    };
    await fetchSlabs(this.volume, { request, looked, sizes: PET_SLABS, onSlab, signal: this.signal });
  }
}

export async function fetchGrid(image, signal) {
  const { shape, affine_lps } = await (await request("ct2pet/images/grid", { query: { image }, signal })).json();
  return new Grid(shape, affine_lps);
}

export function emptyCt(grid) {
  return new SlabVolume(grid, new Int16Array(grid.size[0] * grid.size[1] * grid.size[2]), AIR_HU);
}

export async function fetchCt(image, volume, { looked, onSlab, signal }) {
  const slab = async (start, stop) => {
    const query = { image, slices: `${start}:${stop}` };
    return new Int16Array(await (await request("ct2pet/images/voxels", { query, signal })).arrayBuffer());
  };
  await fetchSlabs(volume, { request: slab, looked, sizes: CT_SLABS, onSlab, signal });
}

/** Return the measured PET of a CT, on its own grid. */
export async function fetchMeasured(label, signal) {
  const response = await request("datastore/label", { query: { label, tag: "final" }, signal });
  return completeVolume(await readNrrd(await response.arrayBuffer()));
}
