// The three fused planes, drawn by NiiVue in one WebGL canvas.

import { Grid } from "./grid.js";
import { Picture, isSoftware, stepFor } from "./picture.js";
import { SlabVolume } from "./volume.js";

const { Niivue, NVImage } = globalThis.niivue;
const INT16 = 4, FLOAT32 = 16; // NIfTI's codes
const PLANES = { axial: 0, coronal: 1, sagittal: 2 }; // NiiVue's slice types
const REFRESH_SHARE = 0.3; // of the time at most goes into textures while slabs arrive
const MAX_WAIT_MS = 1000;
// About so many rows and columns are drawn where a processor draws them; a graphics card draws all of them. Pixels of
// a PET and of the networks are 4 mm wide, so a finer picture of a PET would show nothing more.
const ARRIVING_PIXELS = 128, COMPLETE_CT_PIXELS = 256;
// White at no difference; orange above and blue below differ in every kind of colour vision, and end equally dark
const DIFFERENCE_COLORMAPS = {
  above: { R: [255, 255, 230], G: [255, 255, 97], B: [255, 255, 1] }, below: { R: [255, 255, 33], G: [255, 255, 111], B: [255, 255, 235] },
};
const COLORS_FROM_ZERO = 2; // NiiVue's colormapType: nothing is drawn below cal_min
const MIN_SUV = 1e-4; // below it there is no uptake to draw
const CT = 0, PET = 1;

export class Scene {
  constructor(canvas, views, onMove) {
    this.canvas = canvas;
    this.views = views; // elements by plane
    this.onMove = onMove; // called with the crosshair in LPS mm
    this.due = new Map(); // timers of volumes that wait to be drawn again
    this.free = 0; // when the next volume may be, performance.now()
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.7], isRadiologicalConvention: true, sagittalNoseLeft: true,
      dragAndDropEnabled: false, isColorbar: false, logLevel: "error", show3Dcrosshair: false, crosshairWidth: 0.7, crosshairWidthUnit: "mm", loadingText: "",
      isOrientationTextVisible: true, dragMode: 0, clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", isAntiAlias: false,
    });
    for (const [name, map] of Object.entries(DIFFERENCE_COLORMAPS)) this.nv.addColormap(name, { ...map, A: [0, 255, 255], I: [0, 1, 255] });
    this.nv.onLocationChange = ({ mm: [x, y, z] }) => {
      this.point = [-x, -y, z];
      this.onMove(this.point);
    };
  }

  async start() {
    await this.nv.attachToCanvas(this.canvas);
    this.skipGradients();
    this.isSoftware = isSoftware(this.nv.gl);
    this.warmUp();
    new ResizeObserver(() => this.layOut()).observe(this.canvas.parentElement);
  }

  /** Show two small volumes and remove them, so that the first CT does not wait for shaders to be compiled. */
  warmUp() {
    const grid = new Grid([4, 4, 4], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]);
    this.showCt(new SlabVolume(grid, new Int16Array(64)), [0, 1]);
    this.showPet(new SlabVolume(grid, new Float32Array(64)), { low: 0, high: 1, threshold: 0, opacity: 0.5, colormap: "gray" });
    this.clear();
  }

  /** NiiVue computes the gradients of the CT whenever a volume is added or removed: they are for surfaces, and there are
   *  none here. Without a graphics card they took most of the time until the first slices were seen. */
  skipGradients() {
    const { gl } = this.nv, program = gl.createProgram();
    const sources = {
      [gl.VERTEX_SHADER]: "#version 300 es\nvoid main() { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); }", // outside: no pixel
      [gl.FRAGMENT_SHADER]: "#version 300 es\nprecision mediump float; out vec4 color; void main() { color = vec4(0.0); }",
    };
    for (const [type, source] of Object.entries(sources)) {
      const shader = gl.createShader(Number(type));
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    const nothing = { program, uniforms: {}, use: () => gl.useProgram(program) };
    for (const name of ["blurShader", "gradientPrePassShader", "sobelFirstOrderShader", "sobelSecondOrderShader"]) this.nv[name] = nothing;
  }

  /** Place the planes where their elements are. */
  layOut() {
    const all = this.canvas.getBoundingClientRect();
    if (all.width === 0 || all.height === 0) return;
    const tiles = Object.entries(PLANES).map(([plane, sliceType]) => {
      const box = this.views[plane].getBoundingClientRect();
      const share = (value, size) => Math.min(1, Math.max(0, value / size));
      return {
        sliceType,
        position: [
          share(box.left - all.left, all.width), share(box.top - all.top, all.height),
          share(box.width, all.width), share(box.height, all.height),
        ],
      };
    });
    this.nv.setCustomLayout(tiles);
  }

  /** Return what to draw of a volume now. */
  picture(volume) {
    return new Picture(volume, this.stepFor(volume));
  }

  stepFor(volume) {
    const isFine = volume.isComplete && volume.array instanceof Int16Array;
    return this.isSoftware ? stepFor(volume, isFine ? COMPLETE_CT_PIXELS : ARRIVING_PIXELS) : 1;
  }

  /** Show a CT alone. */
  showCt(volume, window) {
    this.clear();
    this.nv.addVolume(image(this.picture(volume), "gray", window));
    this.freeGradients();
    this.layOut();
  }

  clear() {
    if (!this.nv.volumes.length) return;
    this.removePet();
    this.nv.removeVolumeByIndex(CT);
    this.nv.gl.deleteTexture(this.nv.volumeTexture);
    this.nv.volumeTexture = null;
  }

  removePet() {
    this.shown = null;
    if (this.nv.volumes.length <= PET) return;
    this.nv.removeVolumeByIndex(PET);
    this.nv.gl.deleteTexture(this.nv.overlayTexture);
    this.nv.overlayTexture = this.nv.overlayTextureID = null;
    this.freeGradients();
  }

  /** Show a PET, or a difference, over the CT; null shows the CT alone.
   *  @param settings low, high, threshold (SUV), opacity (0 to 1), colormap; `below`: colormap of negative values. */
  showPet(volume, settings) {
    this.settings = settings;
    if (!this.nv.volumes.length) return;
    if (this.shown === volume) {
      if (volume === null) return;
      this.set(this.nv.volumes[PET]);
      this.redraw(PET);
      return;
    }
    this.removePet();
    this.shown = volume;
    if (volume === null) return;
    const pet = image(this.picture(volume), settings.colormap, [0, settings.high]);
    pet.colormapType = COLORS_FROM_ZERO;
    this.set(pet);
    this.nv.addVolume(pet);
    this.freeGradients();
  }

  set(pet) {
    const { low, high, threshold, opacity, colormap, below = "" } = this.settings;
    pet._colormap = colormap;
    pet.colormapNegative = below;
    pet._opacity = opacity;
    pet.hdr.scl_inter = -low; // colours begin at the lower end of the window
    pet.cal_min = Math.max(threshold - low, MIN_SUV);
    pet.cal_max = Math.max(high - low, below ? pet.cal_min : MIN_SUV);
  }

  setCtWindow([low, high]) {
    const ct = this.nv.volumes[CT];
    if (ct === undefined) return;
    ct.cal_min = low;
    ct.cal_max = high;
    this.redraw(CT);
  }

  redraw(layer) {
    const began = performance.now(), { overlayTexture } = this.nv;
    this.nv.refreshLayers(this.nv.volumes[layer], layer);
    // NiiVue leaves the texture that it replaces to the garbage collector, which does not see how large it is
    if (this.nv.overlayTexture !== overlayTexture) this.nv.gl.deleteTexture(overlayTexture);
    if (layer === CT) this.freeGradients();
    this.nv.drawScene();
    return performance.now() - began;
  }

  /** Free the gradients that NiiVue computes of the CT whenever a volume is added or removed, four bytes a voxel:
   *  they are for surfaces, and there are none here. */
  freeGradients() {
    this.nv.gl.deleteTexture(this.nv.gradientTexture);
    this.nv.gradientTexture = null;
  }

  /** Draw slices that have arrived. While slabs arrive quickly, several of them are drawn at once. */
  arrived(volume) {
    const layer = this.nv.volumes.findIndex((one) => one.of === volume);
    if (layer < 0) return;
    if (this.due.has(volume) && !volume.isComplete) return;
    clearTimeout(this.due.get(volume));
    const wait = volume.isComplete ? 0 : Math.max(0, this.free - performance.now());
    this.due.set(volume, setTimeout(() => {
      this.due.delete(volume);
      if (this.nv.volumes[layer]?.of !== volume) return;
      const rest = this.update(layer) * (1 / REFRESH_SHARE - 1);
      this.free = performance.now() + Math.min(MAX_WAIT_MS, rest);
    }, wait));
  }

  /** Draw what has arrived, with more pixels once everything has; return the time that it took, ms. */
  update(layer) {
    const { picture, of } = this.nv.volumes[layer], began = performance.now();
    if (picture.step === this.stepFor(of)) {
      picture.update();
      return this.redraw(layer);
    }
    const { shown, point } = this, { cal_min: low, cal_max: high } = this.nv.volumes[CT];
    if (layer === CT) this.showCt(of, [low, high]);
    else this.removePet();
    this.showPet(shown, this.settings);
    this.moveTo(point);
    return performance.now() - began;
  }

  /** Move the crosshair to a point in LPS mm. */
  moveTo([x, y, z]) {
    this.point = [x, y, z];
    if (!this.nv.volumes.length) return;
    this.nv.scene.crosshairPos = this.nv.mm2frac([-x, -y, z]);
    this.nv.drawScene();
  }

  /** Enlarge the planes; a point in LPS mm stays where it is. */
  zoomTo(zoom, [x, y, z]) {
    const shift = 1 - zoom;
    this.nv.scene.pan2Dxyzmm = [-x * shift, -y * shift, z * shift, zoom];
    this.nv.drawScene();
  }

  /** Return the colours of a map, 256 of four bytes each. */
  colours(name) {
    return this.nv.colormap(name);
  }

  /** Return where a point in LPS mm is in a plane's element, in CSS pixels; null where it is not in the picture. */
  place(plane, [x, y, z]) {
    const index = this.nv.screenSlices.findIndex((tile) => tile.axCorSag === PLANES[plane]);
    if (index < 0) return null;
    const found = this.nv.frac2canvasPosWithTile(this.nv.mm2frac([-x, -y, z]), index)?.pos ?? null;
    if (found === null) return null;
    const ratio = this.canvas.width / this.canvas.clientWidth;
    const all = this.canvas.getBoundingClientRect(), box = this.views[plane].getBoundingClientRect();
    return [found[0] / ratio - (box.left - all.left), found[1] / ratio - (box.top - all.top)];
  }
}

/** Return NiiVue's image of a picture, without a copy of its voxels. */
function image(picture, colormap, [low, high]) {
  const { grid, array } = picture, code = array instanceof Int16Array ? INT16 : FLOAT32;
  const ras = grid.affine.flatMap((row, axis) => (axis < 2 ? row.map((value) => -value) : row));
  const made = new NVImage();
  made.calMinMax = () => { // instead of a search of all voxels
    for (const range of ["cal", "robust", "global"]) Object.assign(made, { [`${range}_min`]: low, [`${range}_max`]: high });
    return [low, high, low, high];
  };
  made.hdr = NVImage.createNiftiHeader(grid.size, grid.spacing, ras, code);
  made.hdr.scl_slope = picture.slope;
  made.init(
    array.buffer, "volume", colormap, 1, null, low, high, true, 0.02, false, false, "", 0, 1, NaN, NaN, false, null, 0,
    array.buffer,
  );
  made.picture = picture;
  made.of = picture.volume;
  return made;
}
