//! What an approver wrote is what the narrowed request says.

use proptest::prelude::*;

use super::*;

/// Narrows a request to `parameters` and names the result.
fn narrowed(request: &Request, parameters: &Value) -> Result<Action, String> {
    let parameters = parameters.as_object().unwrap();
    let (head, body) =
        narrow(&request.head().unwrap(), &request.body, &front(), parameters).map_err(|it| it.to_string())?;
    assert_eq!(head.header("content-length").unwrap(), body.len().to_string());
    let classified = classify(&head, Body::Whole(&body), &front());
    assert_eq!(classified.refused, None);
    let action = classified.actions.into_iter().next().unwrap();
    assert_eq!(action.unknown, None, "{}", String::from_utf8_lossy(&body));
    Ok(action)
}

fn run_instances() -> Request {
    request("POST http://127.0.0.1/", "us-west-2/ec2").form(
        "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=9&InstanceType=x1.32xlarge&SecurityGroupId.1=a\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=v",
    )
}

#[test]
fn parameters_are_put_in_whatever_the_protocol() {
    let mut smaller = Value::Object(run_instances().action().parameters);
    smaller["MaxCount"] = json!(1);
    smaller["InstanceType"] = json!("t3.nano");
    smaller["SecurityGroupIds"] = json!(["b", "c & d=e"]);
    let action = narrowed(&run_instances(), &smaller).unwrap();
    assert_eq!(action.name, "aws:ec2:RunInstances");
    assert_eq!(Value::Object(action.parameters), smaller);

    let query = request("GET http://127.0.0.1/?Action=DeleteUser&Version=2010-05-08&UserName=root", "us-east-1/iam");
    assert_eq!(narrowed(&query, &json!({"UserName": "bob"})).unwrap().parameters["UserName"], "bob");

    let scan = request("POST http://127.0.0.1/", "us-west-2/dynamodb")
        .target("DynamoDB_20120810.Scan", r#"{"TableName":"t"}"#);
    let limited = json!({"TableName": "t", "Limit": 10, "ExpressionAttributeValues": {":a": {"S": "x"}}});
    assert_eq!(Value::Object(narrowed(&scan, &limited).unwrap().parameters), limited);

    let update = request("PUT http://127.0.0.1/2015-03-31/functions/f/configuration", "us-west-2/lambda")
        .header("content-type", "application/json")
        .body(r#"{"MemorySize":10240}"#);
    assert_eq!(
        narrowed(&update, &json!({"FunctionName": "f", "MemorySize": 128})).unwrap().parameters,
        *json!({"FunctionName": "f", "MemorySize": 128}).as_object().unwrap()
    );
}

#[test]
fn what_cannot_be_put_on_the_wire_is_said() {
    let update = request("PUT http://127.0.0.1/2015-03-31/functions/f/configuration", "us-west-2/lambda")
        .header("content-type", "application/json")
        .body(r#"{"MemorySize":10240}"#);
    let error = |request: &Request, parameters: Value| narrowed(request, &parameters).unwrap_err();
    assert!(error(&update, json!({"FunctionName": "g", "MemorySize": 1})).contains("`FunctionName`"));
    assert!(error(&run_instances(), json!({"Future": 1})).contains("`Future`"));
    assert!(error(&run_instances(), json!({"MaxCount": "one"})).contains("`MaxCount`"));
    let put = request("PUT http://127.0.0.1/b-1?acl", "us-west-2/s3");
    assert!(error(&put, json!({"Bucket": "b-1"})).contains("XML"));
    let data = request("POST http://127.0.0.1/2015-03-31/functions/f/invocations", "us-west-2/lambda").body("{}");
    assert!(error(&data, json!({"FunctionName": "f"})).contains("data"));
}

proptest! {
    #[test]
    fn forms_read_back_as_they_were_written(
        names in proptest::collection::vec("[ -~é]{1,8}", 1..4),
        count in 1..9_i64,
        flag: bool,
        tags in proptest::collection::btree_map("[a-z]{1,4}", "[ -~]{0,6}", 1..3),
    ) {
        let parameters = json!({
            "MinCount": count, "MaxCount": count, "EbsOptimized": flag, "SecurityGroupIds": names,
            "TagSpecifications": [{"Tags": tags.iter().map(|(k, v)| json!({"Key": k, "Value": v})).collect::<Vec<_>>()}],
        });
        prop_assert_eq!(Value::Object(narrowed(&run_instances(), &parameters).unwrap().parameters), parameters);
    }

    #[test]
    fn maps_and_wrapped_lists_read_back(entries in proptest::collection::btree_map("[a-z.]{1,6}", "[ -~]{0,6}", 1..4), members in proptest::collection::vec("[ -~]{1,5}", 0..3)) {
        let create = request("POST http://127.0.0.1/", "us-west-2/sns").form("Action=CreateTopic&Version=2010-03-31&Name=t");
        let parameters = json!({"Name": "t", "Attributes": entries});
        prop_assert_eq!(Value::Object(narrowed(&create, &parameters).unwrap().parameters), parameters);
        let list = request("POST http://127.0.0.1/", "us-east-1/iam")
            .form("Action=UntagUser&Version=2010-05-08&UserName=u&TagKeys.member.1=x");
        let parameters = json!({"UserName": "u", "TagKeys": members});
        prop_assert_eq!(Value::Object(narrowed(&list, &parameters).unwrap().parameters), parameters);
    }

    #[test]
    fn json_reads_back_as_it_was_written(text in "\\PC{0,8}", number: i32, items in proptest::collection::vec("\\PC{0,4}", 0..3)) {
        let put = request("POST http://127.0.0.1/", "us-west-2/dynamodb").target("DynamoDB_20120810.PutItem", r#"{"TableName":"t","Item":{}}"#);
        let parameters = json!({"TableName": text, "Item": {"a": {"SS": items}, "n": {"N": number.to_string()}}});
        prop_assert_eq!(Value::Object(narrowed(&put, &parameters).unwrap().parameters), parameters);
    }
}
