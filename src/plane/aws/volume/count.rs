//! What of an answer counts as an item.

use http::{HeaderMap, header};

use crate::action::Action;
use crate::wire::aws::items::{Items, Path};

/// How the items of an answer are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In its JSON text.
    Json(Path),
    /// It is one: an object, an image, a file.
    One,
    /// They come in frames that are not looked into.
    Frames,
}

/// The operations whose answers hold items; all others hold bytes alone (API references of the services).
fn way(action: &str) -> Option<Way> {
    Some(Way::Json(match action.strip_prefix("aws:")? {
        "athena:GetQueryResults" => &["ResultSet", "Rows", "[]"],
        "cognito-idp:ListUsers" => &["Users", "[]"],
        "dynamodb:BatchExecuteStatement" | "dynamodb:ExecuteTransaction" | "dynamodb:TransactGetItems" => {
            &["Responses", "[]", "Item"]
        }
        "dynamodb:BatchGetItem" => &["Responses", "*", "[]"],
        "dynamodb:ExecuteStatement" | "dynamodb:Query" | "dynamodb:Scan" => &["Items", "[]"],
        "dynamodb:GetItem" => &["Item"],
        "dynamodb:GetRecords" | "kinesis:GetRecords" => &["Records", "[]"],
        "ecr:BatchGetImage" => &["images", "[]"],
        "logs:FilterLogEvents" | "logs:GetLogEvents" => &["events", "[]"],
        "logs:GetQueryResults" => &["results", "[]"],
        "rds-data:BatchExecuteStatement" => &["updateResults", "[]"],
        "rds-data:ExecuteStatement" => &["records", "[]"],
        "redshift-data:GetStatementResult" | "redshift-data:GetStatementResultV2" => &["Records", "[]"],
        "secretsmanager:BatchGetSecretValue" => &["SecretValues", "[]"],
        "secretsmanager:GetSecretValue" => &["ARN"],
        "sqs:ReceiveMessage" => &["Messages", "[]"],
        "ssm:GetParameter" => &["Parameter"],
        "ssm:GetParameters" | "ssm:GetParametersByPath" => &["Parameters", "[]"],
        "timestream:Query" => &["Rows", "[]"],
        "codecommit:GetBlob" | "codecommit:GetFile" | "ebs:GetSnapshotBlock" | "s3:GetObject" => {
            return Some(Way::One);
        }
        "kinesis:SubscribeToShard" | "logs:StartLiveTail" | "s3:SelectObjectContent" => return Some(Way::Frames),
        _ => return None,
    }))
}

/// Counts the items of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Nothing,
    /// One, with its first byte.
    One,
    Json(Items),
    /// It has items, and they cannot be counted.
    Lost,
}

impl Counter {
    /// Items that the answer begins with, at the least.
    pub(super) fn first(actions: &[Action]) -> u64 {
        u64::from(actions.iter().any(|it| way(&it.name).is_some()))
    }

    pub(super) fn new(actions: &[Action], headers: &HeaderMap) -> Self {
        let text = |name: header::HeaderName| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let is_json = text(header::CONTENT_TYPE).to_ascii_lowercase().contains("json")
            && matches!(text(header::CONTENT_ENCODING), "" | "identity");
        match actions.iter().find_map(|it| way(&it.name)) {
            None => Self::Nothing,
            Some(Way::One) => Self::One,
            Some(Way::Json(path)) if is_json => Self::Json(Items::new(path)),
            Some(Way::Json(_) | Way::Frames) => Self::Lost,
        }
    }

    /// Goes on over `bytes`, up to the item after `most` of them: bytes and items.
    pub(super) fn pass(&mut self, bytes: &[u8], most: u64) -> (usize, u64) {
        match self {
            Self::Nothing | Self::Lost => (bytes.len(), 0),
            Self::One if bytes.is_empty() || most == 0 => (0, 0),
            Self::One => {
                *self = Self::Nothing;
                (bytes.len(), 1)
            }
            Self::Json(items) => {
                let passed = items.pass(bytes, most);
                if items.is_lost() {
                    *self = Self::Lost;
                }
                passed
            }
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::aws::built_in;

    /// A misspelled name would count nothing.
    #[test]
    fn what_is_counted_exists() {
        let text = include_str!("count.rs");
        let names = text.split('"').filter(|it| {
            it.split_once(':').is_some_and(|(service, operation)| {
                service.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
                    && operation.starts_with(|c: char| c.is_ascii_uppercase())
                    && operation.bytes().all(|b| b.is_ascii_alphanumeric())
            })
        });
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 25, "{names:?}");
        for name in names {
            assert!(way(&format!("aws:{name}")).is_some(), "{name}");
            assert!(built_in().operation_named(&format!("aws:{name}")).is_some(), "{name} is no action");
        }
    }
}
