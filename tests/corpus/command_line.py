"""Requests as the AWS CLI makes them, caught by a server of our own that answers every one with an error."""

import base64
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import botocore_calls

# What is typed, and the operations of which one is asked first.
COMMANDS = {
    "s3 ls": "s3 ListBuckets",
    "s3 ls s3://my-bucket/a/": "s3 ListObjectsV2",
    "s3 mb s3://my-bucket": "s3 CreateBucket",
    "s3 rb s3://my-bucket": "s3 DeleteBucket",
    "s3 cp FILE s3://my-bucket/key": "s3 PutObject",
    "s3 cp s3://my-bucket/key -": "s3 HeadObject",
    "s3 cp s3://my-bucket/key s3://other/key": "s3 HeadObject",
    "s3 rm s3://my-bucket/key": "s3 DeleteObject",
    "s3 rm --recursive s3://my-bucket/": "s3 ListObjectsV2",
    "s3 website s3://my-bucket --index-document i.html": "s3 PutBucketWebsite",
    "s3api put-bucket-policy --bucket my-bucket --policy {}": "s3 PutBucketPolicy",
    "s3api put-object-acl --bucket my-bucket --key k --acl public-read": "s3 PutObjectAcl",
    "s3api copy-object --bucket my-bucket --key k --copy-source other/k": "s3 CopyObject",
    "s3api get-object-tagging --bucket my-bucket --key k": "s3 GetObjectTagging",
    "s3control get-public-access-block --account-id 123456789012": "s3control GetPublicAccessBlock",
    "iam create-access-key --user-name bob": "iam CreateAccessKey",
    "iam attach-user-policy --user-name bob --policy-arn arn:aws:iam::aws:policy/AdministratorAccess": "iam AttachUserPolicy",
    "sts get-caller-identity": "sts GetCallerIdentity",
    "sts assume-role --role-arn arn:aws:iam::123456789012:role/r --role-session-name s": "sts AssumeRole",
    "ec2 describe-instances --filters Name=tag:a,Values=b": "ec2 DescribeInstances",
    "ec2 run-instances --image-id ami-12345678 --count 1 --instance-type t3.micro": "ec2 RunInstances",
    "ec2 authorize-security-group-ingress --group-id sg-1 --protocol tcp --port 22 --cidr 0.0.0.0/0": "ec2 AuthorizeSecurityGroupIngress",
    "ec2 terminate-instances --instance-ids i-1 i-2": "ec2 TerminateInstances",
    "dynamodb put-item --table-name t --item {\"id\":{\"S\":\"1\"}}": "dynamodb PutItem",
    "lambda invoke --function-name f FILE.out": "lambda Invoke",
    "lambda list-functions": "lambda ListFunctions",
    "lambda update-function-code --function-name f --zip-file fileb://FILE": "lambda UpdateFunctionCode",
    "cloudformation deploy --stack-name s --template-file TEMPLATE": "cloudformation DescribeStacks",
    "cloudformation create-stack --stack-name s --template-body file://TEMPLATE": "cloudformation CreateStack",
    "cloudtrail stop-logging --name t": "cloudtrail StopLogging",
    "cloudwatch put-metric-data --namespace n --metric-name m --value 1": "cloudwatch PutMetricData",
    "cloudwatch list-metrics": "cloudwatch ListMetrics",
    "cloudfront create-invalidation --distribution-id D --paths /*": "cloudfront CreateInvalidation",
    "route53 list-hosted-zones": "route53 ListHostedZones",
    "sns publish --topic-arn arn:aws:sns:us-west-2:123456789012:t --message m": "sns Publish",
    "sqs send-message --queue-url https://sqs.us-west-2.amazonaws.com/123456789012/jobs --message-body m": "sqs SendMessage",
    "ssm get-parameter --name /a/b --with-decryption": "ssm GetParameter",
    "ssm send-command --document-name AWS-RunShellScript --targets Key=tag:a,Values=b": "ssm SendCommand",
    "secretsmanager get-secret-value --secret-id a/b": "secretsmanager GetSecretValue",
    "kms decrypt --ciphertext-blob YQ== --key-id alias/a": "kms Decrypt",
    "eks update-kubeconfig --name c --dry-run": "eks DescribeCluster",
    "ecr get-login-password": "ecr GetAuthorizationToken",
    "logs start-query --log-group-name g --start-time 1 --end-time 2 --query-string fields": "logs StartQuery",
    "rds modify-db-instance --db-instance-identifier d --publicly-accessible": "rds ModifyDBInstance",
    "organizations list-accounts": "organizations ListAccounts",
    "opensearch list-domain-names": "opensearch ListDomainNames",
    "sesv2 get-account": "sesv2 GetAccount",
    "apigatewayv2 get-apis": "apigatewayv2 GetApis",
    "emr list-clusters": "emr ListClusters",
    "stepfunctions list-state-machines": "stepfunctions ListStateMachines",
}


def calls(services, not_made):
    caught = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            if "100-continue" in self.headers.get("Expect", ""):
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            host = self.headers["Host"]
            caught.append({"method": self.command, "url": f"http://{host}{self.path}", "headers": [list(it) for it in self.headers.items()],
                           "body_base64": base64.b64encode(body).decode()})
            self.send_response(400)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        for typed, expected in COMMANDS.items():
            service, operation = expected.split()
            if service not in services:
                continue
            caught.clear()
            output = run(typed, server.server_port, pathlib.Path(scratch))
            if caught:
                yield botocore_calls.Call("as typed", "command line", service, operation, dict(caught[0]))
            else:
                not_made[f"aws {typed}: {output.strip()[-110:]}"] += 1
    server.shutdown()


def run(typed, port, scratch):
    (scratch / "file").write_text("content")
    (scratch / "template").write_text('{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}')
    words = [word.replace("FILE", str(scratch / "file")).replace("TEMPLATE", str(scratch / "template")) for word in typed.split(" ")]
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(scratch), "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-west-2", "AWS_ENDPOINT_URL": f"http://localhost:{port}", "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "",
    }
    command = [str(pathlib.Path(sys.executable).parent / "aws"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL).stderr
