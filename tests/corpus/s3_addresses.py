"""S3 in every way its buckets are addressed, and its uploads by POST policy, as botocore makes them."""

import base64

import botocore_calls

ACCOUNT = "123456789012"
# Place or client settings, and the bucket's name or ARN.
STYLES = {
    "path": ("us-west-2", {"s3": {"addressing_style": "path"}}, "my-bucket"),
    "path dotted": ("us-west-2", {"s3": {"addressing_style": "path"}}, "a.dotted.name"),
    "virtual": ("us-west-2", {"s3": {"addressing_style": "virtual"}}, "my-bucket"),
    "virtual dotted": ("us-west-2", {"s3": {"addressing_style": "virtual"}}, "a.dotted.name"),
    "virtual global": ("us-east-1", {"s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "legacy"}}, "my-bucket"),
    "path global": ("us-east-1", {"s3": {"addressing_style": "path", "us_east_1_regional_endpoint": "legacy"}}, "my-bucket"),
    "virtual override": ("localhost", {"s3": {"addressing_style": "virtual"}}, "my-bucket"),
    "dualstack": ("us-west-2", {"use_dualstack_endpoint": True}, "my-bucket"),
    "dualstack path": ("us-west-2", {"use_dualstack_endpoint": True, "s3": {"addressing_style": "path"}}, "my-bucket"),
    "fips": ("us-gov-west-1", {"use_fips_endpoint": True}, "my-bucket"),
    "china": ("china", {"s3": {"addressing_style": "virtual"}}, "my-bucket"),
    "sovereign": ("sovereign", {}, "my-bucket"),
    "accelerate": ("us-west-2", {"s3": {"use_accelerate_endpoint": True}}, "my-bucket"),
    "accelerate dualstack": ("us-west-2", {"use_dualstack_endpoint": True, "s3": {"use_accelerate_endpoint": True}}, "my-bucket"),
    "access point": ("us-west-2", {}, f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/readers"),
    "access point fips": ("fips", {}, f"arn:aws:s3:us-east-1:{ACCOUNT}:accesspoint/readers"),
    "access point dualstack": ("us-west-2", {"use_dualstack_endpoint": True}, f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint:readers"),
    "access point alias": ("us-west-2", {}, "readers-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias"),
    "outposts": ("us-west-2", {}, f"arn:aws:s3-outposts:us-west-2:{ACCOUNT}:outpost/op-01234567890123456/accesspoint/readers"),
    "outposts alias": ("us-west-2", {}, "readers-o01234567890123456uqmfsa6bse5k1z0ukbab7--op-s3"),
    "object lambda": ("us-west-2", {}, f"arn:aws:s3-object-lambda:us-west-2:{ACCOUNT}:accesspoint/readers"),
    "directory": ("us-west-2", {}, "readers--usw2-az1--x-s3"),
    "directory fips": ("fips", {}, "readers--use1-az4--x-s3"),
}
# Control of what stands on an outpost.
CONTROL = {
    "outposts bucket": f"arn:aws:s3-outposts:us-west-2:{ACCOUNT}:outpost/op-01234567890123456/bucket/my-bucket",
    "outposts access point": f"arn:aws:s3-outposts:us-west-2:{ACCOUNT}:outpost/op-01234567890123456/accesspoint/readers",
}


def calls(session, services, seed, not_made):
    botocore_calls.PLACES.setdefault("localhost", ("us-west-2", "http://localhost:8080", {}))
    botocore_calls.PLACES.setdefault("us-gov-west-1", botocore_calls.PLACES["govcloud"])
    if "s3" in services:
        for style, (place, config, bucket) in STYLES.items():
            yield from styled(session, style, place, config, bucket, seed, not_made)
        yield from posted(session)
    if "s3control" in services:
        yield from controlled(session, seed, not_made)


def styled(session, style, place, config, bucket, seed, not_made):
    client = botocore_calls.client_at(session, "s3", place, **config)
    for operation in client.meta.service_model.operation_names:
        params, shape = botocore_calls.parameters(client, operation, f"{seed}/styles", 0.1)
        if "Bucket" not in params:
            continue
        params["Bucket"] = bucket
        request = botocore_calls.captured(client, operation, params)
        if isinstance(request, Exception):
            not_made[f"s3:{operation} [{style}]: {type(request).__name__}: {str(request)[:110]}"] += 1
            continue
        yield botocore_calls.Call("rest-xml", style, "s3", operation, botocore_calls.spelled(request))
    client.close()


def controlled(session, seed, not_made):
    client = botocore_calls.client_at(session, "s3control", "us-west-2")
    for style, arn in CONTROL.items():
        member = "Bucket" if "/bucket/" in arn else "Name"
        for operation in client.meta.service_model.operation_names:
            params, _ = botocore_calls.parameters(client, operation, f"{seed}/styles", 0.1)
            if member not in params:
                continue
            params[member] = arn
            request = botocore_calls.captured(client, operation, params)
            if isinstance(request, Exception):
                not_made[f"s3control:{operation} [{style}]: {type(request).__name__}: {str(request)[:110]}"] += 1
            else:
                yield botocore_calls.Call("rest-xml", style, "s3control", operation, botocore_calls.spelled(request))
    client.close()


def posted(session):
    """Browsers' uploads: the fields that botocore signs, as a browser and as `requests` would send them."""
    for version in ("s3v4", "s3"):
        for place in ("us-west-2", "localhost"):
            client = botocore_calls.client_at(session, "s3", place, signature_version=version)
            for fields in ({}, {"acl": "public-read", "Content-Type": "text/plain"}, {"x-amz-meta-a": "b", "success_action_status": "201"}):
                post = client.generate_presigned_post("my-bucket", "reports/${filename}", Fields=fields)
                request = {"method": "POST", "url": post["url"], **multipart(post["fields"])}
                yield botocore_calls.Call("rest-xml", f"POST policy {version}", "s3", "PutObject", request)
            client.close()


def multipart(fields):
    boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a b.txt"\r\nContent-Type: text/plain\r\n\r\ncontent\r\n--{boundary}--\r\n'
    body = ("".join(parts) + file).encode()
    return {"headers": [["Content-Type", f"multipart/form-data; boundary={boundary}"]], "body_base64": base64.b64encode(body).decode()}
