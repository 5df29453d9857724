"""Files are whole or not there, whatever ends the process that writes them."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_cube

from esis_ndcube import ESISLevel3Cube
from esis_ndcube.utils.output import check_output, part_folder, temporary_output, write_text

pytest.importorskip("fcntl", reason="the system has no locks by which the folders of dead processes are known")

# Without the package, whose import takes long.
KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("output", sys.argv[1])
output = importlib.util.module_from_spec(spec)
spec.loader.exec_module(output)
with output.temporary_output(sys.argv[2]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path):
    """The files that a process leaves that is killed while it writes."""
    module = sys.modules[temporary_output.__module__].__file__
    subprocess.run([sys.executable, "-c", KILLED, module, tmp_path / "a.txt"], check=False)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_process_leaves_one_folder_which_the_next_removes(killed):
    assert names(killed) == ["a.txt.part"]
    with temporary_output(killed / "a.txt") as temporary:
        assert temporary == killed / "a.txt.part" / "a.txt"
        assert not temporary.exists()
        temporary.write_text("whole")
    assert names(killed) == ["a.txt"]


def test_a_process_that_is_killed_before_it_has_a_lock(tmp_path):
    (tmp_path / "a.txt.part").mkdir()
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"]


def test_what_is_not_ours_stays(tmp_path):
    mine = tmp_path / "a.txt.part" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    (tmp_path / "b.txt.part").write_text("precious")
    for name in ("a.txt", "b.txt"):
        write_text(tmp_path / name, "whole")
    assert mine.read_text() == "precious"
    assert names(tmp_path) == ["a.txt", "a.txt.part", "b.txt", "b.txt.part"]


def test_two_that_write_the_same_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with temporary_output(path, overwrite=True) as one:
        one.write_text("one")
        with temporary_output(path, overwrite=True) as two:
            assert two.parent != one.parent
            two.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with part_folder(tmp_path / "a") as one, part_folder(tmp_path / "a") as two:
        assert one != two
        assert one.is_dir()
    assert not names(tmp_path)


def test_a_folder_that_another_process_takes_at_once(tmp_path, monkeypatch):
    """Between the making of the folder and that of its lock it looks like one that a killed process left."""
    mkdir, taken = Path.mkdir, []

    def late(folder, *options):
        mkdir(folder, *options)
        if not taken:
            taken.append(folder)
            folder.rmdir()
            taken.append(other.enter_context(part_folder(tmp_path / "a")))

    monkeypatch.setattr(Path, "mkdir", late)
    with contextlib.ExitStack() as other, part_folder(tmp_path / "a") as folder:
        assert taken[0] == taken[1] != folder
        assert folder.is_dir()
        assert taken[1].is_dir()
    assert not names(tmp_path)


def test_the_disk_has_the_content_before_the_name(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, Path.replace

    def sync(descriptor):
        calls.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr(Path, "replace", lambda self, target: calls.append("moved") or replace(self, target))
    write_text(tmp_path / "a.txt", "whole")
    assert calls == ["a.txt", "moved", tmp_path.name]
    cube = make_cube((1, 2, 2, 2))
    # At its first file astropy syncs one of its own.
    cube.write_images(tmp_path / "first")
    calls.clear()
    cube.write_images(tmp_path / "images")
    *files, folder, moved, parent = calls
    assert sorted(files) == names(tmp_path / "images")
    assert (folder, moved, parent) == ("images", "moved", tmp_path.name)


def test_a_link_and_a_mode_stay(tmp_path):
    cube, target, link = make_cube((1, 1, 2, 2)), tmp_path / "there" / "l3.fits", tmp_path / "l3.fits"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    cube.write(link, overwrite=True)
    assert link.readlink() == target
    assert target.stat().st_mode & 0o777 == 0o640
    assert ESISLevel3Cube.read(target).shape == cube.shape
    assert names(target.parent) == ["l3.fits"]
    link.unlink()
    link.symlink_to(tmp_path / "new.fits")
    cube.write(link)
    assert ESISLevel3Cube.read(tmp_path / "new.fits").shape == cube.shape


def test_space_is_looked_for_before_any_work(tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=99)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    words = r"cannot write (\S+) in the folder .*: it needs \d+ bytes, 99 bytes are free; make room, or give another"
    cube = make_cube((1, 1, 4, 4))
    with pytest.raises(OSError, match=words):
        check_output(tmp_path / "a.fits", size=100)
    assert check_output(tmp_path / "a.fits", size=99)
    for name in ("a.fits", "a.fits.gz", "a.asdf"):
        with pytest.raises(OSError, match=words):
            cube.write(tmp_path / name)
    assert not names(tmp_path)


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_space_is_reserved_before_any_image_is_written(tmp_path, monkeypatch, suffix):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr("esis_ndcube.io.fits.write_arrays", lambda *_: pytest.fail("written"))
    cube = make_cube((1, 1, 4, 4))
    words = rf"cannot write a\.{suffix} in the folder .*: it needs {16 * 10} bytes, No space left on device; make room"
    with pytest.raises(OSError, match=words):
        cube.write(tmp_path / f"a.{suffix}")
    assert not names(tmp_path)


def test_a_disk_that_reserves_nothing(tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    make_cube((1, 1, 4, 4)).write(tmp_path / "a.fits")
    monkeypatch.setattr("os.posix_fallocate", cannot)
    make_cube((1, 1, 4, 4)).write(tmp_path / "b.fits")
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [(tmp_path / "a.fits").stat().st_size] * 2


@pytest.mark.parametrize("new", [True, False])
def test_images_are_all_there_or_none(tmp_path, monkeypatch, new):
    folder, cube = tmp_path / "images", make_cube((2, 2, 2, 2))
    if not new:
        folder.mkdir()
    before, written = names(tmp_path), []

    def full(path):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)

    from astropy.io import fits

    writeto = fits.PrimaryHDU.writeto
    monkeypatch.setattr(fits.PrimaryHDU, "writeto", lambda hdu, path, **_: full(path) or writeto(hdu, path))
    with pytest.raises(OSError, match=r"cannot write images .*No space left on device; make room"):
        cube.write_images(folder)
    assert names(tmp_path) == before
    assert new or not names(folder)
    written[:] = range(9)
    files = cube.write_images(folder)
    assert names(folder) == sorted(path.name for path in files)


def test_images_that_cannot_all_be_moved_are_taken_back(tmp_path, monkeypatch):
    cube, replace, moved = make_cube((2, 2, 2, 2)), Path.replace, []

    def fail(self, target):
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(replace(self, target))

    monkeypatch.setattr(Path, "replace", fail)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(KeyboardInterrupt):
        cube.write_images(tmp_path)
    assert names(tmp_path) == ["mine.txt"]
