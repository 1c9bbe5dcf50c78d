# Runs a Python function for AWS Lambda: by awslambdaric where it is there, else by what is below, which does the same for handlers
# that answer whole.
import os, sys


def _run():
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    handler = os.environ["_HANDLER"]
    try:
        from awslambdaric.__main__ import main
    except ImportError:
        main = None
    # Not where the error is at hand, which would be told with those of the handler.
    if main is None:
        _loop(handler)
    else:
        main(["bootstrap", handler])


def _error(error, kind=None):
    import traceback

    trace = traceback.format_exception(type(error), error, error.__traceback__)
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if frame.filename != "<string>" and not frame.filename.startswith("<frozen")]
    sys.stderr.write("[ERROR] " + "".join(trace))
    return {
        "errorMessage": str(error),
        "errorType": kind or type(error).__name__,
        "stackTrace": traceback.format_list(frames),
    }


def _handler(name):
    import importlib

    if "." not in name:
        return None, ValueError(f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"), "Runtime.MalformedHandlerName"
    module, function = name.rsplit(".", 1)
    try:
        loaded = importlib.import_module(module.replace("/", "."))
    except ImportError as error:
        return None, ImportError(f"Unable to import module '{module}': {error}").with_traceback(error.__traceback__), "Runtime.ImportModuleError"
    except SyntaxError as error:
        return None, SyntaxError(f"Syntax error in module '{module}': {error}"), "Runtime.UserCodeSyntaxError"
    except Exception as error:
        return None, error, None
    try:
        return getattr(loaded, function), None, None
    except AttributeError:
        return None, AttributeError(f"Handler '{function}' missing on module '{module}'"), "Runtime.HandlerNotFound"


def _client(said):
    from types import SimpleNamespace

    client = said.get("client")
    client = SimpleNamespace(**client) if isinstance(client, dict) else None
    return SimpleNamespace(client=client, custom=said.get("custom"), env=said.get("env"))


class _Context:
    def __init__(self, headers, json):
        env = os.environ
        self.aws_request_id = headers.get("Lambda-Runtime-Aws-Request-Id")
        self.invoked_function_arn = headers.get("Lambda-Runtime-Invoked-Function-Arn")
        self.function_name = env["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = env["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = env["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = env["AWS_LAMBDA_LOG_STREAM_NAME"]
        client = headers.get("Lambda-Runtime-Client-Context")
        self.client_context = _client(json.loads(client)) if client else None
        identity = headers.get("Lambda-Runtime-Cognito-Identity")
        self.identity = json.loads(identity) if identity else None
        self._deadline_ms = int(headers.get("Lambda-Runtime-Deadline-Ms", "0"))

    def get_remaining_time_in_millis(self):
        import time

        return max(self._deadline_ms - int(time.time() * 1000), 0)


def _loop(name):
    import http.client
    import json

    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    base = "/2018-06-01/runtime/"

    def ask(method, path, body=None, headers={}):
        api.request(method, base + path, body, headers)
        answer = api.getresponse()
        return answer, answer.read()

    handler, error, kind = _handler(name)
    if error is not None:
        told = _error(error, kind)
        ask("POST", "init/error", json.dumps(told), {"Lambda-Runtime-Function-Error-Type": told["errorType"]})
        sys.exit(1)
    while True:
        answer, event = ask("GET", "invocation/next")
        headers = answer.headers
        identity = headers["Lambda-Runtime-Aws-Request-Id"]
        if headers.get("Lambda-Runtime-Trace-Id"):
            os.environ["_X_AMZN_TRACE_ID"] = headers["Lambda-Runtime-Trace-Id"]
        try:
            result = handler(json.loads(event), _Context(headers, json))
            body = json.dumps(result).encode()
        except Exception as error:
            told = _error(error)
            ask("POST", f"invocation/{identity}/error", json.dumps(told), {"Lambda-Runtime-Function-Error-Type": told["errorType"]})
            continue
        ask("POST", f"invocation/{identity}/response", body, {"Content-Type": "application/json"})


_run()
