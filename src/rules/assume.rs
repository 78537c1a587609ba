//! The role that a request is made in: asked for at STS for that request alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::yaml::{Diagnostic, Fields, Node, Problems};

/// How a request is signed in a role instead of with the upstream's own credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assume {
    /// ARN of the role.
    pub(crate) role: String,
    /// What the role's trust policy may ask for (`sts:ExternalId`).
    pub(crate) external_id: Option<String>,
    /// How far the role's own rights are cut for a request.
    pub(crate) cut: Cut,
    /// IAM actions that a session may use besides, on any resource: what AWS asks for behind a call, `kms:Decrypt`.
    pub(crate) also: Vec<String>,
    /// How long an equal request of the same agent may use the same session; `None`: never.
    pub(crate) cache: Option<Duration>,
}

/// What a session may do of what its role may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The IAM actions of the request, on its resources.
    #[default]
    Resources,
    /// The IAM actions of the request, on any resource: for calls that need more resources than they name.
    Actions,
}

impl Cut {
    pub(crate) const ALL: [(&'static str, Self); 2] = [("resources", Self::Resources), ("actions", Self::Actions)];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Actions => "actions",
        }
    }
}

/// STS gives no session that lives shorter, so that none is kept longer either.
pub(crate) const LONGEST_CACHE: Duration = Duration::from_secs(15 * 60);

impl Assume {
    /// Reads the `assume` of a rule.
    pub(super) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::read(node, "`assume`", problems)?;
        let role = fields.required("role").and_then(|node| role(node, problems));
        let external_id = fields.text("external_id").map(str::to_owned);
        let cut = fields.typed("cut", |node, problems| node.one_of(problems, "cut", &Cut::ALL));
        let also = fields.typed("also", |node, problems| node.list_of(problems, iam_action));
        let cache = fields.typed("cache", cache);
        fields.finish();
        let (cut, also) = (cut.unwrap_or_default(), also.unwrap_or_default());
        Some(Self { role: role?, external_id, cut, also, cache })
    }

    pub(super) fn canonical(&self) -> Value {
        json!({
            "role": self.role,
            "external_id": self.external_id,
            "cut": self.cut.as_str(),
            "also": self.also,
            "cache_ms": self.cache.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// The account that the role is in.
    pub(crate) fn account(&self) -> &str {
        self.role.split(':').nth(4).unwrap_or_default()
    }
}

/// The ARN of a role, with or without a path.
pub(crate) fn role(node: &Node, problems: &Problems) -> Option<String> {
    let text = node.text(problems)?;
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_role = matches!(parts.as_slice(), ["arn", partition, "iam", "", account, name]
        if partition.starts_with("aws")
            && account.len() == 12
            && account.bytes().all(|it| it.is_ascii_digit())
            && name.strip_prefix("role/").is_some_and(|name| !name.is_empty() && name.is_ascii()));
    if is_role {
        return Some(text.to_owned());
    }
    problems.push(
        Diagnostic::error(problems.source(), node.span, format!("{} is no ARN of a role", node.noun()))
            .help("`arn:aws:iam::123456789012:role/agents`"),
    );
    None
}

/// An IAM action, `kms:Decrypt`. A pattern would take back what the cut is for.
pub(crate) fn iam_action(node: &Node, problems: &Problems) -> Option<String> {
    let text = node.text(problems)?;
    let is_action = text.split_once(':').is_some_and(|(service, verb)| {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
        is_word(service) && is_word(verb)
    });
    if is_action {
        return Some(text.to_owned());
    }
    problems.push(
        Diagnostic::error(problems.source(), node.span, format!("{} is no IAM action", node.noun()))
            .help("`kms:Decrypt`, without wildcards"),
    );
    None
}

/// How long a session may be used again.
pub(crate) fn cache(node: &Node, problems: &Problems) -> Option<Duration> {
    let time = node.duration(problems)?;
    if time <= LONGEST_CACHE {
        return Some(time);
    }
    problems.error(node.span, "a session is kept for at most 15m: it lives no longer");
    None
}
