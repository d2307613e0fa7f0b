"""The measured ratios as a table and a plot."""

from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from matplotlib import pyplot as plt

YARDSTICK = "relay"


@dataclass(frozen=True)
class Row:
    """One target's cost: microseconds of CPU for one unit of work."""

    name: str
    unit: str
    microseconds: float


def write_report(rows: list[Row], folder: Path, out: TextIO) -> None:
    """Print the table, and write it and the plot to `folder`."""
    folder.mkdir(exist_ok=True)
    table = _table(rows)
    out.write(table)
    (folder / "bench.md").write_text(f"{_HEAD}\n{table}\n![The same as bars](bench.svg)\n")
    _plot(rows, folder / "bench.svg")


_HEAD = """# What the service costs

CPU time of one process, as a multiple of a relay that passes the same bytes and looks at
none of them. Reproduce it with `make bench`; the ratios carry over between machines,
the microseconds do not.
"""


def _ratio(row: Row, rows: list[Row]) -> float:
    yardstick = next(r for r in rows if r.name == YARDSTICK and r.unit == row.unit)
    return row.microseconds / yardstick.microseconds


def _table(rows: list[Row]) -> str:
    lines = ["| through | for each | CPU, µs | times the relay |", "|---|---|--:|--:|"]
    lines += [
        f"| {row.name} | {row.unit} | {row.microseconds:.0f} | {_ratio(row, rows):.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _plot(rows: list[Row], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(rows) + 1), layout="constrained")
    labels = [f"{row.name}, {row.unit}" for row in rows]
    bars = axes.barh(labels, [_ratio(row, rows) for row in rows])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time, multiples of a raw byte relay")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)
    plt.close(figure)
