"""Masks, brightness and vignetting of Level-3 cubes as methods; the work is done in the modules of each."""


class CorrectionMethods:
    """Mixin that gives Level-3 cubes the functions of `mask`, `polygons`, `normalize` and `vignetting` as methods."""

    def clean_region(self, *, channels=None, lines=None, frames=None):
        """
        The region that is valid and free of other lines' light in all images of a choice.

        True is good, the opposite of ``cube.mask``.

        Parameters
        ----------
        channels : `int` or sequence of `int`, optional
            Channel numbers, by default all.
        lines : `str` or sequence of `str`, optional
            Other lines to keep clear of, as for `~esis_ndcube.mask.clean_region`.
        frames : `int` or sequence of `int`, optional
            Raw frame numbers, by default all.

        Returns
        -------
        `numpy.ndarray`
            Boolean, shape (y, x), True where clean.

        Raises
        ------
        ValueError
            As `~esis_ndcube.mask.clean_region`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.clean_region(channels=[2, 3]).sum()  # doctest: +SKIP
        """
        from esis_ndcube.mask import clean_region

        return clean_region(self, channels=channels, lines=lines, frames=frames)

    def mask_polygons(self, polygons):
        """
        Mask what is inside of polygons.

        Parameters
        ----------
        polygons : `~esis_ndcube.polygons.PolygonMask`, sequence of them, or path-like
            The polygons, or a file of them.

        Returns
        -------
        `ESISLevel3Cube`
            As `~esis_ndcube.polygons.mask_polygons`.

        Raises
        ------
        ValueError
            As `~esis_ndcube.polygons.mask_polygons`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.mask_polygons("scratches.toml").mask.sum()  # doctest: +SKIP
        """
        from esis_ndcube.polygons import mask_polygons

        return mask_polygons(self, polygons)

    def mask_pixels(self, mask):
        """
        Mask pixels, beside those that are masked already.

        Parameters
        ----------
        mask : `numpy.ndarray` of `bool`
            True where bad, of the shape of the data or of one of its images.

        Returns
        -------
        `ESISLevel3Cube`
            As `~esis_ndcube.polygons.mask_pixels`.

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
        from esis_ndcube.polygons import mask_pixels

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
            As `~esis_ndcube.normalize.masked_means`.

        Raises
        ------
        ValueError
            As `~esis_ndcube.normalize.masked_means`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.masked_means()["mean"].max()  # doctest: +SKIP
        """
        from esis_ndcube.normalize import masked_means

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
            As `~esis_ndcube.normalize.normalize_intensities`.

        Raises
        ------
        ValueError
            If the cube is normalized already, or as `~esis_ndcube.normalize.normalize_intensities`.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> cube.normalize_intensities().normalization.min()  # doctest: +SKIP
        """
        from esis_ndcube.normalize import normalize_intensities

        return normalize_intensities(self, region=region)

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
            As `~esis_ndcube.vignetting.correct_vignetting`, for one if the cube is corrected already.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> print(cube.correct_vignetting().vignetting)  # doctest: +SKIP
        """
        from esis_ndcube.vignetting import correct_vignetting

        return correct_vignetting(self, vignetting, method=method)

    def uncorrect_vignetting(self):
        """
        Multiply the images by the vignetting that was taken out.

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
        from esis_ndcube.vignetting import uncorrect_vignetting

        return uncorrect_vignetting(self)
