"""Names of runtimes; imports no torch, so that a command line can list them quickly."""

from __future__ import annotations

from typing import Literal

RuntimeName = Literal["auto", "eager", "folded", "compiled"]
