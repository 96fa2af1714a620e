"""Records as a picture: a panel per measure, a bar per policy and settings, with 95 % intervals. Needs matplotlib."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ci.errors import UserError
from gate.simulate.measure import Record, mean_and_margin
from gate.simulate.report import groups

Panel = tuple[str, Callable[[Record], float | None]]

PANELS: tuple[Panel, ...] = (
    ("time to landing, P50, minutes", lambda record: None if record.p50_s is None else record.p50_s / 60),
    ("time to landing, P95, minutes", lambda record: None if record.p95_s is None else record.p95_s / 60),
    ("runs per change", lambda record: record.runs_per_change),
)
SUFFIXES = (".png", ".svg")
BAR_INCHES = 0.35


def check_path(path: Path) -> None:
    """Before an hour of simulation: can a picture be written there? Raises UserError."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--plot {path}: a picture is a {' or a '.join(SUFFIXES)} file")
    if not path.parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--plot {path}: that cannot be written")
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as cause:
        raise UserError("--plot needs matplotlib: pip install 'trunkgate[plot]'") from cause


def plot(records: Sequence[Record], path: Path) -> None:
    """Overwrites the file. The same records give the same picture."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grouped = groups(records)
    labels = [f"{policy}\n{settings}" if settings else policy for settings, policy in grouped]
    # Without a time and random ids in the file, it is the same for the same figures.
    with rc_context({"svg.hashsalt": "trunkgate"}):
        figure = Figure(figsize=(13, 1.5 + BAR_INCHES * len(labels) * (1 + max(label.count("\n") for label in labels))))
        FigureCanvasAgg(figure)
        for at, (heading, measure) in enumerate(PANELS):
            axes = figure.add_subplot(1, len(PANELS), at + 1)
            values = [[value for record in group if (value := measure(record)) is not None] for group in grouped.values()]
            means = [mean_and_margin(value) for value in values]
            axes.barh(
                range(len(labels)),
                [mean if value else 0.0 for value, (mean, _) in zip(values, means, strict=True)],
                xerr=[margin if len(value) > 1 else 0.0 for value, (_, margin) in zip(values, means, strict=True)],
                color=[f"C{sorted({policy for _, policy in grouped}).index(policy) % 10}" for _, policy in grouped],
                error_kw={"elinewidth": 1, "capsize": 3},
            )
            axes.set_yticks(range(len(labels)), labels if at == 0 else [""] * len(labels))
            axes.invert_yaxis()
            axes.set_title(heading, fontsize=10)
            axes.set_xlim(left=0)
        seeds = sorted({record.seed for record in records})
        figure.suptitle(f"{records[0].preset}, {len(seeds)} seeds, means and 95 % intervals", fontsize=10)
        figure.tight_layout()
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        try:
            figure.savefig(path, dpi=150, metadata=metadata)
        except OSError as cause:
            raise UserError(f"--plot {path}: {cause.strerror or cause}") from cause
