//! The requests that are sent, signed as SDKs sign them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Context, SHA256};

use super::load::{Request, ZEROES};
use super::subject::Subject;
use super::support::sign::{Draft, Keys};

/// Requests of one round.
pub(crate) type Batch = Arc<Vec<Request>>;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// A small S3 GetObject.
    Get,
    /// A DynamoDB PutItem of 1 KB.
    Post,
    /// An S3 DeleteObject, which is never answered.
    Delete,
    /// An IAM CreateAccessKey as boto3 sends it, which is never answered.
    CreateKey,
    /// An S3 GetObject of that many bytes.
    Download(usize),
    /// An S3 PutObject of that many bytes whose hash is signed.
    Upload(usize),
}

impl Shape {
    /// Fresh requests, each with its own signature: one that was seen does not run twice. Proxies
    /// that do not look at signatures get the same ones again, which saves minutes of signing.
    pub(crate) fn requests(self, count: usize, subject: &Subject) -> Batch {
        static UNREAD: Mutex<BTreeMap<(Shape, usize), Batch>> = Mutex::new(BTreeMap::new());
        match &subject.keys {
            Some(keys) => self.signed(count, keys),
            None => {
                let nobody = Keys { id: "AKIABENCHBENCHBENCH0".to_owned(), secret: "bench".to_owned() };
                let mut unread = UNREAD.lock().unwrap();
                Arc::clone(unread.entry((self, count)).or_insert_with(|| self.signed(count, &nobody)))
            }
        }
    }

    fn signed(self, count: usize, keys: &Keys) -> Batch {
        // Unique in the whole run: the same request in the same second would have the same signature.
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let first = CALLS.fetch_add(count, Ordering::Relaxed);
        let sha256 = if let Self::Upload(bytes) = self { Some(hex(&zeroes_sha256(bytes))) } else { None };
        let request = |index| {
            let draft = self.draft(index).retry_id(&format!("{index:08}-0000-4000-8000-000000000000"));
            match (self, &sha256) {
                (Self::Upload(bytes), Some(hash)) => {
                    Request { bytes: draft.signed_head(keys, bytes as u64, Some(hash)), zeroes: bytes }
                }
                _ => Request { bytes: draft.signed(keys), zeroes: 0 },
            }
        };
        Arc::new((first..first + count).map(request).collect())
    }

    fn draft(self, index: usize) -> Draft {
        let s3 = |method, target: &str| Draft::new("s3", "s3.us-east-1.amazonaws.com", method, target);
        match self {
            Self::Get => s3("GET", "/bench/object"),
            Self::Post => {
                let text = "x".repeat(940);
                let body =
                    format!(r#"{{"TableName":"bench","Item":{{"id":{{"S":"{index:08}"}},"text":{{"S":"{text}"}}}}}}"#);
                Draft::json("dynamodb", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.PutItem", &body)
            }
            Self::Delete => s3("DELETE", &format!("/hang/object-{index}")),
            Self::CreateKey => {
                let form = format!("Action=CreateAccessKey&Version=2010-05-08&UserName=deploy-{index:08}");
                Draft::query("iam", "iam.amazonaws.com", &form)
                    .header("accept-encoding", "identity")
                    .header("amz-sdk-request", "attempt=1")
                    .header("user-agent", BOTO3)
            }
            Self::Download(bytes) => s3("GET", &format!("/zeroes/{bytes}")),
            Self::Upload(_) => s3("PUT", &format!("/bench/object-{index}")),
        }
    }
}

/// The hash of that many zero bytes.
pub(crate) fn zeroes_sha256(mut bytes: usize) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    while bytes > 0 {
        let piece = &ZEROES[..ZEROES.len().min(bytes)];
        hash.update(piece);
        bytes -= piece.len();
    }
    hash.finish().as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const BOTO3: &str = "Boto3/1.40.1 md/Botocore#1.40.1 ua/2.1 os/linux#6.1.0 md/arch#x86_64 lang/python#3.12.3 \
md/pyimpl#CPython m/Z,D,b cfg/retry-mode#standard Botocore/1.40.1";
