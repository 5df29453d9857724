"""Coordinates of Level-3 cubes on the detectors, as methods; the work is done by their alignments."""

import numpy as np

from esis_ndcube._checks import named_axes
from esis_ndcube._screen import celestial_frame, is_hidden
from esis_ndcube.pointing import pointing_table


class CoordinateMethods:
    """Mixin that gives Level-3 cubes the way between the Sun and the detectors, and the motion between both."""

    def pointing(self, reference_frame=None):
        """
        Motion of the Sun on the detectors, relative to a chosen exposure.

        Parameters
        ----------
        reference_frame : `int`, optional
            Raw frame number of the chosen exposure; by default the one of the flight's pose if it is there,
            or else the middle one.

        Returns
        -------
        `~astropy.table.QTable`
            As `~esis_ndcube.pointing.pointing_table`: columns ``time``, ``frame``, ``channel``, ``dx``,
            ``dy`` and ``roll``.

        Raises
        ------
        ValueError
            If the cube has no alignments, or not the chosen exposure.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.pointing(reference_frame=124)["dx"].max()  # doctest: +SKIP
        """
        alignments = self.alignment if self.alignment is not None else self.alignment_linear
        if alignments is None or self.frame is None:
            msg = "this cube carries no alignments: cubes of form_level3, and parts of them, have a pointing"
            raise ValueError(msg)
        named_axes(self)
        frames, channels = np.atleast_1d(self.frame), np.atleast_1d(self.channel)
        array = np.empty(alignments.shape if isinstance(alignments, np.ndarray) else (), dtype=object)
        array[...] = alignments
        return pointing_table(
            array.reshape(frames.size, channels.size),
            frames,
            self.time.reshape(frames.size),
            flight=self.flight,
            line=self.line,
            reference_frame=reference_frame,
        )

    def detector_to_world(self, u_pixel, v_pixel, *, frame=None, channel=None):
        """
        Coordinates on the Sun of detector pixels, by the alignment that an image was made with.

        Parameters
        ----------
        u_pixel, v_pixel : array-like
            Column and row of the Level-1 frame, 0-based centers, of one shape.
        frame, channel : `int`, optional
            Raw frame number and channel number, where the cube has more than one.

        Returns
        -------
        `~astropy.coordinates.SkyCoord`
            Of that shape, in the `~sunpy.coordinates.Helioprojective` frame of the reference's observer at the time
            of the exposure.

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
        return self._image_alignment(frame, channel).to_gwcs().pixel_to_world(u_pixel, v_pixel)

    def world_to_detector(self, coordinate, *, frame=None, channel=None):
        """
        Detector pixels of coordinates on the Sun, by the alignment that an image was made with.

        Parameters
        ----------
        coordinate : `~astropy.coordinates.SkyCoord`
            Coordinates in any frame that sunpy can transform to the one of `detector_to_world`.
        frame, channel : `int`, optional
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
        >>> u, v = cube.world_to_detector(bright, frame=124, channel=2)  # doctest: +SKIP
        """
        wcs = self._image_alignment(frame, channel).to_gwcs()
        there = coordinate.transform_to(celestial_frame(wcs))
        hidden = is_hidden(there, coordinate)
        return tuple(np.where(hidden, np.nan, pixel) for pixel in wcs.world_to_pixel(there))

    def _image_alignment(self, frame, channel):
        """The alignment that one image was resampled with."""
        alignments = self.applied_alignment
        index = []
        for name, number, numbers in (("frame", frame, self.frame), ("channel", channel, self.channel)):
            if numbers is None:
                msg = f"this cube is of no single {name}, and so has no detector coordinates"
                raise ValueError(msg)
            numbers = np.atleast_1d(numbers)
            if number is None and numbers.size > 1:
                msg = f"got a cube of {numbers.size} {name}s, expected one: cut out an image, or give {name}="
                raise ValueError(msg)
            found = np.flatnonzero(numbers == (numbers[0] if number is None else number))
            if not found.size:
                msg = f"got {name} {number!r}, expected one of {', '.join(map(str, numbers))}"
                raise ValueError(msg)
            index.append((int(found[0]), numbers.size))
        (i, rows), (j, columns) = index
        alignment = alignments
        if isinstance(alignments, np.ndarray):
            alignment = alignments.reshape(rows, columns)[i, j]
        if alignment is None:
            msg = (
                f"the image of frame {np.atleast_1d(self.frame)[i]}, channel {np.atleast_1d(self.channel)[j]} has no "
                "alignment: there was no frame, its fit failed, or the cube does not come from form_level3"
            )
            raise ValueError(msg)
        return alignment
