"""Unmodified boto3 against the Lambda API of a node: one case a run, named by the first argument."""

import base64
import io
import json
import os
import socket
import sys
import threading
import time
import zipfile

import boto3
import botocore
from botocore.config import Config

ROLE = "arn:aws:iam::000000000000:role/any"
ECHO = """
import os, time
def main(event, context):
    if isinstance(event, dict) and "log" in event:
        print("a line of the function")
        return {"env": os.environ.get("GREETING"), "id": context.aws_request_id, "version": context.function_version,
                "name": context.function_name, "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
                "left": context.get_remaining_time_in_millis(), "client": getattr(context.client_context, "custom", None),
                "handler": os.environ["_HANDLER"], "root": os.environ["LAMBDA_TASK_ROOT"], "tz": os.environ["TZ"],
                "exec": os.environ["AWS_EXECUTION_ENV"]}
    return event
def other(event, context):
    return "other"
def fails(event, context):
    raise ValueError("it broke")
def sleeps(event, context):
    time.sleep(60)
def exits(event, context):
    os._exit(7)
def hungry(event, context):
    held = []
    while True:
        held.append(bytearray(b"x" * (8 << 20)))
"""


# The Runtime API as it is, without any library: one answer in two parts, the second a while after the first.
PARTS = """#!/usr/bin/env python3
import http.client, json, os, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    given = api.getresponse()
    event = json.loads(given.read())
    def parts():
        yield b"first"
        time.sleep(event["pause"])
        if "fail" in event:
            os._exit(3)
        yield b"second"
    path = "/2018-06-01/runtime/invocation/" + given.getheader("Lambda-Runtime-Aws-Request-Id") + "/response"
    mode = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}
    api.request("POST", path, body=parts(), headers=mode, encode_chunked=True)
    api.getresponse().read()
"""


def client(**more):
    retries = {"total_max_attempts": 1, "mode": "standard"}
    config = Config(retries=retries, connect_timeout=5, read_timeout=60, max_pool_connections=64)
    return boto3.client("lambda", endpoint_url=os.environ["LAMBDA_URL"], region_name="eu-west-1", config=config, **more)


def package(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def make(aws, name, handler="app.main", **more):
    settings = {"Runtime": "python3.11", "Role": ROLE, "Code": {"ZipFile": package({"app.py": ECHO})}, **more}
    return aws.create_function(FunctionName=name, Handler=handler, **settings)


def call(aws, name, event=None, **more):
    answer = aws.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    return answer, json.loads(answer["Payload"].read() or b"null")


def refused(kind, status, do, **args):
    try:
        do(**args)
    except botocore.exceptions.ClientError as error:
        found = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert found == (kind, status), (found, error)
        return error.response["Error"]["Message"]
    raise AssertionError(f"{kind} expected")


def functions():
    aws = client()
    made = make(aws, "echo", Environment={"Variables": {"GREETING": "hi \"there\"\n"}}, MemorySize=256, Timeout=5)
    assert made["State"] == "Active" and made["Version"] == "$LATEST" and made["MemorySize"] == 256, made
    assert made["FunctionArn"] == "arn:aws:lambda:eu-west-1:000000000000:function:echo"
    aws.get_waiter("function_active_v2").wait(FunctionName="echo")
    refused("ResourceConflictException", 409, make, aws=aws, name="echo")
    answer, body = call(aws, "echo", {"a": [1, "é"]})
    assert body == {"a": [1, "é"]} and answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST", (answer, body)
    assert "FunctionError" not in answer
    context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    answer, body = call(aws, made["FunctionArn"], {"log": 1}, LogType="Tail", ClientContext=context)
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "a line of the function" in log and "REPORT RequestId: " + body["id"] in log, log
    assert answer["ResponseMetadata"]["RequestId"] == body["id"], (answer, body)
    assert body["env"] == "hi \"there\"\n" and body["name"] == "echo" and body["version"] == "$LATEST", body
    assert body["arn"] == made["FunctionArn"] and body["memory"] == "256" and 0 < body["left"] <= 5000, body
    assert body["client"] == {"k": "v"} and body["handler"] == "app.main" and body["root"] == "/app", body
    assert body["tz"] == ":UTC" and body["exec"] == "AWS_Lambda_python3.11", body
    shown = aws.get_function(FunctionName="echo")
    assert shown["Configuration"]["CodeSha256"] == made["CodeSha256"]
    changed = aws.update_function_configuration(FunctionName="echo", Handler="app.other", Description="new")
    assert changed["Handler"] == "app.other" and changed["RevisionId"] != made["RevisionId"]
    assert aws.get_function_configuration(FunctionName="echo")["Description"] == "new"
    assert call(aws, "echo")[1] == "other"
    code = package({"app.py": "def other(event, context): return 'changed'"})
    stale = {"FunctionName": "echo", "ZipFile": code, "RevisionId": made["RevisionId"]}
    refused("PreconditionFailedException", 412, aws.update_function_code, **stale)
    aws.update_function_code(FunctionName="echo", ZipFile=code)
    assert call(aws, "echo")[1] == "changed"
    make(aws, "Second_Function")
    assert [each["FunctionName"] for each in aws.list_functions()["Functions"]] == ["Second_Function", "echo"]
    pages = aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
    assert [len(page["Functions"]) for page in pages] == [1, 1]
    assert call(aws, "Second_Function", 7)[1] == 7
    aws.delete_function(FunctionName="Second_Function")
    refused("ResourceNotFoundException", 404, aws.get_function, FunctionName="Second_Function")
    refused("ResourceNotFoundException", 404, aws.invoke, FunctionName="Second_Function")
    refused("InvalidParameterValueException", 400, make, aws=aws, name="x", Runtime="cobol85")
    refused("InvalidParameterValueException", 400, make, aws=aws, name="x", Environment={"Variables": {"_HANDLER": "y"}})
    refused("InvalidParameterValueException", 400, make, aws=aws, name="x", Layers=["arn:aws:lambda:eu-west-1:1:layer:l:1"])
    refused("InvalidParameterValueException", 400, make, aws=aws, name="x", Code={"S3Bucket": "bucket", "S3Key": "k"})
    message = refused("UnknownOperationException", 404, aws.get_policy, FunctionName="echo")
    assert "docs/lambda.md" in message
    assert aws.invoke(FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204


def versions():
    aws = client()
    make(aws, "versioned", Environment={"Variables": {"GREETING": "one"}})
    first = aws.publish_version(FunctionName="versioned", Description="the first")
    assert first["Version"] == "1" and first["FunctionArn"].endswith(":versioned:1")
    assert aws.publish_version(FunctionName="versioned")["Version"] == "1"
    aws.update_function_configuration(FunctionName="versioned", Environment={"Variables": {"GREETING": "two"}})
    assert aws.publish_version(FunctionName="versioned")["Version"] == "2"
    found = [each["Version"] for each in aws.list_versions_by_function(FunctionName="versioned")["Versions"]]
    assert found == ["$LATEST", "1", "2"], found
    alias = aws.create_alias(FunctionName="versioned", Name="live", FunctionVersion="1")
    assert alias["AliasArn"].endswith(":versioned:live")
    answer, body = call(aws, "versioned:live", {"log": 1})
    assert answer["ExecutedVersion"] == "1" and body["env"] == "one" and body["version"] == "1", (answer, body)
    weights = {"AdditionalVersionWeights": {"2": 0.25}}
    aws.update_alias(FunctionName="versioned", Name="live", RoutingConfig=weights)
    assert aws.get_alias(FunctionName="versioned", Name="live")["RoutingConfig"] == weights
    ran = [call(aws, "versioned", 1, Qualifier="live")[0]["ExecutedVersion"] for _ in range(40)]
    assert 8 <= ran.count("2") <= 12, ran
    answer, body = call(aws, "versioned", {"log": 1}, Qualifier="2")
    assert body["env"] == "two" and answer["ExecutedVersion"] == "2"
    refused("ResourceConflictException", 409, aws.delete_function, FunctionName="versioned", Qualifier="2")
    refused("ResourceConflictException", 409, aws.create_alias, FunctionName="versioned", Name="live", FunctionVersion="1")
    refused("ResourceNotFoundException", 404, aws.create_alias, FunctionName="versioned", Name="far", FunctionVersion="9")
    refused("ResourceNotFoundException", 404, aws.invoke, FunctionName="versioned:9")
    assert [each["Name"] for each in aws.list_aliases(FunctionName="versioned")["Aliases"]] == ["live"]
    aws.delete_alias(FunctionName="versioned", Name="live")
    refused("ResourceNotFoundException", 404, aws.get_alias, FunctionName="versioned", Name="live")
    aws.delete_function(FunctionName="versioned", Qualifier="2")
    refused("ResourceNotFoundException", 404, aws.invoke, FunctionName="versioned", Qualifier="2")


def errors():
    aws = client()

    def fails(name, handler, kind, words, code=None, **more):
        files = {"app.py": code or ECHO}
        make(aws, name, handler, Code={"ZipFile": package(files)}, **more)
        answer, body = call(aws, name, {})
        assert answer.get("FunctionError") == "Unhandled" and answer["StatusCode"] == 200, (name, answer, body)
        assert body["errorType"] == kind and words in body["errorMessage"], (name, body)
        return body

    body = fails("raises", "app.fails", "ValueError", "it broke")
    assert any("app.py" in line for line in body["stackTrace"]), body
    fails("no-module", "nowhere.main", "Runtime.ImportModuleError", "nowhere")
    fails("no-handler", "app.nothing", "Runtime.HandlerNotFound", "nothing")
    refused("InvalidParameterValueException", 400, make, aws=aws, name="no-dot", handler="main")
    fails("bad-init", "app.main", "ZeroDivisionError", "division", code="1 / 0")
    began = time.monotonic()
    fails("late", "app.sleeps", "Sandbox.Timedout", "Task timed out after 1.00 seconds", Timeout=1)
    assert time.monotonic() - began < 8
    fails("leaves", "app.exits", "Runtime.ExitError", "exit status 7")
    fails("hungry", "app.hungry", "MemoryError", "", Timeout=30)
    # Each goes on with the next event.
    aws.update_function_configuration(FunctionName="late", Handler="app.main")
    assert call(aws, "late", 3)[1] == 3
    refused("InvalidRequestContentException", 400, aws.invoke, FunctionName="late", Payload=b"no json")


def hostile():
    aws = client()

    def entry(name, mode=None):
        info = zipfile.ZipInfo(name)
        if mode is not None:
            info.create_system = 3
            info.external_attr = mode << 16
        return info

    def check(words, write):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            write(archive)
        code = {"ZipFile": out.getvalue()}
        message = refused("InvalidParameterValueException", 400, make, aws=aws, name="hostile", Code=code)
        assert words in message, message

    check("../", lambda archive: archive.writestr("../../outside.py", "x"))
    check("/etc/passwd", lambda archive: archive.writestr("/etc/passwd", "x"))
    check("neither a file", lambda archive: archive.writestr(entry("app.py", 0o120777), "/etc/passwd"))
    check("neither a file", lambda archive: archive.writestr(entry("app.py", 0o020666), ""))
    check("no file", lambda archive: None)

    def bomb(archive):
        zeros = b"\0" * (64 << 20)
        for number in range(5):
            archive.writestr(f"bomb{number}", zeros)

    check("256 MiB", bomb)
    for code in [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 100]:
        refused("InvalidParameterValueException", 400, make, aws=aws, name="hostile", Code={"ZipFile": code})
    assert aws.list_functions()["Functions"] == []


def signatures():
    make(client(), "signed")
    wrong = client(aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="guess")
    refused("InvalidSignatureException", 403, wrong.list_functions)
    unknown = client(aws_access_key_id="BATNAAAAAAAAAAAAAAAA", aws_secret_access_key="guess")
    refused("UnrecognizedClientException", 403, unknown.invoke, FunctionName="signed")

    import urllib.request

    url = os.environ["LAMBDA_URL"] + "/2015-03-31/functions/signed/invocations"
    good = signed("POST", "/2015-03-31/functions/signed/invocations", b"{}")

    def send(url, headers, body):
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read(), ""
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers.get("x-amzn-errortype")

    assert send(url, good, b"{}")[0] == 200
    # As with AWS, what is sent again within five minutes counts again.
    assert send(url, good, b"{}")[0] == 200
    for headers, body, kind in [
        (good, b'{"x":1}', "InvalidSignatureException"),
        ({}, b"{}", "MissingAuthenticationTokenException"),
        ({**good, "X-Amz-Date": "20200101T000000Z"}, b"{}", "InvalidSignatureException"),
        ({**good, "Authorization": good["Authorization"].replace("/lambda/", "/s3/")}, b"{}", "InvalidSignatureException"),
        ({**good, "Authorization": "AWS4-HMAC-SHA256 Credential=x"}, b"{}", "IncompleteSignatureException"),
    ]:
        status, _, found = send(url, headers, body)
        assert (status, found) == (403, kind), (status, found, kind)


def events():
    aws = client()
    code = """
import os, time
def main(event, context):
    time.sleep(0.05)
    print("done", event["n"])
def fails(event, context):
    print("tried", event["n"])
    raise ValueError("never")
"""
    make(aws, "worker", Code={"ZipFile": package({"app.py": code})}, Timeout=5)
    for number in range(5):
        assert aws.invoke(FunctionName="worker", InvocationType="Event", Payload=json.dumps({"n": number}))["StatusCode"] == 202
    refused("InvalidRequestContentException", 400, aws.invoke, FunctionName="worker", InvocationType="Event", Payload=b"nonsense")


def queue():
    """Queues events, 32 at a time, by one signed request that is sent over and over; prints what was answered."""
    make(client(), "queue", "app.slow", Code={"ZipFile": package({"app.py": QUEUE})}, Timeout=10)
    path = "/2015-03-31/functions/queue/invocations"
    host = os.environ["LAMBDA_URL"].removeprefix("http://")
    headers = signed("POST", path, b"{}", {"X-Amz-Invocation-Type": "Event"})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n{head}\r\n{{}}".encode()
    address = (host.split(":")[0], int(host.split(":")[1]))
    answers, lock = {}, threading.Lock()

    def work(count):
        stream = socket.create_connection(address)
        reader = stream.makefile("rb")
        for _ in range(count):
            stream.sendall(request)
            status = int(reader.readline().split()[1])
            found = {}
            while (line := reader.readline().strip()):
                name, _, value = line.decode().partition(": ")
                found[name.lower()] = value
            reader.read(int(found.get("content-length", 0)))
            told = f"{status} {found.get('x-amzn-errortype', '')}".strip()
            with lock:
                answers[told] = answers.get(told, 0) + 1

    threads = [threading.Thread(target=work, args=(int(os.environ["COUNT"]) // 32,)) for _ in range(32)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(json.dumps(answers))


QUEUE = """
import time
def slow(event, context):
    time.sleep(1)
def quick(event, context):
    return None
"""


def quicken():
    client().update_function_configuration(FunctionName="queue", Handler="app.quick")


def signed(method, path, body, more=None):
    """The headers that botocore signs a request with."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest(method, os.environ["LAMBDA_URL"] + path, data=body, headers=more or {})
    SigV4Auth(credentials, "lambda", "eu-west-1").add_auth(request)
    return dict(request.headers)


def streams():
    aws = client()
    make(aws, "streamed")
    answer = aws.invoke_with_response_stream(FunctionName="streamed", Payload=json.dumps({"x": "y" * 600_000}))
    parts, ends = [], []
    for event in answer["EventStream"]:
        if "PayloadChunk" in event:
            parts.append(event["PayloadChunk"]["Payload"])
        else:
            ends.append(event["InvokeComplete"])
    assert json.loads(b"".join(parts)) == {"x": "y" * 600_000} and len(parts) > 1 and ends == [{}], (len(parts), ends)
    aws.update_function_configuration(FunctionName="streamed", Handler="app.fails")
    answer = aws.invoke_with_response_stream(FunctionName="streamed", Payload=b"{}")
    events = list(answer["EventStream"])
    assert events[-1]["InvokeComplete"]["ErrorCode"] == "Unhandled", events
    live(aws)


def live(aws):
    """Parts come when the function makes them, not when it is done."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, PARTS)
    make(aws, "live", "none", Runtime="provided.al2023", Code={"ZipFile": packed.getvalue()}, Timeout=20)

    def events(event):
        answer = aws.invoke_with_response_stream(FunctionName="live", Payload=json.dumps(event), LogType="Tail")
        for event in answer["EventStream"]:
            yield time.monotonic(), event

    list(events({"pause": 0}))
    (first, one), (second, two), (_, end) = events({"pause": 0.7})
    assert (one["PayloadChunk"]["Payload"], two["PayloadChunk"]["Payload"]) == (b"first", b"second"), (one, two)
    assert second - first > 0.5, second - first
    assert "ErrorCode" not in end["InvokeComplete"] and base64.b64decode(end["InvokeComplete"]["LogResult"]), end
    # Who wants it whole gets it whole.
    answer = aws.invoke(FunctionName="live", Payload=b'{"pause": 0}')
    assert answer["Payload"].read() == b"firstsecond" and "FunctionError" not in answer, answer
    # One that breaks off says so at its end.
    (_, one), (_, end) = events({"pause": 0.1, "fail": 1})
    assert one["PayloadChunk"]["Payload"] == b"first" and end["InvokeComplete"]["ErrorCode"] == "Unhandled", (one, end)


def large():
    aws = client()
    make(aws, "large", MemorySize=1024, Timeout=30)
    text = "x" * (20 << 20)
    assert call(aws, "large", text)[1] == text


if __name__ == "__main__":
    globals()[sys.argv[1]]()
