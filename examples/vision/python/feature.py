"""Finds where in a frame the most happens, and hands it on with what was found."""

import json

import numpy as np

import baton
import frames

# A frame is looked at in so many fields a side.
FIELDS = 16
# Fields that are marked.
MARKS = 6


@baton.function
def feature(request, ctx):
    with frames.Step("feature", request) as step:
        grey = luminance(step.frame)
        edges = edginess(grey)
        found = describe(step.frame, grey, edges)
        marks = strongest(edges, step.frame.shape)
    return step.hand_on(ctx, "report", {"x-features": json.dumps(found), "x-marks": marks})


def luminance(frame):
    """How light each pixel is, at half the size."""
    half = frame[::2, ::2]
    return (half[..., 0] >> 2) + (half[..., 1] >> 1) + (half[..., 2] >> 2)


def edginess(grey):
    """The mean difference of neighbours in each field."""
    height, width = (side // FIELDS * FIELDS for side in grey.shape)
    field = grey[:height, :width]
    across = np.abs(np.diff(field.astype(np.int16), axis=1, append=0))
    return across.reshape(FIELDS, height // FIELDS, FIELDS, width // FIELDS).mean(axis=(1, 3))


def describe(frame, grey, edges):
    light, _ = np.histogram(grey, bins=8, range=(0, 256))
    colours = frame[::8, ::8, :3].reshape(-1, 3).mean(axis=0)
    return {
        "light": (light / grey.size).round(4).tolist(),
        "colour": colours.round(1).tolist(),
        "edges": round(float(edges.mean()), 3),
    }


def strongest(edges, shape):
    side = min(shape[0], shape[1]) // FIELDS
    best = np.argsort(edges, axis=None)[::-1][:MARKS]
    places = (divmod(int(place), FIELDS) for place in best)
    return ",".join(f"{x * side}:{y * side}:{side}" for y, x in places)
