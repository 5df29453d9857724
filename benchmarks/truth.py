"""
How far registration is from the truth of simulated images: ``python benchmarks/truth.py locking``, or another part.

Runs against any version of the package that is on the path. See README.rst for what the columns mean.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.ndimage import gaussian_filter

from esis_ndcube.registration import PolynomialTransform, coalign_images


def shifted_pair(shift, photons, *, seed, size=400, smooth=2.5, contrast=0.25):
    """
    Two images with Poisson noise of their own; the first shows at x + shift what the second shows at x.

    The scene is ``photons * exp(contrast * g)`` with smoothed noise g of unit variance, which is periodic and moved in
    Fourier space, so that nothing is interpolated. With the images comes the least standard deviation that a shift
    along x can have (Cramer and Rao): of two counts with unknown mean, the sum says nothing of the shift, and their
    difference has the variance of both.
    """
    rng = np.random.default_rng([seed, round(1000 * shift), round(photons)])
    length = size + 32
    frequency = 2 * np.pi * np.fft.fftfreq(length)
    spectrum = np.fft.fft2(rng.normal(size=(length, length)))
    spectrum *= np.exp(-(smooth**2) / 2 * (frequency**2 + frequency[:, None] ** 2))
    noise = [np.fft.ifft2(spectrum * np.exp(-1j * frequency * by)).real[16:-16, 16:-16] for by in (shift, 0.0)]
    image, reference = (photons * np.exp(contrast * g / noise[1].std()) for g in noise)
    information = np.sum(np.gradient(reference, axis=1) ** 2 / (2 * reference))
    return rng.poisson(image), rng.poisson(reference), information**-0.5


def locking(photons, fractions, seeds, **options):
    """
    Errors of shifts of 2 pixels and a fraction.

    Returns a dictionary of arrays, one number for each fraction: bias, its error, RMS error, scatter, the stated error
    and the Cramer-Rao bound, in pixels.
    """
    rows = []
    for fraction in fractions:
        off, stated, bounds = [], [], []
        for seed in range(seeds):
            image, reference, bound = shifted_pair(2 + fraction, photons, seed=seed)
            found = coalign_images(image, reference, **options)
            middle = found.transform.origin
            off.append(found.transform(*middle)[0] - middle[0] - 2 - fraction)
            stated.append(found.covariance[0, 0])
            bounds.append(bound**2)
        off = np.array(off)
        scatter = off.std(ddof=1)
        rows.append(
            {
                "fraction": fraction,
                "bias": off.mean(),
                "error of bias": scatter / np.sqrt(seeds),
                "rms": np.sqrt(np.mean(off**2)),
                "scatter": scatter,
                "stated": np.sqrt(np.mean(stated)),
                "bound": np.sqrt(np.mean(bounds)),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def kernel_times(size=1270, repeats=25):
    """Milliseconds of processor time of a pass of the old and of the new sums, for degrees 1, 2 and 3."""
    import bench_old_kernel as old

    from esis_ndcube.registration import _kernel as new

    scene = gaussian_filter(np.random.default_rng(1).normal(size=(size, size)), 2).astype(np.float32)
    good, level = np.ones(scene.shape, dtype=np.uint8), np.float32(0)
    images = old.framed(scene, good, level, 1), new.framed(scene, good, level, 2)
    marked = new.framed(np.roll(scene, (2, 3), (0, 1)), good, level, 0)
    references = (marked,), (marked, new.spans(marked))
    rows, rows_apart = [], ((), (1,))
    for degree in (1, 2, 3):
        middle = (size - 1) / 2
        near = PolynomialTransform.from_affine([[1, 0.01, 3.3], [-0.01, 1, 2.4]], origin=(middle,) * 2, scale=middle)
        near = near.renormalized(near.origin, near.scale, degree=degree)
        least = [np.inf, np.inf]
        for _ in range(repeats):
            for k, module in enumerate((old, new)):
                begin = time.process_time()
                module.moments(images[k], *references[k], near.grids, near.origin, near.scale, *rows_apart[k])
                least[k] = min(least[k], time.process_time() - begin)
        rows.append((degree, *(1e3 * t for t in least)))
    return rows


def print_locking(arguments):
    """Bias and scatter of shifts by fractions of a pixel, and the time of a pass."""
    fractions = np.arange(11) / 10
    for photons in (9, 100):
        found = locking(photons, fractions, arguments.seeds)
        print(f"{photons} photons per pixel, {arguments.seeds} pairs for each fraction, in pixels")
        print(" ".join(f"{name:>13}" for name in found))
        for row in zip(*found.values(), strict=True):
            print(" ".join(f"{value:13.4f}" for value in row))
        worst, ratio = np.abs(found["bias"]).max(), np.sqrt(np.mean((found["scatter"] / found["bound"]) ** 2))
        chi = np.mean(found["scatter"] ** 2 + found["bias"] ** 2) / np.mean(found["stated"] ** 2)
        print(f"largest |bias| {worst:.4f}, scatter over bound {ratio:.2f}, chi-square of the stated errors {chi:.2f}")
    try:
        times = kernel_times()
    except (AttributeError, TypeError):
        return
    for degree, before, after in times:
        print(f"degree {degree}: {before:.1f} ms a pass before, {after:.1f} ms now, ratio {after / before:.2f}")


PARTS = {"locking": print_locking}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=64, help="pairs of images of each kind (default: 64)")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PARTS[options.part](options)


if __name__ == "__main__":
    main()
