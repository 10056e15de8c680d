#!/usr/bin/env python3
"""The page that report.py makes of rows like those of the benches: every part is there, drawn inside its
picture, and nothing is loaded from elsewhere."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

HERE = os.path.dirname(os.path.abspath(__file__))
LINKS = {"20:20": 3.0, "0:0": 0.4, "100:20": 1.0}
MODES = {"ram": (40, 176e6), "nbd": (30, 16e6), "nbd+30": (33, 21e6), "layerfs": (26, 5.6e6), "bare": (29, 14.7e6)}


def boots():
    for number in range(3):
        for link, slower in LINKS.items():
            for mode, (seconds, size) in MODES.items():
                row = {"mode": mode, "link": link, "round": number, "load": 1.0, "at": "2026-01-02T03:04:05Z"}
                if (mode, link, number) == ("nbd", "20:20", 2):
                    yield row | {"error": "no multi-user.target within 600 s"}
                    continue
                yield row | {"seconds": 2 + seconds * slower + number, "from_kernel": seconds * slower + number,
                             "cpu": 25.0, "bytes": int(size), "sent": 1000, "connections": 3, "kernel_bytes": 12036032,
                             "initrd_bytes": 4775645, "state": "running", "memory_used": 200000, "bytes_at_end": int(size)}


LONGEST = "cold open+read+close, 10,000 small files"


def compared():
    for stack, seconds in (("squashfs+overlayfs", 0.9), ("layerfs", 0.7)):
        yield {"case": LONGEST, "stack": stack, "layers": 1, "round": 0, "seconds": seconds, "at": "2026-01-02T03:04:05Z"}
    for count in (1, 40):
        for stack, seconds in (("squashfs+overlayfs", 0.4), ("erofs+overlayfs", 0.5), ("layerfs", 0.2)):
            yield {"case": "cold walk with stat", "stack": stack, "layers": count, "round": 0, "seconds": seconds * count,
                   "load": 0.5, "at": "2026-01-02T03:04:05Z"}


def layered():
    for count in (1, 8, 64, 256):
        for case, each in (("cold walk with stat", 1e-4), ("warm negative lookups", 0)):
            yield {"case": case, "stack": "layerfs", "layers": count, "round": 0, "seconds": 0.1 + each * count,
                   "at": "2026-01-02T03:04:05Z"}


def sizes():
    for what, size in (("squashfs zstd 15, 128 KiB", 188174336), ("layer <default> & more", 184908394)):
        yield {"tree": "minimal", "what": what, "bytes": size, "seconds": 100.0, "cpu": 40.0}


def page(**files):
    """The report of these rows, and the output of the program."""
    with tempfile.TemporaryDirectory() as place:
        for name, rows in files.items():
            with open(os.path.join(place, f"{name}.jsonl"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        out = os.path.join(place, "out.html")
        ran = subprocess.run([sys.executable, os.path.join(HERE, "report.py"), place, out], capture_output=True, text=True,
                             check=False)
        if ran.returncode:
            return None, ran.stderr
        with open(out, encoding="utf-8") as file:
            return file.read(), ran.stderr


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.page, said = page(boot=boots(), compare=compared(), layers=layered(), sizes=sizes())
        assert cls.page, said
        cls.pictures = [xml.fromstring(text) for text in re.findall(r"<svg.*?</svg>", cls.page, re.S)]

    def has(self, text):
        self.assertTrue(text in self.page, f"the page has no {text}")

    def test_every_part_is_there(self):
        for part in ("Booting a Debian system", "Seconds from kernel start", "Bytes over the link", "Against the kernel",
                     "Cost against the number of layers", "Size"):
            self.has(part)
        # Two of boots, two comparisons, two of layers, one of sizes.
        self.assertEqual(len(self.pictures), 7)

    def test_boots_go_from_the_fastest_link_to_the_slowest_and_failures_are_counted(self):
        labels = [text.text for text in self.pictures[0].iter("text") if text.get("text-anchor") == "end"]
        self.assertEqual(labels, ["unshaped", "100 Mbit/s, 20 ms", "20 Mbit/s, 20 ms"])
        self.assertEqual(sum(1 for _ in self.pictures[0].iter("rect")), len(LINKS) * len(MODES))
        self.has("<td>2 of 3</td>")
        self.has("<td>27.0 (26.0–28.0)</td>")
        self.has("<td>5.60</td>")

    def test_bars_are_as_long_as_their_values(self):
        widths = [float(bar.get("width")) for bar in self.pictures[0].iter("rect")]
        modes = list(MODES)
        at = lambda link, mode: widths[link * len(modes) + modes.index(mode)]
        self.assertAlmostEqual(at(1, "ram") / at(1, "layerfs"), 41 / 27, places=2)
        self.assertAlmostEqual(at(2, "ram") / at(1, "ram"), 121 / 41, places=2)

    def test_the_number_of_layers_is_drawn_as_a_multiple_of_the_first(self):
        curve = next(picture for picture in self.pictures if len(list(picture.iter("polyline"))) == 2)
        rising, level = [[float(point.split(",")[1]) for point in line.get("points").split()]
                         for line in curve.iter("polyline")]
        self.assertEqual(len(rising), 4)
        self.assertEqual(len(set(level)), 1)
        self.assertEqual(rising[0], level[0])
        self.assertLess(rising[3], level[3])
        self.has("<td>1.25</td>")

    def test_everything_is_inside_its_picture(self):
        for picture in self.pictures:
            _, _, width, height = map(float, picture.get("viewBox").split())
            for node in picture.iter():
                for name, limit in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height), ("y2", height)):
                    if node.get(name):
                        self.assertTrue(0 <= float(node.get(name)) <= limit, xml.tostring(node))
                if node.tag == "rect":
                    self.assertLessEqual(float(node.get("x")) + float(node.get("width")), width)

    def test_labels_fit_and_stand_beside_bars(self):
        for picture in self.pictures:
            labels = [text for text in picture.iter("text") if text.get("text-anchor") == "end"]
            for label in labels:
                # The widest letters of a 12 px sans serif have 7 px on average.
                self.assertLessEqual(7 * len(label.text), float(label.get("x")), label.text)
            places = [float(label.get("y")) for label in labels]
            self.assertTrue(all(abs(b - a) >= 14 for a, b in zip(places, places[1:])), places)
        # The case that was run with one layer only has no place among forty.
        self.assertEqual(sum(text.text == LONGEST for picture in self.pictures for text in picture.iter("text")), 1)

    def test_nothing_is_loaded_from_elsewhere_and_names_are_escaped(self):
        self.assertNotRegex(self.page, r"https?:|<script|<link|src=|url\(")
        self.has("layer &lt;default&gt; &amp; more")


class Less(unittest.TestCase):
    def test_one_file_is_enough_and_none_is_said(self):
        only, _ = page(boot=boots())
        self.assertIn("Booting", only)
        self.assertNotIn("Size", only)
        nothing, said = page()
        self.assertIsNone(nothing)
        self.assertIn("no results", said)


if __name__ == "__main__":
    unittest.main()
