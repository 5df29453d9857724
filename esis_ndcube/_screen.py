"""Where on the Sun what lies beyond its limb is taken to be, when it is seen by another observer."""

from dask.utils import SerializableLock


class Screen:
    """
    A sphere about an observer, of the size of the distance to the Sun, for what lies beyond the limb.

    It is a setting of sunpy that all threads share; here one at a time has it.
    """

    def __init__(self, observer):
        from sunpy.coordinates import SphericalScreen

        self.lock = SerializableLock("esis_ndcube.screen")
        self.screen = SphericalScreen(observer, only_off_disk=True)

    def __enter__(self):
        self.lock.acquire()
        self.screen.__enter__()

    def __exit__(self, *args):
        self.screen.__exit__(*args)
        self.lock.release()
