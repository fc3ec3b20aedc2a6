"""Events of frames that are already in memory, in three lines."""

import numpy as np

import evsim


def main() -> None:
    # A bright bar that moves two pixels a frame, at 100 frames per second.
    frames = np.full((10, 60, 80), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 10 + 2 * index : 20 + 2 * index] = 200

    events = evsim.simulate(frames, 100.0, preset="ideal")
    print(events)
    print("ON events:", int(events.p.sum()), "OFF events:", int((events.p == 0).sum()))


if __name__ == "__main__":
    main()
