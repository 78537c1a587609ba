"""Runs a snippet with boto3 as an agent would and prints its `result` as one line of JSON.

The snippet sees `client(name, **config)`, and a call that fails with a ClientError becomes
{"error": code, "message": text, "status": number, "attempts": number}.
"""

import json
import sys

import boto3
import botocore.exceptions
from botocore.config import Config


def client(name, **config):
    return boto3.client(name, config=Config(**config))


scope = {"client": client, "boto3": boto3, "Config": Config, "result": None}
try:
    exec(sys.argv[1], scope)
    result = scope["result"]
except botocore.exceptions.ClientError as error:
    meta = error.response["ResponseMetadata"]
    result = {
        "error": error.response["Error"]["Code"],
        "message": error.response["Error"].get("Message", ""),
        "status": meta["HTTPStatusCode"],
        "attempts": meta.get("RetryAttempts", 0) + 1,
        "headers": meta["HTTPHeaders"],
    }
except botocore.exceptions.BotoCoreError as error:
    result = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(result, default=str))
