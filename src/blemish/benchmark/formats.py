"""A page of tables as Markdown, LaTeX or CSV."""

from collections.abc import Iterable, Sequence

import pandas as pd

from blemish.benchmark.summary import Figure, Table

FORMATS = {"md": "table.md", "latex": "table.tex", "csv": "table.csv"}
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def rendered(parts: Sequence[str | Table], form: str) -> str:
    """The page in one of `FORMATS`: text and tables as Markdown, the tables alone as LaTeX or CSV."""
    if form == "md":
        return "\n\n".join(markdown(part) if isinstance(part, Table) else part for part in parts if part) + "\n"
    tables = [part for part in parts if isinstance(part, Table)]
    return latex(tables) if form == "latex" else csv(tables)


def markdown(table: Table) -> str:
    """The caption and the table; figures of one cell stand with a slash between them."""
    heads = list(table.heads)
    lines = [_line(heads), "|" + " --- |" * len(heads)]
    lines += [_line([*names, *(" / ".join(map(_bold, cell)) for cell in cells)]) for names, cells in table.rows]
    caption = _caption(table)
    return (f"{caption}\n\n" if caption else "") + "\n".join(lines)


def latex(tables: Sequence[Table]) -> str:
    """Tables for the package booktabs."""
    found = ["% Needs \\usepackage{booktabs}. Made by blemish bench."]
    for number, table in enumerate(tables, start=1):
        rows = [
            [*map(_escaped, names), *(" / ".join(_textbf(each) for each in cell) for cell in cells)]
            for names, cells in table.rows
        ]
        shown = pd.DataFrame(rows, columns=[_escaped(head) for head in table.heads])
        names = len(table.heads) - len(table.rows[0][1]) if table.rows else 1
        layout = "l" * names + "r" * (len(table.heads) - names)
        text = shown.to_latex(
            index=False, escape=False, column_format=layout, caption=_escaped(_caption(table)), label=f"tab:{number}"
        )
        note = f"\\par\\smallskip\\footnotesize {_escaped(table.note)}\n" if table.note else ""
        found.append(text.replace(r"\end{table}", note + r"\end{table}"))
    return "\n".join(found)


def csv(tables: Sequence[Table]) -> str:
    """A row a figure: table, row, column, measure, value, sample standard deviation, whether it is bold, the text."""
    rows = []
    for table in tables:
        for names, cells in table.rows:
            columns = table.heads[len(names) :]
            for column, cell in zip(columns, cells, strict=True):
                for measure, each in zip(table.measures or [column], cell, strict=True):
                    about = (table.caption, " ".join(filter(None, names)), column, measure)
                    rows.append((*about, each.value, each.deviation, int(each.bold), each.text))
    heads = ["table", "row", "column", "measure", "value", "deviation", "bold", "text"]
    return str(pd.DataFrame(rows, columns=heads).to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def _caption(table: Table) -> str:
    if not table.measures:
        return table.caption
    return f"{table.caption} Cells hold {' / '.join(table.measures)} in per cent.".strip()


def _bold(each: Figure) -> str:
    return f"**{each.text}**" if each.bold else each.text


def _textbf(each: Figure) -> str:
    return rf"\textbf{{{_escaped(each.text)}}}" if each.bold else _escaped(each.text)


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
