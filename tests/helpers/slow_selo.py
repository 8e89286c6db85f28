"""Semantic localization the plain way, window by window and pixel by pixel: twin of tests and
bench.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import label, maximum_filter


def starts(size, step, offset):
    """First and last pixel of the windows along one side."""
    found, at = [], offset
    while at < size:
        found.append((at, at + step) if at + step < size else (size - step, size))
        at += step
    return found


def windows(height, width, steps=(256, 512, 768)):
    found = []
    for step in steps:
        for offset in (0, step - int(step / 2)):
            for r0, r1 in starts(height, step, offset):
                for c0, c1 in starts(width, step, offset):
                    if (r0, r1, c0, c1) not in found:
                        found.append((r0, r1, c0, c1))
    return found


def through_files(image, spans, folder=None):
    """Every window resized, written to a file of its own and read back."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for r0, r1, c0, c1 in spans:
            window = cv2.resize(image[r0:r1, c0:c1], (256, 256), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(Path(place) / f"{r0}_{r1}_{c0}_{c1}.png"), window)
        return [
            cv2.imread(str(Path(place) / f"{r0}_{r1}_{c0}_{c1}.png")) for r0, r1, c0, c1 in spans
        ]


def mean_map(spans, scores, height, width):
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (r0, r1, c0, c1), score in zip(spans, scores, strict=True):
        total[r0:r1, c0:c1] += score
        count[r0:r1, c0:c1] += 1
    for row in range(height):
        for column in range(width):
            total[row, column] = total[row, column] / count[row, column]
    return total


def probability_map(spans, scores, height, width):
    heat = mean_map(spans, scores, height, width)
    heat = heat - heat.min()
    return cv2.medianBlur(np.uint8(255 * (heat / heat.max())), 251)


def centres(p):
    """Attention centres (x, y) of a map in 0..1."""
    gray = np.uint8(p * 255.0)
    for _ in range(5):
        gray = cv2.boxFilter(gray, -1, (50, 50))
    peaks = (maximum_filter(gray, 1000) == gray) & (gray > 0)
    labels, count = label(peaks, np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(labels == number)
        found.append((int(columns.mean()), int(rows.mean())))
    return sorted((c for c in found if p[c[1], c[0]] >= 0.5), key=lambda c: -p[c[1], c[0]])


def circle(region):
    x, y = (int(sum(float(point[i]) for point in region) / len(region)) for i in (0, 1))
    return x, y, int(1.5 * np.mean([np.hypot(px - x, py - y) for px, py in region]))


def metrics(gray, regions):
    """The four numbers, each from the map anew."""
    p = gray / 255.0
    inside = np.zeros(p.shape)
    cv2.fillPoly(inside, [np.array(region, np.int32) for region in regions], 1)
    within, area = (p * inside).sum(), inside.sum()
    rsu = 1 - np.exp(-0.707 * (within / (p.sum() - within + 1e-7)) * ((p.size - area) / area))
    ras, rda = plain_ras(p, regions), plain_rda(p, regions)
    return {"rsu": rsu, "rda": rda, "ras": ras, "rmi": 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda}


def plain_ras(p, regions):
    looks, shares = centres(p), []
    for x, y, radius in map(circle, regions):
        near = [d for d in (np.hypot(x - cx, y - cy) for cx, cy in looks) if d <= radius]
        shares.append((np.mean(near) if near else radius) / radius)
    return (np.exp(3 * np.mean(shares)) - 1) / (np.exp(3) - 1)


def plain_rda(p, regions):
    looks, found = centres(p), []
    for x, y, radius in map(circle, regions):
        near = np.array([c for c in looks if np.hypot(x - c[0], y - c[1]) <= radius])
        if len(near) < 2:
            found.append(len(near))
            continue
        spread = np.mean([np.linalg.norm(c - near.mean(0)) for c in near]) / radius
        found.append(0.5 * (1 - spread) + np.exp(-0.5 * (len(near) + 2)))
    return np.mean(found)
