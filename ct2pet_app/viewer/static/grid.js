// Grids of voxels in patient coordinates (LPS mm), and the NRRD files that hold volumes.

/** A grid of K slices, R rows, C columns; `affine` maps (column, row, slice, 1) to LPS mm. */
export class Grid {
  constructor(shape, affine) {
    this.shape = shape;
    this.affine = affine;
    this.size = [shape[2], shape[1], shape[0]]; // by column, row, slice
    this.inverse = inverse3(affine);
    this.spacing = [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]));
    this.axisOf = nearestAxes(affine); // for x, y, z: the voxel axis that runs along it
  }

  /** Return the LPS mm of a voxel. */
  toWorld(voxel) {
    return this.affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
  }

  /** Return the fractional voxel of a point in LPS mm. */
  toVoxel(point) {
    const offset = point.map((value, axis) => value - this.affine[axis][3]);
    return this.inverse.map((row) => row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]);
  }

  /** Return the nearest voxel of a point, inside the grid. */
  nearest(point) {
    return this.toVoxel(point).map((value, axis) => Math.min(this.size[axis] - 1, Math.max(0, Math.round(value))));
  }

  contains(voxel) {
    return voxel.every((value, axis) => value >= 0 && value < this.size[axis]);
  }

  index(voxel) {
    return (voxel[2] * this.shape[1] + voxel[1]) * this.shape[2] + voxel[0];
  }

  /** Return +1 where a voxel axis runs along a world axis (0 x, 1 y, 2 z), -1 where it runs against it. */
  sign(world) {
    return Math.sign(this.affine[world][this.axisOf[world]]);
  }
}

function inverse3(m) {
  const [a, b, c] = m[0], [d, e, f] = m[1], [g, h, i] = m[2];
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [
    [(e * i - f * h) / det, (c * h - b * i) / det, (b * f - c * e) / det],
    [(f * g - d * i) / det, (a * i - c * g) / det, (c * d - a * f) / det],
    [(d * h - e * g) / det, (b * g - a * h) / det, (a * e - b * d) / det],
  ];
}

function nearestAxes(affine) {
  const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  const share = (axis, world) => Math.abs(affine[world][axis]) / Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]);
  const total = (order) => order.reduce((sum, axis, world) => sum + share(axis, world), 0);
  return orders.reduce((best, order) => (total(order) > total(best) ? order : best));
}

/** Return the voxels (float32) and the grid of an NRRD file of the server. */
export async function readNrrd(buffer) {
  const bytes = new Uint8Array(buffer);
  let end = 0;
  while (!(bytes[end] === 10 && bytes[end + 1] === 10)) if (++end >= bytes.length) throw new Error("damaged NRRD file");
  const lines = new TextDecoder().decode(bytes.subarray(0, end)).split("\n");
  const fields = Object.fromEntries(lines.filter((line) => line.includes(": ")).map((line) => line.split(/: (.*)/s)));
  if (fields.type !== "float") throw new Error(`NRRD file of type ${fields.type}, expected float`);
  let data = buffer.slice(end + 2);
  if (fields.encoding === "gzip") {
    const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
    data = await new Response(stream).arrayBuffer();
  }
  const size = fields.sizes.split(" ").map(Number);
  const vectors = [...fields["space directions"].matchAll(/\(([^)]*)\)/g)].map((found) => found[1].split(",").map(Number));
  const origin = fields["space origin"].replace(/[()]/g, "").split(",").map(Number);
  const affine = [0, 1, 2].map((world) => [...vectors.map((vector) => vector[world]), origin[world]]);
  return { array: new Float32Array(data), grid: new Grid([size[2], size[1], size[0]], [...affine, [0, 0, 0, 1]]) };
}
