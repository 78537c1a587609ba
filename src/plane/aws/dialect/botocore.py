# Reads rendered errors with botocore's own parsers, as a client would, down to ClientError.
import json
import sys

import botocore.exceptions
import botocore.parsers
import botocore.session

PARSERS = {
    "Ec2": ("ec2", "ec2", "DescribeInstances"),
    "Json": ("json", "dynamodb", "DeleteTable"),
    "Query": ("query", "iam", "CreateUser"),
    "RestJson": ("rest-json", "lambda", "CreateFunction"),
    "RestXml": ("rest-xml", "route53", "CreateHostedZone"),
    "S3": ("rest-xml", "s3", "PutObject"),
}

session = botocore.session.get_session()
factory = botocore.parsers.ResponseParserFactory()
cases = json.load(open(sys.argv[1]))
for case in cases:
    protocol, service, operation = PARSERS[case["shape"]]
    model = session.get_service_model(service)
    shape = model.operation_model(operation).output_shape
    parsed = factory.create_parser(protocol).parse(
        {"status_code": case["status"], "headers": case["headers"], "body": case["body"].encode()}, shape
    )
    error = botocore.exceptions.ClientError(parsed, operation).response
    assert error["Error"]["Code"] == case["code"], (case, error)
    assert error["Error"]["Message"] == case["message"], (case, error)
    assert error["ResponseMetadata"]["RequestId"] == "a_1", (case, error)
print(len(cases), "cases")
