"""The report of a cohort: one HTML page."""
