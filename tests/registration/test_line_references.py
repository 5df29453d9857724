"""Each line of a flight is aligned with images of its own passband."""

import numpy as np
import pytest

import sunpy.map
from astropy.time import Time

from esis_ndcube import ESIS_2, ESISLevel1Cube, ESISLevel3Cube, coalign
from esis_ndcube.net.fetch import nearest_images
from esis_ndcube.simulate import simulate_flight
from esis_ndcube.simulate.demo import coordinate_error
from esis_ndcube.wcs import level3_wcs

LINES = {"Ne VII": 171, "Si XII": 211}
# Pixels of the grid. A line that is not aligned is off by tens of pixels, and its score is too low; in a third of the
# field, one exposure of 1.2 s is aligned to about one pixel.
LARGEST = 2.0


@pytest.fixture(scope="module")
def simulated():
    return simulate_flight(ESIS_2, n_exposures=1, size=3, missing=False, blank=False)


@pytest.fixture(scope="module")
def files(simulated, tmp_path_factory):
    return simulated.write(tmp_path_factory.mktemp("flight"))


@pytest.fixture(scope="module")
def level1(simulated, files):
    return ESISLevel1Cube.from_raw(files.raw, simulated.flight)


@pytest.fixture(scope="module")
def maps(files):
    return [sunpy.map.Map(path) for path in files.reference]


def test_there_are_images_of_each_passband(simulated, maps):
    found = sorted(item.wavelength.to_value("Angstrom") for item in maps)
    count = len(simulated.reference_times)
    assert found == [171] * count + [211] * count


@pytest.mark.parametrize(("line", "wavelength"), LINES.items())
def test_a_line_takes_the_images_of_its_passband(level1, maps, line, wavelength):
    own = [item for item in maps if item.wavelength.to_value("Angstrom") == wavelength]
    mixed, alone = (coalign(level1, images, line=line) for images in (maps, own))
    assert mixed.reference == alone.reference
    for one, other in zip(mixed.final[0], alone.final[0], strict=True):
        np.testing.assert_array_equal(one.transform.coefficients, other.transform.coefficients)


@pytest.mark.parametrize("line", LINES)
def test_both_lines_are_aligned(simulated, level1, maps, line):
    for alignment in coalign(level1, maps, line=line).final[0]:
        assert alignment.converged, alignment.reason
        _, _, dx, dy = coordinate_error(alignment, simulated)
        assert np.median(np.hypot(dx, dy)) < LARGEST


@pytest.mark.filterwarnings("ignore:.*could not be aligned")
def test_images_of_the_other_line_do_not_do(level1, maps):
    wrong = [item for item in maps if item.wavelength.to_value("Angstrom") == 171]
    found = coalign(level1, wrong, line="Si XII")
    assert not any(alignment.converged for alignment in found.final[0])


@pytest.mark.filterwarnings("ignore:.*could not be aligned")
def test_images_of_other_passbands_only_are_told(level1, maps):
    other = sunpy.map.Map(maps[0].data, {**maps[0].meta, "wavelnth": 193})
    wrong = [other, *(item for item in maps if item.wavelength.to_value("Angstrom") == 171)]
    with pytest.warns(UserWarning, match=r"171.0 Angstrom, 193.0 Angstrom, and none is of AIA 211"):
        coalign(level1, wrong, line="Si XII")


@pytest.mark.parametrize(("line", "name"), [("Ne VII", "AIA 171"), ("Si XII", "AIA 211")])
def test_images_that_are_fetched_are_those_of_the_line(line, name):
    wcs = level3_wcs(ESIS_2.grid, Time(["2027-08-01T18:08:00"]), [1])[:, :, 600:605, 600:607]
    cube = ESISLevel3Cube(np.zeros((1, 1, 5, 7)), wcs=wcs, meta={"flight": ESIS_2, "line": line})
    assert nearest_images(cube) == nearest_images(cube, name)
