"""
Figures as a whole, pixel by pixel, as hashes: so that no change of the style goes unseen.

Pixels depend on the versions of all packages that draw: ``tox -e py311-figures`` pins them, and elsewhere these tests
are skipped. After a change that is meant, look at the figures, which
``tox -e py311-figures -- --mpl-generate-summary=html --mpl-results-path=results`` leaves in a folder. Then write the
new hashes: ``tox -e py311-figures -- --mpl-generate-hash-library=tests/visualization/figures.json``. That run draws
each figure twice and may fail; the next run must not.
"""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import make_cube

from astropy.table import Table
from sunpy.map import Map

from esis_ndcube.quality import figures
from esis_ndcube.simulate import demo
from esis_ndcube.visualization import plot_channels, plot_difference, plot_with_reference

pytestmark = pytest.mark.mpl_image_compare
FRAMES, PAIRS = (109, 110, 112), ((1, 2), (1, 3), (2, 3))


@pytest.fixture(autouse=True)
def pinned(request):
    if not request.config.getoption("--mpl", default=False):
        pytest.skip("needs pinned versions: tox -e py311-figures")


@pytest.fixture
def cube():
    return make_cube((3, 4, 30, 40), channels=(1, 2, 3, 4))


def table(*columns):
    """Made-up values of every exposure and pair of channels."""
    rng = np.random.default_rng(2)
    rows = [(frame, *pair, *rng.uniform(-0.5, 0.9, len(columns))) for frame in FRAMES for pair in PAIRS]
    return Table(rows=rows, names=("frame_number", "first", "second", *columns))


def test_channels(cube):
    return plot_channels(cube, 110)


def test_missing_channel(cube):
    return plot_channels(cube.mask_pixels(np.broadcast_to(cube.channel[:, None, None] == 2, cube.shape)))


def test_difference(cube):
    return plot_difference(cube, 2, 3)


def test_reference(cube):
    header = {**cube[1, 0].wcs.to_header(), "INSTRUME": "AIA_1", "TELESCOP": "SDO/AIA"}
    header |= {"WAVELNTH": 304, "WAVEUNIT": "Angstrom"}
    return plot_with_reference(cube, Map(np.random.default_rng(0).random((30, 40)), header), 110)


def test_image(cube):
    return cube[1, 0].plot().figure


def test_line(cube):
    return cube[1, 0, 15].plot().figure


def test_sliders(cube):
    return cube.plot().fig


def test_map(cube):
    figure = plt.figure()
    cube[1, 0].to_map().plot()
    return figure


def test_correlation():
    values = table("correlation")
    values["correlation"][4] = np.nan
    return figures.plot_correlation(values).figure


def test_pair_offset():
    return figures.plot_pair_offset(table("dx", "dy")).figure


def test_tiles():
    tiles = table("dx", "dy")
    tiles["x"], tiles["y"] = 64 + 96 * (np.arange(len(tiles)) // len(PAIRS)), 64.0
    return figures.plot_tiles(tiles)


def test_coordinate_error(monkeypatch):
    x, y = (part.ravel() for part in np.meshgrid(*[np.arange(0, 200, 8.0)] * 2))
    monkeypatch.setattr(demo, "coordinate_error", lambda *_: (x, y, x / 500, y / 900))
    return demo._plot_error(make_cube((2, 3, 12, 14), alignments=True), None, 1)
