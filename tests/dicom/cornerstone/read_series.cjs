// Read PET series with the libraries of OHIF: dicom-parser the files, @cornerstonejs/calculate-suv the factor to SUVbw.
// Standard input: {series name: [path of a slice, ...]}. Standard output: {series name: {factor, error, units, positions}}: the
// factor of the first slice, or the error. The argument is a folder for the rescaled values of each series, NAME.f32.
const fs = require("fs");
const path = require("path");
const dicomParser = require("dicom-parser");
const { calculateSUVScalingFactors } = require("@cornerstonejs/calculate-suv");

const TAGS = {
  text: {
    Units: "x00541001", DecayCorrection: "x00541102", SeriesDate: "x00080021", SeriesTime: "x00080031",
    AcquisitionDate: "x00080022", AcquisitionTime: "x00080032", PatientSex: "x00100040",
  },
  number: { PatientWeight: "x00101030", PatientSize: "x00101020", FrameReferenceTime: "x00541300", ActualFrameDuration: "x00181242" },
  injectionText: { RadiopharmaceuticalStartTime: "x00181072", RadiopharmaceuticalStartDateTime: "x00181078" },
  injectionNumber: { RadionuclideHalfLife: "x00181075", RadionuclideTotalDose: "x00181074" },
};

function fill(instance, dataSet, tags, read) {
  for (const [keyword, tag] of Object.entries(tags)) {
    const value = dataSet.elements[tag] && read(dataSet, tag);
    if (value !== undefined && !Number.isNaN(value)) instance[keyword] = value;
  }
}

function metadata(dataSet) {
  const text = (from, tag) => from.string(tag);
  const number = (from, tag) => from.floatString(tag);
  const instance = { CorrectedImage: (dataSet.string("x00280051") || "").split("\\") };
  fill(instance, dataSet, TAGS.text, text);
  fill(instance, dataSet, TAGS.number, number);
  const injection = dataSet.elements.x00540016?.items?.[0]?.dataSet;
  if (injection) {
    fill(instance, injection, TAGS.injectionText, text);
    fill(instance, injection, TAGS.injectionNumber, number);
  }
  if (instance.PatientSex === "O") instance.PatientSex = "M"; // calculate-suv refuses O, which does not affect SUV by weight
  const philips = {};
  fill(philips, dataSet, { SUVScaleFactor: "x70531000", ActivityConcentrationScaleFactor: "x70531009" }, number);
  if (Object.keys(philips).length) instance.PhilipsPETPrivateGroup = philips;
  fill(instance, dataSet, { GEPrivatePostInjectionDateTime: "x0009100d" }, text);
  return instance;
}

function rescaled(dataSet) {
  const { dataOffset, length } = dataSet.elements.x7fe00010;
  const bytes = dataSet.byteArray.slice(dataOffset, dataOffset + length); // aligned
  const isSigned = dataSet.uint16("x00280103") === 1;
  const stored = new (isSigned ? Int16Array : Uint16Array)(bytes.buffer, bytes.byteOffset, length / 2);
  const slope = dataSet.floatString("x00281053"), intercept = dataSet.floatString("x00281052");
  return Buffer.from(Float32Array.from(stored, (value) => value * slope + intercept).buffer);
}

const found = {};
for (const [name, paths] of Object.entries(JSON.parse(fs.readFileSync(0, "utf8")))) {
  const dataSets = paths.map((file) => dicomParser.parseDicom(new Uint8Array(fs.readFileSync(file))));
  const positions = dataSets.map((dataSet) => [0, 1, 2].map((index) => dataSet.floatString("x00200032", index)));
  const units = [...new Set(dataSets.map((dataSet) => dataSet.string("x00541001")))];
  fs.writeFileSync(path.join(process.argv[2], `${name}.f32`), Buffer.concat(dataSets.map((dataSet) => rescaled(dataSet))));
  let factor = null, error = null;
  try {
    factor = calculateSUVScalingFactors(dataSets.map(metadata))[0].suvbw;
  } catch (raised) {
    error = raised.message;
  }
  found[name] = { factor, error, units, positions };
}
process.stdout.write(JSON.stringify(found));
