"""The alignment of one frame: its map between output grid and detector, and the facts of its fit."""

import io
from dataclasses import dataclass, field

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from esis_ndcube.registration._errors import Misfit
from esis_ndcube.registration._gwcs import alignment_gwcs
from esis_ndcube.registration.transform import PolynomialTransform, center_and_scale, point_covariances
from esis_ndcube.utils.arrays import plain_array, plain_arrays
from esis_ndcube.wcs._digits import write_all_digits
from esis_ndcube.wcs._sun import wrap

__all__ = ["Alignment", "grid_from_header", "grid_header"]

COVARIANCES = "covariance", "reference_covariance"
# Below this score between channels, less than half of the structure in the filtered images is common to both. Good fits
# of the 2019 flight score .77 to .90, of simulated flights .74 and more, and those of the nearly extinct frame 138 .18
# to .25.
_WEAK_SCORE = 0.5
UNCONFIRMED = "converged, but no other channel confirms it"
# The error is averaged over this part of the grid, in this many rows and columns.
_INNER, _POINTS = (0.1, 0.9), 9


@dataclass(frozen=True, eq=False)
class Alignment:
    """
    Places on the Sun of the pixels of one Level-1 frame, in one spectral line.

    Attributes
    ----------
    transform : `~esis_ndcube.registration.PolynomialTransform`
        Map from pixels (x, y) of the grid to pixels (u, v) of the detector.
        The fit and the resampling need this direction; the other direction is its exact inverse.
    grid : `~astropy.wcs.WCS`
        Celestial WCS of the grid that the transform starts from.
    channel, frame_number : `int`
        Channel and raw frame number.
    line : `str`
        The spectral line.
    stage : `str`
        ``"pose"`` (not fitted), ``"linear"`` or ``"final"``.
    reference : `str`
        The reference of the alignment.
    time : `~astropy.time.Time`
        Mid-exposure time.
    shape : `tuple` of `int`
        Rows and columns of the detector.
    score : `float`
        Correlation with the reference after filtering; compare it only between fits of one kind.
    iterations, n_pixels : `int`
        Number of passes over the images, and number of pixels in the last pass.
    converged : `bool`
        Whether the fit ended at a maximum that can be the true one; `status` says how far to trust it.
    reason : `str`
        Reason why the fit ended.
    condition : `float`
        Condition number of the normal matrix.
    covariance : `numpy.ndarray`
        Covariance of the coefficients relative to the reference, all of u before all of v, shape (2 n, 2 n).
    reference_covariance : `numpy.ndarray`, optional
        Covariance of the coefficients from the errors of the reference's own place on the Sun, of that shape; None if
        the reference is an image of the Sun, whose pointing counts as true.
    misfit : `~esis_ndcube.registration.Misfit`, optional
        Test whether terms of the next degree are missing in the transform. None if the transform was not itself fitted,
        for example a pose, the linear map nearest to the final one, and maps of the joint model.

    Examples
    --------
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.registration import Alignment
    >>> alignment = Alignment.from_pose(ESIS_1, 2, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
    >>> print(alignment)
    Channel 2, frame 124, O V: pose from flight pose
      rotation -67.175 deg, shear 0.104 deg, scale 0.8198 x 0.7801
      grid center at detector pixel (1538.52, 505.23)
    >>> alignment.world_to_detector(*alignment.detector_to_world([1500], [500]))
    (array([1500.]), array([500.]))
    """

    transform: PolynomialTransform
    grid: WCS
    channel: int
    frame_number: int
    line: str
    stage: str
    reference: str
    time: Time
    shape: tuple[int, int]
    score: float = np.nan
    iterations: int = 0
    n_pixels: int = 0
    converged: bool = True
    reason: str = "not fitted"
    condition: float = np.nan
    covariance: np.ndarray = field(default=None, repr=False)
    reference_covariance: np.ndarray = field(default=None, repr=False)
    misfit: Misfit | None = field(default=None, repr=False)

    def __post_init__(self):
        size = self.transform.coefficients.size
        # Unknown entries stay unknown when a transform of another degree is put in.
        if self.covariance is None or np.isnan(self.covariance).all():
            object.__setattr__(self, "covariance", np.full((size, size), np.nan))
        for name in COVARIANCES:
            if getattr(self, name) is None:
                continue
            value = np.array(getattr(self, name), dtype=float)
            if value.shape != (size, size):
                msg = f"got a {name} of shape {value.shape}, expected {(size, size)} for a map of {size} coefficients"
                raise ValueError(msg)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "time", Time(self.time))

    def __getstate__(self):
        # astropy pickles a WCS with 14 digits.
        return {**self.__dict__, "grid": grid_header(self.grid)}

    def __setstate__(self, state):
        self.__dict__.update(state, grid=grid_from_header(state["grid"]))
        for name in COVARIANCES:
            if getattr(self, name) is not None:
                getattr(self, name).setflags(write=False)

    @classmethod
    def from_pose(cls, flight, channel, *, frame_number, line, time, grid=None):
        """
        The alignment of a flight's starting pose.

        Parameters
        ----------
        flight : `~esis_ndcube.Flight`
            The flight.
        channel : `int`
            Channel number.
        frame_number : `int`
            Raw frame number.
        line : `str`
            The spectral line.
        time : `~astropy.time.Time`
            Mid-exposure time.
        grid : `~astropy.wcs.WCS`, optional
            The flight's grid with an observer; by default without one.

        Returns
        -------
        `Alignment`
            An alignment of stage ``"pose"``.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Alignment
        >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
        >>> alignment.stage, alignment.transform.degree
        ('pose', 1)
        """
        origin, scale = center_and_scale(flight.grid_shape)
        transform = PolynomialTransform.from_affine(flight.pose(channel, line), origin=origin, scale=scale)
        return cls(
            transform=transform,
            grid=flight.grid if grid is None else grid,
            channel=int(channel),
            frame_number=int(frame_number),
            line=flight.line(line).name,
            stage="pose",
            reference="flight pose",
            time=time,
            shape=flight.detector.shape,
        )

    def __str__(self):
        x, y = self.transform.origin
        parts = self.transform.decompose(x, y)
        weak = f"weak, error {self.error:.3f}: " if self.status == "weak" else ""
        fit = "" if self.stage == "pose" else f", score {self.score:.4f} ({weak}{self.reason})"
        return (
            f"Channel {self.channel}, frame {self.frame_number}, {self.line}: {self.stage} from {self.reference}{fit}\n"
            f"  rotation {parts['rotation']:.3f} deg, shear {parts['shear']:.3f} deg, "
            f"scale {parts['scale_x']:.4f} x {parts['scale_y']:.4f}\n"
            f"  grid center at detector pixel ({parts['u']:.2f}, {parts['v']:.2f})"
        )

    def __repr__(self):
        return f"<Alignment {self.stage} of channel {self.channel}, frame {self.frame_number}, {self.line}>"

    def world_to_detector(self, longitude, latitude):
        """
        Detector pixels of helioprojective coordinates.

        Parameters
        ----------
        longitude, latitude : `~astropy.units.Quantity`
            Helioprojective coordinates.

        Returns
        -------
        u, v : `numpy.ndarray`
            Pixels of the active detector area, 0-based centers.

        Examples
        --------
        >>> import astropy.units as u
        >>> from esis_ndcube import ESIS_1, Alignment
        >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
        >>> column, row = alignment.world_to_detector(13.2 * u.arcsec, -17.6 * u.arcsec)
        >>> float(column.round(1)), float(row.round(1))
        (1477.9, 602.7)
        """
        units = self.grid.world_axis_units
        world = (
            plain_array(u.Quantity(q, subok=True).to_value(unit), "a coordinate")
            for q, unit in zip((longitude, latitude), units, strict=True)
        )
        return self.transform(*self.grid.world_to_pixel_values(*world))

    def detector_to_world(self, u_pixel, v_pixel):
        """
        Helioprojective coordinates of detector pixels.

        Parameters
        ----------
        u_pixel, v_pixel : array-like
            Pixels of the active detector area, 0-based centers.

        Returns
        -------
        longitude, latitude : `~astropy.units.Quantity`
            Helioprojective coordinates in arcsec.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1, Alignment
        >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
        >>> longitude, latitude = alignment.detector_to_world(1476.8, 600.0)
        >>> longitude.round(1)
        <Quantity 13.2 arcsec>
        """
        world = self.grid.pixel_to_world_values(*self.transform.inverse(u_pixel, v_pixel))
        lon, lat = (w * u.Unit(unit) for w, unit in zip(world, self.grid.world_axis_units, strict=True))
        return wrap(lon.to_value(u.deg)) * 3600 * u.arcsec, lat.to(u.arcsec)

    @plain_arrays("x", "y")
    def coordinate_uncertainty(self, x, y, *, relative=False):
        """
        Uncertainty of the coordinates of the frame.

        It is the random error of the fit, from noise and from features that differ between the images.
        It does not include effects that move features in the same way all over the field, such as a smooth Doppler
        shift.

        Parameters
        ----------
        x, y : array-like
            Pixels of the grid, of one shape, 0-based centers: ``y, x = numpy.indices(grid.array_shape)`` gives a map.
        relative : `bool`, optional
            Whether to give the error relative to the reference, which for a final alignment is another channel. By
            default the error of the reference's own place is added.

        Returns
        -------
        longitude, latitude : `~astropy.units.Quantity`
            Standard deviations in arcsec, of the shape of ``x``; NaN if the alignment has no covariance.

        Examples
        --------
        >>> import numpy as np
        >>> from dataclasses import replace
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.registration import Alignment
        >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
        >>> shift_only = np.diag([0.1, 0, 0, 0.1, 0, 0]) ** 2
        >>> replace(alignment, covariance=shift_only).coordinate_uncertainty(600, 600)[0].round(3)
        <Quantity 0.073 arcsec>
        """
        covariance = self.covariance
        if not relative and self.reference_covariance is not None:
            covariance = covariance + self.reference_covariance
        transform = self.transform
        terms = transform.terms(*np.broadcast_arrays(x, y))
        detector = point_covariances(terms, covariance)
        # From the detector to the grid, and from grid pixels to the sky.
        to_sky = sky_scale(self.grid) @ np.linalg.inv(transform.jacobian(x, y))
        variances = np.einsum("...ia,...ab,...ib->...i", to_sky, detector, to_sky)
        return tuple(np.sqrt(variances[..., axis]) * u.arcsec for axis in (0, 1))

    @property
    def status(self):
        """
        How far to trust the alignment (`str`): ``"aligned"``, ``"weak"`` or ``"not aligned"``.

        A fit to another channel is weak if its score is below 0.5: less than half of the structure in the filtered
        images is common to both, and the rest is noise. An alignment of the reference channel is weak if those of all
        other channels of the exposure are weak, so that nothing confirms it. Weak images are kept, with their `error`,
        which is then a lower limit: frame 138 of the 2019 flight is off by two to three times as much.
        """
        if not self.converged:
            return "not aligned"
        low = self.reference_covariance is not None and not self.score >= _WEAK_SCORE
        return "weak" if low or self.reason == UNCONFIRMED else "aligned"

    @property
    def error(self):
        """
        Stated error relative to the reference (`~astropy.units.Quantity`), NaN if there is no covariance.

        The error is the RMS of `coordinate_uncertainty` over the inner four fifths of the grid, both coordinates
        together.
        """
        rows, columns = self.grid.array_shape
        y, x = (np.linspace(*_INNER, _POINTS) * (length - 1) for length in (rows, columns))
        # A covariance that is not positive definite has no error.
        with np.errstate(invalid="ignore"):
            longitude, latitude = self.coordinate_uncertainty(*np.meshgrid(x, y), relative=True)
        return np.sqrt(np.mean(longitude**2 + latitude**2))

    def to_gwcs(self):
        """
        The alignment as a WCS of the frame's detector pixels.

        Returns
        -------
        `gwcs.wcs.WCS`
            Maps detector pixels to helioprojective coordinates and back, exactly as the alignment does,
            so that any tool that takes a WCS can use the Level-1 frame.

        Examples
        --------
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.registration import Alignment
        >>> alignment = Alignment.from_pose(ESIS_1, 1, frame_number=124, line="O V", time="2019-09-30T18:08:36.6")
        >>> alignment.to_gwcs().pixel_to_world(1476.8, 600.0).Tx.round(1)
        <Longitude 13.2 arcsec>
        """
        return alignment_gwcs(self)


def sky_scale(grid):
    """Grid pixels to arcsec, near the disk center."""
    scales = [u.Unit(unit).to(u.arcsec) for unit in grid.world_axis_units]
    return np.asarray(scales)[:, None] * grid.pixel_scale_matrix


def grid_header(grid):
    """All digits of a celestial WCS, with its size, as the text of a FITS header."""
    header = grid.to_header(relax=True)
    write_all_digits(header, grid)
    if grid.array_shape is not None:
        header["NAXIS"] = 2
        header["NAXIS1"], header["NAXIS2"] = grid.array_shape[::-1]
    return header.tostring(sep="\n", endcard=False, padding=False)


def grid_from_header(text):
    """Undo `grid_header`."""
    header = fits.Header.fromfile(io.StringIO(text), sep="\n", endcard=False, padding=False)
    # `fix` would add numbers that the grid did not have.
    return WCS(header, fix=False)
