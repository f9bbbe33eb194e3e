"""Conversion of Bq/mL to the body-weight SUV: dose, radionuclide, times and decay."""
