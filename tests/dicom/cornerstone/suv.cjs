// Read PET headers as JSON from standard input: {series name: [instance metadata, ...]}.
// Write {series name: SUVbw of one unit of rescaled numbers, or the message of the error} to standard output.
const { calculateSUVScalingFactors } = require("@cornerstonejs/calculate-suv");

const series = JSON.parse(require("fs").readFileSync(0, "utf8"));
const factors = {};
for (const [name, instances] of Object.entries(series)) {
  try {
    factors[name] = calculateSUVScalingFactors(instances)[0].suvbw;
  } catch (error) {
    factors[name] = error.message;
  }
}
process.stdout.write(JSON.stringify(factors));
