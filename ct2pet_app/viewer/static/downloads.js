// Files of a synthetic PET, made by the server.

import { infer, request } from "./api.js";

/** Save a synthetic PET as `.nrrd`, `.nii.gz` or `dicom`. */
export async function save(kind, { image, version, allowUnlike }) {
  const { model, version: number } = version;
  const options = { version: number, allow_unlike: allowUnlike };
  const response = kind === "dicom"
    ? await request(`ct2pet/dicom/${encodeURIComponent(model)}`, { method: "POST", query: { image, ...options } })
    : await infer(model, image, { ...options, metrics: false, result_extension: kind, result_compress: true }, { output: "image" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  const safe = image.replace(/[^\w.-]/g, "_");
  link.download = `synthetic-pet-${safe}-${model}-version-${number}${kind === "dicom" ? ".zip" : kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
