"""Two images to be aligned: binned, filtered, and with only some of their pixels."""

from copy import copy

import numpy as np
from scipy.ndimage import gaussian_filter

from esis_ndcube.registration._image_inputs import sample_pixels
from esis_ndcube.registration.correlate import warp
from esis_ndcube.registration.prefilter import filtered_everywhere
from esis_ndcube.registration.reference import bin_image
from esis_ndcube.registration.surface import chance_score, correlation_surface
from esis_ndcube.registration.transform import PolynomialTransform, binned, exponents, nearest_transform

# A score is trusted if it is larger than this many times the scatter of the scores of unrelated images. Each
# coefficient lets a fit follow chance and adds this much to the square of the factor. None of 300 fits of unrelated
# images had such a large score.
_SIGNIFICANCE, _PER_COEFFICIENT = 5.0, 2.0
# The filter sees the edge of the valid pixels from a distance of this many of its fine widths.
_EDGE = 3.0
# A pixel may be fixed on the detector if it stands out by this many standard deviations in both images, or is darker
# than this part of the median in both.
_OUTLIER, _DARK = 4.0, 0.1
# Images with this many rows and columns are large: the checks of their fit use pixels that are binned by this factor.
_LARGE, _LARGE_FACTOR = 1024, 4


class Pair:
    """Both images, filtered on demand after binning."""

    def __init__(self, image, reference, widths, start):
        self.images = reference, image
        # Image pixels per reference pixel; structures are compared at the resolution of the coarser image.
        middle = ((n - 1) / 2 for n in reference.data.shape[::-1])
        self.scale = float(np.sqrt(abs(np.linalg.det(start.jacobian(*middle)))))
        self.finer = self.scale, 1 / self.scale
        coarser = max(1.0, 1 / self.scale)
        self.widths = (None, None) if widths is None else (widths * coarser, widths * coarser * self.scale)
        self.sign = 1
        self._filtered = {}

    @property
    def check_factor(self):
        """Factor of the binning of pixels for the checks of a fit."""
        # A coarse image may see little of a large image with finer pixels.
        sides = (min(one.data.shape) * min(finer, 1) for one, finer in zip(self.images, self.finer, strict=True))
        return _LARGE_FACTOR if min(sides) >= _LARGE else 1

    def least_score(self, fit, degree):
        """The score that images without anything in common hardly reach."""
        # Binned pixels have less noise of their own: the score of chance is a tenth to a fifth larger, which is safe.
        reference, mask, warped, there = self.on_reference(fit.transform, self.check_factor)
        factor = np.sqrt(_SIGNIFICANCE**2 + _PER_COEFFICIENT * 2 * len(exponents(degree)))
        return factor * chance_score(reference, warped, valid=mask & there)

    def filtered(self, factor):
        """Reference and image after binning: filtered, with their valid pixels."""
        if factor not in self._filtered:
            reference, (image, valid) = (
                _prepare(*bin_image(one.data, one.valid, factor), widths)
                for one, widths in zip(self.images, self.widths, strict=True)
            )
            self._filtered[factor] = [reference, (image if self.sign > 0 else -image, valid)]
        return self._filtered[factor]

    def where(self, reference, image):
        """The pair with only the chosen pixels of both."""
        result = copy(self)
        result.images = self.images[0].where(reference), self.images[1].where(image)
        result._filtered = {}
        return result

    def trimmed(self, transform):
        """The pair without the pixels that only one of them has."""
        reference, image = self.images
        seen = _outline(image.valid), _outline(reference.valid)
        return self.where(
            _seen_through(transform, seen[0], reference.data.shape),
            _seen_through(_nearly_inverse(transform, reference.data.shape), seen[1], image.data.shape),
        )

    def inverted(self):
        """The pair with the negative of the image."""
        result = copy(self)
        result.sign = -self.sign
        result._filtered = {}
        return result

    def fixed(self, block):
        """Blocks of pixels that stand out, or are dark, in the same place of both images, with pixels they reach."""
        chosen, dark, reach = True, self.widths[0] is not None, 1
        few = (slice(None, None, 4 * block),) * 2
        for (filtered, valid), one, widths in zip(self.filtered(1), self.images, self.widths, strict=True):
            some = filtered[few][valid[few]]
            far = _OUTLIER * 1.4826 * np.median(np.abs(some - np.median(some))) if some.size else np.inf
            chosen = chosen & valid & ((filtered > far) | (filtered < -far))
            if widths is not None:
                dark = dark & one.valid & (one.data < _DARK * np.median(one.data[few][one.valid[few]]))
                reach = int(np.ceil(_EDGE * widths[0]))
        chosen = chosen | dark
        if not chosen.any():
            return chosen
        chosen = _grown(chosen, reach)
        rows, columns = (n // block for n in chosen.shape)
        inner = chosen[: rows * block, : columns * block].reshape(rows, block, columns, block)
        inner[:] = inner.any(axis=1).any(axis=2)[:, None, :, None]
        return chosen

    def smallest(self):
        return min(n for one in self.images for n in one.data.shape)

    def on_reference(self, transform, factor=1):
        """The filtered reference with its valid pixels, and the same of the image on its grid; all binned."""
        (reference, mask), (image, valid) = (bin_image(*one, factor) for one in self.filtered(1))
        warped = warp(image, valid, binned(transform, factor), reference.shape)
        there = np.isfinite(warped)
        return reference, mask, np.where(there, warped, 0), there

    def surface(self, transform, reach):
        """`CorrelationSurface` about a solution."""
        reference, mask, warped, there = self.on_reference(transform)
        return correlation_surface(reference, warped, reach=reach, mask=mask, valid=there)


def _seen_through(transform, valid, shape):
    """Pixels of a shape that fall between valid ones."""
    from esis_ndcube.registration._kernel import seen

    return seen(valid, shape, transform.grids, transform.origin, transform.scale)


def _nearly_inverse(transform, shape):
    """The polynomial nearest to the inverse of a map of an image of a shape."""
    x, y = sample_pixels(shape)
    u, v = transform(x, y)
    rows, columns = (max(float(np.ptp(a)), 1.0) for a in (v, u))
    degree = max(transform.degree, 1)
    like = PolynomialTransform(np.zeros((2, len(exponents(degree)))), (u.mean(), v.mean()), max(rows, columns) / 2)
    return nearest_transform(u, v, (x, y), like)


def _prepare(image, valid, widths):
    outline = _outline(valid)
    if widths is None:
        level, spread = np.mean(image, where=valid, dtype=float), np.std(image, where=valid, dtype=float)
        plain = np.where(valid, np.subtract(image, level, dtype=np.float64) / spread, 0).astype(np.float32)
        if outline is not valid:
            near = gaussian_filter(plain, 1) / np.maximum(gaussian_filter(valid.astype(np.float32), 1), 1e-3)
            plain = np.where(outline & ~valid, near, plain)
        return plain, outline
    edge = max(int(np.ceil(_EDGE * widths[0])), 1)
    return filtered_everywhere(image, valid, *map(float, widths)), _shrunk(outline, edge)


def _outline(valid):
    """The valid pixels, with the small holes in them."""
    if valid.all():
        return valid
    return valid | _shrunk(_grown(valid, 1), 1)


def _grown(chosen, reach, *, outside=False):
    """Pixels with a chosen pixel within a reach along both axes; outside of the image all are as ``outside`` says."""
    from esis_ndcube.registration._blur import grown

    return grown(chosen, reach, outside)


def _shrunk(chosen, reach):
    """Pixels with nothing but chosen pixels within a reach along both axes; there are none outside."""
    return ~_grown(~chosen, reach, outside=True)
