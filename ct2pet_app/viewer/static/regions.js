// The region tool: a sphere round the crosshair, its mean and maximum, and their intervals.

import { postJson } from "./api.js";
import { LEVEL, estimate, suv, whyNoInterval } from "./words.js";
import { measureSphere } from "./volume.js";

const SVG = "http://www.w3.org/2000/svg";
const IN_PLANE = { axial: 0, coronal: 0, sagittal: 1 }; // a world axis that lies in the plane
const NORMAL = { axial: 2, coronal: 1, sagittal: 0 };

export class Regions {
  constructor(views, scene) {
    this.views = views;
    this.scene = scene;
    this.list = document.getElementById("regions");
    this.radius = document.getElementById("radius");
    this.kind = document.getElementById("kind");
    this.spheres = [];
  }

  clear() {
    this.spheres = [];
    this.list.replaceChildren();
    this.draw();
  }

  /** Measure a sphere round a point, and show the result. The server measures the estimates, in the body alone.
   *  @param syntheses Of the shown version and the one compared with. @param real The measured PET, or null. */
  async measure(point, { image, syntheses, real, allowUnlike }) {
    const radius = Math.min(100, Math.max(2, Number(this.radius.value) || 10)), kind = this.kind.value;
    const row = document.createElement("li"), text = document.createElement("span"), remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "Remove";
    const sphere = { point, radius };
    remove.addEventListener("click", () => {
      this.spheres.splice(this.spheres.indexOf(sphere), 1);
      row.remove();
      this.draw();
    });
    text.textContent = "The region is being measured.";
    row.append(text, " ", remove);
    this.list.append(row);
    this.spheres.push(sphere);
    this.draw();
    const region = { center_mm: point, radius_mm: radius, kind, level: LEVEL };
    try {
      const found = await Promise.all(syntheses.map(({ version: { model, version } }) =>
        postJson(`ct2pet/regions/${encodeURIComponent(model)}`, region, { image, version, allow_unlike: allowUnlike })));
      const lines = found.map((one) => sentence(one, syntheses.length > 1 ? `${one.model.name} version ${one.model.version}: ` : ""));
      const measured = real && measureSphere(real, point, radius);
      if (measured) lines.push(`Measured mean SUV ${suv(measured.mean)}, maximum ${suv(measured.max)}.`);
      text.textContent = lines.join(" ");
      Object.assign(row.dataset, { mean: found[0].suv_mean, max: found[0].suv_max });
    } catch (error) {
      text.textContent = `No result: ${error.message}`;
    }
  }

  /** Draw the outlines of all spheres in the planes that cut them. */
  draw(point = this.at) {
    this.at = point;
    for (const [plane, view] of Object.entries(this.views)) {
      if (!(plane in NORMAL)) continue;
      const drawing = view.querySelector("svg");
      drawing.replaceChildren(...this.spheres.flatMap((sphere) => this.circle(plane, sphere, point)));
    }
  }

  circle(plane, { point, radius }, at) {
    const away = Math.abs(at[NORMAL[plane]] - point[NORMAL[plane]]);
    if (away >= radius) return [];
    const centre = [...point], edge = [...point];
    centre[NORMAL[plane]] = edge[NORMAL[plane]] = at[NORMAL[plane]];
    edge[IN_PLANE[plane]] += Math.sqrt(radius ** 2 - away ** 2);
    const [from, to] = [centre, edge].map((one) => this.scene.place(plane, one));
    if (!from || !to) return [];
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("cx", from[0]);
    circle.setAttribute("cy", from[1]);
    circle.setAttribute("r", Math.hypot(to[0] - from[0], to[1] - from[1]));
    return [circle];
  }
}

function sentence({ suv_mean: mean, suv_max: max, interval: of, volume_ml: volume }, name) {
  return `${name}Mean estimated SUV ${estimate(mean, of.mean)}, maximum ${estimate(max, of.max)}, in ${volume.toFixed(1)} mL.` +
    whyNoInterval(of.mean, of.max);
}
