use super::*;
use crate::action::{Access, Trait};

fn named(id: &str) -> &'static Service {
    let number = built_in().services.iter().position(|it| it.id == id).unwrap();
    built_in().service(number.try_into().unwrap()).unwrap()
}

#[test]
fn the_whole_table_reads() {
    assert_eq!(built_in().sources[0], "botocore 1.44.5");
    assert!(built_in().services.len() > 430);
    let mut operations = 0;
    for number in 0..built_in().services.len() {
        operations += built_in().service(number.try_into().unwrap()).unwrap().operations.len();
    }
    assert!(operations > 19_000, "{operations}");
    assert!(built_in().action_names().len() > 18_000);
    assert!(built_in().action_names().contains(&"aws:iam:CreateAccessKey"));
}

#[test]
fn names_are_sorted_and_unique() {
    let names = built_in().action_names();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn rights_come_from_the_strictest_source() {
    let create = named("iam").operation("CreateAccessKey").unwrap();
    assert_eq!(create.access(), Access::Permissions);
    assert!(create.traits.contains(Trait::Privilege) && create.traits.contains(Trait::Credential));
    assert_eq!(named("s3").operation("ListObjectsV2").unwrap().row.iam_actions, ["s3:ListBucket"]);
    assert_eq!(named("s3").operation("HeadObject").unwrap().row.iam_actions, ["s3:GetObject"]);
    // The conditional actions have levels of their own.
    let put = named("s3").operation("PutObject").unwrap();
    assert_eq!(put.access(), Access::Write);
    let of_acl = put.conditional_iam.iter().find(|it| it.action == "s3:PutObjectAcl").unwrap();
    assert_eq!(of_acl.access, Access::Permissions);
}

#[test]
fn regions_have_partitions() {
    for (region, id) in [
        ("us-east-1", Some("aws")),
        ("us-gov-west-1", Some("aws-us-gov")),
        ("cn-north-1", Some("aws-cn")),
        ("zz-central-9", Some("aws")),
        ("us-gov-middle-9", Some("aws-us-gov")),
        ("evil.example", None),
        ("us-east-1.evil", None),
        ("", None),
        ("us-east", None),
        ("us-east-1/x", None),
    ] {
        assert_eq!(built_in().partition_of(region).map(|it| it.id), id, "{region}");
    }
}
