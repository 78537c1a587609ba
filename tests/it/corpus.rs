//! Every operation of the services most in use, asked for by botocore itself, gets its name. The
//! whole corpus is `tests/corpus/aws.py` without arguments.

use std::process::Command;

use crate::support::{python, root};

const PLACES: &str = "us-west-2,override,china,new-region";

#[test]
fn botocore_requests_get_their_names() {
    let services = "cloudformation,cloudtrail,cloudwatch,dynamodb,ec2,iam,kms,lambda,logs,rds,s3,s3control,secretsmanager,ses,sesv2,sns,sqs,ssm,sts";
    let output = Command::new(python())
        .arg(root().join("tests/corpus/aws.py"))
        .args([
            "--countersign",
            env!("CARGO_BIN_EXE_countersign"),
            "--services",
            services,
            "--rounds",
            "2",
            "--places",
            PLACES,
        ])
        .output()
        .unwrap();
    let score = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{score}\n{}", String::from_utf8_lossy(&output.stderr));
}
