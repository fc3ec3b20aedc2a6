"""OpenEXR images, against files that the reference library wrote."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import Selection, open_source, read_image

# Written by the OpenEXR library 3: half R, G, B of 6x4 pixels; deflated and in base 85.
FILES = {
    "NO": (
        "c-oavyJ`b55S+6Ua1+Q!qzoiE^6(>&SCP`-#<g;{wijecoW#ZM^ey?Id{C<BP6D6fB6wkEm(}cy*!t=w>j5ZMLMf6qG?"
        "J~uLzulHLyRot`@v*(FhQZ$rXp)utG&K`EQJ$uR;B*Lhu-9jbL`?YWWOP?HBxN<<w;gFtxBpoUF%|aL-NHMD%?ys)>ud"
        "_98TJ8|744bNJaTKQZB63`2vHEMVB(?(yjhTxUC^rSFu{+tmO;Ue1g|vNvP9NzEb^8^(WgoTr_ZvI}8(E;x?Q;B9P-gV"
        "wSjmgvs+`M2!3x3H=abKZ)2oLbrc}?k~2CW>^"
    ),
    "RLE": (
        "c-oCnOG*Pl5Pg$Ga3f^r0X%@1jkxl+5ZwsbWZlkGl7de6Fx`$5P?%&A$OXKI<OFjQ4<NX7tDVk3MgwY5k9riZUKN!d9t"
        "8~m;ZP_=(l{d7SRA|F1p=%isBpE_>27rp>QS7KF|5@$?gf#sqQ@%I54h7=htb9+b{v`x5t~?w@t-=$if)sLk{a_T#GH{"
        "lH!+2_D=cgDr4|+~Kb@bNFd<TF`%6;RjisGFc55r@k{(BP_`|}EV}h{>s{!`BUZ~X(JQ4#!T0P~ts%2GQgUyD0hflQg_"
        "m_E*%?rCI?ia=Na(1(vtyBjNA34er<(XU9!dniUOeaq+CsUV?o;QAXYX0Bp3$$v34F"
    ),
    "ZIPS": (
        "c-oav%T5C^44mD9#080u;D`jQc=Un9>%bAIm!8AMZ7rqAY7;H(E#JZi@j;x(ZX$I{52%(rw(RlPa&vi|<p9d1(3+GDiD"
        "K(;A8Iei5G_mowpW?%RZyB$Rg<-B^iJM3b19sdv6ki&A7))J&ak!P;Dg|jZKcHKU!G!3@3o}5mvtvpye9Q*D=OVoI5wC"
        "oBOH#pY5!=;nn*|aSJEzwHN_k!y%l}RjHO%tk#L)eU|r36fzysJbbAD^#DdVIr+lUOo#Icn-EiK*6>c$1c!8Vn_J}}%y"
        "NFrh`Vl5i4-ql)V<hxLjQu2Het_=a0Nr1?`es@"
    ),
    "ZIP": (
        "c-kw|H)LdDU|>kjNX*Mi%_#;lax#lc7|elUP7I6;5Won<?ieCL7$OYG`MCu}sl~;a`FSX8kR)?TVo73nW?o8uIYUx@g;"
        "6Gh00RQBf>Z!;N@j6EPGTiNbvc=Nss2SNsYOUEuoDV0D^hbDiwjbdOM((hGV>YIa`F>P7+Ao%8|;gdi&9hbAjUhV=9K`"
        "ol^LZma3EQMtRy@$r6dE*h?2^JREFY`qRhN>241lG#5|BAGIJBtQyJnI5hmFJaYbBmh66hf4?CZMOhG~d!=?rX7omm67"
        "Hr+QXzR`;i+65We6u*X`}(qJ&z2pFQpn0-S|nw#dkTjs!(2h@Jpd0AWzY"
    ),
}
PIXELS = np.tile((np.arange(18).reshape(2, 3, 3) / 16).astype(np.float32), (2, 2, 1))


def content(compression: str) -> bytes:
    return zlib.decompress(base64.b85decode(FILES[compression]))


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def plain_exr(planes: dict[str, np.ndarray], first_line: int = 0) -> bytes:
    """An uncompressed float file, after the published layout."""
    height, width = next(iter(planes.values())).shape
    channels = b"".join(text(name) + struct.pack("<4i", 2, 0, 1, 1) for name in sorted(planes)) + b"\0"
    window = struct.pack("<4i", 0, first_line, width - 1, first_line + height - 1)
    attributes = {"channels": ("chlist", channels), "compression": ("compression", b"\0")}
    attributes |= {"dataWindow": ("box2i", window)}
    head = struct.pack("<II", 20000630, 2)
    for name, (kind, value) in attributes.items():
        head += text(name) + text(kind) + struct.pack("<i", len(value)) + value
    head += b"\0"
    chunks = [
        struct.pack("<ii", first_line + y, 4 * width * len(planes))
        + b"".join(planes[name][y].astype("<f4").tobytes() for name in sorted(planes))
        for y in range(height)
    ]
    start = len(head) + 8 * height
    offsets = [start + sum(map(len, chunks[:y])) for y in range(height)]
    return head + struct.pack(f"<{height}Q", *offsets) + b"".join(chunks)


@pytest.mark.parametrize("compression", FILES)
def test_files_of_the_reference_library_are_read_exactly(tmp_path: Path, compression: str) -> None:
    (tmp_path / "a.exr").write_bytes(content(compression))
    image = read_image(tmp_path / "a.exr")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, PIXELS)


def test_folder_of_exr_is_linear_light(tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(content("ZIP"))
    source = open_source(tmp_path, selection=Selection(fps=1))
    assert (source.transfer, source.dtype, source.channels) == ("linear", np.float32, 3)


def test_grey_and_surplus_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    planes = {name: rng.random((5, 7), np.float32) for name in ("R", "G", "B", "A", "Z")}
    (tmp_path / "a.exr").write_bytes(plain_exr(planes, first_line=-3))
    np.testing.assert_array_equal(read_image(tmp_path / "a.exr"), np.dstack([planes[c] for c in "RGB"]))
    (tmp_path / "b.exr").write_bytes(plain_exr({"Y": planes["R"]}))
    np.testing.assert_array_equal(read_image(tmp_path / "b.exr"), planes["R"])
    (tmp_path / "c.exr").write_bytes(plain_exr({"Z": planes["Z"]}))
    with pytest.raises(InputError, match="holds the channels Z; expected R, G, B or Y"):
        read_image(tmp_path / "c.exr")


def test_other_compressions_and_layouts_are_named(tmp_path: Path) -> None:
    whole = content("ZIP")
    at = whole.index(b"compression\0compression\0") + 28
    (tmp_path / "a.exr").write_bytes(whole[:at] + b"\x04" + whole[at + 1 :])
    with pytest.raises(InputError, match="compression PIZ; save it with ZIP"):
        read_image(tmp_path / "a.exr")
    (tmp_path / "b.exr").write_bytes(whole[:5] + b"\x02" + whole[6:])
    with pytest.raises(InputError, match="is a tiled OpenEXR file"):
        read_image(tmp_path / "b.exr")


@pytest.mark.parametrize("compression", FILES)
def test_damage_is_an_input_error_or_harmless(tmp_path: Path, compression: str) -> None:
    whole = content(compression)
    path = tmp_path / "a.exr"
    refused = 0
    for seed in range(60):
        draw = random.Random(seed)
        damaged = bytearray(whole)
        if seed % 2:
            damaged = damaged[: draw.randrange(len(whole) - 1)]
        else:
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert read_image(path).dtype == np.float32
        except InputError:
            refused += 1
    assert refused >= 30
