"""Which quadrant has which gain: with the right ones the light is continuous over the borders of the quadrants."""

import argparse
from itertools import permutations

import numpy as np

from esis_ndcube import ESIS_1
from esis_ndcube.flight.instrument import ByQuadrant
from esis_ndcube.level1.calibration import master_dark, subtract_bias, trim
from esis_ndcube.level1.frames import find_frames, read_frame, sort_frames

FRAMES = range(109, 134)  # the bright ones
BORDERS = ("low_low", "low_high"), ("high_low", "high_high"), ("low_low", "high_low"), ("low_high", "high_high")
NEAR = 8  # pixels on either side that a cubic is fitted to
FAINT = 5  # DN below which pixels do not weigh more
# The flight file once had the gains of MSFC's quadrants 2 and 4 in each other's place.
EXCHANGED = {"high_low": "low_high", "low_high": "high_low"}


def border_steps(paths):
    """
    Steps of the light over the borders of the quadrants, from raw frames of the 2019 flight.

    Returns, by channel and border, the logarithm of the light in DN beyond the border over that before it, and its
    error by the scatter of the frames.
    """
    light, dark = sort_frames(find_frames(paths, ESIS_1), ESIS_1)
    steps = {}
    for channel in (c.number for c in ESIS_1.channels):
        zero, _ = master_dark([_image(frame) for frame in dark if frame.channel == channel])
        frames = [f for f in light if f.channel == channel and f.frame_number in FRAMES]
        found = np.array([_frame_steps(_image(frame) - zero) for frame in frames])
        errors = found.std(axis=0, ddof=1) / np.sqrt(len(found))
        steps |= {(channel, b): pair for b, *pair in zip(BORDERS, found.mean(axis=0), errors, strict=True)}
    return steps


def expected_step(gain, border):
    """The same by the gains: the more electrons in a DN, the fewer DN."""
    before, beyond = (getattr(gain, name) for name in border)
    return np.log(before / beyond)


def chi_square(steps, places):
    """Chi-square of all steps, with the gain of each quadrant taken from another one's place."""
    total = 0
    for (channel, border), (step, error) in steps.items():
        gain = ESIS_1.channel(channel).gain
        moved = ByQuadrant(**{name: getattr(gain, place) for name, place in places.items()})
        total += ((step - expected_step(moved, border)) / error) ** 2
    return total


def all_places():
    """Every way to give four gains to four quadrants; the first is the flight file's."""
    return [dict(zip(ByQuadrant._fields, order, strict=True)) for order in permutations(ByQuadrant._fields)]


def exchanged():
    """The places of the gains with MSFC's quadrants 2 and 4 exchanged."""
    return {name: EXCHANGED.get(name, name) for name in ByQuadrant._fields}


def _image(frame):
    detector = ESIS_1.detector
    return trim(subtract_bias(read_frame(frame, ESIS_1), detector)[0], detector)


def _frame_steps(image):
    """The gains in the order of BORDERS."""
    row, column = (length // 2 for length in image.shape)
    near_row, near_column = image[row - NEAR : row + NEAR], image[:, column - NEAR : column + NEAR].T
    # Not where the borders cross.
    halves = slice(column - NEAR), slice(column + NEAR, None), slice(row - NEAR), slice(row + NEAR, None)
    strips = near_row, near_row, near_column, near_column
    return [_step(strip[:, half]) for strip, half in zip(strips, halves, strict=True)]


def _step(strip):
    """Slope of the difference of both sides at the border against their mean, clipped; an offset is the bias's."""
    before, beyond = strip[:NEAR][::-1], strip[NEAR:]
    # Value at the border of the cubic through the pixels of one side.
    weights = np.linalg.pinv(np.vander(np.arange(NEAR) + 0.5, 4))[-1]
    difference, mean = weights @ beyond - weights @ before, strip.mean(axis=0)
    scale = np.sqrt(np.maximum(mean, FAINT))
    good = np.ones(mean.shape, bool)
    for _ in range(10):
        terms = np.stack([mean, np.ones_like(mean)], axis=1)
        fit = np.linalg.lstsq((terms / scale[:, None])[good], (difference / scale)[good], rcond=None)[0]
        residual = np.abs(difference - terms @ fit) / scale
        good = residual < 3 * 1.4826 * np.median(residual[good])
    return fit[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", nargs="+", help="raw frames of the 2019 flight, light and dark, or their folder")
    steps = border_steps(parser.parse_args().frames)
    print("channel, border: step of the light in %, expected by the gains, and by quadrants 2 and 4 exchanged")
    for (channel, border), (step, error) in steps.items():
        gain = ESIS_1.channel(channel).gain
        other = ByQuadrant(**{name: getattr(gain, place) for name, place in exchanged().items()})
        values = 100 * np.array([step, error, expected_step(gain, border), expected_step(other, border)])
        print("  {} {:21s} {:+.1f} +- {:.1f}  {:+.1f}  {:+.1f}".format(channel, " | ".join(border), *values))
    others = sorted(chi_square(steps, places) for places in all_places()[1:])
    print(
        f"chi-square of {len(steps)}: {chi_square(steps, all_places()[0]):.0f} by the flight file, "
        f"{chi_square(steps, exchanged()):.0f} with 2 and 4 exchanged, {others[0]:.0f} at least in any other order"
    )
    print("step that the exchange leaves across row 520 of Level 1, by channel, in %")
    gains = [channel.gain for channel in ESIS_1.channels]
    print(" ", *(f"{100 * (gain.high_low / gain.low_high - 1):+.1f}" for gain in gains))


if __name__ == "__main__":
    main()
