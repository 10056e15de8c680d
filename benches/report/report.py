#!/usr/bin/env python3
"""report.py RESULTS… OUT.html: one self-contained page with SVG plots of raw results.

RESULTS are directories of benches/results; from each, compare.jsonl, layers.jsonl, boot.jsonl and
sizes.jsonl are read, as many of them as there are. The page loads nothing from elsewhere."""
import html
import json
import os
import statistics
import sys

from plot import bars, lines

REFERENCE = "squashfs+overlayfs"
STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #66707a; --line: #d5dade; --paper: #fbfbf9;
  --c0: #0b6e75; --c1: #c2682c; --c2: #7a7f87; --c3: #5b5ea6; --c4: #98752a; --c5: #9b3b4f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #98a2ab; --line: #39424b; --paper: #15191d;
  --c0: #45b5bd; --c1: #e2935c; --c2: #a2a9b1; --c3: #9a9de0; --c4: #d0ac5b; --c5: #da7f92; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p.note { color: var(--soft); max-width: 46rem; } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); } .key { display: flex; gap: 1.2rem; flex-wrap: wrap; font-size: 13px; }
.key span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em; background: var(--c); }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
td, th { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); }
"""


def read(directories, name):
    rows = []
    for directory in directories:
        path = os.path.join(directory, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                rows += [json.loads(line) for line in file if line.strip()]
    return rows


def median(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.median(values) if values else None


def distinct(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def key(names):
    spans = (f'<span style="--c: var(--c{number % 6})">{html.escape(name)}</span>' for number, name in enumerate(names))
    return f'<div class="key">{"".join(spans)}</div>'


def table(head, rows):
    cells = lambda tag, row: "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) + "</tr>"
    return "<table>" + cells("th", head) + "".join(cells("td", row) for row in rows) + "</table>"


def rate(link):
    """Links from the fastest to the slowest: 0 is unshaped."""
    speed, delay = map(float, link.split(":"))
    return (-speed if speed else float("-inf"), delay)


def spread(values, digits):
    """A median with the range of the values."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if max(values) == min(values) else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def boots(rows):
    """Seconds and bytes of every way to boot, against the link; of boots that had the machine to themselves."""
    rows = [row for row in rows if not row.get("paired")]
    good = [row for row in rows if "error" not in row]
    if not good:
        return
    modes, links = distinct(good, "mode"), sorted(distinct(good, "link"), key=rate)
    label = lambda link: "unshaped" if link.startswith("0:") else "{} Mbit/s, {} ms".format(*link.split(":"))
    at = lambda link, mode: [row for row in good if (row["link"], row["mode"]) == (link, mode)]
    yield "Booting a Debian system over the network", (
        '<p class="note">One boot after the other behind the same shaped link, each way in turn; medians. Kernel and '
        "initramfs are not in the bytes.</p>" + key(modes))
    for what, unit, get in (("Seconds from kernel start to multi-user.target", "s", lambda r: median(r, "from_kernel")),
                            ("Bytes over the link", "MB", lambda r: (median(r, "bytes") or 0) / 1e6 or None)):
        groups = [(label(link), [get(at(link, mode)) for mode in modes]) for link in links]
        yield None, f"<h3>{what}</h3>" + bars(groups, unit)
    body = []
    for link in links:
        for mode in (mode for mode in modes if at(link, mode)):
            here = at(link, mode)
            all_of = sum((row["link"], row["mode"]) == (link, mode) for row in rows)
            body.append([label(link), mode, str(all_of) if all_of == len(here) else f"{len(here)} of {all_of}",
                         spread([row["from_kernel"] for row in here], 1), spread([row["cpu"] for row in here], 1),
                         spread([row["bytes"] / 1e6 for row in here], 2)])
    yield None, table(["link", "mode", "boots", "seconds (spread)", "QEMU CPU s", "MB"], body)


def shape(row):
    """The setting of a row of the comparison; older rows have none."""
    return row.get("tree", ""), row.get("upper", "tmpfs")


def place(row):
    """The round of the run that a row belongs to: only such rows are compared."""
    return row.get("run", row.get("at", "")[:10]), row["round"]


def comparison(rows):
    """Speed relative to squashfs under overlayfs, for each case, by number of layers."""
    if not rows:
        return
    names = [name for name in distinct(rows, "stack") if name != REFERENCE]
    yield "Against the kernel's overlayfs over squashfs", (
        '<p class="note">How many times as fast, median over rounds that ran one after the other; 1 is equal, '
        "below 1 is slower.</p>" + key(names))
    for layers, tree, upper in sorted({(row["layers"], *shape(row)) for row in rows}):
        groups = []
        alike = [row for row in rows if (row["layers"], *shape(row)) == (layers, tree, upper)]
        for case in distinct(alike, "case"):
            here = [row for row in alike if row["case"] == case]
            base = {place(row): row["seconds"] for row in here if row["stack"] == REFERENCE}
            ratio = lambda name: [base[place(row)] / row["seconds"] for row in here
                                  if row["stack"] == name and place(row) in base]
            groups.append((case, [statistics.median(found) if (found := ratio(name)) else None for name in names]))
        if any(value for _, values in groups for value in values):
            title = f"{layers} layer{'s' if layers > 1 else ''}" + (f", tree {tree}" if tree else "") + f", upper on {upper}"
            yield None, f"<h3>{html.escape(title)}</h3>" + bars(groups, "×", mark=1, logarithmic=True)


def by_layers(rows):
    """The time of a case by number of layers, on the tree that was measured first."""
    rows = [row for row in rows if shape(row) == shape(rows[0])]
    cases = [case for case in distinct(rows, "case") if len({row["layers"] for row in rows if row["case"] == case}) > 1]
    if not cases:
        return
    names = distinct(rows, "stack")
    yield "Cost against the number of layers, all stacks", key(names)
    for case in cases:
        curves = []
        for name in names:
            here = [row for row in rows if (row["case"], row["stack"]) == (case, name)]
            curves.append([(count, 1e3 * median([row for row in here if row["layers"] == count], "seconds"))
                           for count in sorted({row["layers"] for row in here})])
        yield None, f"<h3>{html.escape(case)}</h3>" + lines(curves, "layers", "ms")


def layers(rows):
    """layerfs against itself: the cost of the number of layers."""
    counts = sorted(set(distinct(rows, "layers")))
    if len(counts) < 2:
        return
    first, cases = counts[0], distinct(rows, "case")
    base = {(row["case"], row.get("at", "")[:10], row["round"]): row["seconds"] for row in rows if row["layers"] == first}
    curves, body = [], []
    for case in cases:
        curve = []
        for count in counts:
            here = [row for row in rows if (row["case"], row["layers"]) == (case, count)]
            ratios = [row["seconds"] / base[place] for row in here
                      if (place := (case, row.get("at", "")[:10], row["round"])) in base]
            if ratios:
                curve.append((count, statistics.median(ratios)))
        curves.append(curve)
        body.append([case] + [f"{value:.2f}" for _, value in curve])
    yield "Cost against the number of layers", (
        '<p class="note">The same tree in more and more layers, layerfs against itself: the time as a multiple of that with '
        f"{first} layer{'s' if first > 1 else ''}, median over rounds.</p>" + key(cases))
    yield None, lines(curves, "layers", "×") + table(["case", *map(str, counts)], body)


def sizes(rows):
    """Bytes of the same tree in every form."""
    if not rows:
        return
    yield "Size", '<p class="note">The same tree, bytes on disk.</p>'
    for tree in distinct(rows, "tree"):
        here = [row for row in rows if row["tree"] == tree]
        groups = [(what, [median([row for row in here if row["what"] == what], "bytes") / 1e6])
                  for what in distinct(here, "what")]
        yield None, f"<h3>{html.escape(tree)}</h3>" + bars(groups, "MB")
        body = [[what, f"{median(w, 'bytes'):,.0f}", f"{median(w, 'seconds'):.1f}", f"{median(w, 'cpu'):.1f}"]
                for what in distinct(here, "what") for w in [[row for row in here if row["what"] == what]]]
        yield None, table(["form", "bytes", "seconds", "CPU s"], body)


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: report.py RESULTS… OUT.html")
    *directories, out = sys.argv[1:]
    compared = read(directories, "compare.jsonl")
    parts = [*boots(read(directories, "boot.jsonl")), *comparison(compared), *layers(read(directories, "layers.jsonl")),
             *by_layers(compared),
             *sizes(read(directories, "sizes.jsonl"))]
    if not parts:
        sys.exit(f"report.py: no results in {' '.join(directories)}")
    body = "".join((f"<h2>{html.escape(title)}</h2>" if title else "") + content for title, content in parts)
    loads = [row["load"] for row in compared if row.get("load") is not None]
    note = f" Load average while comparing: {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    with open(out, "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>layerfs: measurements</title>'
                   f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
                   f"<h1>layerfs: measurements</h1><p class=\"note\">From {html.escape(', '.join(map(os.path.basename, directories)))}. "
                   f"docs/BENCHMARKS.md says how each figure was measured.{note}</p>{body}</html>\n")


if __name__ == "__main__":
    main()
