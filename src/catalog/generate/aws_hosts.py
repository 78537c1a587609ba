"""Host names of every service, from botocore's endpoint rule sets and its older endpoint list.

Each of both is asked for every region with and without FIPS and dual-stack, and the region label is
generalised to `{r}`; `*` stands for one label that names an account or a resource. SDKs of other years
and languages go by the older list, whose hosts AWS keeps.
"""

import json
import re

from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError, EndpointVariantError
from botocore.regions import EndpointResolver

# Arguments that make a rule set give its other hosts.
VARIANTS = {
    "acm": [{"ServiceType": v} for v in ("acm", "acm-acme")],
    "arc-region-switch": [{"UseControlPlaneEndpoint": True}],
    "dynamodb": [{"AccountId": "111122223333", "AccountIdEndpointMode": "preferred"}, {"IsSearchOperation": True},
                 {"IsSearchOperation": True, "AccountId": "111122223333", "AccountIdEndpointMode": "preferred"}],
    "dynamodbstreams": [{"AccountId": "111122223333", "AccountIdEndpointMode": "preferred"}],
    "eventbridgev2": [{"AccountId": "111122223333", "AccountIdEndpointMode": "preferred"}],
    "events": [{"EndpointId": "abc123.456"}],
    "kinesis": [{"OperationType": kind, "ResourceType": resource, **account}
                for kind in ("control", "data") for resource in ("", "stream", "channel", "queue")
                for account in ({}, {"AccountId": "111122223333", "AccountIdEndpointMode": "preferred"},
                                {"StreamARN": "arn:aws:kinesis:us-west-2:111122223333:stream/s"})],
    "neptune-graph": [{"ApiType": v} for v in ("ControlPlane", "DataPlane")],
    "opensearchmemory": [{"SpaceId": "abc123"}],
    "sesv2": [{"EndpointId": "abc123.456"}],
    "signin": [{"IsControlPlane": True}, {"IsOAuthEndpoint": True}],
    "sts": [{"UseGlobalEndpoint": True}],
    "s3": [{"UseS3ExpressControlEndpoint": True}, {"UseObjectLambdaEndpoint": True}],
}


def host_table(sources):
    """(host template -> service numbers, service -> its hosts by partition, service -> signing names, partitions)"""
    hosts, endpoints, signing_names = {}, {}, {}
    regions = [(p["id"], r) for p in sources.partitions["partitions"] for r in p["regions"]]
    for number, (name, model) in enumerate(sources.models.items()):
        rules = sources.rules(name)
        provider = EndpointProvider(rules, sources.partitions)
        signs_for = signing_regions(sources, model["metadata"]["endpointPrefix"])
        known = set(rules["parameters"])
        found = {}
        for partition, region in regions:
            for fips in (False, True):
                for dual in (False, True):
                    for extra in [{}, *static_params(model), *VARIANTS.get(name, [])]:
                        arguments = {"Region": region, "UseFIPS": fips, "UseDualStack": dual, **extra}
                        endpoint = resolved(provider, {k: v for k, v in arguments.items() if k in known})
                        if endpoint is None:
                            continue
                        host, base, signing, names = endpoint
                        signing = signing or signs_for.get(region, region)
                        signing_names.setdefault(name, set()).update(names)
                        template = generalised(host, region)
                        found.setdefault(template, (base, signing if signing != region else None))
                        if not (fips or dual or extra):
                            endpoints.setdefault(name, {}).setdefault(partition, []).append((region, template, base, signing))
        for template in older_hosts(sources, model["metadata"]["endpointPrefix"], regions):
            found.setdefault(template, ("", None))
        prefixes = {op["endpoint"]["hostPrefix"] for op in model["operations"].values() if "endpoint" in op}
        for template, (base, _) in sorted(found.items()):
            for prefix in ["", *sorted(prefixes)]:
                labels = re.sub(r"\{\w+\}", "*", prefix)
                entry = hosts.setdefault(labels + template, [])
                if number not in entry:
                    entry.append(number)
        endpoints[name] = by_partition(endpoints.get(name, {}))
    plain_hosts(sources, hosts)
    for template, names in sources.curated["hosts"].items():
        numbers = [list(sources.models).index(name) for name in names if name in sources.models]
        hosts[template] = sorted(set(hosts.get(template, [])) | set(numbers))
    partitions = [
        {"id": p["id"], "suffix": p["outputs"]["dnsSuffix"], "dual": p["outputs"]["dualStackDnsSuffix"],
         "global": p["outputs"]["implicitGlobalRegion"], "regions": sorted(r for r in p["regions"] if "global" not in r)}
        for p in sources.partitions["partitions"]
    ]
    return dict(sorted(hosts.items())), endpoints, signing_names, partitions


def plain_hosts(sources, hosts):
    """The regional host in its plainest form, also of services that have other ones, unless it is another's."""
    plain = {}
    for number, model in enumerate(sources.models.values()):
        for partition in sources.partitions["partitions"]:
            template = f"{model['metadata']['endpointPrefix']}.{{r}}.{partition['outputs']['dnsSuffix']}"
            if template not in hosts and number not in plain.setdefault(template, []):
                plain[template].append(number)
    hosts.update((template, numbers) for template, numbers in plain.items() if numbers)


def signing_regions(sources, prefix):
    """Region -> region to sign for, from the older endpoint list: some rule sets leave it out and SDKs use this."""
    resolver = EndpointResolver(sources.endpoints)
    regions = [r for p in sources.partitions["partitions"] for r in p["regions"]]
    built = {region: resolver.construct_endpoint(prefix, region) or {} for region in regions}
    return {region: it["credentialScope"]["region"] for region, it in built.items() if it.get("credentialScope", {}).get("region")}


def older_hosts(sources, prefix, regions):
    """The hosts that the older endpoint list gives a service, as templates."""
    resolver = EndpointResolver(sources.endpoints)
    found = set()
    for partition, region in regions:
        for fips in (False, True):
            for dual in (False, True):
                if "global" in region:
                    continue
                try:
                    built = resolver.construct_endpoint(prefix, region, partition, use_fips_endpoint=fips, use_dualstack_endpoint=dual)
                except EndpointVariantError:
                    continue
                for name in ("hostname", "sslCommonName"):
                    if built and name in built:
                        found.add(generalised(built[name], region))
    return found


def static_params(model):
    sets = {}
    for op in model["operations"].values():
        values = {name: spec["value"] for name, spec in op.get("staticContextParams", {}).items()}
        if values:
            sets[json.dumps(values, sort_keys=True)] = values
    return [value for _, value in sorted(sets.items())]


def resolved(provider, arguments):
    try:
        endpoint = provider.resolve_endpoint(**arguments)
    except (EndpointProviderError, KeyError, TypeError, AttributeError):
        return None
    host, _, path = endpoint.url.removeprefix("https://").partition("/")
    schemes = endpoint.properties.get("authSchemes", [])
    signing = next((s["signingRegion"] for s in schemes if "signingRegion" in s), None)
    # Sigv4a and S3 Express are other ways to sign; their scopes are S3's own affair.
    names = {s["signingName"] for s in schemes if "signingName" in s and s["name"] == "sigv4"}
    return host, path, signing, names


def generalised(host, region):
    labels = ["{r}" if label == region else label for label in host.split(".")]
    labels = ["*" if label in ("111122223333", "abc123") else label for label in labels]
    if "456" in labels:
        labels[labels.index("456")] = "*"
    return ".".join(labels)


def by_partition(found):
    """Per partition: the usual [host, base path, signing region or ""], and the regions that differ."""
    table = {}
    for partition, rows in found.items():
        shapes = [(t, base, "" if signing == region else signing) for region, t, base, signing in rows]
        usual = max(sorted(set(shapes)), key=shapes.count)
        table[partition] = {"u": list(usual)}
        special = {row[0]: list(shape) for row, shape in zip(rows, shapes) if shape != usual and "global" not in row[0]}
        if special:
            table[partition]["x"] = special
    return table
