"""The Level-3 cube: every exposure and channel on one grid of the Sun."""

import numpy as np

from sunpy.map import GenericMap, MapSequence

from esis_ndcube.corrections import CORRECTIONS
from esis_ndcube.corrections.correction import correct, uncorrect
from esis_ndcube.corrections.masks import clean_region, mask_pixels, mask_polygons
from esis_ndcube.corrections.normalize import masked_means, normalize_intensities
from esis_ndcube.corrections.vignetting import correct_vignetting, uncorrect_vignetting
from esis_ndcube.cube import ESISCube
from esis_ndcube.io.images import write_images
from esis_ndcube.level3.context import context_cube
from esis_ndcube.level3.map import cube_map
from esis_ndcube.operations import difference, min_images
from esis_ndcube.registration.dispersion import cube_dispersion
from esis_ndcube.registration.pointing import cube_pointing, image_alignment
from esis_ndcube.wcs._sun import celestial_frame, is_hidden

__all__ = ["ESISLevel3Cube"]


class ESISLevel3Cube(ESISCube):
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
        """
        The alignments that the images were made with, at their `stage`, or None if they are not known.

        A `numpy.ndarray` of `Alignment`, shape (time, channel); one alignment for an image.
        """
        return self.alignment_linear if self.stage == "linear" else self.alignment_final

    @property
    def alignment_final(self):
        """Final alignments, with the reference channel of the exposure, in the form of `alignment`."""
        return self._get_meta("alignment_final")

    @property
    def alignment_linear(self):
        """Linear alignments with the reference, in the form of `alignment`."""
        return self._get_meta("alignment_linear")

    @property
    def stage(self):
        """The alignment that the images were made with (`str`): ``"linear"`` or ``"final"``."""
        return self._get_meta("stage")

    @property
    def reference(self):
        """Source of the pointing (`str`)."""
        return self._get_meta("reference")

    @property
    def vignetting(self):
        """The vignetting that the images were divided by (`Vignetting`), or None."""
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

        Light that only one channel sees, for example light of another line, is not in the minimum.

        Returns
        -------
        `ESISLevel3Cube`
            A cube without the channel axis. Masked pixels and NaN do not count; where no channel is left, the result is
            NaN and masked. Metadata of the images and extra coordinates become those of `difference`.

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
        return min_images(self)

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
            ``first`` minus ``second``, without the channel axis. Uncertainties are added in quadrature, masks and flags
            are united, and exposure times are the means of the two channels. Other metadata of single images (for
            example files and alignments) and extra coordinates along the channels do not survive, and the history names
            them.

        Raises
        ------
        ValueError
            If the cube lacks one of the two channels.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.difference(2, 3)[0].plot()  # doctest: +SKIP
        """
        return difference(self, first, second)

    def clean_region(self, *, channels=None, lines=None, frame_numbers=None):
        """
        The region that is valid and free of other lines' light in all chosen images.

        True is good: the region is the opposite of ``cube.mask``.

        Parameters
        ----------
        channels : `int` or sequence of `int`, optional
            Channel numbers, by default all.
        lines : `str` or sequence of `str`, optional
            Other lines whose light to avoid, as for `~esis_ndcube.corrections.masks.clean_region`.
        frame_numbers : `int` or sequence of `int`, optional
            Raw frame numbers, by default all.

        Returns
        -------
        `numpy.ndarray`
            Boolean, shape (y, x), True where clean.

        Raises
        ------
        ValueError
            As `~esis_ndcube.corrections.masks.clean_region`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.clean_region(channels=[2, 3]).sum()  # doctest: +SKIP
        """
        return clean_region(self, channels=channels, lines=lines, frame_numbers=frame_numbers)

    def mask_polygons(self, polygons):
        """
        Mask the pixels inside of polygons.

        Parameters
        ----------
        polygons : `~esis_ndcube.corrections.masks.PolygonMask`, sequence of them, or path-like
            The polygons, or a file of them.

        Returns
        -------
        `ESISLevel3Cube`
            As `~esis_ndcube.corrections.masks.mask_polygons`.

        Raises
        ------
        ValueError
            As `~esis_ndcube.corrections.masks.mask_polygons`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.mask_polygons("scratches.toml").mask.sum()  # doctest: +SKIP
        """
        return mask_polygons(self, polygons)

    def mask_pixels(self, mask):
        """
        Mask pixels, in addition to those that are masked already.

        Parameters
        ----------
        mask : `numpy.ndarray` of `bool`
            True where bad, of the shape of the data or of one of its images.

        Returns
        -------
        `ESISLevel3Cube`
            As `~esis_ndcube.corrections.masks.mask_pixels`.

        Raises
        ------
        ValueError
            If the mask has another shape or is not boolean.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.mask_pixels(cube.data > 500).mask.sum()  # doctest: +SKIP
        """
        return mask_pixels(self, mask)

    def masked_means(self, *, region=None):
        """
        Mean brightness of every image over the common clean region, with its error.

        Parameters
        ----------
        region : `numpy.ndarray` of `bool`, optional
            True where to measure, shape (y, x); by default `clean_region`.

        Returns
        -------
        `~astropy.table.QTable`
            As `~esis_ndcube.corrections.normalize.masked_means`.

        Raises
        ------
        ValueError
            As `~esis_ndcube.corrections.normalize.masked_means`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.masked_means()["mean"].max()  # doctest: +SKIP
        """
        return masked_means(self, region=region)

    def normalize_intensities(self, *, region=None):
        """
        Scale all images to the brightest exposure of the brightest channel.

        Parameters
        ----------
        region : `numpy.ndarray` of `bool`, optional
            True where to measure, shape (y, x); by default `clean_region`.

        Returns
        -------
        `ESISLevel3Cube`
            As `~esis_ndcube.corrections.normalize.normalize_intensities`.

        Raises
        ------
        ValueError
            If the cube is normalized already, or as `~esis_ndcube.corrections.normalize.normalize_intensities`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.normalize_intensities().normalization.min()  # doctest: +SKIP
        """
        return normalize_intensities(self, region=region)

    def correct(self, correction):
        """
        Apply a correction to the images.

        Parameters
        ----------
        correction : `~esis_ndcube.corrections.correction.Correction`
            The correction, as a `~esis_ndcube.Vignetting`.

        Returns
        -------
        `ESISLevel3Cube`
            As `esis_ndcube.corrections.correction.correct`.

        Raises
        ------
        ValueError
            If the cube is corrected already, or the correction is of another line or flight.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube, Vignetting
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.correct(Vignetting.of_flight(cube.flight, cube.line)).vignetting.source  # doctest: +SKIP
        'flight ESIS_1'
        """
        return correct(self, correction)

    def uncorrect(self, key):
        """
        Undo a correction of the images.

        Parameters
        ----------
        key : `str`
            Name of the correction: ``"vignetting"``, ``"normalization"`` or the key of another of
            ``esis_ndcube.corrections.CORRECTIONS``.

        Returns
        -------
        `ESISLevel3Cube`
            As `esis_ndcube.corrections.correction.uncorrect`.

        Raises
        ------
        ValueError
            If there is no such correction, or the cube does not have it.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.uncorrect("normalization").normalization is None  # doctest: +SKIP
        True
        """
        kinds = {kind.key: kind for kind in CORRECTIONS if kind.key}
        if key not in kinds:
            msg = f"got {key!r}, expected one of {', '.join(map(repr, kinds))}"
            raise ValueError(msg)
        return uncorrect(self, kinds[key])

    def correct_vignetting(self, vignetting=None, *, method="joint"):
        """
        Divide the images by the vignetting.

        Parameters
        ----------
        vignetting : `~esis_ndcube.Vignetting`, `dict` or sequence of `float`, optional
            The vignetting, or its slopes by channel number or in the order of the channels; by default it is fitted.
        method : `str`, optional
            How to fit it, as for `~esis_ndcube.fit_vignetting`.

        Returns
        -------
        `ESISLevel3Cube`
            A new cube, with the vignetting in its `vignetting`.

        Raises
        ------
        ValueError
            As `~esis_ndcube.corrections.vignetting.correct_vignetting`, for example if the cube is corrected already.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> print(cube.correct_vignetting().vignetting)  # doctest: +SKIP
        """
        return correct_vignetting(self, vignetting, method=method)

    def uncorrect_vignetting(self):
        """
        Multiply the images by the vignetting that they were divided by.

        Returns
        -------
        `ESISLevel3Cube`
            A new cube without the correction.

        Raises
        ------
        ValueError
            If the cube is not corrected.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.uncorrect_vignetting().correct_vignetting([0.44, 0.57, 0.52, 0.46])  # doctest: +SKIP
        """
        return uncorrect_vignetting(self)

    def pointing(self, reference_frame_number=None):
        """
        Motion of the Sun on the detectors, relative to a chosen exposure.

        Parameters
        ----------
        reference_frame_number : `int`, optional
            Raw frame number of the chosen exposure; by default the one of the flight's pose if it is there,
            or else the middle one.

        Returns
        -------
        `~astropy.table.QTable`
            As `~esis_ndcube.registration.pointing.pointing_table`: columns ``time``, ``frame_number``, ``channel``,
            ``dx``, ``dy`` and ``roll``.

        Raises
        ------
        ValueError
            If the cube has no alignments, or does not have the chosen exposure.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.pointing(reference_frame_number=124)["dx"].max()  # doctest: +SKIP
        """
        return cube_pointing(self, reference_frame_number)

    def dispersion(self):
        """
        How motions along the line of sight displace the image of each channel.

        Light of a longer wavelength falls on a larger detector column. A source that moves away from us has a positive
        velocity, and is displaced along the direction of its channel. A source that moves toward us is displaced
        against it. Directions and lengths are those of the alignments in the middle of the field stop, averaged over
        the exposures. They change by a few per cent over the field.

        Returns
        -------
        `~astropy.table.QTable`
            A row for each channel: ``channel``; ``direction`` (deg, counter-clockwise from solar west) on the sky
            toward longer wavelengths; ``dx`` and ``dy``, its unit vector in pixels of this cube; ``velocity`` and
            ``wavelength``, which displace by one of these pixels; and ``rest_wavelength``. NaN where a channel has no
            alignment.

        Raises
        ------
        ValueError
            If the cube has no alignments of channels, or only one direction of the sky.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.dispersion()["channel", "direction", "velocity"].pprint()  # doctest: +SKIP
        channel direction   velocity
                   deg    km / (pix s)
        ------- --------- ------------
              1      21.6         14.5
              2      67.2         14.4
              3     112.2         14.5
              4     156.4         14.4
        """
        return cube_dispersion(self)

    def detector_to_world(self, u_pixel, v_pixel, *, frame_number=None, channel=None):
        """
        Coordinates on the Sun of detector pixels, by the alignment that an image was made with.

        Parameters
        ----------
        u_pixel, v_pixel : array-like
            Column and row of the Level-1 frame, 0-based centers, of one shape.
        frame_number, channel : `int`, optional
            Raw frame number and channel number, where the cube has more than one.

        Returns
        -------
        `~astropy.coordinates.SkyCoord`
            Coordinates of that shape, in the `~sunpy.coordinates.Helioprojective` frame of the reference's observer at
            the time of the exposure.

        Raises
        ------
        ValueError
            If the image is not one of the cube's, or has no alignment.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube[15, 0].detector_to_world(1480.0, 600.0)  # doctest: +SKIP
        """
        return image_alignment(self, frame_number, channel).to_gwcs().pixel_to_world(u_pixel, v_pixel)

    def world_to_detector(self, coordinate, *, frame_number=None, channel=None):
        """
        Detector pixels of coordinates on the Sun, by the alignment that an image was made with.

        Parameters
        ----------
        coordinate : `~astropy.coordinates.SkyCoord`
            Coordinates in any frame that sunpy can transform to the one of `detector_to_world`.
        frame_number, channel : `int`, optional
            Raw frame number and channel number, where the cube has more than one.

        Returns
        -------
        u, v : `numpy.ndarray`
            Column and row of the Level-1 frame, 0-based centers, of the shape of the coordinates; NaN where the Sun
            hides the place from the observer.

        Raises
        ------
        ValueError
            If the image is not one of the cube's, or has no alignment.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> bright = cube[15, 0].wcs.pixel_to_world(697, 526)  # doctest: +SKIP
        >>> u, v = cube.world_to_detector(bright, frame_number=124, channel=2)  # doctest: +SKIP
        """
        wcs = image_alignment(self, frame_number, channel).to_gwcs()
        there = coordinate.transform_to(celestial_frame(wcs))
        hidden = is_hidden(there, coordinate)
        return tuple(np.where(hidden, np.nan, pixel) for pixel in wcs.world_to_pixel(there))

    def context(self, images=None, **options):
        """
        Put the images of another telescope on the grid and at the times of this cube.

        Parameters
        ----------
        images : `str`, `~sunpy.map.GenericMap`, `list` or `~sunpy.map.MapSequence` of them, `~sunpy.net.attr.Attr`
            Name of the images, such as ``"AIA 304"``, ``"HMI LOS"`` or ``"HMI continuum"``: the images nearest to the
            exposures are searched and fetched with Fido. By default the images are those of the flight's reference. It
            may also be the images themselves, of which each exposure gets the one nearest in time, or a query of your
            own.
        **options
            As `~esis_ndcube.level3.context.context_cube`; where images are fetched also ``path``, ``provider``,
            ``point`` and ``progress``, as `esis_ndcube.net.fetch.fetch_maps`.

        Returns
        -------
        `~esis_ndcube.level3.context.ContextCube`
            Array axes (time, y, x).

        Raises
        ------
        ValueError
            If there are no such images, none is near any exposure, or the cube has no time.

        Examples
        --------
        >>> import sunpy.map
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> aia = cube.context("AIA 304")  # doctest: +SKIP
        >>> mine = cube.context(sunpy.map.Map("aia/*.fits"))  # doctest: +SKIP
        """
        if not isinstance(images, GenericMap | MapSequence | list | tuple):
            from esis_ndcube.net.fetch import fetch_maps, nearest_images

            if images is None or isinstance(images, str):
                images = nearest_images(self, images, max_gap=options.get("max_gap"))
            options.setdefault("point", options.get("pointing_table") is None)
            fetching = {key: options.pop(key) for key in ("path", "provider", "point") if key in options}
            images, max_gap = fetch_maps(images, **fetching, progress=options.get("progress", False))
            options.setdefault("max_gap", max_gap)
        return context_cube(self, images, **options)

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
        return cube_map(self)

    def write_images(self, directory, *, label=None, tar=None, overwrite=False):
        """
        Write one FITS file per image, as the ESIS team's Level-3 processing did, for IDL and all other programs.

        Parameters
        ----------
        directory : path-like
            Folder, made if need be.
        label : `str`, optional
            Beginning of the files' names.
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
        return write_images(self, directory, label=label, tar=tar, overwrite=overwrite)
