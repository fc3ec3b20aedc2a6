"""Stream a long clip interval by interval: frames, light and events, in constant memory."""

import sys

from evsim.chain import ClipSimulation, read_preset, resolve
from evsim.configuration import merge, parse_overrides
from evsim.media import open_source


def main(path: str) -> None:
    overrides = parse_overrides(["sensor.contrast_threshold_on=uniform(0.2, 0.3)", "upsample.factor=4"])
    config = resolve(merge(read_preset("v2e-noisy"), overrides), seed=1, clip="")
    simulation = ClipSimulation(open_source(path), config, seed=1)
    for step in simulation:
        if step.frame.source_index is not None:
            print(f"{step.frame.t_ns / 1e9:.4f} s: {len(step.events)} events, light {step.light.mean():.3f}")
    print("stage seconds:", {name: round(value, 2) for name, value in simulation.clock.seconds.items()})


if __name__ == "__main__":
    main(sys.argv[1])
