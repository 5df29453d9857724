"""
Read pickles of the ESIS team without running any of their code.

Unpickling calls the functions that a pickle names. Here a name stands for a `Record`, which only keeps its arguments,
so that no class or function of a pickle, nor of any foreign package, is ever imported or called.
"""

import math
import mmap
import pickle
import pickletools
import re

import numpy as np

from esis_ndcube.io.fits import CubeFileError
from esis_ndcube.utils.whole import pass_scarcity

_COALIGNMENT = "kgpy.img.coalignment.image_coalignment"
_NUMPY = ("numpy.core", "numpy._core")  # before and from numpy 2
# The types that such files hold.
_NAMES = {
    "esis.data.level_3.Level_3",
    "ndcube.ndcube.NDCube",
    "astropy.wcs.wcs.WCS",
    "astropy.wcs.wcs.__WCS_unpickle__",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "builtins.slice",
    "numpy.ndarray",
    "numpy.dtype",
    *(
        f"{_COALIGNMENT}.{name}"
        for name in ("TransformCube", "ImageTransform", "modified_affine", "quadratic_transform")
    ),
    *(f"{core}.{name}" for core in _NUMPY for name in ("multiarray._reconstruct", "multiarray.scalar")),
    *(f"{core}.numeric._frombuffer" for core in _NUMPY),
}
# Opcodes of plain values, containers, and objects with a state: none of them reaches objects of this process.
_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("STACK_GLOBAL", "NEWOBJ", "REDUCE", "BUILD"),
}


# Limit on the parts of an object; those of a whole flight have some ten thousand.
_MOST = 10**6


class Record:
    """
    Stand-in for an object of a pickle.

    Attributes
    ----------
    name : `str`
        Module and name of the class or function that the pickle names.
    args : `tuple`
        Arguments of its call.
    state : object
        State of the object.
    """

    name = None

    def __new__(cls, *args):
        """Keep the arguments."""
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream):
        super().__init__(stream)
        self._classes = {}

    def find_class(self, module, name):
        # The dots of a name would lead on from an object to its attributes.
        full = f"{module}.{name}"
        if "." in name or full not in _NAMES:
            msg = f"it asks for {full}, which no such file needs: a pickle can run any program, so it was not loaded"
            raise pickle.UnpicklingError(msg)
        # A new class for each file: a pickle could change the class itself.
        return self._classes.setdefault(full, type(name, (Record,), {"name": full}))


def load(path, kind):
    """
    Read a pickle.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    kind : `str`
        Module and name of the class that the file should hold.

    Returns
    -------
    `dict`
        The state of its object: plain values, containers and `Record` objects.

    Raises
    ------
    ~esis_ndcube.io.fits.CubeFileError
        If the file is not a whole pickle, asks for anything that such files do not need, or holds another object.
    """
    with path.open("rb") as stream:
        try:
            # Unlike a stream, this object sets no room aside for more bytes than there are.
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_opcodes(content)
                content.seek(0)
                record = _Unpickler(content).load()
        except Exception as error:  # damage meets pickle in many ways
            pass_scarcity(error, path)
            refused = isinstance(error, pickle.UnpicklingError)
            msg = (
                f"{path} is refused: {error}" if refused else f"{path} is damaged or no pickle: {error!r}; get it again"
            )
            raise CubeFileError(msg) from error
    found = record.name if isinstance(record, Record) else type(record).__name__
    if found != kind:
        msg = f"{path} holds an object {found}, expected {kind}"
        raise CubeFileError(msg)
    return state_of(record, kind)


def _check_opcodes(stream):
    """
    Refuse a pickle that does more than such files need, or that makes an unreasonable number of objects of its bytes.

    The stack of the unpickler is followed, with lists of parts in place of values. Parts may be used again: a few bytes
    can nest a tuple of twice the same tuple in a tuple of twice the same, and such a tuple is hashed and described in
    full.
    """
    stack, marks, memo, nodes = [], [], [], []
    for opcode, argument, place in pickletools.genops(stream):
        if opcode.name not in _OPCODES:
            msg = f"it has the opcode {opcode.name} at {place}, which no such file needs: it was not loaded"
            raise pickle.UnpicklingError(msg)
        if opcode.name == "MEMOIZE":
            memo.append(stack[-1])
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif opcode.name == "MARK":
            marks.append(len(stack))
        elif opcode.stack_after:
            before = opcode.stack_before
            if pickletools.markobject in before:
                start = marks.pop() - before.index(pickletools.markobject)
            else:
                start = len(stack) - len(before)
            parts = stack[start:]
            del stack[start:]
            if opcode.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"):
                node, *parts = parts
            else:
                node = []
                nodes.append(node)
            node += parts
            stack.append(node)
    if _whole_size(nodes) > _MOST:
        msg = (
            f"its parts that are used again make more than {_MOST} of them, expected a few thousand: it was not loaded"
        )
        raise pickle.UnpicklingError(msg)


def _whole_size(nodes):
    """Number of parts if every use of one is counted."""
    sizes = {}
    for root in nodes:
        left = [root]
        while left:
            node = left.pop()
            if id(node) in sizes and sizes[id(node)]:
                continue
            if id(node) not in sizes:
                # Zero while its parts are counted: a part that holds itself is counted once.
                sizes[id(node)] = 0
                left.append(node)
                left += [part for part in node if id(part) not in sizes]
            else:
                sizes[id(node)] = 1 + sum(sizes[id(part)] for part in node)
    return max(sizes.values(), default=0)


def state_of(record, kind):
    """The state of a record, which must stand for an object ``kind``; a `ValueError` otherwise."""
    if getattr(record, "name", None) != kind or not isinstance(record, Record) or not isinstance(record.state, dict):
        msg = f"got {_describe(record)}, expected an object {kind}"
        raise ValueError(msg)
    return record.state


def to_array(record):
    """The array of numbers that a record stands for; a `ValueError` otherwise."""
    name = getattr(record, "name", None) or ""
    if name.endswith("._frombuffer"):
        values, dtype, shape, order = record.args
        order = str(order)
    elif name.endswith("._reconstruct"):
        _, shape, dtype, fortran, values = record.state
        order = "F" if fortran else "C"
    else:
        msg = f"got {_describe(record)}, expected an array"
        raise ValueError(msg)
    dtype, shape = _to_dtype(dtype), tuple(_to_count(n) for n in shape)
    if not isinstance(values, bytes | bytearray) or len(values) != math.prod(shape) * dtype.itemsize:
        msg = f"got {_describe(values)}, expected the bytes of {dtype} values of shape {shape}"
        raise ValueError(msg)
    array = np.frombuffer(values, dtype).reshape(shape, order=order)
    return np.require(array, dtype.newbyteorder("="), "W")


def to_number(record):
    """The number that a record of numpy, or a plain number, stands for; a `ValueError` otherwise."""
    if isinstance(record, int | float):
        return record
    if not (getattr(record, "name", None) or "").endswith("multiarray.scalar"):
        msg = f"got {_describe(record)}, expected a number"
        raise ValueError(msg)
    dtype, values = record.args
    return np.frombuffer(values, _to_dtype(dtype), count=1)[0].item()


def to_slice(record):
    """The range that a record stands for; a `ValueError` otherwise."""
    if getattr(record, "name", None) != "builtins.slice":
        msg = f"got {_describe(record)}, expected a range"
        raise ValueError(msg)
    return slice(*(None if n is None else to_number(n) for n in record.args))


def _to_dtype(record):
    """The type; only types of plain numbers."""
    if getattr(record, "name", None) == "numpy.dtype" and isinstance(record, Record):
        text, state = record.args[0], record.state
        if isinstance(text, str) and re.fullmatch(r"b1|[iu][1248]|f[48]", text):
            order = state[1] if isinstance(state, tuple) else "<"
            return np.dtype(text).newbyteorder({"|": "=", "<": "<", ">": ">", "=": "="}[order])
    msg = f"got an array of {_describe(getattr(record, 'args', record))}, expected numbers"
    raise ValueError(msg)


def _to_count(value):
    if type(value) is not int or value < 0:
        msg = f"got {_describe(value)}, expected the length of an axis"
        raise ValueError(msg)
    return value


def _describe(value):
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return f"{value.name}" if isinstance(value, Record) else f"{value!r:.60}"
