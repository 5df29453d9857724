"""The Level-3 cube: every exposure and channel on one grid of the Sun."""

import numpy as np

from esis_ndcube._drawing import in_memory, valid_values
from esis_ndcube._level3_context import ContextMethods
from esis_ndcube._level3_coordinates import CoordinateMethods
from esis_ndcube._level3_corrections import CorrectionMethods
from esis_ndcube.cube import ESISCube, forget_channel
from esis_ndcube.provenance import ProcessingStep

__all__ = ["ESISLevel3Cube"]


class ESISLevel3Cube(CorrectionMethods, CoordinateMethods, ContextMethods, ESISCube):
    """
    Level-3 cube: co-aligned images of one spectral line on a grid of the Sun.

    Array axes (time, channel, y, x), in photons per detector pixel and exposure; ``form_level3`` makes one,
    and ``read`` reads one.
    The parameters are those of `~esis_ndcube.cube.ESISCube`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.time import Time
    >>> from esis_ndcube import ESIS_1
    >>> from esis_ndcube.level3 import ESISLevel3Cube
    >>> from esis_ndcube.wcs import level3_wcs
    >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])[:, :, 600:605, 600:607]
    >>> data = np.arange(70.0).reshape(1, 2, 5, 7)
    >>> cube = ESISLevel3Cube(data, wcs=wcs, unit="ph / pix", meta={"flight": ESIS_1, "line": "O V"})
    >>> print(cube[0, 0])
    ESISLevel3Cube: 5 y x 7 x, ph / pix, float64
      flight: ESIS_1
      line: O V
      time: 2019-09-30T18:08:00.000
      channel: 1
    >>> cube.difference(2, 1).data.max()
    np.float64(35.0)
    """

    _level = 3

    @property
    def alignment(self):
        """Final alignments (`numpy.ndarray` of `Alignment`, shape (time, channel)); one for an image."""
        return self._get_meta("alignment")

    @property
    def alignment_linear(self):
        """Linear alignments with the reference, as `alignment`."""
        return self._get_meta("alignment_linear")

    @property
    def stage(self):
        """The alignment that the images were made with (`str`): ``"linear"`` or ``"final"``."""
        return self._get_meta("stage")

    @property
    def applied_alignment(self):
        """The alignments that the images were made with, of their `stage`, as `alignment`; None if not known."""
        return self.alignment_linear if self.stage == "linear" else self.alignment

    @property
    def reference(self):
        """What the pointing comes from (`str`)."""
        return self._get_meta("reference")

    @property
    def vignetting(self):
        """The vignetting that was taken out (`Vignetting`), or None."""
        return self._get_meta("vignetting")

    @property
    def normalization(self):
        """Factors that the images were multiplied with (`numpy.ndarray`, shape (time, channel)), or None."""
        return self._get_meta("normalization")

    @property
    def normalization_error(self):
        """Errors of the factors (`numpy.ndarray`, shape (time, channel)), or None if they are not known."""
        return self._get_meta("normalization_error")

    def min_images(self):
        """
        Pixelwise minimum over the channels.

        What only one channel sees, as light of another line, is not in it.

        Returns
        -------
        `ESISLevel3Cube`
            Without the channel axis. Masked pixels and NaN do not count; where no channel is left, the result
            is NaN and masked. Metadata of the images and extra coordinates become those of `difference`.

        Raises
        ------
        ValueError
            If the cube has no channel axis.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.level3 import ESISLevel3Cube
        >>> from esis_ndcube.wcs import level3_wcs
        >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1, 2])[:, :, 600:601, 600:602]
        >>> ESISLevel3Cube([[[[1, np.nan]], [[2, 5]]]], wcs=wcs).min_images().data
        array([[[1., 5.]]])
        """
        from esis_ndcube.operations._parts import invalid_pixels

        axis = self._channel_axis()
        before = (slice(None),) * axis
        invalid = invalid_pixels(self)
        values = np.where(invalid, np.inf, self.data)
        lowest, empty = values.argmin(axis=axis), invalid.all(axis=axis)

        def pick(array):
            # Not by index, which lazy arrays do not have.
            picked = array[(*before, 0)]
            for index in range(1, self.shape[axis]):
                picked = np.where(lowest == index, array[(*before, index)], picked)
            return picked

        data = np.where(empty, np.nan, pick(self.data))
        data = data.astype(np.result_type(self.data.dtype, np.float32), copy=False)
        uncertainty = self.uncertainty
        if uncertainty is not None:
            uncertainty = type(uncertainty)(pick(uncertainty.array), unit=uncertainty.unit, copy=False)
        flags = None if self.flags is None else pick(self.flags)
        parts = {"data": data, "uncertainty": uncertainty, "mask": empty, "flags": flags}
        return self._join_channels("min_images", self.channel.tolist(), parts)

    def difference(self, first, second):
        """
        One channel minus another.

        Parameters
        ----------
        first, second : `int`
            Channel numbers, from 1.

        Returns
        -------
        `ESISLevel3Cube`
            ``first`` minus ``second``, without the channel axis; uncertainties added in quadrature, masks and
            flags united. Exposure times are the means of the two channels; what else is known of single images, for
            one files and alignments, and extra coordinates along the channels do not survive, and the history names
            them.

        Raises
        ------
        ValueError
            If the cube has not both channels.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.difference(2, 3)[0].plot()  # doctest: +SKIP
        """
        from esis_ndcube.operations import combine

        before = (slice(None),) * self._channel_axis()
        one = self[(*before, self._channel_index(first))]
        # A channel and itself are not independent.
        two = one if first == second else self[(*before, self._channel_index(second))]
        result = combine(one, "subtract", two)
        parts = {name: getattr(result, name) for name in ("data", "uncertainty", "mask", "flags")}
        return self._join_channels("difference", [int(first), int(second)], parts)

    def to_map(self):
        """
        Make a sunpy Map of one image.

        Returns
        -------
        `~esis_ndcube.ESISMap`
            The map, with its mask and uncertainty.

        Raises
        ------
        ValueError
            If the cube is not one exposure of one channel.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.level3 import ESISLevel3Cube
        >>> from esis_ndcube.wcs import level3_wcs
        >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1])[:, :, 600:605, 600:607]
        >>> meta = {"flight": ESIS_1, "line": "O V"}
        >>> cube = ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs, unit="ph / pix", meta=meta)
        >>> cube[0, 0].to_map().wavelength
        <Quantity 629.732 Angstrom>
        """
        import sunpy.map

        from esis_ndcube.io.fits import exposure_header
        from esis_ndcube.maps import ESISMap

        header = exposure_header(self)
        result = sunpy.map.Map(self.data, header, mask=self.mask, uncertainty=self._free_uncertainty())
        if isinstance(result, ESISMap) and self.flags is not None:
            # A Map has no flags, and so its scale would follow from mended particle hits too.
            result._values = valid_values(in_memory(self))
        return result

    def write_images(self, directory, *, label=None, tar=None, overwrite=False):
        """
        Write one FITS file per image, as the ESIS team's Level-3 processing did, for IDL and everything else.

        Parameters
        ----------
        directory : path-like
            Folder, made if need be.
        label : `str`, optional
            What the files' names begin with.
        tar : path-like, optional
            An archive to put the files in as well.
        overwrite : `bool`, optional
            Whether files that exist may be replaced.

        Returns
        -------
        `list` of `pathlib.Path`
            The files ``{label}_{sequence}_{date}_{channel}.fits``.

        Raises
        ------
        OSError, ValueError
            As `~esis_ndcube.io.images.write_images`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> files = cube.write_images("ESIS_Level3/", tar="ESIS_Level3.tar.gz")  # doctest: +SKIP
        """
        from esis_ndcube.io.images import write_images

        return write_images(self, directory, label=label, tar=tar, overwrite=overwrite)

    def _free_uncertainty(self):
        """A copy of the uncertainty that does not know this cube."""
        uncertainty = self.uncertainty
        return None if uncertainty is None else type(uncertainty)(uncertainty.array, unit=uncertainty.unit)

    def _channel_axis(self):
        names = self._from_wcs("array_axis_names") or []
        if "channel" not in names:
            msg = f"got a cube of shape {self.data.shape} without a channel axis, expected several channels"
            raise ValueError(msg)
        return names.index("channel")

    def _channel_index(self, number):
        index = np.flatnonzero(self.channel == number)
        if not index.size:
            msg = f"got channel {number!r}, expected one of {', '.join(map(str, self.channel))}"
            raise ValueError(msg)
        return int(index[0])

    def _join_channels(self, name, channels, parts):
        """A cube without channel axis that is of no single channel."""
        from esis_ndcube.operations._parts import rebuild

        axis = self._channel_axis()
        first = self[(*(slice(None),) * axis, 0)]
        meta, dropped = first.meta, []
        if meta is not None:
            indices = [self._channel_index(number) for number in channels]
            for key, axes in getattr(self.meta, "axes", {}).items():
                if axis in axes:
                    joined = self._join_meta(key, list(map(int, axes)).index(axis), indices)
                    if joined is None:
                        # What belongs to one channel says nothing of the result.
                        del meta[key]
                        dropped.append(key)
                    else:
                        meta[key] = joined
        step = ProcessingStep(name, {"channels": channels} | ({"dropped": dropped} if dropped else {}))
        wcs = forget_channel(first.wcs)
        return rebuild(self, step, lost=(axis,), **parts, wcs=wcs, meta=meta)

    def _join_meta(self, key, axis, indices):
        """What metadata of some channels say of all of them, or None."""
        from esis_ndcube.operations._parts import join_values

        values = self.meta[key][(*(slice(None),) * axis, indices)]
        joined = join_values(key, values, [len(indices) if i == axis else 1 for i in range(values.ndim)])
        return None if joined is None else joined[(*(slice(None),) * axis, 0)]
