// The projection: the maximum of the PET, or the largest difference of either sign, over the mean of the CT, along y or x.
// It grows with each slab.

const SIDES = { front: { across: 0, along: 1 }, side: { across: 1, along: 0 } }; // world axes: x, y
const AIR_HU = -1000;
const CT_LOW = -950, CT_HIGH = 250; // of the mean along a ray, HU

export class Projection {
  constructor(canvas) {
    this.canvas = canvas;
    this.side = "front";
    this.volumes = { ct: null, pet: null };
  }

  /** Show a CT and a PET, both on one grid or each on its own; either may be null. */
  show(ct, pet) {
    this.volumes = { ct, pet };
    this.compute();
  }

  setSide(side) {
    this.side = side;
    this.compute();
  }

  compute() {
    this.ct = this.volumes.ct && rays(this.volumes.ct.grid, this.side);
    this.pet = this.volumes.pet && rays(this.volumes.pet.grid, this.side);
    for (const name of ["ct", "pet"]) if (this[name]) this.addArrived(name);
    this.draw();
  }

  addArrived(name) {
    const volume = this.volumes[name];
    for (let k = 0; k < volume.arrived.length; k++) if (volume.arrived[k]) this.add(name, k, k + 1);
  }

  /** Add slices [start, stop) of a volume that is shown. */
  arrived(volume, start, stop) {
    const name = volume === this.volumes.ct ? "ct" : volume === this.volumes.pet ? "pet" : null;
    if (name === null) return;
    this.add(name, start, stop);
    this.draw();
  }

  add(name, start, stop) {
    const { array, grid, isSigned } = this.volumes[name];
    const { pixels, strides } = this[name];
    const [, rows, columns] = grid.shape;
    for (let k = start; k < stop; k++) {
      for (let r = 0; r < rows; r++) {
        let from = (k * rows + r) * columns, to = k * strides[2] + r * strides[1];
        for (let c = 0; c < columns; c++, from++, to += strides[0]) {
          const value = array[from];
          if (name === "ct") pixels[to] += value - AIR_HU;
          else if (isSigned ? Math.abs(value) > Math.abs(pixels[to]) : value > pixels[to]) pixels[to] = value;
        }
      }
    }
  }

  /** Set window, threshold and opacity, and the colours of values, and of negative values if they are shown. */
  set(settings, colours, below) {
    Object.assign(this, { settings, colours, below });
    this.draw();
  }

  /** Draw before the next frame. */
  draw() {
    if (this.waiting || !this.settings) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const box = this.canvas.getBoundingClientRect();
    if (box.width === 0) return;
    const ratio = globalThis.devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    const context = this.canvas.getContext("2d");
    if (!this.ct) return;
    this.frame = fit(this.ct, this.canvas);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.ctPicture(), ...this.frame);
    if (this.pet) {
      context.globalAlpha = this.settings.opacity;
      context.drawImage(this.petPicture(), ...petFrame(this.frame, this.ct, this.pet));
      context.globalAlpha = 1;
    }
  }

  ctPicture() {
    const { pixels, depth } = this.ct;
    return picture(this.ct, (index) => {
      const grey = (255 * (pixels[index] / depth + AIR_HU - CT_LOW)) / (CT_HIGH - CT_LOW);
      return [grey, grey, grey, 255];
    });
  }

  petPicture() {
    const { low, high, threshold } = this.settings, { pixels } = this.pet, least = Math.max(threshold, low, 1e-4);
    return picture(this.pet, (index) => {
      const map = pixels[index] < 0 ? this.below : this.colours, value = Math.abs(pixels[index]);
      if (!map || !(value >= least)) return [0, 0, 0, 0];
      const step = 4 * Math.min(255, Math.max(1, Math.round((255 * (value - low)) / (high - low))));
      return [map[step], map[step + 1], map[step + 2], 255];
    });
  }

  /** Return the LPS point of the largest uptake, or difference, on the ray through a point of the canvas (CSS pixels); null outside. */
  pick(x, y) {
    if (!this.ct || !this.frame) return null;
    const ratio = this.canvas.width / this.canvas.clientWidth, [left, top, width, height] = this.frame;
    const across = (x * ratio - left) / width, down = (y * ratio - top) / height;
    if (across < 0 || across >= 1 || down < 0 || down >= 1) return null;
    const { grid } = this.volumes.ct, { axes, size, flips } = this.ct;
    const voxel = [0, 0, 0];
    voxel[axes.across] = flip(Math.floor(across * size[0]), size[0], flips[0]);
    voxel[axes.up] = flip(Math.floor(down * size[1]), size[1], flips[1]);
    let best = Math.floor(grid.size[axes.along] / 2), most = -Infinity;
    for (let step = 0; step < grid.size[axes.along] && this.volumes.pet; step++) {
      voxel[axes.along] = step;
      const value = this.volumes.pet.value(this.volumes.pet.grid.nearest(grid.toWorld(voxel)));
      const size = this.volumes.pet.isSigned ? Math.abs(value) : value;
      if (value !== null && size > most) [most, best] = [size, step];
    }
    voxel[axes.along] = best;
    return grid.toWorld(voxel);
  }
}

/** Return the empty picture of a grid's rays: size in pixels, stride of each voxel axis, which axes are flipped. */
function rays(grid, side) {
  const world = SIDES[side];
  const axes = { across: grid.axisOf[world.across], along: grid.axisOf[world.along], up: grid.axisOf[2] };
  const size = [grid.size[axes.across], grid.size[axes.up]];
  const strides = [0, 0, 0];
  strides[axes.across] = 1;
  strides[axes.up] = size[0];
  return {
    grid, axes, size, strides, depth: grid.size[axes.along], pixels: new Float32Array(size[0] * size[1]),
    flips: [grid.sign(world.across) < 0, grid.sign(2) > 0], // patient's left, or back, to the right; head up
    extent: [size[0] * grid.spacing[axes.across], size[1] * grid.spacing[axes.up]],
    world: [world.across, 2],
  };
}

function flip(index, size, isFlipped) {
  return isFlipped ? size - 1 - index : index;
}

function picture({ size, flips }, colour) {
  const made = new OffscreenCanvas(...size), context = made.getContext("2d"), image = context.createImageData(...size);
  for (let v = 0; v < size[1]; v++) {
    for (let h = 0; h < size[0]; h++) {
      const index = flip(v, size[1], flips[1]) * size[0] + flip(h, size[0], flips[0]);
      image.data.set(colour(index), 4 * (v * size[0] + h));
    }
  }
  context.putImageData(image, 0, 0);
  return made;
}

function fit({ extent }, canvas) {
  const scale = Math.min(canvas.width / extent[0], canvas.height / extent[1]);
  const [width, height] = [extent[0] * scale, extent[1] * scale];
  return [(canvas.width - width) / 2, (canvas.height - height) / 2, width, height];
}

/** Return where the PET is in the picture of the CT, whose grid may differ. */
function petFrame(frame, ct, pet) {
  const ends = (part, world) => {
    const axis = part.grid.axisOf[world], corner = [0, 0, 0].map((_, a) => (part.grid.size[a] - 1) / 2);
    return [-0.5, part.grid.size[axis] - 0.5].map((step) => {
      corner[axis] = step;
      return part.grid.toWorld(corner)[world];
    }).sort((a, b) => a - b);
  };
  const [x, y, width, height] = frame, [h, v] = ct.world;
  const [ctLeft, ctRight] = ends(ct, h), [ctBottom, ctTop] = ends(ct, v);
  const [left, right] = ends(pet, h), [bottom, top] = ends(pet, v);
  const perMm = [width / (ctRight - ctLeft), height / (ctTop - ctBottom)];
  return [x + (left - ctLeft) * perMm[0], y + (ctTop - top) * perMm[1], (right - left) * perMm[0], (top - bottom) * perMm[1]];
}
