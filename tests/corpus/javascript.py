"""Requests as the AWS SDK for JavaScript makes them, for clients of every protocol."""

import base64
import datetime
import json
import pathlib
import subprocess

import botocore_calls

HERE = pathlib.Path(__file__).resolve().parent / "js"
# npm packages that have another name than botocore's service.
CLIENTS = {
    "cognito-idp": "cognito-identity-provider", "events": "eventbridge", "route53": "route-53", "s3control": "s3-control",
    "secretsmanager": "secrets-manager",
}


def calls(session, services, rounds, seed, not_made):
    packages = json.loads((HERE / "package.json").read_text())["dependencies"]
    node = subprocess.Popen(["node", "requests.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    for name in services:
        package = CLIENTS.get(name, name)
        if f"@aws-sdk/client-{package}" in packages:
            yield from of_client(session, node, name, package, rounds, seed, not_made)
    node.stdin.close()
    node.wait()


def of_client(session, node, name, package, rounds, seed, not_made):
    client = botocore_calls.client_at(session, name, "us-west-2")
    model = client.meta.service_model
    for endpoint in (None, "http://localhost:8080"):
        for number, optional in enumerate(botocore_calls.ROUNDS[:rounds]):
            for operation in model.operation_names:
                params, shape = botocore_calls.parameters(client, operation, f"{seed}/js/{number}", optional)
                if isinstance(params.get("CopySource"), dict):
                    params["CopySource"] = "source/a%20key/b"
                node.stdin.write(json.dumps({"client": package, "operation": operation, "params": plain(params), "endpoint": endpoint}) + "\n")
                node.stdin.flush()
                answer = json.loads(node.stdout.readline())
                if "error" in answer:
                    not_made[f"javascript {name}:{operation}: {answer['error'][:110]}"] += 1
                else:
                    mode = "js override" if endpoint else "js"
                    yield botocore_calls.Call(botocore_calls.protocol_of(model), mode, name, operation, answer["request"], params, shape)
    client.close()


def plain(value):
    """Members in the form that requests.mjs reads."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(member) for member in value]
    if isinstance(value, datetime.datetime):
        return {"$moment": int(value.timestamp())}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return value
