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
    images: int | None = None  # run on so many images of each task only, where it is slow
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
            found = maximize_correlation(reference, image, binned(start, factor), mask=mask, valid=valid)
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


def legacy(limit):
    """
    The method of the system that this package replaces, in our words.

    A shift from the correlation by Fourier transforms, then Nelder-Mead over the six numbers of an affine map, which
    maximizes the zero-lag correlation of raw images; each trial is a cubic spline transform.
    """

    def prepare(problem):
        reference, image, _ = problem.warped(filtered=False)
        reference = (reference - reference.mean()) / reference.std()
        half = np.array(image.shape) / 2

        def fit():
            begin = perf_counter()
            surface = scipy.signal.correlate(reference, image - image.mean(), mode="same", method="fft")
            shift = half.astype(int) - np.unravel_index(surface.argmax(), surface.shape)
            best = np.inf, None

            def cost(numbers):
                nonlocal best
                matrix = np.eye(2) + numbers[:4].reshape(2, 2) / half.max()
                # The turning point is the middle, so that the parameters are nearly independent.
                offset = half - matrix @ half + numbers[4:]
                moved = affine_transform(image, matrix, offset, order=3)
                value = -float(np.mean(reference * (moved - moved.mean())) / moved.std())
                if value < best[0]:
                    best = value, (matrix, offset)
                if perf_counter() - begin > limit:
                    raise Stopped(solution(best[1]))
                return value

            first = np.concatenate([np.zeros(4), shift])
            simplex = np.vstack([first, first + np.eye(6) * 2])
            scipy.optimize.minimize(
                cost, first, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-6}
            )
            return solution(best[1])

        def solution(found):
            matrix, offset = found
            return lambda x, y: problem.start(*(matrix @ np.stack([y, x]) + offset[:, None])[::-1])

        return fit

    return prepare


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
            # It works in place.
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
