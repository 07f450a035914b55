"""One HTML page with the figures, tables and settings of several experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from infall.experiments.inputs import width_name
from infall.experiments.result import Table

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2227; --faint: #667079; --line: #e2e5e8;
  --accent: #2a6fbb; --code: #f2f4f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --ink: #e4e7ea; --faint: #98a2ab; --line: #2e343a;
    --accent: #7fb2ea; --code: #23282d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 72rem;
  background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.8rem; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 0; }
p { margin: .7rem 0; max-width: 52rem; }
a { color: var(--accent); }
.faint { color: var(--faint); font-weight: 400; }
nav { margin: 1.4rem 0 2.2rem; }
nav ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .3rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); }
section {
  margin: 0 0 2rem; padding: 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem;
}
img { display: block; width: 100%; height: auto; margin: 1rem 0; background: #ffffff;
  border-radius: .3rem; }
pre { margin: 1rem 0; padding: .7rem .9rem; overflow-x: auto; background: var(--code);
  border-radius: .3rem; }
code { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
dl { margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1.6rem; font-size: .9rem; }
dl div { display: flex; gap: .45rem; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); }
.scroll { overflow: auto; max-height: 32rem; margin-top: .7rem; border: 1px solid var(--line);
  border-radius: .3rem; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--code); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
"""


def page(reports: Sequence[Mapping[str, Any]], *, title: str, command: str) -> str:
    """Return a page in HTML that needs nothing but the figures beside it.

    Parameters
    ----------
    reports : sequence of mappings
        As `infall figure --json` prints them.
    title, command : str
        Of the page; what made it.

    Returns
    -------
    str
        To be written into the folder of the figures.
    """
    links = "\n".join(
        f'<li><a href="#{report["name"]}">{escape(report["name"])}</a> '
        f'<span class="faint">{escape(report["paper"])}: {escape(report["shows"])}</span></li>'
        for report in reports
    )
    sections = "\n".join(_section(report) for report in reports)
    seconds = sum(report["elapsed_seconds"] for report in reports)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="faint">{len(reports)} experiments on MaxLikelihood networks in {seconds:.0f} s.
Errors are standard errors over seeds.</p>
<pre><code>{escape(command)}</code></pre>
</header>
<nav aria-label="Figures">
<ul>
{links}
</ul>
</nav>
<main>
{sections}
</main>
</body>
</html>
"""


def setting_text(name: str, setting: Any) -> str:
    """Return a setting in a few words: widths as powers, long sequences by their ends."""
    if isinstance(setting, Mapping):
        return ", ".join(f"{key}: {setting_text(str(key), part)}" for key, part in setting.items())
    if isinstance(setting, (tuple, list, np.ndarray)):
        texts = [setting_text(name, part) for part in setting]
        if len(texts) > 6:
            texts = [*texts[:3], "...", texts[-1]]
        # Which seeds; how many is what titles say.
        return ", ".join(texts) + (f" ({len(setting)} in all)" if name == "seeds" else "")
    if setting is None:
        return "none"
    if isinstance(setting, (bool, np.bool_)):
        return "yes" if setting else "no"
    if name.startswith("width") and isinstance(setting, (int, np.integer)):
        return width_name(int(setting))
    if isinstance(setting, (float, np.floating)):
        return f"{setting:.6g}"
    return str(setting)


def cell_text(cell: Any) -> str:
    """Return a cell of a table as it is printed; a dash where there is no number."""
    if cell is None:
        return "–"
    if isinstance(cell, (float, np.floating)):
        return f"{cell:.4g}"
    return str(cell)


def printed(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the columns and cells of a table as text, a value and its error in one cell."""
    names = list(table.columns)
    errors = {f"{name}_error" for name in names}
    shown = [name for name in names if name not in errors]
    rows = []
    for row in table.rows:
        by_name = dict(zip(names, row, strict=True))
        cells = []
        for name in shown:
            error = by_name.get(f"{name}_error")
            text = (
                setting_text(name, by_name[name]) if name == "width" else cell_text(by_name[name])
            )
            cells.append(text if error is None else f"{text} ± {error:.2g}")
        rows.append(cells)
    return shown, rows


def _section(report: Mapping[str, Any]) -> str:
    settings = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(setting_text(name, setting))}</dd></div>"
        for name, setting in report["settings"].items()
    )
    figure, csv = (escape(Path(report[kind]).name) for kind in ("figure", "csv"))
    return f"""<section id="{report["name"]}">
<h2>{escape(report["name"])}
<span class="faint">{escape(report["paper"])}: {escape(report["shows"])}</span></h2>
<p>{escape(report["summary"])}</p>
<a href="{figure}"><img src="{figure}" alt="{escape(report["shows"])}"></a>
<dl>
{settings}
<div><dt>time</dt><dd>{report["elapsed_seconds"]:.1f} s</dd></div>
</dl>
<pre><code>{escape(report["command"])}</code></pre>
{_table(Table(report["columns"], report["rows"]))}
<p><a href="{csv}">{csv}</a></p>
</section>"""


def _table(table: Table) -> str:
    columns, rows = printed(table)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"""<details>
<summary>Table of {len(rows)} rows</summary>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
</details>"""
