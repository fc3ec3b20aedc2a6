"""Options of verbs that fit a recording: which stretch of it, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from evsim.cli.conventions import apply_options

stretch_options = apply_options(
    [
        click.option(
            "--t-start", type=float, default=None, metavar="SECONDS", help="Begin so long after event one."
        ),
        click.option("--t-end", type=float, default=None, metavar="SECONDS", help="End before this time."),
    ]
)

fit_options = apply_options(
    [
        click.option(
            "--event-threshold", type=float, default=None, help="Offline methods: log intensity per event."
        ),
        click.option("--iterations", type=click.IntRange(0), default=None, help="Offline methods: steps."),
        click.option(
            "--train-resolution",
            type=click.IntRange(2),
            default=None,
            metavar="T",
            help="Offline methods: time samples of the fit.",
        ),
        click.option("--color", is_flag=True, help="Offline methods: colour of an RGGB mosaic sensor."),
    ]
)


def fit_tree(options: Mapping[str, Any]) -> dict[str, Any]:
    """The section "fit" of a configuration that the options set, nothing where they set none."""
    names = ("event_threshold", "iterations", "train_resolution", "color")
    given = {name: options[name] for name in names if options[name] not in (None, False)}
    return {"fit": given} if given else {}
