"""One Level-1 frame in the form that the registration takes: the line's part of it, binned and filtered."""

import numpy as np
from scipy.ndimage import binary_erosion

import astropy.units as u

from esis_ndcube.field_stop.region import line_region, lit_region
from esis_ndcube.registration.prefilter import log_difference_of_gaussians
from esis_ndcube.registration.reference import bin_image
from esis_ndcube.registration.transform import binned, unbinned
from esis_ndcube.utils._spline import WHOLE, evaluate, prepare

__all__ = ["Frame", "on_grid"]

# Pixels this close to the edge of the field stop are not used: the filter sees the edge there.
_MARGIN = 3.0


class Frame:
    """One Level-1 frame, filtered on demand at the levels of the pyramid."""

    def __init__(self, image, bad, pose, flight):
        self.pose, self.flight = pose, flight
        self._filtered = {}
        rows, columns = image.shape
        y, x = np.ogrid[:rows, :columns]
        inside = line_region(flight, pose.channel, pose.line, x, y, margin=_MARGIN)
        # Pixels of the field of view, whether they are valid or not.
        self.n_field = int(np.count_nonzero(inside))
        if not self.n_field:
            self.box, self.image, self.valid = (slice(0, 0),) * 2, image[:0, :0], inside[:0, :0]
            return
        # Only the line's part of the detector is filtered.
        lines = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        self.box = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in lines)
        self.image = np.asarray(image[self.box], dtype=np.float32)
        self.valid = inside[self.box] & ~np.asarray(bad[self.box]) & np.isfinite(self.image)
        self.valid &= lit_region(self.image, self.valid)
        # A constant image does not show the Sun.
        if self.valid.any() and np.ptp(self.image[self.valid]) == 0:
            self.valid = np.zeros_like(self.valid)

    @property
    def missing(self):
        return not self.valid.any()

    def filtered(self, factor, widths):
        """Filtered image and valid pixels after binning, which are made once."""
        key = factor, *widths.to_value(u.arcsec).tolist()
        if key not in self._filtered:
            image, valid = bin_image(self.image, self.valid, factor)
            scale = self.flight.detector.pixel_scale.to_value(u.arcsec)[::-1] * factor
            fine, coarse = (tuple(width / scale) for width in key[1:])
            self._filtered[key] = log_difference_of_gaussians(image, fine, coarse, valid=valid), valid
        return self._filtered[key]

    def to_binned(self, transform, factor):
        """The same transform between binned grid and binned frame pixels."""
        return binned(transform, factor, (self.box[1].start, self.box[0].start))

    def from_binned(self, transform, factor):
        """Undo `to_binned`."""
        return unbinned(transform, factor, (self.box[1].start, self.box[0].start))


def on_grid(frame, transform):
    """The filtered frame on the grid, and the grid pixels that it covers."""
    widths = frame.flight.registration_widths
    image, valid = frame.filtered(1, widths)
    rows, columns = frame.pose.grid.array_shape
    x, y = frame.to_binned(transform, 1)(np.arange(columns)[None, :], np.arange(rows)[:, None])
    spline = prepare(image, 3)._replace(good=valid.astype(np.float32))
    target, covered = evaluate(spline, x, y, least=WHOLE)
    # The filter knows nothing beyond the middles of the outermost pixels.
    covered &= (x >= 0) & (x <= image.shape[1] - 1) & (y >= 0) & (y <= image.shape[0] - 1)
    return target, binary_erosion(covered, iterations=2)
