"""Simulated flights on disk, and what is made of them."""

from functools import cached_property

import sunpy.map

from esis_ndcube import ESISLevel1Cube, coalign, form_level3
from esis_ndcube.simulate import simulate_flight

# A frame of the first exposure is missing, and one of the second has no light.
FAULTY = {"size": 5, "n_exposures": 2, "n_darks": 2, "missing": (123, 1), "blank": (124, 3)}


class SimulatedFolder:
    """A simulated flight, its files and its references; its cubes and alignments are made when they are asked for."""

    def __init__(self, path, **settings):
        self.path, self.simulated = path, simulate_flight(**settings)
        self.flight = self.simulated.flight
        self.files = self.simulated.write(path)
        (path / "flight.toml").write_text(self.flight.toml)
        self.maps = [sunpy.map.Map(file) for file in self.files.reference]

    def read(self, **options):
        """Its Level-1 cube, read anew."""
        return ESISLevel1Cube.from_raw(self.files.raw, self.flight, **options)

    @cached_property
    def level1(self):
        return read_only(self.read())

    @cached_property
    def aligned(self):
        return coalign(self.level1, self.maps)

    @cached_property
    def level3(self):
        return read_only(form_level3(self.level1, self.aligned))


def read_only(cube):
    """The cube, which nobody can change by mistake."""
    for array in (cube.data, cube.mask, cube.flags, cube.uncertainty.array):
        array.flags.writeable = False
    return cube
