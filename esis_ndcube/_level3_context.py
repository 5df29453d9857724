"""Images of other telescopes beside Level-3 cubes, as methods; the work is done in `context` and `net`."""

import astropy.units as u


class ContextMethods:
    """Mixin that gives Level-3 cubes the images of other telescopes."""

    def context(self, maps, **options):
        """
        Put the images of another telescope on the grid and at the times of this cube.

        Parameters
        ----------
        maps : `~sunpy.map.GenericMap`, `list` or `~sunpy.map.MapSequence` of them, or `~sunpy.net.attr.Attr`
            The images, of which each exposure gets the one nearest in time, or a query as of `context_query`, which
            is searched and fetched with Fido.
        **options
            As `~esis_ndcube.context.context_cube`; for a query also ``path``, ``provider``, ``point`` and
            ``progress``, as `esis_ndcube.net.fetch.fetch_maps`.

        Returns
        -------
        `~esis_ndcube.context.ContextCube`
            Array axes (time, y, x).

        Examples
        --------
        >>> import sunpy.map
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> aia = cube.context(sunpy.map.Map("aia/*.fits"))  # doctest: +SKIP
        >>> hmi = cube.context(cube.context_query("HMI LOS"))  # doctest: +SKIP
        """
        from sunpy.map import GenericMap, MapSequence

        from esis_ndcube.context import context_cube

        if not isinstance(maps, GenericMap | MapSequence | list | tuple):
            from esis_ndcube.net.fetch import fetch_maps

            options.setdefault("point", options.get("pointing_table") is None)
            fetching = {key: options.pop(key) for key in ("path", "provider", "point") if key in options}
            maps, max_gap = fetch_maps(maps, **fetching, progress=options.get("progress", False))
            options.setdefault("max_gap", max_gap)
        return context_cube(self, maps, **options)

    def context_query(self, name, *, max_gap=None):
        """
        Build the Fido query for the images nearest to the exposures of this cube.

        Parameters
        ----------
        name : `str`
            What images, as ``"AIA 304"``, ``"HMI LOS"`` or ``"HMI continuum"``.
        max_gap : `~astropy.units.Quantity`, optional
            As `esis_ndcube.net.attrs.MaxGap`.

        Returns
        -------
        `~sunpy.net.attr.Attr`
            For `sunpy.net.Fido`, or for `context`.

        Raises
        ------
        ValueError
            If there are no such images, or the cube has no time.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy.time import Time
        >>> from esis_ndcube import ESIS_1
        >>> from esis_ndcube.level3 import ESISLevel3Cube
        >>> from esis_ndcube.wcs import level3_wcs
        >>> wcs = level3_wcs(ESIS_1.grid, Time(["2019-09-30T18:08:00"]), [1])[:, :, 600:605, 600:607]
        >>> ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs).context_query("AIA 304")
        <AttrAnd([<esis_ndcube.net.attrs.Exposures(1 from 2019-09-30T18:08:00.000)>, ...])>
        """
        from esis_ndcube.net.attrs import Context, Exposures, MaxGap

        if self.time is None:
            msg = "this cube has no time, and so no images are near to it in time"
            raise ValueError(msg)
        query = Exposures(self.time) & Context(name)
        return query if max_gap is None else query & MaxGap(max_gap)

    def to_aia(self, wavelength=None, *, max_gap=None, **options):
        """
        Fetch the images of SDO/AIA nearest to the exposures and put them on this cube's grid.

        Parameters
        ----------
        wavelength : `~astropy.units.Quantity`, optional
            The channel of AIA; by default the flight's reference.
        max_gap : `~astropy.units.Quantity`, optional
            As for `context_query`.
        **options
            As for `context` with a query.

        Returns
        -------
        `~esis_ndcube.context.ContextCube`
            Array axes (time, y, x).

        Raises
        ------
        ValueError
            As `context`, or if AIA has no such channel.

        Examples
        --------
        >>> import astropy.units as u
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> aia = cube.to_aia(304 * u.AA)  # doctest: +SKIP
        """
        if wavelength is None and self.flight is None:
            msg = "this cube does not say its flight, and so not its reference: give the wavelength"
            raise ValueError(msg)
        name = self.flight.reference_name if wavelength is None else f"AIA {u.Quantity(wavelength).to_value(u.AA):g}"
        return self.context(self.context_query(name, max_gap=max_gap), **options)

    def to_hmi(self, quantity="los", *, max_gap=None, **options):
        """
        Fetch the images of SDO/HMI nearest to the exposures and put them on this cube's grid.

        Parameters
        ----------
        quantity : {"los", "continuum"}, optional
            The line-of-sight magnetic field or the continuum intensity.
        max_gap : `~astropy.units.Quantity`, optional
            As for `context_query`.
        **options
            As for `context` with a query.

        Returns
        -------
        `~esis_ndcube.context.ContextCube`
            Array axes (time, y, x).

        Raises
        ------
        ValueError
            As `context`, or if the quantity is neither.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
        >>> field = cube.to_hmi()  # doctest: +SKIP
        """
        return self.context(self.context_query(f"HMI {quantity}", max_gap=max_gap), **options)
