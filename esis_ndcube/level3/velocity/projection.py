"""The images of all channels, of a scene with velocities."""

from math import factorial

import numpy as np
import scipy.fft
from scipy.sparse.linalg import LinearOperator

import astropy.units as u

from esis_ndcube.flags import Flag
from esis_ndcube.utils.checks import check_cube, named_axes

__all__ = ["Projection", "projection"]

PER_SPEED = u.pix * u.s / u.km
_SPEED = u.km / u.s
# Pixels of empty space around the scene, beside those of the displacements, so that no edge meets its opposite.
_MARGIN = 8
# Widths of the line, on each side, that count as displaced light.
_WINGS = 4


class Projection(LinearOperator):
    r"""
    The images of all channels, as a linear function of a scene.

    A scene is either its moments, :math:`m_n = \int v^n S(v)\,dv` for n = 0, 1, 2, or the light in bins of velocity.
    The channel k displaces light of the velocity v by :math:`v\,e_k`, so that its image is

    .. math::

        I_k = r_k \sum_n \frac{(-1)^n}{n!} (e_k \cdot \nabla)^n L_k * (f\,m_n) + b_k
        \quad \mathrm{or} \quad
        I_k(x) = r_k \sum_j L_k * (f\,S_j)(x - v_j e_k) + b_k

    with the field stop f, the response :math:`r_k`, a background :math:`b_k`, and the line's own width, a Gaussian
    :math:`L_k` along :math:`e_k`. Derivatives and displacements are taken in Fourier space, where they are exact for
    images without detail below two pixels; no weights are stored.

    Parameters
    ----------
    displacement : `~astropy.units.Quantity`
        Displacement of each channel's image by a velocity, in pixels per velocity, shape (channel, 2) for x and y.
    shape : `tuple` of `int`
        Shape (y, x) of the scene and of the images.
    velocities : `~astropy.units.Quantity`, optional
        Velocities of the bins; by default the scene is given as three moments.
    line_width : `~astropy.units.Quantity`, optional
        Width (sigma) of the line that comes on top of the scene's velocities.
    field_stop : `numpy.ndarray`, optional
        Transmission of the field stop, shape (y, x); by default 1 everywhere.
    response : `numpy.ndarray`, optional
        Factor of each image, for example vignetting times throughput, of a shape that broadcasts to the images'; by
        default 1.
    dtype : `numpy.dtype`, optional
        Type of the vectors, ``float64`` or ``float32``.

    Attributes
    ----------
    scene_shape, images_shape : `tuple` of `int`
        Shapes (component, y, x) and (channel, y, x). The vector that the operator takes has the scene's values and
        after them the background of each channel.

    Raises
    ------
    ValueError
        If an argument has another shape than it should.

    Examples
    --------
    A point source that recedes by 20 km/s is seen two pixels further along the dispersion:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> from esis_ndcube.level3.velocity import Projection
    >>> operator = Projection([(0.1, 0), (0, 0.1)] * u.pix * u.s / u.km, (9, 9), velocities=[0, 20] * u.km / u.s)
    >>> scene = np.zeros(operator.scene_shape)
    >>> scene[1, 4, 4] = 1
    >>> images = (operator @ np.append(scene, [0, 0])).reshape(operator.images_shape)
    >>> [tuple(map(int, np.argwhere(image > 0.5)[0])) for image in images]
    [(4, 6), (6, 4)]
    """

    def __init__(
        self,
        displacement,
        shape,
        *,
        velocities=None,
        line_width=0 * u.km / u.s,
        field_stop=None,
        response=None,
        dtype=np.float64,
    ):
        displacement = u.Quantity(displacement).to_value(PER_SPEED)
        if displacement.ndim != 2 or displacement.shape[1] != 2 or not np.isfinite(displacement).all():
            msg = f"got displacements of shape {displacement.shape}, expected finite ones of shape (channel, 2)"
            raise ValueError(msg)
        self.displacement, self.line_width = displacement, u.Quantity(line_width).to_value(_SPEED)
        self.velocities = None if velocities is None else np.atleast_1d(u.Quantity(velocities).to_value(_SPEED))
        shape = tuple(map(int, shape))
        self.scene_shape = (3 if velocities is None else self.velocities.size, *shape)
        self.images_shape = (len(displacement), *shape)
        parts = {"field_stop": (field_stop, shape), "response": (response, self.images_shape)}
        for name, (value, wanted) in parts.items():
            value = np.ones((), dtype) if value is None else np.asarray(value, dtype)
            try:
                np.broadcast_to(value, wanted)
            except ValueError as error:
                msg = f"got {name} of shape {value.shape}, expected {wanted}"
                raise ValueError(msg) from error
            setattr(self, f"_{name}", value)
        fastest = (0 if velocities is None else abs(self.velocities).max(initial=0)) + _WINGS * self.line_width
        margins = np.ceil(fastest * abs(displacement).max(axis=0)).astype(int)[::-1] + _MARGIN
        self.fft_shape = tuple(
            scipy.fft.next_fast_len(n + int(m), real=True) for n, m in zip(shape, margins, strict=True)
        )
        self._waves = [
            2 * np.pi * scipy.fft.fftfreq(self.fft_shape[0]),
            2 * np.pi * scipy.fft.rfftfreq(self.fft_shape[1]),
        ]
        for wave, n in zip(self._waves, self.fft_shape, strict=True):
            # A displacement of the highest frequency of an even number of pixels has no sign.
            wave[n // 2] *= n % 2
        channels = len(displacement)
        super().__init__(dtype, (channels * shape[0] * shape[1], int(np.prod(self.scene_shape)) + channels))

    def transfer(self, component, channel):
        """
        Factors by which the Fourier transform of a component enters that of a channel's image.

        Parameters
        ----------
        component, channel : `int`
            Indices.

        Returns
        -------
        `numpy.ndarray`
            Factors, shape (ky, kx) of a real transform of the shape ``fft_shape``.

        Examples
        --------
        >>> import astropy.units as u
        >>> from esis_ndcube.level3.velocity import Projection
        >>> operator = Projection([(0.1, 0), (0, 0.1)] * u.pix * u.s / u.km, (9, 9))
        >>> operator.transfer(1, 0).real.max()
        np.float64(0.0)
        """
        dx, dy = self.displacement[channel]
        y, x = self._waves
        along = self._along(dx, dy)
        if self.velocities is None:
            factor = (-1j * along) ** component / factorial(component)
        else:
            # A product of few exponentials, not one of each wave.
            speed = self.velocities[component]
            factor = np.exp(-1j * y * dy * speed)[:, None] * np.exp(-1j * x * dx * speed)
        return factor * np.exp(-0.5 * (along * self.line_width) ** 2) if self.line_width else factor

    def transfers(self, pattern=None):
        """
        All factors of `transfer` of moments, perhaps with other displacements by the first moment.

        Parameters
        ----------
        pattern : `numpy.ndarray`, optional
            The other displacements, in pixels per km/s, shape (channel, 2).

        Returns
        -------
        `numpy.ndarray`
            Shape (component, channel, ky, kx).

        Examples
        --------
        >>> import astropy.units as u
        >>> from esis_ndcube.level3.velocity import Projection
        >>> Projection([(0.1, 0), (0, 0.1)] * u.pix * u.s / u.km, (9, 9)).transfers().shape
        (3, 2, 18, 10)
        """
        factors = np.array(
            [[self.transfer(i, k) for k in range(self.images_shape[0])] for i in range(self.scene_shape[0])]
        )
        if pattern is not None:
            for k, displacement in enumerate(pattern):
                factors[1, k] = -1j * self._along(*displacement) * factors[0, k]
        return factors

    def _along(self, dx, dy):
        """Phase of each wave after a displacement."""
        y, x = self._waves
        return (y * dy)[:, None] + x * dx

    def _matvec(self, vector):
        vector = np.ravel(vector)
        channels = self.images_shape[0]
        scene = vector[:-channels].reshape(self.scene_shape) * self._field_stop
        spectra = scipy.fft.rfft2(scene, self.fft_shape)
        images = np.empty(self.images_shape, self.dtype)
        rows, columns = self.images_shape[1:]
        for channel in range(channels):
            spectrum = sum(self.transfer(i, channel) * one for i, one in enumerate(spectra))
            images[channel] = scipy.fft.irfft2(spectrum, self.fft_shape)[:rows, :columns]
        images = images * self._response + vector[-channels:, None, None]
        return images.ravel().astype(self.dtype, copy=False)

    def _rmatvec(self, vector):
        images = np.ravel(vector).reshape(self.images_shape)
        spectra = scipy.fft.rfft2(images * self._response, self.fft_shape)
        scene = np.empty(self.scene_shape, self.dtype)
        rows, columns = self.images_shape[1:]
        for component in range(len(scene)):
            spectrum = sum(self.transfer(component, k).conj() * one for k, one in enumerate(spectra))
            scene[component] = scipy.fft.irfft2(spectrum, self.fft_shape)[:rows, :columns]
        background = images.sum(axis=(1, 2))
        return np.concatenate([(scene * self._field_stop).ravel(), background]).astype(self.dtype, copy=False)


def displacements(cube):
    """
    Displacements of the images of a cube's channels by a velocity, as ``cube.dispersion()`` has them.

    In pixels of the cube per velocity, shape (channel, 2) for x and y; NaN for channels without an alignment.
    """
    table = cube.dispersion()
    return (np.stack([table["dx"], table["dy"]], axis=-1) / table["velocity"][:, None]).to(PER_SPEED)


def projection(cube, *, velocities=None, line_width=0 * u.km / u.s, field_stop=None, response=None, dtype=np.float64):
    """
    The operator from a scene on the grid of a cube to the images of its channels.

    Parameters
    ----------
    cube : `~esis_ndcube.ESISLevel3Cube`
        A cube with axes channel, y and x, or time before them; its data are not looked at.
    velocities, line_width, response, dtype : optional
        As `Projection`. A cube whose vignetting was corrected needs no response for it.
    field_stop : `numpy.ndarray`, optional
        As `Projection`; by default the pixels that any image of the cube sees, where the cube has flags.

    Returns
    -------
    `Projection`
        The operator, of one exposure.

    Raises
    ------
    TypeError, ValueError
        If this is no cube of Level 3, it has other axes or a channel without alignment, or as `Projection`.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube
    >>> from esis_ndcube.level3.velocity import projection
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> projection(cube[15]).images_shape  # doctest: +SKIP
    (4, 1270, 1270)
    """
    check_cube(cube, 3)
    if named_axes(cube)[-3:] != ["channel", "y", "x"]:
        msg = f"got a cube with axes {named_axes(cube)}, expected channel, y and x at the end: slice with ranges"
        raise ValueError(msg)
    if field_stop is None and cube.flags is not None:
        outside = np.asarray(cube.flags) & Flag.OUTSIDE != 0
        field_stop = ~outside.all(axis=tuple(range(outside.ndim - 2)))
    displacement = displacements(cube)
    lacking = ~np.isfinite(displacement.value).all(axis=1)
    if lacking.any():
        numbers = ", ".join(str(number) for number in np.atleast_1d(cube.channel)[lacking])
        msg = f"got channels {numbers} without an alignment, expected one of each: slice the cube to the others"
        raise ValueError(msg)
    return Projection(
        displacement,
        cube.shape[-2:],
        velocities=velocities,
        line_width=line_width,
        field_stop=field_stop,
        response=response,
        dtype=dtype,
    )
