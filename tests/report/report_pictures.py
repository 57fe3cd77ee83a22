"""The pictures of reports in the documentation, from checkpoints that are made up.

    python -m tests.report.report_pictures

writes them to ``docs/images``, with Chromium.
"""

import tempfile
from pathlib import Path

from agatha_ckpt._report.page import page
from tests.report import report_samples
from tests.report.pages import chromium

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PICTURES = {  # which checkpoints, width, height, dark or not, what is left out
    "report.png": ("pipeline", 1200, 1480, False, ""),
    "report-cards.png": ("small", 1200, 1860, False, ""),
    "report-narrow.png": ("pipeline", 400, 1180, True, ""),
    "report-many.png": ("large", 1200, 1300, False, "header, header + section"),
}


def main():
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for filename, (sample, width, height, dark, hidden) in PICTURES.items():
            html = page(getattr(report_samples, sample)())
            if hidden:
                style = f"<style>{hidden} {{display: none}}</style></head>"
                html = html.replace("</head>", style)
            path = folder / f"{sample}.html"
            path.write_text(html, encoding="utf-8")
            picture = IMAGES / filename
            shot = f"--screenshot={picture}"
            chromium(folder, path, width, shot, dark=dark, height=height)
            print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
