"""What every verb shares: options, how a configuration is put together, progress, printed results."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """What --debug and --json said; one object per run of the command, held by the entry point.

    stop: what a signal raised, None until one arrives.
    """

    debug: bool = False
    json: bool = False
    stop: type[BaseException] | None = None


class Verb(click.Command):
    """A command with --json and --debug, which every verb has."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            _setting("json", "Print the result as JSON."),
            _setting("debug", "Show the traceback of an error."),
        ]


class NetworkVerb(Verb):
    """A verb about networks, whose help ends with the names of all that are there."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names; they are looked up when help is asked for."""
        from evsim.models.registry import DEFAULT_NETWORKS, names

        super().format_epilog(context, formatter)
        default = dict(DEFAULT_NETWORKS).get(self.name)  # type: ignore[call-overload]
        ending = f"; {default} where none is named" if default else ""
        formatter.write_paragraph()
        formatter.write_text(f"Networks and methods: {', '.join(names())}{ending}.")


def _setting(name: str, text: str) -> click.Option:
    def keep(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        setattr(context.ensure_object(Settings), name, value)

    return click.Option(
        [f"--{name}"], is_flag=True, expose_value=False, is_eager=True, callback=keep, help=text
    )


def wants_json() -> bool:
    """True if the result is to be printed as JSON."""
    return click.get_current_context().ensure_object(Settings).json


def print_result(result: Mapping[str, Any], *, title: str = "") -> None:
    """Print a result on stdout: JSON with --json, else an aligned table of names and values."""
    if wants_json():
        click.echo(json.dumps(result, default=str))
        return
    if title:
        click.echo(title)
    for line in _table(result):
        click.echo(line)


def _table(result: Mapping[str, Any], indent: str = "  ") -> list[str]:
    width = max((len(str(name)) for name in result), default=0)
    lines = []
    for name, value in result.items():
        # Our names are identifiers; what is not one, such as a clip's path, is the user's and stays as it is.
        words = str(name).replace("_", " ") if str(name).isidentifier() else str(name)
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{words}", *_table(value, indent + "  ")]
        else:
            first, *rest = _lines(value)
            lines.append(f"{indent}{words:<{width}}  {first}")
            lines += [f"{indent}{'':<{width}}  {line}" for line in rest]
    return lines


def _lines(value: Any) -> list[str]:
    """A list of sentences as one line each: they hold commas themselves."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, str) and " " in item for item in value):
        return [_text(item) for item in value]
    return [_text(value)]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, (Mapping, list, tuple)) and not value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)


class Progress:
    """Progress on stderr: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

    PLAIN_SECONDS = 10.0
    WARM_UP_REPORTS = 3
    """The first units pay for compilation: rates count from this report on."""

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self._bar: Any = None
        self._started = self._last = time.monotonic()
        self._done_at_start = self._reports = 0
        self._settings = click.get_current_context().ensure_object(Settings)

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Report that `done` of `total` units are finished; note: a few words shown behind.

        Raises again what a signal raised: libraries that call back into Python may have swallowed it.
        """
        if self._settings.stop is not None:
            raise self._settings.stop
        self._reports += 1
        if self._reports == self.WARM_UP_REPORTS:
            self._started, self._done_at_start = time.monotonic(), done
        if sys.stderr.isatty():
            self._draw(done, total, note)
        elif self._reports > self.WARM_UP_REPORTS and time.monotonic() - self._last >= self.PLAIN_SECONDS:
            self._last = time.monotonic()
            rate = (done - self._done_at_start) / max(self._last - self._started, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
            of = f" of {total}" if total else ""
            click.echo(f"{self.what}: {done}{of} {self.unit}, {rate:.1f}/s{left} {note}".rstrip(), err=True)

    def _draw(self, done: int, total: int | None, note: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                unit=f" {self.unit}",
                desc=self.what,
                file=sys.stderr,
                leave=False,
                smoothing=0.05,
            )
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Number(click.ParamType):
    """A number as people write it: finite, and at most 1e15 in size, beyond which nothing is counted here."""

    name = "float"
    largest = 1e15

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        try:
            number = float(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a number", parameter, context)
        if not abs(number) <= self.largest:
            self.fail(f"{value!r}, expected a number from -1e15 to 1e15", parameter, context)
        return number


class Size(click.ParamType):
    """WxH, such as 346x260."""

    name = "WxH"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a size such as 346x260", parameter, context)
        return int(parts[0]), int(parts[1])


class Pixel(click.ParamType):
    """X,Y, a column and a row from 0."""

    name = "X,Y"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            self.fail(f"{value!r} is not a pixel such as 120,80 (column, row)", parameter, context)
        return int(parts[0]), int(parts[1])


class Crop(click.ParamType):
    """LEFT,RIGHT,TOP,BOTTOM pixels cut from each side."""

    name = "L,R,T,B"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int, int, int]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is not four pixel counts such as 10,10,0,0", parameter, context)
        left, right, top, bottom = (int(part) for part in parts)
        return left, right, top, bottom


def apply_options(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


input_argument = click.argument("source", type=click.Path(path_type=Path), metavar="INPUT")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
seed_option = click.option("--seed", type=int, default=None, help="Decides every random draw.  [default: 0]")
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    default=None,
    help="Threads of the sensor pass.  [default: all cores]",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan and the sizes; write nothing.")


def output_option(what: str, *, required: bool = True) -> Callable[[F], F]:
    """-o/--output; `what` says which kinds the suffix selects."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), required=required, metavar="PATH", help=what
    )


clip_options = apply_options(
    [
        click.option(
            "--start", type=Number(), default=None, metavar="SECONDS", help="Begin here in the clip."
        ),
        click.option("--stop", type=Number(), default=None, metavar="SECONDS", help="End before this time."),
        click.option("--crop", type=Crop(), default=None, help="Pixels cut per side: left,right,top,bottom."),
        click.option("--size", type=Size(), default=None, help="Resize to this many pixels, after the crop."),
        click.option(
            "--fps", type=Number(), default=None, help="Frame rate; needed where the input has no times."
        ),
        click.option(
            "--slow-motion",
            type=Number(),
            default=None,
            metavar="FACTOR",
            help="The clip plays this many times slower than the scene was.",
        ),
        click.option(
            "--transfer",
            type=click.Choice(["srgb", "gamma", "linear", "raw", "log"]),
            default=None,
            help="What the code values mean, where the file cannot say.",
        ),
    ]
)

preset_option = click.option(
    "--preset", default=None, help="A named configuration: `evsim simulate --list-presets`."
)
field_options = apply_options(
    [
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            default=None,
            help="YAML or JSON of fields.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="FIELD=VALUE",
            help="Override a field, e.g. sensor.contrast_threshold_on=0.3 or =uniform(0.2,0.3). Repeatable.",
        ),
    ]
)
configuration_options = apply_options([preset_option, field_options])
bit_depth_option = click.option(
    "--bit-depth",
    type=click.Choice(["8", "16", "float"]),
    default=None,
    help="Of the light that leaves the inverse ISP; 8 as published.  [default: float]",
)
compression_option = click.option(
    "--compression",
    type=click.Choice(["blosc"]),
    default=None,
    help="Of HDF5 outputs; needs hdf5plugin to write and to read.  [default: none]",
)
low_light_option = click.option(
    "--low-light-factor", type=Number(), default=None, help="How many times darker than the clip."
)
no_substep_option = click.option(
    "--no-substep",
    is_flag=True,
    help="Step the sensor once per frame, also where it was made for another rate (warns).",
)
factor_option = click.option(
    "--factor",
    default=None,
    metavar="N|auto",
    help="Upsampling: frames per source interval, or chosen from the motion.  [default: 8]",
)


def factor_tree(text: str) -> dict[str, Any]:
    """The fields of `upsample` that --factor stands for."""
    if text == "auto":
        return {"adaptive": True}
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(
            f"{text!r} is neither a whole number above 0 nor auto", param_hint="--factor"
        )
    return {"adaptive": False, "factor": int(text)}


def job_tree(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a clip job that the explicit options set; a verb need not have all of them."""
    tree = {name: options[name] for name in ("seed", "frames", "transfer") if options.get(name) is not None}
    sections = {
        "selection": selection_tree(options) if "start" in options else {},
        "upsample": {} if options.get("factor") is None else factor_tree(options["factor"]),
        "isp": _isp_tree(options),
        "sensor": {"substep": False} if options.get("no_substep") else {},
    }
    return {**tree, **{name: fields for name, fields in sections.items() if fields}}


def _isp_tree(options: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if options.get("bit_depth") is not None:
        tree["bit_depth"] = 0 if options["bit_depth"] == "float" else int(options["bit_depth"])
    if options.get("low_light_factor") is not None:
        tree["low_light_factor"] = options["low_light_factor"]
    return tree


def selection_tree(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a clip selection that the options set."""
    names = {
        "start_s": "start",
        "stop_s": "stop",
        "crop": "crop",
        "size": "size",
        "fps": "fps",
        "slow_motion": "slow_motion",
    }
    return {field: options[name] for field, name in names.items() if options[name] is not None}
