"""How much the pixels of the flight scatter beside what is stated, and the model of the charge fitted to it."""

import argparse
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from scipy.optimize import least_squares

import sunpy.map

from esis_ndcube import ESIS_1, ESISLevel1Cube, form_level3
from esis_ndcube.quality import noise_table
from esis_ndcube.utils.noise import autocorrelation

FITTED, OTHERS = range(118, 128), range(109, 117)
BOXES = 1, 2, 4, 8, 16
ORDER = 5  # of the temporal differences that are fitted
LAGS = 8  # pixels
FAINT = 35, 130  # electrons: what is brighter changes by itself
TAIL = 3.0  # pixels; the frames do not tell it from wider ones


def independent(flight):
    """The flight as if all charge were collected, and stayed where it is freed: the statement before."""
    cameras = tuple(replace(channel, charge_collection=1.0) for channel in flight.channels)
    return replace(flight, detector=replace(flight.detector, charge_spread=()), channels=cameras)


def print_table(title, cube):
    """Measured over stated variance by channel and box, for differences of orders 3 and 5."""
    table = noise_table(cube, boxes=BOXES)
    print(f"{title}\n  channel order  " + "".join(f"{f'{box} px':>14}" for box in BOXES))
    for channel, order in sorted({(row["channel"], row["order"]) for row in table}):
        rows = table[(table["channel"] == channel) & (table["order"] == order)]
        cells = (f"{row['ratio']:.2f} +- {row['error']:.2f}" for row in rows)
        print(f"  {channel:7} {order:5}  " + "".join(f"{cell:>14}" for cell in cells))


def covariances(level1):
    """
    By channel: electrons of the faint pixels, their number, and the covariance of their noise by distance.

    ``level1`` states its uncertainty for independent pixels.
    """
    seconds = (level1.time - level1.time[0]).to_value("s")
    result = []
    for channel in range(level1.shape[1]):
        stated = np.mean(level1.uncertainty.array[:, channel] ** 2, axis=0)
        bad = (level1.flags[:, channel] != 0).any(axis=0)
        # Pixels that happen to be below 0 are stated to have the noise of the read-out and of the master dark alone.
        dark = np.percentile(level1.uncertainty.array[0, channel][~bad] ** 2, 1)
        flight = level1.flight
        line = flight.line(flight.pose_line)
        bad[:, : line.columns[0]] = True
        photon = flight.electrons_per_photon(line).value + flight.detector.fano_factor
        electrons = np.where(bad, 0, (stated - dark) / photon)
        level = gaussian_filter(electrons, 4) / np.maximum(gaussian_filter((~bad).astype(float), 4), 1e-3)
        chosen = ~bad & (level >= FAINT[0]) & (level < FAINT[1])
        steep = gaussian_gradient_magnitude(electrons, 2) / np.sqrt(np.maximum(level, 1))
        chosen &= steep <= np.quantile(steep[chosen], 0.7)
        total = number = 0
        for first in range(len(seconds) - ORDER):
            times = seconds[first : first + ORDER + 1]
            weights = 1 / np.prod(np.subtract.outer(times, times) / np.ptp(times) + np.eye(ORDER + 1), axis=1)
            frames = np.where(chosen, level1.data[first : first + ORDER + 1, channel], 0)
            noise = np.tensordot(weights / np.sqrt(np.sum(weights**2)), frames, 1)
            # Without the pixels next to particle hits.
            good = chosen & (np.abs(noise) < 4 * np.sqrt(stated))
            total, number = total + _lagged(np.where(good, noise, 0)), number + _lagged(good.astype(float))
        result.append((electrons[chosen].mean(), int(chosen.sum()), total / number))
    return result


def _lagged(image):
    """Sums of products of an image and itself, shifted by up to LAGS pixels."""
    shape = [n + LAGS + 1 for n in image.shape]
    products = np.fft.irfft2(np.abs(np.fft.rfft2(image, shape)) ** 2, shape)
    return np.roll(products, (LAGS, LAGS), (0, 1))[: 2 * LAGS + 1, : 2 * LAGS + 1]


def fit(level1):
    """Parts and widths of the charge, and the channels' part of the photon noise, of all cameras together."""
    measured, flight = covariances(level1), level1.flight
    read_noise = level1.history[0].parameters["read_noise"]
    line = flight.electrons_per_photon(flight.pose_line).value + flight.detector.fano_factor
    y, x = np.indices((2 * LAGS + 1,) * 2) - LAGS
    half = (y > 0) | ((y == 0) & (x >= 0))

    def model(parameters):
        near, tail, width, *collections = parameters
        spread = (1 - near - tail, 0.0), (near, width), (tail, TAIL)
        shared = autocorrelation(replace(flight.detector, charge_spread=spread).charge_kernel)
        middle = shared.shape[0] // 2
        shared = shared[middle - LAGS : middle + LAGS + 1, middle - LAGS : middle + LAGS + 1]
        return [(collection * line - 1) * shared for collection in collections]

    def residuals(parameters):
        parts = []
        for channel, shared, (signal, count, covariance) in zip(
            flight.channels, model(parameters), measured, strict=True
        ):
            expected = signal * shared
            electrons = np.multiply(list(read_noise[str(channel.number)].values()), channel.gain)
            # The line lies in the quadrants at high x.
            expected[LAGS, LAGS] += signal + np.mean(electrons[1:3] ** 2)
            parts.append((expected - covariance)[half] / covariance[LAGS, LAGS] * np.sqrt(count))
        return np.concatenate(parts)

    start = [0.6, 0.1, 0.6, *[0.8] * len(measured)]
    return least_squares(residuals, start, bounds=([0, 0, 0.1, *[0.2] * 4], [1, 0.3, 2.0, *[1.5] * 4])).x


def main():
    """Print the tables before and after, or the fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", help="folder with raw frames of the flight of 2019")
    parser.add_argument("--reference", help="AIA 304 image, for the tables of Level 3")
    parser.add_argument("--fit", action="store_true", help="print the model that is fitted to the frames instead")
    options = parser.parse_args()
    if options.fit:
        frames = ESISLevel1Cube.from_raw(options.frames, independent(ESIS_1), frame_numbers=FITTED)
        near, tail, width, *collections = np.round(fit(frames), 2)
        print(f"charge_spread = [[{1 - near - tail:.2f}, 0.0], [{near:.2f}, {width:.2f}], [{tail:.2f}, {TAIL}]]")
        print("charge_collection =", *(f"{value:.2f}" for value in collections))
        return
    for name, numbers in (("fitted to", FITTED), ("not fitted to", OTHERS)):
        for when, flight in (("before", independent(ESIS_1)), ("after", ESIS_1)):
            level1 = ESISLevel1Cube.from_raw(options.frames, flight, frame_numbers=numbers)
            print_table(f"Level 1, {when}, frames {numbers[0]} to {numbers[-1]}, {name}", level1)
            if options.reference:
                level3 = form_level3(level1, sunpy.map.Map(options.reference))
                print_table(f"Level 3, {when}, the same frames", level3)


if __name__ == "__main__":
    main()
