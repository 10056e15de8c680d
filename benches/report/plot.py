"""SVG plots as text: grouped bars and curves. Colors are the page's variables --c0 … --c5."""
import html
import math

WIDTH, LABEL, RIGHT = 900, 290, 90


def number(value, unit):
    text = f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{text} {unit}" if unit != "×" else f"{text}×"


def scale(largest, smallest, logarithmic):
    """A function from a value to a place between 0 and 1."""
    if not logarithmic:
        return lambda value: value / largest
    low, high = math.log(min(smallest, 1) / 1.3), math.log(max(largest, 1) * 1.1)
    return lambda value: (math.log(value) - low) / (high - low)


def bars(groups, unit, mark=None, logarithmic=False):
    """Horizontal bars: groups of (label, values), None for a missing value."""
    values = [value for _, found in groups for value in found if value]
    if not values:
        return ""
    place = scale(max(values), min(values), logarithmic)
    span, out, y = WIDTH - LABEL - RIGHT, [], 8
    for label, found in groups:
        shown = [(color, value) for color, value in enumerate(found) if value]
        if not shown:
            continue
        out.append(f'<text x="{LABEL - 10}" y="{y + 8 * len(shown) + 4}" text-anchor="end">{html.escape(label)}</text>')
        for color, value in shown:
            start = place(mark) if mark else 0
            left, right = sorted((start, place(value)))
            out.append(f'<rect x="{LABEL + left * span:.1f}" y="{y}" width="{max((right - left) * span, 1):.1f}" '
                       f'height="13" fill="var(--c{color % 6})"/>'
                       f'<text x="{LABEL + max(right, start) * span + 6:.1f}" y="{y + 11}">{number(value, unit)}</text>')
            y += 16
        y += 10
    if mark:
        x = LABEL + place(mark) * span
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{y}" stroke-width="1.5"/>')
    return f'<svg viewBox="0 0 {WIDTH} {y}" role="img">{"".join(out)}</svg>'


def steps(largest):
    """Round numbers from 0 to at least `largest`, four to six of them."""
    rough = largest / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(largest / step * 0.999) + 1)]


def lines(curves, across, unit):
    """Curves of (x, y) points: x from 1 on and logarithmic, y from zero."""
    points = [point for curve in curves for point in curve]
    if not points:
        return ""
    height, left, bottom = 240, 70, 36
    ticks = steps(max(y for _, y in points))
    largest_x, largest_y = max(x for x, _ in points), ticks[-1]
    along = lambda x: math.log(max(x, 1)) / math.log(max(largest_x, 2))
    at = lambda x, y: (left + along(x) * (WIDTH - left - RIGHT), 10 + (1 - y / largest_y) * (height - bottom - 10))
    out = []
    for value in ticks:
        _, y = at(0, value)
        out.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                   f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}{unit if unit == "×" else " " + unit}</text>')
    for x_value in sorted({x for x, _ in points}):
        x, _ = at(x_value, 0)
        out.append(f'<text class="soft" x="{x:.1f}" y="{height - 18}" text-anchor="middle">{x_value}</text>')
    out.append(f'<text class="soft" x="{(WIDTH - RIGHT + left) / 2}" y="{height - 3}" text-anchor="middle">{across}</text>')
    for color, curve in enumerate(curves):
        places = [at(x, y) for x, y in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="var(--c{color % 6})" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--c{color % 6})"/>' for x, y in places]
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(out)}</svg>'
