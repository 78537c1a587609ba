"""Requests as botocore makes them: every operation, protocol, API version, place and way to sign. Nothing is sent."""

import base64
import dataclasses
import json
import sys
import urllib.parse

import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.session

from values import Values

ENDPOINT = "http://127.0.0.1:8080"
KEYS = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "secret"}

# Where a service is asked: region, endpoint override, and what else is configured.
PLACES = {
    "us-west-2": ("us-west-2", None, {}),
    "override": ("eu-central-1", ENDPOINT, {}),
    "us-east-1": ("us-east-1", None, {}),
    "fips": ("us-east-1", None, {"use_fips_endpoint": True}),
    "dualstack": ("eu-west-1", None, {"use_dualstack_endpoint": True}),
    "fips-dualstack": ("us-east-2", None, {"use_fips_endpoint": True, "use_dualstack_endpoint": True}),
    "global": ("aws-global", None, {}),
    "china": ("cn-northwest-1", None, {}),
    "china-dualstack": ("cn-north-1", None, {"use_dualstack_endpoint": True}),
    "govcloud": ("us-gov-west-1", None, {}),
    "govcloud-fips": ("us-gov-east-1", None, {"use_fips_endpoint": True, "use_dualstack_endpoint": True}),
    "sovereign": ("eusc-de-east-1", None, {}),
    "iso": ("us-iso-east-1", None, {}),
    "isob": ("us-isob-east-1", None, {}),
    # A region younger than any table.
    "new-region": ("ap-central-7", None, {}),
}
# Asked with every round; the others with required members only.
USUAL = ("us-west-2", "override")
# Chance of each optional member, by round; the last has all of them.
ROUNDS = (0.0, 0.35, 1.0)


@dataclasses.dataclass
class Call:
    """One request and what it must be named."""

    protocol: str
    mode: str
    service: str
    operation: str
    request: dict
    # What was passed in, and its shape; None where parameters are not compared.
    params: dict | None = None
    shape: object = None


class Captured(BaseException):
    """Carries the prepared request out of botocore; not an Exception, so that nothing catches it."""


class Raw:
    """What AWSResponse reads a body from."""

    def __init__(self, content):
        self.content = content

    def stream(self, *_, **__):
        yield self.content


def client_at(session, name, place, api_version=None, **config):
    """A client whose requests end in [`Captured`]; None where botocore has no such place."""
    region, endpoint, settings = PLACES[place]
    settings = botocore.config.Config(
        **{"retries": {"max_attempts": 0}, "parameter_validation": False, "user_agent_appid": "corpus",
           "ignore_configured_endpoint_urls": True, **settings, **config},
    )
    try:
        client = session.create_client(name, region_name=region, endpoint_url=endpoint, config=settings, api_version=api_version, **KEYS)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        print(f"skipped {name} {place}: {error}", file=sys.stderr)
        return None
    client.is_asked_to_discover = False

    def capture(request, event_name, **_):
        # Endpoint discovery and S3 sessions come before the call itself: answer them.
        if event_name.endswith(".DescribeEndpoints") and not client.is_asked_to_discover:
            answer = json.dumps({"Endpoints": [{"Address": f"ingest-cell1.timestream.{client.meta.region_name}.amazonaws.com", "CachePeriodInMinutes": 9}]})
            return botocore.awsrequest.AWSResponse(request.url, 200, {}, Raw(answer.encode()))
        if event_name.endswith(".s3.CreateSession") and not client.is_asked_to_discover:
            answer = ("<CreateSessionOutput><Credentials><SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey>"
                      "<AccessKeyId>ASIAEXAMPLE</AccessKeyId><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionOutput>")
            return botocore.awsrequest.AWSResponse(request.url, 200, {}, Raw(answer.encode()))
        raise Captured(request)

    client.meta.events.register_first("before-send.*.*", capture)
    return client


def protocol_of(model):
    """The protocol that botocore chooses; an old one knows but one."""
    return getattr(model, "resolved_protocol", None) or model.metadata["protocol"]


def in_every_protocol(session, name, place):
    """Clients for each protocol of the service, as SDKs of other languages and years choose them."""
    metadata = session.get_component("data_loader").load_service_model(name, "service-2")["metadata"]
    kept = dict(metadata)
    yield client_at(session, name, place)
    chosen = protocol_of(session.get_service_model(name))
    protocols = list(kept.get("protocols", []))
    if "awsQueryCompatible" in kept and "query" not in protocols:
        protocols.append("query")
    for protocol in protocols:
        if protocol == chosen:
            continue
        metadata.update({"protocol": protocol, "protocols": [protocol]})
        if protocol == "json":
            metadata.setdefault("jsonVersion", "1.0")
        yield client_at(session, name, place)
        metadata.clear()
        metadata.update(kept)


def parameters(client, operation, seed, optional):
    model = client.meta.service_model
    shape = model.operation_model(operation).input_shape
    values = Values(f"{seed}/{model.service_name}/{operation}", optional)
    params = values.of(shape) if shape else {}
    if shape and model.service_name == "s3" and "CopySource" in params:
        params["CopySource"] = {"Bucket": "source", "Key": "a key/b"}
    return params, shape


def captured(client, operation, params):
    """The request of one call, or the error for which botocore would not make it."""
    names = {api: method for method, api in client.meta.method_to_api_mapping.items()}
    client.is_asked_to_discover = operation in ("DescribeEndpoints", "CreateSession")
    try:
        getattr(client, names[operation])(**params)
    except Captured as caught:
        return caught.args[0]
    except Exception as error:
        return error
    return ValueError("nothing was sent")


def spelled(request):
    body = request.body
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    headers = [[k, v.decode() if isinstance(v, bytes) else str(v)] for k, v in request.headers.items()]
    return {"method": request.method, "url": request.url, "headers": headers, "body_base64": base64.b64encode(bytes(body or b"")).decode()}


def calls(session, name, places, rounds, seed, not_made):
    """All requests of one service."""
    for place in places:
        clients = in_every_protocol(session, name, place) if place in USUAL else [client_at(session, name, place)]
        for client in filter(None, clients):
            chances = ROUNDS[:rounds] if place in USUAL else ROUNDS[:1]
            for number, optional in enumerate(chances):
                yield from each_operation(client, name, place, f"{seed}/{number}", optional, not_made)
            client.close()
    yield from of_older_versions(session, name, seed, not_made)
    yield from presigned(session, name, seed, not_made)


def each_operation(client, name, mode, seed, optional, not_made):
    model = client.meta.service_model
    for operation in model.operation_names:
        params, shape = parameters(client, operation, seed, optional)
        request = captured(client, operation, params)
        if not isinstance(request, Exception) and "aws-global" in request.url:
            continue  # The service has no global host.
        if isinstance(request, Exception):
            not_made[f"{name}:{operation} [{mode}]: {type(request).__name__}: {str(request)[:110]}"] += 1
            continue
        yield Call(protocol_of(model), mode, name, operation, spelled(request), params, shape)


def of_older_versions(session, name, seed, not_made):
    """What SDKs of other years send: the API versions that botocore carries beside the newest."""
    for version in session.get_component("data_loader").list_api_versions(name, "service-2")[:-1]:
        client = client_at(session, name, "us-west-2", api_version=version)
        for call in each_operation(client, name, "older version", seed, 0.2, not_made):
            call.params = None
            yield call
        client.close()


def presigned(session, name, seed, not_made):
    """URLs that carry their signature, where an operation needs no body; S3's also with the older signature."""
    versions = {"s3": ["s3v4", "s3"]}.get(name, ["v4"])
    for version in versions:
        client = client_at(session, name, "us-west-2", signature_version=version)
        model = client.meta.service_model
        if name == "codecatalyst" or protocol_of(model) not in ("query", "ec2", "rest-json", "rest-xml"):
            client.close()
            continue
        names = {api: method for method, api in client.meta.method_to_api_mapping.items()}
        signed = {}
        client.meta.events.register("before-sign.*.*", lambda request, **_: signed.update(request.headers))
        for operation in model.operation_names:
            signed.clear()
            is_form = protocol_of(model) in ("query", "ec2")
            verb = model.operation_model(operation).http["method"]
            if not is_form and verb not in ("GET", "HEAD", "DELETE") and name != "s3":
                continue
            params, _ = parameters(client, operation, f"{seed}/presigned", 0.2)
            try:
                url = client.generate_presigned_url(names[operation], params, HttpMethod="GET" if is_form else None)
            except Exception as error:
                not_made[f"{name}:{operation} [presigned]: {type(error).__name__}: {str(error)[:110]}"] += 1
                continue
            if "aws-global" in url:
                continue  # botocore leaves the region out where it presigns for a host of its own.
            # Who uses the URL sends the header fields that it names, too.
            named = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query).get("X-Amz-SignedHeaders", [""])[0].split(";")
            headers = [[name, value] for name, value in signed.items() if name.lower() in named and name.lower() != "content-length"]
            request = {"method": "GET" if is_form else verb, "url": url, "headers": headers, "body_base64": ""}
            yield Call(protocol_of(model), f"presigned {version}", name, operation, request)
        client.close()
