"""Draw what training runs recorded after every epoch (`schedule.record_slices`), several runs in one figure.

python scripts/plot_runs.py "by slice=RUN1" "by patient=RUN2" --out curves.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from lib.learning.tracking.metrics_log import recorded_metric  # noqa: E402
from lib.learning.tracking.progress import EpochRecord, read_history  # noqa: E402

METRICS = {
    "loss": "loss",
    "ssim": "SSIM",
    "psnr_db": "PSNR [dB]",
    "mae_suv_body": "body MAE [SUV]",
}


def main() -> int:
    """Draw the figure."""
    parser = argparse.ArgumentParser(prog="scripts/plot_runs.py", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="LABEL=RUN", help="name of a curve, and the folder of its run")
    parser.add_argument("--out", type=Path, required=True, help=".png file")
    parser.add_argument("--note", default="", help="line below the figure, such as the data's attribution")
    args = parser.parse_args()
    histories: dict[str, list[EpochRecord]] = {}
    for run in args.runs:
        label, _, folder = run.rpartition("=")
        histories[label or folder] = list(read_history(Path(folder)))
        if not any(record.recorded for record in histories[label or folder]):
            parser.error(f"{folder}: recorded no metrics; train with --set schedule.record_slices=64")
    _draw(histories, args.out, note=args.note)
    return 0


def _draw(histories: dict[str, list[EpochRecord]], out: Path, *, note: str) -> None:
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    colours = mpl.colormaps["okabe_ito"]
    for axis, (name, label) in zip(figure.subplots(2, 2).flat, METRICS.items(), strict=True):
        for index, (title, history) in enumerate(histories.items()):
            epochs = [record.epoch for record in history]
            for side, style in (("test", "-"), ("train", "--")):
                values = [recorded_metric(record.recorded, side, name) for record in history]
                axis.plot(epochs, values, style, color=colours(index), label=f"{title}: {side}", linewidth=1.4)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.supxlabel(note, fontsize=6, color="#666666")
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
