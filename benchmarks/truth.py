"""
How far registration is from the truth of simulated images: ``python benchmarks/truth.py locking``, or another part.

The script runs against any version of the package that is on the path. README.rst explains the columns.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.ndimage import gaussian_filter

from esis_ndcube.registration import PolynomialTransform, coalign_images
from esis_ndcube.registration.transform import point_covariances


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


def solar_scene(seed, size, *, smooth=1.5):
    """A positive image with structures of several sizes and bright points."""
    rng = np.random.default_rng([seed, 11])
    layers = [gaussian_filter(rng.normal(size=(size, size)), width, mode="wrap") for width in (smooth, 4, 12)]
    return np.exp(sum(0.5 * layer / layer.std() for layer in layers))


def false_maxima(pairs, *, size=256, correlations=(0.14, 0.32), reach=10.0):
    """
    Fits of pairs of scenes that have little in common, displaced by up to a reach.

    Returns how many converged, and the errors of these in pixels.
    """
    errors = []
    for seed in range(pairs):
        rng = np.random.default_rng([seed, 5])
        common, one, other = (np.log(solar_scene(3 * seed + k, size + 64)) for k in range(3))
        common, one, other = ((a - a.mean()) / a.std() for a in (common, one, other))
        share = rng.uniform(*correlations)
        dx, dy = np.round(rng.uniform(-reach, reach, 2)).astype(int)
        images = [np.exp(0.6 * (np.sqrt(share) * common + np.sqrt(1 - share) * own)) for own in (one, other)]
        image, reference = images[0][32:-32, 32:-32], images[1][32 + dy : size + 32 + dy, 32 + dx : size + 32 + dx]
        found = coalign_images(rng.poisson(200 * image), rng.poisson(200 * reference))
        if found.converged:
            y, x = np.mgrid[0:size:16, 0:size:16].astype(float)
            u, v = found.transform(x, y)
            errors.append(np.sqrt(np.mean((u - x - dx) ** 2 + (v - y - dy) ** 2)))
    return len(errors), np.array(errors)


def print_false(arguments):
    """False maxima of faint likeness, and what is fixed on the detector."""
    count, errors = false_maxima(arguments.pairs)
    print(
        f"raw correlations .14 to .32: {count} of {arguments.pairs} converged, {np.sum(errors > 2)} of them more than "
    )
    print(f"2 pixels off; median error {np.median(errors):.3f} px, worst {errors.max():.2f} px")
    for name, make in FIXED.items():
        off, silent = [], 0
        for seed in range(arguments.seeds // 8):
            image, reference, shift = make(seed)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = coalign_images(image, reference)
            told = bool(caught) or not found.converged
            middle = found.transform.origin
            error = None if shift is None else np.hypot(*np.subtract(found.transform(*middle), middle) - shift)
            wrong = found.converged and (error is None or error > 0.5)
            silent += wrong and not told
            off.append(np.nan if error is None or not found.converged else error)
        some = f"median error {np.nanmedian(off):.3f} px" if np.isfinite(off).any() else "none to be right"
        print(f"{name}: {silent} of {len(off)} wrong and silent; {np.isfinite(off).sum()} converged, {some}")


def _moved(seed, dx=3, dy=2, size=256):
    scene = solar_scene(seed, size + 32)
    image, reference = scene[16:-16, 16:-16], scene[16 + dy : size + 16 + dy, 16 + dx : size + 16 + dx]
    rng = np.random.default_rng([seed, 3])
    return *(rng.poisson(100 * a).astype(float) for a in (image, reference)), np.array([dx, dy])


def _hot(seed):
    image, reference, shift = _moved(seed)
    hot = np.random.default_rng([seed, 4]).random(image.shape) < 5e-4
    for one in (image, reference):
        one[hot] += 30 * np.median(one)
    return image, reference, shift


def _stop(seed):
    image, reference = _moved(seed)[0], _moved(seed + 1000)[0]
    y, x = np.indices(image.shape) - 127.5
    outside = np.maximum(np.maximum(abs(x), abs(y)), (abs(x) + abs(y)) / np.sqrt(2)) > 105
    for one in (image, reference):
        one[outside] *= 0.02
    return image, reference, None


def _zeros(seed):
    image, reference, shift = _moved(seed)
    for one in (image, reference):
        one[90:150, 60:140] = 0
        one[180:200] = 0
    return image, reference, shift


def _inverted(seed):
    image, reference, _ = _moved(seed)
    return 1.2 * image.max() - image, reference, None


FIXED = {
    "hot pixels": _hot,
    "unrelated, one dark field stop": _stop,
    "unmarked zeros": _zeros,
    "inverted": _inverted,
}


def solar_pair(seed, photons, *, smooth=1.5, size=256, shift=(0.3, 0.6), masked=False):
    """
    Two images of a solar scene with noise of their own; the first shows at x + shift what the second shows at x.

    The scene has no structure that the pixels do not resolve, and is moved in Fourier space. The masks are a disk in
    one image and a strip in the other.
    """
    scene, frequency = np.log(solar_scene(seed, size + 32, smooth=smooth)), np.fft.fftfreq(size + 32)
    spectrum = np.fft.fft2(scene) * np.exp(-2 * np.pi**2 * (frequency**2 + frequency[:, None] ** 2))
    turn = np.exp(-2j * np.pi * (frequency * shift[0] + frequency[:, None] * shift[1]))
    rng = np.random.default_rng([seed, 9])
    images = [np.exp(np.fft.ifft2(some).real[16:-16, 16:-16]) for some in (spectrum * turn, spectrum)]
    image, reference = (rng.poisson(photons * one / one.mean()).astype(float) for one in images)
    if masked:
        y, x = np.indices(image.shape) / size
        image[np.hypot(x - 0.3, y - 0.4) < 0.15] = np.nan
        reference[:, round(0.8 * size) : round(0.9 * size)] = np.nan
    return image, reference, np.array(shift)


def mean_squares(found, true):
    """Mean squared error and stated variance of a map, both coordinates together, over the image."""
    size = found.image_shape[0]
    y, x = (a.ravel() for a in np.mgrid[8 : size - 8 : 16, 8 : size - 8 : 16].astype(float))
    u, v = found.transform(x, y)
    variances = np.trace(point_covariances(found.transform.terms(x, y), found.covariance), axis1=1, axis2=2)
    return np.mean((u - x - true[0]) ** 2 + (v - y - true[1]) ** 2), variances.mean()


def print_widths(arguments):
    """Errors of affine maps by the widths of the filter, for several scenes and levels of noise."""
    scenes = {f"noise, {photons} photons": (shifted_pair, (2.3, photons)) for photons in (9, 100)}
    for photons in (3, 10, 100):
        for smooth in (0.5, 1.5):
            scenes[f"solar, {photons} photons, smooth {smooth}"] = solar_pair, (photons, smooth)
    widths = [(1, 8), (0.8, 8), (1, 4), (0.8, 4), (0.6, 4), (0.8, 3), (1.2, 4), (1.2, 8)]
    print(f"{'RMS error in pixels; widths':>32} " + " ".join(f"{pair!s:>9}" for pair in widths))
    for name, (make, options) in scenes.items():
        errors = []
        for pair in widths:
            squares = []
            for seed in range(arguments.seeds // 4):
                if make is shifted_pair:
                    image, reference, true = *make(*options, seed=seed)[:2], (options[0], 0)
                else:
                    image, reference, true = make(seed, options[0], smooth=options[1])
                squares.append(mean_squares(coalign_images(image, reference, widths=pair), true)[0])
            errors.append(np.sqrt(np.mean(squares)))
        print(f"{name:>32} " + " ".join(f"{error:9.4f}" for error in errors))


def bars(kind, masked, seeds, *, photons=10):
    """Chi-square of the stated errors of maps of a kind: mean squared error over mean variance."""
    squares = []
    for seed in range(seeds):
        image, reference, true = solar_pair(seed, photons, masked=masked)
        squares.append(mean_squares(coalign_images(image, reference, transform=kind), true))
    error, variance = np.mean(squares, axis=0)
    return error / variance


def print_bars(arguments):
    """Chi-square of the stated errors of affine, quadratic and cubic maps, of whole and of masked images."""
    for kind in ("shift", "affine", "quadratic", "cubic"):
        values = [bars(kind, masked, arguments.seeds) for masked in (False, True)]
        print(f"{kind}: chi-square {values[0]:.2f}, of masked images {values[1]:.2f}, {arguments.seeds} pairs each")


def print_size(arguments):
    """Time and memory of large images, in passes of one bilinear resampling."""
    import resource

    from scipy.ndimage import map_coordinates

    from esis_ndcube.registration import log_difference_of_gaussians, maximize_correlation
    from esis_ndcube.registration.reference import bin_image
    from esis_ndcube.registration.transform import binned, unbinned

    size = arguments.size
    image, reference, _ = _moved(0, size=size)
    image, reference = image.astype(np.float32), reference.astype(np.float32)
    for kind in ("affine", "quadratic"):
        # Compiled before anything is timed; and as large images.
        coalign_images(image[:1100, :1100], reference[:1100, :1100], transform=kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ones, middle = np.ones(image.shape, dtype=bool), (size - 1) / 2

    def fit(factor, near):
        (one, good), (other, _) = (bin_image(a, ones, factor) for a in (image, reference))
        filtered = [log_difference_of_gaussians(a, 1.0, 8.0) for a in (other, one)]
        return unbinned(maximize_correlation(*filtered, binned(near, factor), mask=good, valid=good).transform, factor)

    for kind, degree in (("affine", 1), ("quadratic", 2)):
        begin = time.process_time()
        found = coalign_images(image, reference, transform=kind)
        public = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        same, near = (
            PolynomialTransform.from_affine([[1, 0, x], [0, 1, y]], origin=(middle, middle), scale=size / 2)
            for x, y in ((0, 0), (2, 1))
        )
        begin = time.process_time()
        fit(1, near.renormalized(near.origin, near.scale, degree=degree))
        bare = time.process_time() - begin
        begin = time.process_time()
        for factor in (8, 4, 2):
            same = fit(factor, same)
        fit(1, same.renormalized(same.origin, same.scale, degree=degree))
        whole = time.process_time() - begin
        print(
            f"{size} px, {kind}: {public:.1f} s ({found.reason}), {peak:.2f} GB at most, of which {before:.2f} before; "
            f"filter and fit alone from 1.4 px off {bare:.1f} s, ratio {public / bare:.2f}; "
            f"from the same start, on pixels binned by 8, 4, 2 and 1, {whole:.1f} s, ratio {public / whole:.2f}"
        )
    position = np.indices(image.shape, dtype=float) + 0.3
    begin = time.process_time()
    map_coordinates(image, position, order=1)
    print(f"one bilinear resampling (scipy) {time.process_time() - begin:.2f} s")


def print_flight(options):
    """Errors of the simulated flight of full size, which accuracy.py measures."""
    import accuracy

    accuracy.main(["--no-raw"])


PARTS = {
    "locking": print_locking,
    "widths": print_widths,
    "bars": print_bars,
    "false": print_false,
    "size": print_size,
    "flight": print_flight,
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=64, help="pairs of images of each kind (default: 64)")
    parser.add_argument("--pairs", type=int, default=200, help="pairs with little in common (default: 200)")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of large images (default: 4096)")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PARTS[options.part](options)


if __name__ == "__main__":
    main()
