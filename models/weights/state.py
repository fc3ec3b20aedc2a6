"""State dictionaries as published: finding them in a file, renaming their keys, checking every one of them.

A state is a mapping of key names to tensors. "Published" keys are those of the authors' file, "our" keys
those of the networks in this package.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from evsim.errors import CheckpointError, EvsimError
from evsim.pickles.values import Inert, Name, printable

State = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "networks", "network", "model", "net", "params")
"""Keys under which files keep the state of their network, in the order they are tried."""

PARALLEL_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""

SHOWN = 8
"""Keys of one kind that an error lists."""


def _same(name: str) -> str:
    return name


@dataclass(frozen=True, kw_only=True)
class PublishedState:
    """A published state in our terms: what the conversion of a network returns.

    state: tensors under our keys; a key that was not recognised keeps its name and is reported later.
    config: hyper-parameters of the network, inferred from the shapes.
    published_key: our key -> the key it has in the published file, for messages.
    ignored: key as in `state`, or a pattern of keys such as "teacher.*" -> why it is left unused on purpose.
    """

    state: State
    config: Mapping[str, Any] = field(default_factory=dict)
    published_key: Callable[[str], str] = _same
    ignored: Mapping[str, str] = field(default_factory=dict)


def find_state(content: Any, source: str) -> State:
    """The state dictionary inside what a file holds, without the prefixes of wrapped training.

    source: what messages call the file. Raises CheckpointError when there is none, saying what is there.
    """
    return strip_wrappers(_find(content, source))


def _find(content: Any, source: str, depth: int = 0) -> State:
    if isinstance(content, (Inert, Name)):
        raise CheckpointError(
            f"{source} holds a pickled object of class {content.origin}, which is not loaded because that "
            "would run code; expected tensors: save its state_dict() with torch.save"
        )
    if isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(key): value.detach() for key, value in content.items()}
        for name in WRAPPERS if depth < 3 else ():
            if isinstance(content.get(name), (Mapping, Inert, Name)):
                return _find(content[name], source, depth + 1)
    raise CheckpointError(
        f"{source} holds {_describe(content)}, expected tensors by name, or such a mapping under one of "
        f"{', '.join(WRAPPERS)}"
    )


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    tensors = len(content) - len(others)
    return f"{tensors} tensors" + (f" beside {_listed(others)}" if others else "")


def strip_wrappers(state: Mapping[str, Tensor]) -> State:
    """The state without what wrappers of training scripts put before keys, also before some of them only.

    Only leading parts come off, and none where the rest would be the name of another key.
    """
    found = strip_prefixes(state, PARALLEL_PREFIXES)
    plain = {
        key: next((key.removeprefix(p) for p in PARALLEL_PREFIXES if key.startswith(p)), key) for key in found
    }
    uses = Counter(plain.values())
    return {name if uses[name] == 1 else key: found[key] for key, name in plain.items()}


def strip_prefixes(state: Mapping[str, Tensor], prefixes: Iterable[str]) -> State:
    """The state without those prefixes that every key carries, in whatever order and number they stand."""
    found, known = dict(state), tuple(prefixes)
    while found:
        common = next((prefix for prefix in known if all(key.startswith(prefix) for key in found)), None)
        if common is None:
            break
        found = {key.removeprefix(common): value for key, value in found.items()}
    return found


def rename_prefixes(state: Mapping[str, Tensor], names: Mapping[str, str]) -> State:
    """The state with leading parts of its keys renamed; keys that match none keep their name.

    names: old -> new leading part, whole dotted segments; the longest match counts.
    """
    return {rename_key(key, names): value for key, value in state.items()}


def rename_key(key: str, names: Mapping[str, str]) -> str:
    """`key` with its longest leading part found in `names` replaced."""
    segments = key.split(".")
    for length in range(len(segments), 0, -1):
        new = names.get(".".join(segments[:length]))
        if new is not None:
            return ".".join([new, *segments[length:]])
    return key


def drop_aliases(state: Mapping[str, Tensor], aliases: Mapping[str, str]) -> State:
    """The state without second names of the same tensor.

    aliases: second name -> name; the value under the name counts, that under the second name where the
    file has only that.
    """
    found = dict(state)
    for alias, name in aliases.items():
        if alias in found:
            value = found.pop(alias)
            found.setdefault(name, value)
    return found


def filled_network(make: Callable[[], nn.Module], published: PublishedState, source: str) -> nn.Module:
    """The network that `make` returns, with the published tensors.

    It is made without memory first: the sizes that a few tensors imply may be ones that no machine has.
    Raises CheckpointError as `fill_network` does, and for a network that cannot be made at all.
    """
    try:
        require_fit(outline_network(make), published, source)
        network = make()
    except EvsimError:
        raise
    except (MemoryError, RuntimeError) as error:
        words = printable(" ".join(str(error).split()), 200)
        raise CheckpointError(f"{source} describes a network that cannot be made: {words}") from error
    _copy_state(network, published, source)
    return network


def outline_network(make: Callable[[], nn.Module]) -> nn.Module:
    """The network with shapes and no values; the network itself where values are needed to make it."""
    try:
        with torch.device("meta"):
            return make()
    except EvsimError:
        raise
    except (RuntimeError, TypeError) as error:
        if "overflow" in str(error):  # sizes beyond 64 bits: values would not be had either
            raise
        return make()


def fill_network(network: nn.Module, published: PublishedState, source: str) -> None:
    """Copy the published tensors into the network, after checking all of them.

    Warns of keys that the conversion ignores. Raises CheckpointError that names every missing, left over,
    wrongly shaped and non-finite key in its details.
    """
    require_fit(network, published, source)
    _copy_state(network, published, source)


def require_fit(network: nn.Module, published: PublishedState, source: str) -> None:
    """Check that the tensors are those of the network. Raises CheckpointError as `fill_network` does."""
    problems = find_problems(network, published)
    if problems:
        shown = "; ".join(f"{words}: {_listed(keys)}" for words, keys in problems.items())
        details = [f"{words}: {', '.join(keys)}" for words, keys in problems.items()]
        raise CheckpointError(f"{source} does not fit {_name(network)}: {shown}", details=details)


def _copy_state(network: nn.Module, published: PublishedState, source: str) -> None:
    """Copy tensors that are known to fit, and warn of those that stay unused."""
    unused = ignored_keys(network, published)
    if unused:
        reasons = "; ".join(f"{_listed(keys)} ({why})" for why, keys in unused.items())
        warnings.warn(f"{source}: not used: {reasons}", stacklevel=3)
    wanted = network.state_dict()
    network.load_state_dict({key: value for key, value in published.state.items() if key in wanted})


def ignored_keys(network: nn.Module, published: PublishedState) -> dict[str, list[str]]:
    """Why -> the keys that are left unused for it: those not in the network that `ignored` names."""
    found: dict[str, list[str]] = {}
    wanted = network.state_dict()
    for key in published.state:
        why = None if key in wanted else _reason(key, published)
        if why is not None:
            found.setdefault(why, []).append(published.published_key(key))
    return found


def _reason(key: str, published: PublishedState) -> str | None:
    return next((why for pattern, why in published.ignored.items() if fnmatchcase(key, pattern)), None)


def find_problems(network: nn.Module, published: PublishedState) -> dict[str, list[str]]:
    """What is wrong, with all keys it is wrong of: missing, left over, another shape or kind, not finite."""
    wanted, given, shown = network.state_dict(), published.state, published.published_key
    missing = [shown(key) for key in wanted if key not in given]
    extra = [shown(key) for key in given if key not in wanted and _reason(key, published) is None]
    shared = [key for key in wanted if key in given]
    shapes = [
        f"{shown(key)} {list(given[key].shape)} expected {list(wanted[key].shape)}"
        for key in shared
        if given[key].shape != wanted[key].shape
    ]
    kinds = [
        f"{shown(key)} {given[key].dtype} expected {wanted[key].dtype}"
        for key in shared
        if _kind(given[key]) != _kind(wanted[key])
    ]
    broken = [
        shown(key)
        for key in shared
        if given[key].is_floating_point() and not bool(torch.isfinite(given[key]).all())
    ]
    return {
        f"{len(keys)} {words}": keys
        for keys, words in (
            (missing, f"of {len(wanted)} keys missing"),
            (extra, "keys left over"),
            (shapes, "of another shape"),
            (kinds, "of another kind"),
            (broken, "not finite"),
        )
        if keys
    }


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    return "float" if tensor.is_floating_point() else "integer"


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(str(name)) for name in names[:SHOWN]) + more


def _name(network: nn.Module) -> str:
    return str(getattr(network, "name", type(network).__name__))
