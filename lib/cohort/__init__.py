"""Synthetic PETs of a whole cohort: planned, computed on one machine or many, recorded, and reported.

`plan.py` lists the CTs and `manifest.py` records them. `run.py` gives them to an engine (`local_engine.py`,
`ray_engine.py`), which takes each study through the same three steps (`steps.py`), and records the outcomes.
"""
