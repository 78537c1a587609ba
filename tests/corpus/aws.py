"""Asks the AWS SDKs for one request of every operation and holds `countersign classify` against them.

    .venv/bin/python tests/corpus/aws.py [--countersign PATH] [--facts FILE] [--services iam,s3] [--sources botocore,s3,cli,javascript]

Each operation is called with its required members, some of the others, and all of them, at the service's own
hosts in every partition and at an endpoint override, in every protocol and API version that botocore has of it
and as presigned URL; S3 in every addressing style; the AWS CLI and the SDK for JavaScript besides. Nothing is
sent. A name is right, unknown (or refused), or wrong; parameters are right when what was passed in came out.
Exits 1 when a name is wrong, or when fewer than `--least` of a hundred are right.
"""

import argparse
import collections
import datetime
import base64
import json
import os
import pathlib
import subprocess
import sys
import tomllib

import botocore.session

import botocore_calls
import command_line
import javascript
import s3_addresses

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Requests that are named by one process: bounds what is in memory.
BATCH = 20_000


# Operations that botocore keeps under an old name beside the one that replaced it, with the same request.
RENAMED = {
    "aws:s3:GetBucketLifecycle": "aws:s3:GetBucketLifecycleConfiguration",
    "aws:s3:GetBucketNotification": "aws:s3:GetBucketNotificationConfiguration",
    "aws:s3:PutBucketLifecycle": "aws:s3:PutBucketLifecycleConfiguration",
    "aws:s3:PutBucketNotification": "aws:s3:PutBucketNotificationConfiguration",
}


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


class Score:
    """What came of the requests so far."""

    def __init__(self, command, prefixes):
        self.command, self.prefixes = command, prefixes
        self.tally = collections.defaultdict(collections.Counter)
        self.unknown, self.wrong, self.parameters, self.not_made = (collections.Counter() for _ in range(4))
        self.waiting = []
        self.keep = None

    def add(self, call):
        self.waiting.append(call)
        if len(self.waiting) == BATCH:
            self.name()

    def name(self):
        """Names what waits."""
        calls, self.waiting = self.waiting, []
        lines = "".join(json.dumps({"id": number, **call.request}) + "\n" for number, call in enumerate(calls))
        if self.keep:
            self.keep.write(lines)
        answered = subprocess.run(self.command, input=lines, capture_output=True, text=True, check=True)
        answers = [json.loads(line) for line in answered.stdout.splitlines()]
        if [answer["id"] for answer in answers] != list(range(len(calls))):
            raise SystemExit(f"{len(calls)} requests and {len(answers)} answers")
        for call, answer in zip(calls, answers):
            self.judge(call, answer)

    def judge(self, call, answer):
        counts = self.tally[call.protocol, call.mode]
        name = f"aws:{self.prefixes[call.service]}:{call.operation}"
        where = f"{call.service} {call.operation} [{call.protocol}, {call.mode}]"
        got = answer["actions"][0]["action"] if answer["actions"] else None
        if answer["unknown"] is not None:
            counts["unknown"] += 1
            self.unknown[f"{where}: {answer['unknown']}"] += 1
        elif got != RENAMED.get(name, name):
            counts["wrong"] += 1
            self.wrong[f"{where} named {got}"] += 1
        else:
            counts["right"] += 1
            read = answer["actions"][0]["parameters"]
            if call.params is not None:
                counts["compared"] += 1
                if same_parameters(call.params, read, call.shape):
                    counts["same"] += 1
                else:
                    self.parameters[f"{where}: sent {json.dumps(plain(call.params))[:300]} read {json.dumps(read)[:300]}"] += 1

    def show(self, most):
        print(f"{'protocol':18} {'mode':22} {'requests':>8} {'right':>8} {'unknown':>8} {'wrong':>6} {'parameters':>17}")
        total, of_protocol = collections.Counter(), collections.defaultdict(collections.Counter)
        for (protocol, mode), counts in sorted(self.tally.items()):
            total.update(counts)
            of_protocol[protocol].update(counts)
            row(protocol, mode, counts)
        for protocol, counts in sorted(of_protocol.items()):
            row(protocol, "all", counts)
        row("all", "all", total)
        print(f"{self.not_made.total()} calls that the SDKs themselves would not make")
        for title in ("wrong", "unknown", "parameters", "not_made"):
            for item, count in getattr(self, title).most_common(most):
                print(f"  {title.replace('_', ' ')}: {item}" + (f" ({count} times)" if count > 1 else ""))
        return total


def row(protocol, mode, counts):
    asked = counts["right"] + counts["unknown"] + counts["wrong"]
    same = f"{counts['same']}/{counts['compared']}"
    print(f"{protocol:18} {mode:22} {asked:8} {counts['right']:8} {counts['unknown']:8} {counts['wrong']:6} {same:>17}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--countersign", default=str(ROOT / "target/debug/countersign"))
    parser.add_argument("--facts", help="name by this table in place of the built-in one")
    parser.add_argument("--services", help="botocore names, joined by commas; all when not given")
    parser.add_argument("--sources", default="botocore")
    parser.add_argument("--rounds", type=int, default=3, help="1 sends required members only")
    parser.add_argument("--places", help=f"some of {','.join(botocore_calls.PLACES)}; all when not given")
    parser.add_argument("--least", type=float, default=99.9, help="percentage of right names below which the corpus fails")
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep", help="write the requests to this file as well")
    options = parser.parse_args()

    os.environ.update({f"AWS_BEARER_TOKEN_{name}": "token" for name in ("CODECATALYST", "ACCOUNT_ACCESS")})
    session = botocore.session.Session()
    known = sorted(session.get_available_services())
    services = options.services.split(",") if options.services else known
    places = options.places.split(",") if options.places else list(botocore_calls.PLACES)
    command = [options.countersign, "classify", "--plane", "aws", "--account", "123456789012"]
    score = Score(command + (["--facts", options.facts] if options.facts else []), prefixes(session, known))
    score.keep = open(options.keep, "w") if options.keep else None
    for source in options.sources.split(","):
        for call in SOURCES[source](session, services, places, options, score.not_made):
            score.add(call)
    score.name()
    total = score.show(options.show)
    asked = total["right"] + total["unknown"] + total["wrong"]
    sys.exit(bool(total["wrong"]) or not asked or total["right"] < options.least / 100 * asked)


def prefixes(session, services):
    curated = tomllib.loads((ROOT / "src/catalog/curated/aws.toml").read_text())["prefix"]
    return {name: curated.get(name) or signing_name(session, name) for name in services}


def signing_name(session, name):
    metadata = session.get_component("data_loader").load_service_model(name, "service-2")["metadata"]
    return metadata.get("signingName") or metadata["endpointPrefix"]


def by_botocore(session, services, places, options, not_made):
    for name in services:
        yield from botocore_calls.calls(session, name, places, options.rounds, options.seed, not_made)


def by_javascript(session, services, places, options, not_made):
    yield from javascript.calls(session, services, options.rounds, options.seed, not_made)


def by_s3(session, services, places, options, not_made):
    yield from s3_addresses.calls(session, services, options.seed, not_made)


def by_command_line(session, services, places, options, not_made):
    yield from command_line.calls(services, not_made)


SOURCES = {"botocore": by_botocore, "s3": by_s3, "cli": by_command_line, "javascript": by_javascript}


def same_parameters(sent, read, shape):
    """What was sent came out, but for what botocore adds by itself and what the body holds as data."""
    sent, read = pruned(plain(sent)), pruned(read)
    for name, value in sent.items():
        member = shape.members[name] if shape else None
        is_data = shape is not None and shape.serialization.get("payload") == name and member.type_name in ("blob", "string")
        # botocore fills these in, or leaves them out, by itself.
        if is_data or name in ("CopySource", "PreSignedUrl", "SourceRegion"):
            continue
        if name not in read or not same(value, read[name], member):
            return False
    return True


if __name__ == "__main__":
    main()
