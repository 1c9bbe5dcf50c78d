"""The package without a node: `python3 -m unittest discover -s sdk/python/tests`, with the package on the path."""

import asyncio
import gc
import logging
import os
import pathlib
import sys
import tempfile
import threading
import unittest

import baton
from baton import lookup, messages
from baton.testing import Client, buffer


def echo(request):
    return request.body


class Buffers(unittest.TestCase):
    def test_what_was_handed_over_cannot_be_touched(self):
        mine = buffer(b"abc")
        theirs = mine._moved()
        for touch in (memoryview, bytes, len, lambda b: b[0], lambda b: b.freeze(), lambda b: b._address):
            with self.assertRaises(baton.HandedOver):
                touch(mine)
        self.assertFalse(mine.alive)
        self.assertEqual(bytes(theirs), b"abc")

    def test_views_are_counted_slices_and_views_of_views_too(self):
        mine = buffer(b"abcdef")
        view = memoryview(mine)
        part = view[2:4]
        other = memoryview(part)
        view.release()
        for holder in (part, other):
            with self.assertRaisesRegex(baton.StillViewed, r"view\(s\) of it are alive.*release"):
                mine._moved()
            holder.release()
        self.assertEqual(mine.exports, 0)
        mine._moved()

    def test_a_view_that_only_a_cycle_holds_goes_with_the_cycle(self):
        mine = buffer(b"abc")
        cycle = [memoryview(mine)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        self.assertEqual(mine.exports, 0)

    def test_frozen_buffers_are_read_only_and_stay(self):
        mine = buffer(b"abc").freeze()
        self.assertTrue(mine.frozen and mine.readonly)
        with self.assertRaises(TypeError):
            memoryview(mine)[0] = 1

    def test_a_writable_view_blocks_the_freezing(self):
        mine = buffer(b"abc")
        with memoryview(mine), self.assertRaises(baton.StillViewed):
            mine.freeze()

    def test_compares_truncates_and_says_what_it_is(self):
        mine = buffer(b"abcdef")
        mine.truncate(3)
        self.assertEqual(mine, b"abc")
        self.assertIn("3 bytes, owned", repr(mine))
        for wrong in (4, -1):
            with self.assertRaises(ValueError):
                mine.truncate(wrong)
        mine.release()
        mine.release()
        self.assertIn("handed over", repr(mine))

    def test_buffers_may_be_dropped_by_another_thread(self):
        made = [buffer(bytes(1000)) for _ in range(100)]
        thread = threading.Thread(target=made.clear)
        thread.start()
        thread.join()

    def test_there_are_no_buffers_but_those_that_are_made(self):
        with self.assertRaises(TypeError):
            baton.Buffer()


class Heads(unittest.TestCase):
    def test_headers_are_read_as_they_were_written(self):
        head = messages.write_headers([("X-One", "1"), ("x-one", "2"), ("y", b"\xff")])
        headers = messages.Reply(200, head).headers
        self.assertEqual((headers["X-ONE"], headers.get_all("x-one"), len(headers)), ("1", ["1", "2"], 2))

    def test_a_head_that_ends_early_is_read_as_far_as_it_goes(self):
        head = messages.write_headers({"a": "b", "c": "d"})
        for end in range(len(head)):
            messages.read_head(head[:end])
        self.assertEqual(len(messages.read_head(head[:-1])), 1)

    def test_what_cannot_be_sent_is_refused(self):
        for name, value in (("", "x"), ("a", "line\nbreak"), ("a" * 256, "x"), ("a", "x" * 65_536)):
            with self.assertRaises(ValueError, msg=name):
                messages.write_headers({name: value})


class Answers(unittest.TestCase):
    def check(self, given, status, body, kind):
        answered = Client(lambda request: given).post("/")
        self.assertEqual((answered.status, answered.body, answered.headers.get("content-type")), (status, body, kind))

    def test_handlers_return_what_python_people_return(self):
        self.check("grün", 200, "grün".encode(), "text/plain; charset=utf-8")
        self.check(b"raw", 200, b"raw", "application/octet-stream")
        self.check(bytearray(b"raw"), 200, b"raw", "application/octet-stream")
        self.check({"a": [1, None]}, 200, b'{"a":[1,null]}', "application/json")
        self.check(None, 204, b"", None)
        self.check(("made", 201), 201, b"made", "text/plain; charset=utf-8")
        self.check(("x", 200, {"Content-Type": "a/b"}), 200, b"x", "a/b")
        self.check(baton.Response("x", 418, content_type="c/d"), 418, b"x", "c/d")

    def test_what_cannot_be_sent_is_a_clear_failure(self):
        for given, expected in ((object(), "builtins.object cannot be sent"), ({1, 2}, "set"), ({"a": object()}, "as JSON")):
            with self.subTest(expected):
                answered = Client(lambda request, given=given: given).post("/")
                self.assertEqual((answered.status, expected in answered.json()["error"]), (500, True), answered)

    def test_generators_come_whole_where_nobody_streams(self):
        def lines():
            yield "a"
            yield b"b"

        async def ticks(request):
            yield "c"

        self.assertEqual(Client(lambda request: lines()).get("/").body, b"ab")
        self.assertEqual(Client(ticks).get("/").body, b"c")

    def test_failures_are_json_to_clients_and_text_to_functions(self):
        def fails(request):
            raise KeyError("inside")

        answered = Client(fails).get("/")
        self.assertEqual((answered.status, answered.json()["exception"]), (500, "KeyError"))
        self.assertNotIn("inside", answered.text())
        called = Client(fails).invoke()
        self.assertEqual((called.failed, called.text()), (True, "KeyError: 'inside'"))

    def test_a_handler_that_keeps_a_view_fails_with_the_remedy(self):
        kept = []

        def keeps(request):
            kept.append(memoryview(request.body))
            return request.body

        answered = Client(keeps).post("/", b"abc")
        self.assertEqual(answered.status, 500)
        self.assertIn("release", answered.json()["error"])


class Calls(unittest.TestCase):
    def test_buffers_move_views_are_lent(self):
        def caller(request, ctx):
            mine = ctx.alloc(3)
            with memoryview(mine) as view:
                view[:] = b"abc"
                lent = ctx.call("echo", view).text()
            moved = ctx.call("echo", mine)
            with self.assertRaises(baton.HandedOver):
                len(mine)
            return lent + moved.text()

        self.assertEqual(Client(caller, calls={"echo": echo}).post("/").text(), "abcabc")

    def test_what_is_lent_for_writing_comes_back_written(self):
        def writer(request):
            with memoryview(request.body) as view:
                view[0] = 0x7A

        def caller(request, ctx):
            ctx.call("writer", request.body, lend="write")
            return request.body

        self.assertEqual(Client(caller, calls={"writer": writer}).post("/", b"abc").body, b"zbc")

    def test_missing_edges_and_failures_are_exceptions_of_the_library(self):
        def caller(request, ctx):
            with self.assertRaises(LookupError):
                ctx.call("stranger")
            with self.assertRaises(baton.FunctionError) as failed:
                ctx.call("fails")
            return [failed.exception.function_status, str(failed.exception)]

        def fails(request):
            raise baton.HTTPError(409, "not twice")

        self.assertEqual(Client(caller, calls={"fails": fails}).post("/").json(), [409, "fails: not twice (409)"])

    def test_parts_are_scattered_and_gathered(self):
        def caller(request, ctx):
            return ctx.gather(ctx.scatter("up", request.body, 3))

        answered = Client(caller, calls={"up": lambda request: bytes(request.body).upper()}).post("/", b"abcdefgh")
        self.assertEqual(answered.body, b"ABCDEFGH")

    def test_async_handlers_await_calls(self):
        async def caller(request, ctx):
            await asyncio.sleep(0)
            replies = await ctx.call_all([("echo", b"a"), ("echo", b"b")])
            return [reply.text() for reply in replies]

        self.assertEqual(Client(caller, calls={"echo": echo}).post("/").json(), ["a", "b"])

    def test_references_are_got_as_often_as_they_may(self):
        def caller(request, ctx):
            reference = ctx.put(request.body, readers=2)
            got = [ctx.get(reference).text(), ctx.get(reference.hex()).text()]
            with self.assertRaises(baton.Gone):
                ctx.get(reference)
            return [*got, ctx.forget(reference)]

        self.assertEqual(Client(caller).post("/", b"x").json(), ["x", "x", False])
        with self.assertRaises(ValueError):
            baton.Reference(b"short")


class Lookup(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.addCleanup(lambda: sys.path.remove(self.place.name) if self.place.name in sys.path else None)

    def load(self, name, text):
        stem = name.partition(":")[0]
        pathlib.Path(self.place.name, f"{stem}.py").write_text(text)
        self.addCleanup(sys.modules.pop, stem, None)
        return lookup.load(name, path=self.place.name)

    def test_the_only_marked_function_needs_no_name(self):
        found = self.load("shop_one", "import baton\n@baton.function\ndef sell(request): return 'sold'\ndef other(): pass\n")
        self.assertEqual(found.name, "sell")

    def test_wrong_names_are_told_with_what_is_there(self):
        text = "import baton\n@baton.function\ndef sell(r): pass\n@baton.function\ndef buy(r): pass\nnumber = 3\n"
        for name, expected in (
            ("shop_two", "several functions (buy, sell)"),
            ("shop_two:sel", "did you mean sell"),
            ("shop_two:number", "is a int, and no function"),
            ("shop_two:", 'write "module:function"'),
        ):
            with self.subTest(name), self.assertRaises(lookup.HandlerNotFound) as failed:
                self.load(name, text)
            self.assertIn(expected, str(failed.exception))
        with self.assertRaisesRegex(lookup.HandlerNotFound, "did you mean shop_two"):
            lookup.load("shop_too:sell", path=self.place.name)
        with self.assertRaisesRegex(TypeError, "takes \\(request, ctx\\)"):
            baton.function(lambda a, b, c: None)

    def test_a_module_that_something_is_missing_in_says_what(self):
        with self.assertRaises(ModuleNotFoundError) as failed:
            self.load("shop_three", "import nowhere_to_be_found\n")
        self.assertEqual(failed.exception.name, "nowhere_to_be_found")


class Logs(unittest.TestCase):
    def test_lines_have_level_and_invocation(self):
        from baton import logs

        readable, writable = os.pipe()
        kept = os.dup(2)
        os.dup2(writable, 2)
        logs.invocation.set(0xAB)
        try:
            logger = logging.Logger("shop")
            logger.addHandler(logs.Handler())
            logger.warning("two\nlines")
        finally:
            os.dup2(kept, 2)
            logs.invocation.set(0)
            os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            self.assertEqual(pipe.read(), b"\x01W00000000000000ab two\n\x01W00000000000000ab lines\n")


if __name__ == "__main__":
    unittest.main()
