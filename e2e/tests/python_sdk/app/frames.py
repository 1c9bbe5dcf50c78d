"""Arrays in place, from one function to the next."""

import numpy
import baton


def bright(request, ctx):
    """Brightens a frame where it lies, has the next function look at it, and hands it on."""
    frame = request.array("uint8")
    frame += 1
    total = int(ctx.call("total", frame).text())
    assert total == int(frame.astype("int64").sum()), "what was lent is what is here"
    del frame
    return ctx.call("rust", request.body)


def total(request, ctx):
    """Adds up what it was lent, which it cannot write."""
    frame = request.array("uint8")
    assert request.body.lent and not frame.flags.writeable
    return str(int(frame.astype("int64").sum()))


def made(request, ctx):
    """An array of the pool, filled here and returned."""
    frame = baton.zeros((64, 1024), "float32")
    frame += 2.5
    return frame


def split(request, ctx):
    """Has parts of one payload added up by others, all at once."""
    replies = ctx.scatter("addends", request.body, 4)
    return [int(reply.text()) for reply in replies]


def addends(request, ctx):
    return str(int(request.array("uint8").astype("int64").sum()))


lent = []


def keeper(request, ctx):
    """Keeps what was only lent to it."""
    lent.append(request.array("uint8"))
    return "mine\n"


def lender(request, ctx):
    """Lends to one that keeps."""
    mine = ctx.alloc(4096)
    ctx.call("keeper", mine, lend=True)


def table(request, ctx):
    """An Arrow table, written into the pool and read in place by the next."""
    import pyarrow

    made = baton.arrow(pyarrow.table({"n": list(range(1000)), "name": [f"row {n}" for n in range(1000)]}))
    return ctx.call("rows", made)


def rows(request, ctx):
    import pyarrow.compute

    table = request.arrow()
    inside = request.body._address
    at = table.column("n").chunk(0).buffers()[1].address
    assert inside <= at < inside + len(request.body), "the column lies in the payload"
    return {"rows": table.num_rows, "sum": pyarrow.compute.sum(table.column("n")).as_py()}
