"""The cube of maps of the line-of-sight velocity."""

from astropy.table import QTable

from esis_ndcube.cube import ESISCube
from esis_ndcube.level3.map import cube_map

__all__ = ["ESISVelocityCube"]


class ESISVelocityCube(ESISCube):
    """
    Maps of the velocity along the line of sight, away from the observer.

    Array axes (time, y, x), in km/s; `~esis_ndcube.velocity_map` makes one, and ``read`` reads one.
    The parameters are those of `~esis_ndcube.cube.ESISCube`.

    Examples
    --------
    >>> from esis_ndcube import ESISLevel3Cube, velocity_map
    >>> cube = ESISLevel3Cube.read("l3.fits")  # doctest: +SKIP
    >>> velocities = velocity_map(cube)  # doctest: +SKIP
    >>> velocities[15].plot()  # doctest: +SKIP
    """

    @property
    def response(self):
        """
        How much of a velocity the map shows, by scale (`~astropy.table.QTable`), or None.

        Columns ``wavelength`` and ``response``: the factor by which a wave of velocity comes out smaller in the map
        than in the velocity of the Sun, smoothed as the map is. It is measured on velocities that were put into the
        exposure's own scene.
        """
        return self._get_table("velocity_response", ["wavelength", "response"])

    @property
    def nulls(self):
        """
        Displacements that no velocity makes, as they are found all the same (`~astropy.table.QTable`), or None.

        Columns ``pattern``; ``measured``, the RMS in the exposure that was looked at; ``expected``, the same of a
        simulated exposure with velocities and noise; and ``systematic``, the difference of their squares as an error
        of the velocity.
        """
        return self._get_table("velocity_nulls", ["pattern", "measured", "expected", "systematic"])

    @property
    def systematic(self):
        """The systematic error that is part of the uncertainty, RMS (`~astropy.units.Quantity`), or None."""
        return self._get_meta("velocity_systematic")

    def _get_table(self, key, names):
        columns = self._get_meta(key)
        return None if columns is None else QTable({name: columns[name] for name in names})

    def to_map(self):
        """
        Make a sunpy Map of one exposure's velocities.

        Returns
        -------
        `~esis_ndcube.ESISMap`
            The map, with its mask and uncertainty.

        Raises
        ------
        ValueError
            If the cube is not one exposure.

        Examples
        --------
        >>> from esis_ndcube.level3.velocity import ESISVelocityCube
        >>> velocities = ESISVelocityCube.read("velocity.fits")  # doctest: +SKIP
        >>> velocities[15].to_map().peek()  # doctest: +SKIP
        """
        return cube_map(self)
