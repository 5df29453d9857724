"""Files that were written before the package was laid out in rooms: read, and written again, to the last bit."""

import hashlib
import io
import json
import lzma
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import load_script

from astropy.io import fits

from esis_ndcube import ESISLevel1Cube, ESISLevel3Cube
from esis_ndcube.level3.context import ContextCube

FOLDER = Path(__file__).parents[1] / "data" / "written"
CLASSES = {cls.__name__: cls for cls in (ESISLevel1Cube, ESISLevel3Cube, ContextCube)}
# Time and version of the writing of a file; checksums are of headers with these.
EXEMPT = {"CHECKSUM", "DATASUM", "DATE", "CREATOR"}
# Names of metadata then, and their names now; files keep those of then.
# The stated error of an alignment follows from its covariance; its last bits are those of the processor.
DERIVED = "error"
RENAMED = {"frame": "frame_number", "exposure": "exposure_time", "alignment": "alignment_final"}


def unpack(name):
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes())


# Entries that files did not have then.
ADDED = {"misfit": None}


EXPECTED = json.loads(unpack("expected.json"))


@pytest.fixture(params=EXPECTED)
def old(request, tmp_path):
    """A file of then."""
    if request.param.endswith(".asdf"):
        pytest.importorskip("asdf")
    path = tmp_path / "old" / request.param
    path.parent.mkdir()
    path.write_bytes(unpack(request.param))
    return path


def read(path):
    (name,) = EXPECTED[path.name]
    return CLASSES[name].read(path)


@pytest.mark.slow
def test_every_value_is_read_as_then(old):
    describe = load_script(FOLDER / "make_files.py").describe
    # JSON knows no tuples.
    assert as_then(json.loads(json.dumps(describe(read(old))))) == renamed(EXPECTED[old.name])


def as_then(node):
    """A description without the entries that files did not have then."""
    if isinstance(node, dict):
        return {name: as_then(part) for name, part in node.items() if (name, part) not in ADDED.items()}
    return [as_then(part) for part in node] if isinstance(node, list) else node


def renamed(node):
    """A description with the names of now."""
    if isinstance(node, dict):
        return {RENAMED.get(name, name): renamed(part) for name, part in node.items()}
    return [renamed(part) for part in node] if isinstance(node, list) else node


def test_written_again_it_is_the_same_file(old, tmp_path):
    new = tmp_path / old.name
    read(old).write(new)
    contents = fits_contents if old.suffix == ".fits" else asdf_contents
    (exact, derived), (exact_then, derived_then) = contents(new), contents(old)
    assert exact == exact_then
    np.testing.assert_allclose(derived, derived_then, rtol=1e-13)


def fits_contents(path):
    """Cards of each HDU and a sum of its data, and what is derived from them."""
    contents, derived = [], []
    with fits.open(path, do_not_scale_image_data=True) as hdulist:
        for hdu in hdulist:
            cards = [tuple(card) for card in hdu.header.cards if card.keyword not in EXEMPT]
            info = hdu.fileinfo()
            data = path.read_bytes()[info["datLoc"] : info["datLoc"] + info["datSpan"]]
            if isinstance(hdu, fits.BinTableHDU) and DERIVED in hdu.columns.names:
                rows = np.frombuffer(data, hdu.columns.dtype.newbyteorder(">"), len(hdu.data)).copy()
                derived.extend(rows[DERIVED])
                rows[DERIVED] = 0
                data = rows.tobytes() + data[rows.nbytes :]
            contents.append((cards, hashlib.sha256(data).hexdigest()))
    return contents, derived


def asdf_contents(path):
    """The tree of the cube, with its tags, and sums of the blocks of data; and what is derived from them."""
    from asdf.util import load_yaml

    content = path.read_bytes()
    tree = load_yaml(io.BytesIO(content), tagged=True)
    numbers = set(derived_blocks(tree["cube"]))
    blocks, derived, start = [], [], content.index(b"\n...\n") + 5
    while content[start:].startswith(b"\xd3BLK"):
        head = start + 6
        begin = head + int.from_bytes(content[start + 4 : head], "big")
        allocated, used = (int.from_bytes(content[head + at : head + at + 8], "big") for at in (8, 16))
        block = content[begin : begin + used]
        if len(blocks) in numbers:
            derived.extend(np.frombuffer(block, "<f8"))
            block = b""
        blocks.append(hashlib.sha256(block).hexdigest())
        start = begin + allocated
    assert len(blocks) > max(numbers, default=0)
    return (plain(tree["cube"]), blocks), derived


def derived_blocks(node):
    """The numbers of the blocks that hold what is derived."""
    if hasattr(node, "items"):
        if node.get("name") == DERIVED and "data" in node:
            yield node["data"]["source"]
        node = node.values()
    elif isinstance(node, str) or not hasattr(node, "append"):
        return
    for part in node:
        yield from derived_blocks(part)


def plain(node):
    """A node as plain Python; tags of other packages without their version, which is that of the installed one."""
    tag = getattr(node, "_tag", None)
    if tag is not None and not tag.startswith("asdf://esis-ndcube/"):
        tag = re.sub(r"-[\d.]+$", "", tag)
    if hasattr(node, "items"):
        node = [(key, plain(value)) for key, value in node.items()]
    elif isinstance(node, list) or hasattr(node, "append"):
        node = [plain(item) for item in node]
    else:
        node = str(node) if tag else node
    return tag, type(node).__name__, node
