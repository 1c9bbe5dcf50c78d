"""A Flask app as people write it. It knows nothing of Baton."""

import os
import time

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.get("/")
def hello():
    return "hello from flask\n"


@app.route("/echo", methods=["POST", "PUT"])
def echo():
    return Response(request.get_data(), mimetype="application/octet-stream")


@app.get("/seen")
def seen():
    return jsonify(
        headers={name.lower(): value for name, value in request.headers},
        query=request.args,
        path=request.path,
        own=sorted(name for name in os.environ if name.startswith("BATON_")),
    )


@app.get("/cores")
def cores():
    with open("/proc/self/status") as status:
        return next(line for line in status if line.startswith("Cpus_allowed_list"))


@app.get("/stream")
def stream():
    count = int(request.args.get("parts", 3))

    def parts():
        for number in range(count):
            yield f"part {number}\n"

    return Response(parts(), mimetype="text/plain")


@app.get("/sleep")
def sleep():
    time.sleep(float(request.args["seconds"]))
    return "slept\n"


@app.get("/cookies")
def cookies():
    answer = Response("two\n")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.get("/down")
def down():
    print("on my way out", flush=True)
    os._exit(7)


if __name__ == "__main__":
    from waitress import serve

    serve(app, host="127.0.0.1", port=int(os.environ["PORT"]), threads=4)
