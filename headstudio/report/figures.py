"""Plotly figures as plain specifications: what plotly.js draws, without building Python objects for each."""

from __future__ import annotations

import html
import textwrap
from typing import Any

from headstudio.report.compare import Panel

COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#a8498b", "#946200", "#2a7fa8", "#5b5b5b", "#7a3e00")
"""Told apart with any kind of colour vision (after Okabe and Ito), darkened to stand on white."""
INK, QUIET, RULE = "#1c2127", "#59636e", "#e3e6ea"
FONT = '-apple-system, "Segoe UI", Inter, Roboto, "Noto Sans", "Helvetica Neue", "Liberation Sans", Arial, sans-serif'


def strip(panel: Panel, *, width: int = 20, row_px: int = 34) -> dict[str, Any]:
    """A row per setting: its runs as faint points, the mean as a dot, the 95 % interval as a line.

    Args:
        panel: what to draw.
        width: characters of a label's line.
        row_px: height of a row of one line.
    """
    labels = [label(row.value, width) for row in panel.rows]
    heights = [max(row_px, 16 * (1 + text.count("<br>")) + 10) for text in labels]
    show = panel.metric.show
    data: list[dict[str, Any]] = []
    for number, row in enumerate(panel.rows):
        colour, place = COLOURS[number] if panel.contrasts and len(panel.rows) <= len(COLOURS) else QUIET, number
        count = len(row.runs)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [value for _, value in row.runs],
                "y": [place + (0.0 if count == 1 else 0.36 * (i / (count - 1) - 0.5)) for i in range(count)],
                "marker": {"color": colour, "size": 7, "opacity": 0.3, "line": {"width": 0}},
                "text": [f"{html.escape(name) or 'run'}<br>{show(value)}" for name, value in row.runs],
                "hoverinfo": "text",
                "cliponaxis": False,
            }
        )
        e = row.estimate
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [e.mean],
                "y": [place],
                "marker": {"color": colour, "size": 11, "line": {"color": "#ffffff", "width": 1.5}},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [e.high - e.mean],
                    "arrayminus": [e.mean - e.low],
                    "color": colour,
                    "thickness": 2.5,
                    "width": 5,
                    "visible": bool(e.over),
                },
                "text": [f"{labels[number]}<br>mean {show(e.mean)}<br>{show(e.low)} to {show(e.high)}"],
                "hoverinfo": "text",
                "cliponaxis": False,
            }
        )
    return {"data": data, "layout": _layout(labels, sum(heights) + 44, panel)}


def label(text: str, width: int, lines: int = 3) -> str:
    """A value as plotly reads it: wrapped, and with its markup taken as text."""
    wrapped = textwrap.wrap(text, width, max_lines=lines, placeholder=" …", break_on_hyphens=False) or [text]
    return "<br>".join(html.escape(line, quote=False) for line in wrapped)


def _layout(labels: list[str], height: int, panel: Panel) -> dict[str, Any]:
    values = [value for row in panel.rows for _, value in row.runs]
    values += [bound for row in panel.rows for bound in (row.estimate.low, row.estimate.high)]
    reach = max(values) - min(values)
    flat = {"tickvals": [values[0]], "ticktext": [panel.metric.show(values[0])]} if not reach else {}
    reach = reach or max(abs(values[0]), 1.0)
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 6, "b": 34},
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": QUIET, "font": {"family": FONT, "size": 13, "color": INK}},
        "xaxis": {
            "range": [min(values) - 0.06 * reach, max(values) + 0.06 * reach],
            "gridcolor": RULE,
            "zeroline": False,
            "nticks": 5,
            "tickfont": {"color": QUIET, "size": 12},
            "fixedrange": True,
            **flat,
        },
        "yaxis": {
            "tickvals": list(range(len(labels))),
            "ticktext": [f"{text} " for text in labels],
            "range": [len(labels) - 0.5, -0.5],
            "automargin": True,
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
    }
