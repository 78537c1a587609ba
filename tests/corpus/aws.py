"""Asks botocore for one request of every operation and holds `countersign classify` against it.

    .venv/bin/python tests/corpus/aws.py [--countersign PATH] [--services iam,s3] [--rounds N] [--show 20]

Each operation is called with its required members and some of the others, at the service's own host and at
an endpoint override, in every protocol botocore can speak for it. Nothing is sent. A name is right, unknown
(or refused), or wrong; parameters are right when what was passed in came out. Exits 1 when a name is wrong,
or when fewer than 99.9 % are right.
"""

import argparse
import base64
import collections
import datetime
import json
import os
import pathlib
import random
import subprocess
import sys
import tomllib

import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.session
from botocore.model import ServiceModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENDPOINT = "http://127.0.0.1:8080"


# Operations that botocore keeps under an old name beside the one that replaced it, with the same request.
RENAMED = {
    "aws:s3:GetBucketLifecycle": "aws:s3:GetBucketLifecycleConfiguration",
    "aws:s3:GetBucketNotification": "aws:s3:GetBucketNotificationConfiguration",
    "aws:s3:PutBucketLifecycle": "aws:s3:PutBucketLifecycleConfiguration",
    "aws:s3:PutBucketNotification": "aws:s3:PutBucketNotificationConfiguration",
}


class Captured(BaseException):
    """Carries the prepared request out of botocore; not an Exception, so that nothing catches it."""


class Values:
    """Members for an operation: the required ones and, by chance, others."""

    def __init__(self, seed, optional):
        self.random, self.optional, self.in_head = random.Random(seed), optional, False

    def of(self, shape, name="", depth=0):
        if shape.serialization.get("location") in ("header", "headers"):
            self.in_head = True
            try:
                return self.of_kind(shape, name, depth)
            finally:
                self.in_head = False
        return self.of_kind(shape, name, depth)

    def of_kind(self, shape, name, depth):
        kind = shape.type_name
        if kind == "structure":
            return self.structure(shape, depth)
        if kind == "list":
            count = max(shape.metadata.get("min", 1), 1) if depth < 6 else shape.metadata.get("min", 0)
            return [self.of(shape.member, name, depth + 1) for _ in range(min(count + self.random.randint(0, 1), 25))]
        if kind == "map":
            return {self.of(shape.key, "key", depth + 1): self.of(shape.value, name, depth + 1)}
        return self.scalar(shape, kind, name)

    def structure(self, shape, depth):
        if getattr(shape, "is_document_type", False):
            return {"a": [1, "x"]}
        members = dict(shape.members)
        if getattr(shape, "is_tagged_union", False):
            name = self.random.choice(sorted(members))
            return {name: self.of(members[name], name, depth + 1)}
        chance = self.optional / (1 + depth * depth)
        return {
            name: self.of(member, name, depth + 1)
            for name, member in members.items()
            if (name in shape.required_members and depth < 14) or (name.lower() != "contentlength" and depth < 5 and self.random.random() < chance and not is_awkward(member))
        }

    def scalar(self, shape, kind, name):
        meta = shape.metadata
        if kind == "string":
            return self.string(shape, meta, name)
        if kind in ("integer", "long", "short", "byte"):
            low = meta.get("min", 1)
            return int(min(max(low, 1), meta.get("max", 10**6)))
        if kind in ("float", "double", "bigdecimal"):
            return float(meta.get("min", 1.5))
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "blob":
            return b"a body & its bytes"
        if kind == "timestamp":
            return datetime.datetime(2026, 11, 20, 1, 2, 3, tzinfo=datetime.timezone.utc)
        raise ValueError(kind)

    def string(self, shape, meta, name):
        if shape.enum:
            return self.random.choice(shape.enum)
        if self.in_head:
            return "plain" if name.lower() != "requestroute" else "route"
        low, high = meta.get("min", 1) or 1, meta.get("max", 256) or 256
        lower = name.lower()
        if lower == "bucket":
            return "a-bucket.name" if self.random.random() < 0.3 else "my-bucket"
        if lower in ("accountid", "awsaccountid"):
            return "123456789012"
        if lower.endswith("arn") and high > 40:
            text = "arn:aws:thing:us-west-2:123456789012:kind/with-a-name"
        elif lower.endswith("url") and high > 30:
            text = "https://example.com/a/b"
        else:
            text = self.random.choice(["plain", "with-dash", "a.b_c", "Name1"] + ([] if self.optional < 0.1 else ["sl/ash", "a b", "100%", "ü+&="]))
        if pattern := meta.get("pattern"):
            import re
            try:
                if not re.search(pattern, text):
                    text = next((t for t in ("plain", "abc-123", "1234567890", "a") if re.search(pattern, t)), "plain")
            except re.error:
                pass
        if len(text) < low:
            text = text + "x" * (low - len(text))
        return text[:high] if len(text) > high else text


def is_awkward(shape):
    return shape.type_name == "structure" and getattr(shape, "event_stream_name", None)


class Raw:
    """What AWSResponse reads a body from."""

    def __init__(self, content):
        self.content = content

    def stream(self, *_, **__):
        yield self.content


def clients(session, name, model, modes):
    for region, endpoint in modes:
        config = botocore.config.Config(
            retries={"max_attempts": 0}, parameter_validation=False, s3={"addressing_style": "auto"},
            user_agent_appid="corpus", ignore_configured_endpoint_urls=True,
        )
        try:
            client = session.create_client(
                name, region_name=region, endpoint_url=endpoint, config=config,
                aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="secret",
            )
        except botocore.exceptions.BotoCoreError as error:
            print(f"skipped {name} {region} {endpoint}: {error}", file=sys.stderr)
            continue

        def capture(request, event_name, **_):
            # Endpoint discovery comes before the call itself: answer it.
            if event_name.endswith(".DescribeEndpoints") and not client.is_asked_to_discover:
                answer = json.dumps({"Endpoints": [{"Address": "ingest-cell1.timestream.us-west-2.amazonaws.com", "CachePeriodInMinutes": 9}]})
                return botocore.awsrequest.AWSResponse(request.url, 200, {}, Raw(answer.encode()))
            raise Captured(request)

        client.meta.events.register_first("before-send.*.*", capture)
        yield client, "override" if endpoint else region


def in_every_protocol(session, name, model, modes):
    """Clients for each protocol of the service, as SDKs of other languages and years choose them."""
    metadata = session.get_component("data_loader").load_service_model(name, "service-2")["metadata"]
    kept = dict(metadata)
    yield from clients(session, name, model, modes)
    protocols = [p for p in kept.get("protocols", []) if p != model.resolved_protocol]
    for protocol in protocols:
        metadata.update({"protocol": protocol, "protocols": [protocol]})
        if protocol == "json":
            metadata.setdefault("jsonVersion", "1.0")
        yield from clients(session, name, model, modes)
        metadata.clear()
        metadata.update(kept)


def requests(client, seed, optional):
    model = client.meta.service_model
    names = {api: method for method, api in client.meta.method_to_api_mapping.items()}
    for operation in model.operation_names:
        values = Values(f"{seed}/{model.service_name}/{operation}", optional)
        shape = model.operation_model(operation).input_shape
        params = values.of(shape) if shape else {}
        if shape and model.service_name == "s3" and "CopySource" in params:
            params["CopySource"] = {"Bucket": "source", "Key": "a key/b"}
        client.is_asked_to_discover = operation == "DescribeEndpoints"
        try:
            getattr(client, names[operation])(**params)
        except Captured as captured:
            yield operation, params, captured.args[0]
        except Exception as error:  # botocore refused its own example
            yield operation, params, error


def line(identity, request):
    body = request.body
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    headers = [[k, v.decode() if isinstance(v, bytes) else str(v)] for k, v in request.headers.items()]
    return json.dumps({
        "id": identity, "method": request.method, "url": request.url, "headers": headers,
        "body_base64": base64.b64encode(bytes(body or b"")).decode(),
    })


def plain(value):
    """A parameter in the form both sides can be compared in: secrets and moments by presence only."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, datetime.datetime):
        return "<moment>"
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value


def pruned(value):
    """Empty structures and lists have no form on most wires."""
    if isinstance(value, dict):
        return {k: p for k, v in value.items() if (p := pruned(v)) not in ({}, [], None)}
    if isinstance(value, list):
        return [p for v in value if (p := pruned(v)) not in ({}, [], None)]
    return value


def same(sent, read, shape):
    if isinstance(read, str) and read.startswith("[redacted"):
        return True
    if shape is None:
        return sent == read
    if getattr(shape, "is_document_type", False):
        return sent == read
    kind = shape.type_name
    if kind == "structure":
        return isinstance(read, dict) and set(sent) == set(read) and all(
            same(v, read[k], shape.members.get(k)) for k, v in sent.items())
    if kind == "list":
        return isinstance(read, list) and len(sent) == len(read) and all(same(a, b, shape.member) for a, b in zip(sent, read))
    if kind == "map":
        return isinstance(read, dict) and set(sent) == set(read) and all(same(v, read[k], shape.value) for k, v in sent.items())
    if kind == "timestamp":
        return read is not None
    if kind == "blob":
        return True
    if kind in ("float", "double"):
        return float(sent) == float(read)
    return sent == read


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--countersign", default=str(ROOT / "target/debug/countersign"))
    parser.add_argument("--services", help="botocore names, joined by commas; all when not given")
    parser.add_argument("--rounds", type=int, default=2, help="round 0 sends required members only")
    parser.add_argument("--modes", default="real,override")
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep", help="write the requests to this file as well")
    options = parser.parse_args()

    os.environ.update({f"AWS_BEARER_TOKEN_{name}": "token" for name in ("CODECATALYST", "ACCOUNT_ACCESS")})
    session = botocore.session.Session()
    curated = tomllib.loads((ROOT / "src/catalog/curated/aws.toml").read_text())["prefix"]
    services = options.services.split(",") if options.services else sorted(session.get_available_services())
    modes = [m for m in [("us-west-2", None), ("eu-central-1", ENDPOINT)]
             if ("override" if m[1] else "real") in options.modes.split(",")]
    expected, lines, refused_by_botocore = {}, [], collections.Counter()
    for name in services:
        model = session.get_service_model(name)
        prefix = curated.get(name, model.metadata.get("signingName") or model.metadata["endpointPrefix"])
        for client, mode in in_every_protocol(session, name, model, modes):
            for round_number in range(options.rounds):
                optional = 0.0 if round_number == 0 else 0.35
                for operation, params, request in requests(client, f"{options.seed}/{round_number}", optional):
                    if isinstance(request, Exception):
                        refused_by_botocore[f"{name}:{operation}: {type(request).__name__}: {str(request)[:110]}"] += 1
                        continue
                    identity = len(lines)
                    protocol = client.meta.service_model.resolved_protocol
                    expected[identity] = (f"aws:{prefix}:{operation}", name, protocol, mode, params,
                                          client.meta.service_model.operation_model(operation).input_shape)
                    lines.append(line(identity, request))
            client.close()
    if options.keep:
        pathlib.Path(options.keep).write_text("\n".join(lines) + "\n")
    answered = subprocess.run([options.countersign, "classify", "--plane", "aws", "--account", "123456789012"],
                              input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    sys.exit(score(expected, answered.stdout.splitlines(), lines, refused_by_botocore, options.show))


def score(expected, answers, lines, refused_by_botocore, show):
    if len(answers) != len(expected):
        print(f"{len(expected)} requests and {len(answers)} answers")
        return 1
    tally, why, wrong, params_wrong = collections.defaultdict(collections.Counter), collections.Counter(), [], collections.Counter()
    for answer in map(json.loads, answers):
        name, service, protocol, mode, params, shape = expected[answer["id"]]
        key = (protocol, mode)
        got = answer["actions"][0]["action"] if answer["actions"] else None
        if answer["unknown"] is not None:
            tally[key]["unknown"] += 1
            why[f"{service} {name} [{mode}]: {answer['unknown']}"] += 1
        elif got == RENAMED.get(name, name):
            tally[key]["right"] += 1
            if same_parameters(params, answer["actions"][0]["parameters"], shape):
                tally[key]["parameters"] += 1
            else:
                params_wrong[f"{service} {name} [{mode}]: sent {json.dumps(plain(params))[:300]} read {json.dumps(answer['actions'][0]['parameters'])[:300]}"] += 1
        else:
            tally[key]["wrong"] += 1
            wrong.append(f"{service} {name} [{mode}] named {got}")
    print(f"{'protocol':22} {'mode':10} {'requests':>8} {'right':>8} {'unknown':>8} {'wrong':>6} {'parameters':>10}")
    total = collections.Counter()
    for (protocol, mode), counts in sorted(tally.items()):
        total.update(counts)
        row(protocol, mode, counts)
    row("all", "", total)
    print(f"{sum(refused_by_botocore.values())} calls that botocore itself would not make")
    for title, items in (("wrong", wrong), ("unknown", [k for k, _ in why.most_common()]), ("parameters", [k for k, _ in params_wrong.most_common()]),
                         ("not made", [k for k, _ in refused_by_botocore.most_common()])):
        for item in list(items)[:show]:
            print(f"  {title}: {item}")
    asked = total["right"] + total["unknown"] + total["wrong"]
    return 0 if not total["wrong"] and total["right"] >= 0.999 * asked else 1


def row(protocol, mode, counts):
    asked = counts["right"] + counts["unknown"] + counts["wrong"]
    print(f"{protocol:22} {mode:10} {asked:8} {counts['right']:8} {counts['unknown']:8} {counts['wrong']:6} {counts['parameters']:10}")


def same_parameters(sent, read, shape):
    """What was sent came out, but for what botocore adds by itself and what the body holds as data."""
    sent, read = pruned(plain(sent)), pruned(read)
    for name, value in sent.items():
        member = shape.members[name] if shape else None
        is_data = shape is not None and shape.serialization.get("payload") == name and member.type_name in ("blob", "string")
        if is_data or name == "CopySource":
            continue
        if name not in read or not same(value, read[name], member):
            return False
    return True


if __name__ == "__main__":
    main()
