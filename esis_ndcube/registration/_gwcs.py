"""An alignment as a gwcs."""

import gwcs
import gwcs.coordinate_frames as cf
import numpy as np

import astropy.units as u
from astropy.modeling import Model, models
from sunpy.coordinates import Helioprojective

from esis_ndcube.wcs._sun import grid_observer


class _Map(Model):
    """A polynomial transform as a model, forward or inverse."""

    n_inputs = 2
    n_outputs = 2
    _separable = False

    def __init__(self, transform, *, backward, **kwargs):
        super().__init__(**kwargs)
        self._transform, self._backward = transform, backward

    def evaluate(self, x, y):
        return self._transform.inverse(x, y) if self._backward else self._transform(x, y)

    @property
    def inverse(self):
        return _Map(self._transform, backward=not self._backward)

    def copy(self):
        return _Map(self._transform, backward=self._backward)

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()


def alignment_gwcs(alignment):
    """The gwcs of `Alignment.to_gwcs`."""
    grid = alignment.grid
    matrix = grid.wcs.get_pc() * grid.wcs.get_cdelt()[:, None]
    if any(unit != u.deg for unit in grid.wcs.cunit):
        matrix = matrix * [[unit.to(u.deg)] for unit in grid.wcs.cunit]
    crpix = np.asarray(grid.wcs.crpix) - 1
    crval = [value * unit.to(u.deg) for value, unit in zip(grid.wcs.crval, grid.wcs.cunit, strict=True)]
    lonpole = grid.wcs.lonpole if np.isfinite(grid.wcs.lonpole) else 180.0
    to_sky = (
        _Map(alignment.transform, backward=True)
        | models.Shift(-crpix[0]) & models.Shift(-crpix[1])
        | models.AffineTransformation2D(matrix)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(crval[0], crval[1], lonpole)
    )
    frame = Helioprojective(obstime=alignment.time, observer=grid_observer(grid, alignment.time))
    detector = cf.Frame2D(name="detector", axes_names=("u", "v"), unit=(u.pix, u.pix))
    sky = cf.CelestialFrame(
        name="helioprojective",
        reference_frame=frame,
        unit=(u.deg, u.deg),
        axis_physical_types=("custom:pos.helioprojective.lon", "custom:pos.helioprojective.lat"),
    )
    result = gwcs.WCS([(detector, to_sky), (sky, None)])
    result.array_shape = alignment.shape
    # Resampling recognizes this WCS and goes straight through the polynomial.
    result.alignment = alignment
    return result
