"""Pickles are read as data: plain values as pickle.loads has them; nothing of a file runs, or runs away."""

from __future__ import annotations

import io
import math
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim.pickles.interpreter import KnownNames, read_pickle
from evsim.pickles.values import Inert, Name, PickleError

MEGABYTE = 1 << 20


def read(content: bytes, **options: Any) -> Any:
    return read_pickle(io.BytesIO(content), **options)


def same(a: Any, b: Any) -> bool:
    """Equal values of equal types; an OrderedDict is read as a plain dictionary."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.tuples(st.integers(0, 9), st.text(max_size=3)),
)
DTYPES = st.sampled_from(["?", "u1", "<i2", ">i4", "i8", "f2", "<f4", ">f8", "c8", "c16"])


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    values = np.arange(math.prod(shape)).reshape(shape, order=draw(st.sampled_from("CF"))) % 2
    return values.astype(draw(DTYPES)).transpose(draw(st.permutations(range(len(shape)))))


LEAVES = st.one_of(
    KEYS,
    st.integers(-(2**200), 2**200),
    st.complex_numbers(allow_nan=False),
    st.binary().map(bytearray),
    st.sets(KEYS, max_size=4),
    st.frozensets(KEYS, max_size=4),
    arrays(),
    st.floats(allow_nan=False).map(np.float64).map(lambda number: [number]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict),
        inner.map(lambda value: [value, value, {"again": value}]),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values_come_out_as_pickle_has_them(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    file = io.BytesIO(b"before" + content + b"behind")
    file.seek(6)
    found = read_pickle(file)
    assert same(_numbers(pickle.loads(content)), found)
    assert file.read() == b"behind"


def _numbers(value: Any) -> Any:
    """The value with Python's numbers in place of numpy's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return type(value)((key, _numbers(item)) for key, item in value.items())
    return type(value)(map(_numbers, value)) if isinstance(value, (list, tuple)) else value


def test_what_is_shared_stays_shared() -> None:
    shared = [1]
    found = read(pickle.dumps({"a": shared, "b": (shared, np.zeros(2)), "c": shared}, 2))
    assert found["a"] is found["c"] is found["b"][0]
    array = np.arange(3)
    twice = read(pickle.dumps([array, array], 2))
    assert twice[0] is twice[1]


def test_text_and_numbers_of_python_2_are_read() -> None:
    assert read(b"(S'a\\'b\\\\\\n\\xc3\\xa9'\nL12L\nI-3\nI01\nF1e3\nt.") == ("a'b\\\né", 12, -3, True, 1000.0)
    assert read(b"(U\x02\xc3\xa9U\x01\xfft.") == ("é", b"\xff")
    dtype = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    for number in (0.5, 2.0):
        content = b"U\x08" + struct.pack("<d", number)
        assert read(b"cnumpy.core.multiarray\nscalar\n(" + dtype + content + b"tR.") == number


def test_numpy_itself_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [pickle.dumps([np.arange(6).reshape(2, 3), np.float32(2)], p) for p in range(6)]

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("numpy was called by a pickle")

    for name in ("_reconstruct", "scalar"):
        monkeypatch.setattr(f"numpy._core.multiarray.{name}", refuse)
    monkeypatch.setattr("numpy._core.numeric._frombuffer", refuse)
    for content in contents:
        array, number = read(content)
        assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert number == 2.0


def test_other_names_become_inert_objects_or_are_refused() -> None:
    content = b"cposix\nsystem\n(S'touch trace'\ntR."
    made = read(content)
    assert isinstance(made, Inert)
    assert (made.origin, made.arguments) == ("posix.system", ("touch trace",))
    assert isinstance(read(b"cposix\nsystem\n."), Name)
    with pytest.raises(PickleError, match=r"byte 31: it asks to run posix\.system"):
        read(content, names=KnownNames(others=False))


def test_names_with_control_characters_are_shown_escaped() -> None:
    for origin in (repr(read(b"c\x1b]0;x\x07\nsys\ttem\n.")), read(b"c\x1b]0;x\x07\nsys\ttem\n(tR.").origin):
        assert origin.isprintable()
        assert "x1b" in origin
    assert len(read(b"c" + b"a" * 900 + b"\nb\n(tR.").origin) < 120


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def dtype(code: str, order: str = "<") -> bytes:
    return global_("numpy", "dtype") + f"(S'{code}'\nI0\nI1\ntR(I3\nS'{order}'\nNNNI-1\nI-1\nI0\ntb".encode()


def array(shape: bytes, described: bytes, content: bytes) -> bytes:
    """An array as numpy pickles it, of any shape, dtype and content."""
    made = global_("numpy.core.multiarray", "_reconstruct") + global_("numpy", "ndarray")
    empty = b"(I0\ntC\x01btR"
    return (
        b"\x80\x04"
        + made.replace(b"cnumpy\nndarray\n", b"(cnumpy\nndarray\n")
        + empty
        + (b"(I1\n" + shape + described + b"I00\n" + content + b"tb.")
    )


def held(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def test_an_array_is_made_of_a_code_a_shape_and_fitting_bytes() -> None:
    data = struct.pack("<6h", *range(6))
    found = read(array(b"(I2\nI3\nt", dtype("i2"), held(data)))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    big = read(array(b"(I6\nt", dtype("i2", ">"), held(struct.pack(">6h", *range(6)))))
    assert big.tolist() == [0, 1, 2, 3, 4, 5]


LYING_ARRAYS = {
    "fewer bytes": (b"(I9\nt", dtype("i8"), held(bytes(8))),
    "more bytes": (b"(I1\nt", dtype("i8"), held(bytes(16))),
    "huge": (b"(L99999999999999999999L\nt", dtype("i8"), held(bytes(8))),
    "product": (b"(I4294967296\nI4294967296\nt", dtype("i8"), held(b"")),
    "negative": (b"(I-1\nI-1\nt", dtype("i8"), held(bytes(8))),
    "truth values": (b"(I2\nt", dtype("b1"), held(b"\x01\x02")),
    "fractional": (b"(F1.0\nt", dtype("i8"), held(bytes(8))),
    "a list for bytes": (b"(I1\nt", dtype("i8"), b"]"),
}


@pytest.mark.parametrize("name", sorted(LYING_ARRAYS))
def test_an_array_whose_parts_do_not_fit_is_refused(name: str) -> None:
    with pytest.raises(PickleError):
        read(array(*LYING_ARRAYS[name]))


@pytest.mark.parametrize("code", ["O8", "O", "V8", "U2", "M8", "f8,f8", "i8x", "S8", "object"])
def test_no_other_kind_of_array_is_ever_made_of_bytes(code: str) -> None:
    assert isinstance(read(array(b"(I1\nt", dtype(code), held(bytes(8)))), Inert)
    made = global_("numpy._core.numeric", "_frombuffer")
    whole = b"\x80\x04" + made + b"(" + held(bytes(8)) + dtype(code) + b"(I1\ntS'C'\ntR."
    assert isinstance(read(whole), Inert)
    with pytest.raises(PickleError, match="no number"):
        read(global_("numpy.core.multiarray", "scalar") + b"(" + dtype(code) + held(bytes(8)) + b"tR.")


def test_a_dtype_with_fields_is_no_plain_code() -> None:
    spoilt = dtype("i8").replace(b"NNN", b"N(S'a'\nt}")
    assert isinstance(read(array(b"(I1\nt", spoilt, held(bytes(8)))), Inert)


ENCODE = global_("_codecs", "encode")
BOMBS = {
    "long": b"\x80\x02\x8b\x00\xca\x9a;" + bytes(10) + b".",
    "long of thousands of bytes": b"\x8b\x10\x27\x00\x00" + b"\x7f" * 10000 + b".",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 36) + b".",
    "text of four bytes": b"X\xff\xff\xff\xff.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b".",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "long digits": b"L" + b"9" * 100_000 + b"L\n.",
    "float digits": b"F" + b"9" * 100_000 + b"\n.",
    "name": b"c" + b"a" * 100_000 + b"\nb\n.",
    "deep list": b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuple": b"N" + b"\x85" * 200_000 + b".",
    "deep tuple as a key": b"}N" + b"\x85" * 200_000 + b"Ns.",
    "deep marks": b"(" * 200_000 + b"l" * 200_000 + b".",
    "list that holds itself": b"]q\x00h\x00a.",
    "dictionary that holds itself": b"}q\x00U\x01ah\x00s.",
    "tuple that holds itself": b"]q\x00h\x00\x85a.",
    "laughs": b"\x80\x04K\x01\x94" + b"".join(b"h%c\x86\x94" % n for n in range(150)) + b".",
    "laughs as a key": b"\x80\x04}K\x01\x94" + b"".join(b"h%c\x86\x94" % n for n in range(60)) + b"Ns.",
    "colliding keys": b"}("
    + b"".join(b"\x8a\x0c" + (n * (2**61 - 1)).to_bytes(12, "little") + b"N" for n in range(1, 20_000))
    + b"u.",
    "many tuples as keys": b"}(" + b"".join(b"M%c%c\x85N" % divmod(n, 256) for n in range(20_000)) + b"u.",
    "hex": ENCODE + b"(S'a'\nS'hex'\ntR.",
    "codec in a codec": ENCODE + b"(" + ENCODE + b"(S'a'\nS'latin1'\ntRS'latin1'\ntR.",
    "list as a key": b"\x80\x02}]K\x01s.",
    "array as a key": b"}" + array(b"(I1\nt", dtype("i8"), held(bytes(8)))[2:-1] + b"K\x01s.",
    "list in a set": b"\x80\x04\x8f(]\x90.",
    "lone surrogate": b"V\\ud800\n.",
    "lone surrogate in UTF-8": b"X\x03\x00\x00\x00\xed\xa0\x80.",
    "extension": b"\x80\x02\x82\x01.",
    "buffer outside": b"\x80\x05\x97.",
    "protocol": b"\x80\x06N.",
    "nothing": b"",
    "no stop": b"N",
    "value below a mark": b"N(\x85.",
    "persistent id": b"S'x'\nQ.",
    "key without value": b"}(U\x01au.",
    "memo that is not there": b"h\x05.",
    "arguments of a builtin": b"c__builtin__\nset\n(U\x03abctR.",
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_what_a_pickle_claims_is_checked_before_it_is_made(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PickleError) as caught:
            read(BOMBS[name])
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("byte ")
        assert len(str(caught.value)) < 300
        assert tracemalloc.get_traced_memory()[1] < 64 * MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", [b"r\xff\xff\xff\xff", b"p999999999999\n"], ids=["bytes", "text"])
def test_a_place_far_out_in_the_memo_costs_nothing(place: bytes) -> None:
    tracemalloc.start()
    try:
        assert read(b"\x80\x04}" + place + b".") == {}
        assert tracemalloc.get_traced_memory()[1] < MEGABYTE
    finally:
        tracemalloc.stop()


GROWING = {
    "sets": b"\x8f" * 3_000_000,
    "copies of text": b"X"
    + struct.pack("<I", MEGABYTE)
    + b"a" * MEGABYTE
    + b"q\x000"
    + ENCODE
    + b"q\x010"
    + b"h\x01h\x00\x85R" * 2000,
    "copies of a list": b"]("
    + b"N" * 100_000
    + b"eq\x000c__builtin__\nset\nq\x010"
    + b"h\x01h\x00\x85R" * 2000,
    "bytearrays": b"B"
    + struct.pack("<I", MEGABYTE)
    + bytes(MEGABYTE)
    + b"q\x000cbuiltins\nbytearray\nq\x010"
    + b"h\x01h\x00\x85R" * 2000,
}


@pytest.mark.parametrize("name", sorted(GROWING))
def test_what_is_built_is_bounded_by_the_size_of_the_file(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PickleError, match="far more than its own size"):
            read(GROWING[name] + b".")
        assert tracemalloc.get_traced_memory()[1] < 512 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_long_chains_of_inert_objects_neither_run_nor_exhaust_the_stack() -> None:
    chain = read(b"ca\nb\nq\x000" + b"h\x00" * 100_000 + b"N" + b"\x85R" * 100_000 + b"\x85.")
    assert isinstance(chain[0], Inert)
    assert repr(chain[0]) == "<not loaded: a.b>"
    del chain


def test_two_hundred_mutants_of_an_honest_pickle_raise_one_kind_of_error() -> None:
    honest = {"t": np.arange(9.0), "name": ["a", (1, 2.5)], "set": {1, 2}, 3: bytearray(b"x")}
    for protocol in range(6):
        content = pickle.dumps(honest, protocol)
        draw = np.random.default_rng(protocol)
        said = []
        for _ in range(200):
            mutant = bytearray(content)
            for place in draw.integers(0, len(mutant), 3):
                mutant[place] = draw.integers(0, 256)
            kept = draw.integers(1, len(mutant) + 1) if draw.random() < 0.2 else len(mutant)
            try:
                read(bytes(mutant[:kept]))
            except PickleError as error:
                said.append(str(error))
        assert said
        assert not any("\n" in message for message in said)
