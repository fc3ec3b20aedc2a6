"""`evsim weights`: published weight files - where they come from, whether they fit, conversion."""

from __future__ import annotations

from pathlib import Path

import click

from evsim.cli.conventions import Settings, Verb, input_argument, overwrite_option, print_result

network_option = click.option("--network", default=None, metavar="NAME", help="Network the file belongs to.")


@click.group()
def weights() -> None:
    """Weight files: what was published, whether a file fits, conversion to safetensors.

    Nothing is bundled or downloaded. Files are looked for in $EVSIM_WEIGHTS.
    """


@weights.command("list", cls=Verb)
@click.option("--network", default=None, metavar="NAME", help="Only files of this network.")
def list_files(network: str | None) -> None:
    """Published files: origin, licence, where to put them.

    Example: evsim weights list --network NAME
    """
    from evsim.models.registry import entry
    from evsim.models.weights.published import list_weights, weights_folder

    if network is not None:
        entry(network)  # an unknown name is an error with the nearest one
    found = list_weights(network)
    result = {item["name"]: {key: item[key] for key in item if key != "name"} for item in found}
    if click.get_current_context().ensure_object(Settings).json:
        print_result({"folder": str(weights_folder()), "weights": result})
    else:
        print_result(result, title=f"Published weights; files are looked for in {weights_folder()}")


@weights.command(cls=Verb)
@input_argument
@network_option
def check(source: Path, network: str | None) -> None:
    """Load a weight file safely, compare every key and shape, say what it is.

    Example: evsim weights check model.pth --network NAME
    """
    from evsim.errors import CheckpointError
    from evsim.models.weights.published import check_weights

    try:
        result = check_weights(source, network)
    except CheckpointError as error:
        for line in error.details:
            click.echo(line, err=True)
        raise
    print_result(result, title=f"{source} fits")


@weights.command(cls=Verb)
@input_argument
@click.argument("destination", type=click.Path(path_type=Path), metavar="OUTPUT.safetensors")
@network_option
@overwrite_option
def convert(source: Path, destination: Path, network: str | None, overwrite: bool) -> None:
    """Convert a published weight file to safetensors with its configuration.

    Example: evsim weights convert model.pth model.safetensors --network NAME
    """
    from evsim.models.weights.published import convert_weights

    print_result(
        convert_weights(source, destination, network, overwrite=overwrite), title=f"{source} -> {destination}"
    )
