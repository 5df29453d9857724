"""Methods of registration, each with the settings that served it best on these images.

A method is a function of a problem that prepares what it needs and returns the function to be timed, which in turn
returns a solution: a function of grid pixels (x, y) that gives image pixels (u, v).
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import scipy.optimize
import scipy.signal
from bench_problems import PYRAMID, polynomial
from scipy.ndimage import affine_transform

from esis_ndcube.registration import PolynomialTransform, maximize_correlation


@dataclass(frozen=True)
class Method:
    """A method, the distribution that it comes from, and what it fits."""

    name: str
    package: str
    fits: str
    prepare: object
    images: int | None = None  # number of images of each task for a slow method
    quadratic: bool = False
    filtered: tuple = ()  # binning factors at which it needs filtered images
    tasks: tuple = ("sun", "channel")
    processes: bool = False  # it computes in processes of its own


class Stopped(Exception):
    """A method has been stopped at its time limit; the argument is the best solution so far."""


# ---------------------------------------------------------------------------------------------------- ours


def ours(problem):
    """The fit as `coalign` makes it: affine from coarse to fine, quadratic at the end where the task asks for it."""
    levels = [(factor, *problem.level(factor)) for factor in PYRAMID]

    def fit():
        transform = problem.start
        for factor, reference, mask, image, valid in levels:
            degree = problem.degree if factor == 1 else 1
            start = transform.renormalized(transform.origin, transform.scale, degree=degree)
            # Coarse images with few pixels show too little to start from.
            least = 1000 if factor > 1 else 200
            found = maximize_correlation(
                reference, image, binned(start, factor), mask=mask, valid=valid, min_pixels=least
            )
            transform = unbinned(found.transform, factor)
        return transform

    return fit


def ours_plain(problem):
    """The same without the pyramid, affine always: on the very images that cv2 gets."""
    reference, mask, image, valid = problem.level(1)
    return lambda: maximize_correlation(reference, image, problem.start, mask=mask, valid=valid).transform


def binned(transform, factor):
    """A transform between binned images."""
    coefficients, half = transform.coefficients.copy(), (factor - 1) / 2
    coefficients[:, 0] -= half
    return PolynomialTransform(coefficients / factor, (transform.origin - half) / factor, transform.scale / factor)


def unbinned(transform, factor):
    coefficients, half = transform.coefficients * factor, (factor - 1) / 2
    coefficients[:, 0] += half
    return PolynomialTransform(coefficients, transform.origin * factor + half, transform.scale * factor)


# ---------------------------------------------------------------------------------------------------- legacy


_LEGACY_MARGIN = 400
# Scales, shears, displacements in pixels (each x and y) and roll in degrees.
_LEGACY_START = 1, 1, 0, 0, 0, 0, 0
_LEGACY_BOUNDS = (0.98, 1.02), (0.98, 1.02), (0, 0.01), (0, 0.01), (0, 1), (0, 1), (-2, 2)


def legacy(limit):
    """
    The linear step of the system that this package replaces, in our words.

    L-BFGS-B with numerical derivatives over seven numbers of an affine map.
    Each trial is a cubic spline transform of the raw image with a wide margin, and its whole correlation surface with
    the reference by Fourier transforms, whose largest value counts; the shift is where that is, in whole pixels.
    """

    def prepare(problem):
        image, reference = np.pad(problem.image.astype(float), _LEGACY_MARGIN), _normalized(problem.reference)
        start = (problem.start.coefficients[:, 1:] / problem.start.scale)[::-1, ::-1]
        middle = np.array(image.shape) // 2

        def affine(numbers):
            scale_x, scale_y, shear_x, shear_y, dx, dy, roll = numbers
            cosine, sine = np.cos(np.radians(roll)), np.sin(np.radians(roll))
            change = np.array([[cosine, -sine], [sine, cosine]]) @ [[1, shear_x], [shear_y, 1]]
            matrix = start @ np.linalg.inv(change @ np.diag([scale_y, scale_x]))
            return matrix, middle - [dx, dy] - matrix @ middle

        def surface(numbers):
            moved = _normalized(affine_transform(image, *affine(numbers), order=3))
            return scipy.signal.correlate(moved, reference, mode="same") / moved.size

        def fit():
            begin = perf_counter()
            best = np.inf, _LEGACY_START

            def cost(numbers):
                nonlocal best
                value = -surface(numbers).max()
                best = min(best, (value, tuple(numbers)))
                if perf_counter() - begin > limit:
                    raise Stopped(solution(best[1]))
                return value

            return solution(scipy.optimize.minimize(cost, _LEGACY_START, bounds=_LEGACY_BOUNDS).x)

        def solution(numbers):
            peak = surface(numbers)
            # Index 0 of the surface is this many pixels from the shift 0.
            first = (np.array(reference.shape) - 1) // 2 - (np.array(reference.shape) - 1)
            shift = np.unravel_index(peak.argmax(), peak.shape) + first
            matrix, offset = affine(numbers)

            def locate(x, y):
                row, column = matrix @ (np.stack([y, x]) + shift[:, None]) + offset[:, None] - _LEGACY_MARGIN
                return column, row

            return locate

        return fit

    return prepare


def _normalized(image):
    return (image - image.mean()) / image.std()


# ---------------------------------------------------------------------------------------------------- OpenCV


def ecc(*, filtered, blur, pyramid=False):
    """`cv2.findTransformECC`, with masks where the version has them."""

    def prepare(problem):
        import cv2

        cv2.setNumThreads(1)
        reference, mask, image, valid = problem.level(1)
        if not filtered:
            reference, image = problem.reference, problem.image
        mask, valid = (np.ascontiguousarray(a, dtype=np.uint8) * 255 for a in (mask, valid))
        linear = problem.start.coefficients[:, 1:] / problem.start.scale
        constant = problem.start.coefficients[:, 0] - linear @ problem.start.origin
        first = np.column_stack([linear, constant]).astype(np.float32)
        # A smaller threshold takes up to twice the time and changes errors by less than 0.001 pixels.
        stop = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-4

        def fit():
            # OpenCV changes the array in place.
            warp = first.copy()
            if pyramid:
                parameters = cv2.ECCParameters()
                parameters.criteria, parameters.gaussFiltSize = stop, blur
                parameters.motionType, parameters.nlevels = cv2.MOTION_AFFINE, 3
                _, warp = cv2.findTransformECCMultiScale(reference, image, warp, parameters, mask, valid)
            elif hasattr(cv2, "findTransformECCWithMask"):
                _, warp = cv2.findTransformECCWithMask(
                    reference, image, mask, valid, warp, cv2.MOTION_AFFINE, stop, blur
                )
            else:
                _, warp = cv2.findTransformECC(reference, image, warp, cv2.MOTION_AFFINE, stop, valid, blur)
            return PolynomialTransform.from_affine(warp)

        return fit

    return prepare


# ---------------------------------------------------------------------------------------------------- scikit-image


def phase_correlation(problem):
    from skimage.registration import phase_cross_correlation

    reference, image, _ = problem.warped(filtered=True)

    def fit():
        (dy, dx), _, _ = phase_cross_correlation(reference, image, upsample_factor=100, normalization=None)
        return lambda x, y: problem.start(x - dx, y - dy)

    return fit


def optical_flow(*, smooth):
    """Dense flow; either as it is, or the polynomial that fits it best."""

    def prepare(problem):
        from skimage.registration import optical_flow_ilk

        reference, image, both = problem.warped(filtered=True)

        def fit():
            flow = optical_flow_ilk(reference, image, radius=24, num_warp=10, gaussian=True)
            if smooth:
                step = 4
                y, x = np.mgrid[: reference.shape[0] : step, : reference.shape[1] : step].astype(float)
                dv, du = flow[:, ::step, ::step]
                keep = both[::step, ::step]
                return polynomial(x, y, problem.start(x + du, y + dv), problem.degree, problem.start, keep)

            def solution(x, y):
                iy, ix = np.rint(y).astype(int), np.rint(x).astype(int)
                return problem.start(x + flow[1, iy, ix], y + flow[0, iy, ix])

            return solution

        return fit

    return prepare


def orb(problem):
    """ORB features, matched, and an affine map by RANSAC."""
    from skimage.feature import ORB, match_descriptors
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    images = [_to_unit(a) for a in problem.warped(filtered=True)[:2]]

    def fit():
        found = []
        for image in images:
            finder = ORB(n_keypoints=2000, fast_threshold=0.03)
            finder.detect_and_extract(image)
            found.append((finder.keypoints[:, ::-1], finder.descriptors))
        pairs = match_descriptors(found[0][1], found[1][1], cross_check=True)
        model, _ = ransac(
            (found[0][0][pairs[:, 0]], found[1][0][pairs[:, 1]]),
            AffineTransform,
            min_samples=3,
            residual_threshold=2,
            max_trials=2000,
            rng=0,
        )
        return lambda x, y: problem.start(*model(np.stack([x, y], axis=-1)).T)

    return fit


def _to_unit(image):
    low, high = np.percentile(image[image != 0], [0.5, 99.5])
    return np.clip((image - low) / (high - low), 0, 1)


# ---------------------------------------------------------------------------------------------------- pystackreg


def stackreg(*, filtered):
    def prepare(problem):
        from pystackreg import StackReg

        reference, image, _ = problem.warped(filtered=filtered)

        def fit():
            matrix = StackReg(StackReg.AFFINE).register(reference, image)
            return lambda x, y: problem.start(*(matrix @ np.stack([x, y, np.ones_like(x)]))[:2])

        return fit

    return prepare
