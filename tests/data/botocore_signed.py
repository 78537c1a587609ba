"""Writes botocore-signed.jsonl: requests as unmodified botocore signs and sends them, one a line.

Run it with the botocore of tests/requirements.txt; nothing is sent anywhere.
"""

import base64
import io
import json
import sys

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

KEY = ("AKCSEXAMPLEEXAMPLE22", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"
ODD_KEY = "a b/ü~+%2F//../c:d@e,f;g=h&i$j!k'(l)*m"


class Answer(io.BytesIO):
    def stream(self, **_):
        return iter((b"",))


def record(name, request):
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    headers = [[k, v.decode() if isinstance(v, bytes) else v] for k, v in request.headers.items()
               if k != "User-Agent"]
    line = {"name": name, "method": request.method, "url": request.url, "headers": headers,
            "body_base64": base64.b64encode(body).decode()}
    print(json.dumps(line))


def client(service, endpoint, **options):
    made = boto3.client(service, region_name="us-east-1", aws_access_key_id=KEY[0], aws_secret_access_key=KEY[1],
                        endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}, **options))

    def before_send(request, **_):
        record(f"{service} {made.meta.config.s3} {endpoint}", request)
        return AWSResponse(request.url, 400, {}, Answer())

    made.meta.events.register("before-send", before_send)
    return made


def call(made, operation, **arguments):
    try:
        getattr(made, operation)(**arguments)
    except Exception as error:  # the answer is a stub that no parser likes
        if "400" not in str(error) and "parse" not in str(error).lower():
            print(operation, error, file=sys.stderr)


for endpoint in (None, "http://127.0.0.1:8700", "http://gate.example:8700", "https://gate.example"):
    call(client("iam", endpoint), "create_access_key", UserName="bob")
    call(client("sts", endpoint), "get_caller_identity")
    call(client("ec2", endpoint), "describe_instances", InstanceIds=["i-1"])
    call(client("dynamodb", endpoint), "get_item", TableName="t", Key={"id": {"S": "ü"}})
    call(client("lambda", endpoint), "invoke", FunctionName=ARN, Payload=b"{}")
    call(client("lambda", endpoint), "list_functions", Marker="a b/c+d=", MaxItems=5)
    call(client("sqs", endpoint), "send_message", QueueUrl="https://sqs.us-east-1.amazonaws.com/1/q", MessageBody="m")
    call(client("secretsmanager", endpoint), "get_secret_value", SecretId="s")
    call(client("cloudwatch", endpoint), "put_metric_data", Namespace="n", MetricData=[{"MetricName": "m" * 300}] * 60)
    call(client("bedrock-runtime", endpoint), "invoke_model", modelId="anthropic.claude-v2:1", body=b"{}")
    call(client("route53", endpoint), "list_resource_record_sets", HostedZoneId="Z1", StartRecordName="a.b")
    for style in ("path", "virtual"):
        s3 = client("s3", endpoint, s3={"addressing_style": style}, signature_version="s3v4")
        call(s3, "put_object", Bucket="bucket", Key=ODD_KEY, Body=b"hello", Metadata={"note": "two  spaces"})
        call(s3, "put_object", Bucket="bucket", Key="stream", Body=io.BytesIO(b"hello"))
        call(s3, "get_object", Bucket="bucket", Key=ODD_KEY, Range="bytes=0-1")
        call(s3, "list_objects_v2", Bucket="bucket", Prefix="a/b c", Delimiter="/", StartAfter="~+")
        call(s3, "get_bucket_policy", Bucket="bucket")
        call(s3, "delete_objects", Bucket="bucket", Delete={"Objects": [{"Key": ODD_KEY}]})
        call(s3, "copy_object", Bucket="bucket", Key="k", CopySource={"Bucket": "b", "Key": ODD_KEY})
        call(s3, "upload_part", Bucket="bucket", Key="k", PartNumber=1, UploadId="u+/=", Body=b"x")
        for operation, arguments in (("get_object", {"VersionId": "v"}), ("put_object", {"ACL": "private"})):
            url = s3.generate_presigned_url(operation, {"Bucket": "bucket", "Key": ODD_KEY, **arguments})
            signed = url.split("SignedHeaders=")[1].split("&")[0]
            headers = [["x-amz-acl", "private"]] if "x-amz-acl" in signed else []
            line = {"name": f"presigned {operation} {style}", "method": operation[:3].upper(), "url": url,
                    "headers": headers, "body_base64": ""}
            print(json.dumps(line))
