"""Frames as arrays, and how they are handed on."""

import time

import numpy as np

import baton


class Step:
    """One step's work on the frame that came: its time is told to whoever comes next."""

    def __init__(self, name, request):
        self.name = name
        self.request = request

    def __enter__(self):
        self.began = time.perf_counter()
        width, height = (int(self.request.headers.get(side, 0)) for side in ("x-width", "x-height"))
        if width * height * 4 != len(self.request.body) or not width:
            raise baton.HTTPError(400, "x-width and x-height do not fit the frame")
        # A view: the array lies in the pool, where the frame was written.
        self.frame = self.request.array(np.uint8, (height, width, 4))
        self.size = {"x-width": str(width), "x-height": str(height)}
        return self

    def __exit__(self, *_):
        # The frame cannot be handed on while anything looks at it.
        self.frame = None
        took = round((time.perf_counter() - self.began) * 1e6)
        self.spent = f"{self.request.headers.get('x-spent', '')},{self.name}={took}".strip(",")

    def hand_on(self, ctx, to, headers=None):
        headers = {**self.size, "x-spent": self.spent, **(headers or {})}
        answer = ctx.call(to, self.request.body, headers=headers)
        return baton.Response(answer.body, headers={"x-spent": answer.headers["x-spent"]})
