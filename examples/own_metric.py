"""A metric of one's own in a file: how far the map's centre of mass is from the anomaly's."""

import numpy as np
from scipy.ndimage import center_of_mass

from vad_helpers.metrics.catalog import Metric


def distance(attribution, *, mask, clip, baseline, predict):
    positive = np.maximum(attribution, 0)
    if not positive.any() or not mask.any():
        return float("nan")
    apart = np.subtract(center_of_mass(positive), center_of_mass(mask))[1:]
    return float(np.hypot(*apart / mask.shape[1:]) / np.sqrt(2))


METRIC = Metric("centre_distance", "Distance of centres", "human-centric", "lower", (0.0, 1.0),
                description="From the map's centre to the anomaly's, in diagonals of the frame",
                score=distance)  # fmt: skip
