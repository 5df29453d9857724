"""How cubes show themselves: printed, in a notebook, as plots and movies."""

from ndcube.visualization import PlotterDescriptor

from esis_ndcube._summary import heading_line, summarize_cube
from esis_ndcube.visualization.plotter import ESISPlotter


class CubeDisplay:
    """Mixin that gives cubes their text, their page in a notebook, their plotter and their movies."""

    def plot(self, *args, **kwargs):
        """Plot the cube; the descriptor below puts the text of `ESISPlotter.plot` here."""
        if self.plotter is None:
            msg = "got a cube without plotter, so that no default plotting functionality is available: set cube.plotter"
            raise NotImplementedError(msg)
        return self.plotter.plot(*args, **kwargs)

    plotter = PlotterDescriptor(default_type=ESISPlotter)

    def animate(self, path, **options):
        """
        Write a movie of the exposures.

        Parameters
        ----------
        path : path-like
            The file, ``.gif`` or ``.mp4``.
        **options
            As for `esis_ndcube.visualization.animate`: ``context``, ``fps``, ``norm``, ``cmap``, ``dpi``,
            ``overwrite`` and ``progress``.

        Returns
        -------
        `pathlib.Path`
            The file.

        Raises
        ------
        OSError
            As `esis_ndcube.visualization.animate`, for one if the file exists.
        ValueError
            As `esis_ndcube.visualization.animate`, for one if there is only one exposure.

        Examples
        --------
        >>> from esis_ndcube import ESISLevel3Cube
        >>> cube = ESISLevel3Cube.read("l3.fits", lazy=True)  # doctest: +SKIP
        >>> cube.animate("flight.mp4", progress=True)  # doctest: +SKIP
        >>> cube[:, 0].animate("channel_1.gif", context=cube.to_aia())  # doctest: +SKIP
        """
        from esis_ndcube.visualization import animate

        return animate(self, path, **options)

    def __str__(self):
        rows = [f"  {name}: {text}" for name, text in self._summary().items() if text]
        return "\n".join([heading_line(self), *rows])

    def __repr__(self):
        return f"<{self}>"

    def _repr_html_(self):
        from esis_ndcube.visualization._html import cube_html

        return cube_html(self, heading_line(self), self._summary())

    def _summary(self):
        """What `str` prints, by name."""
        return summarize_cube(self)
