//! Who clicked: a member of the workspace, and the person of the configuration.

use serde_json::Value;

use super::Slack;
use super::web::CallError;
use crate::id::PersonId;
use crate::people::{Account, People};

impl Slack {
    /// The person behind an interaction and the account that vouches for it. Slack is asked each time: whoever left or
    /// became a guest decides nothing any more. To be in the channel, and what a member is called, counts for nothing.
    ///
    /// # Errors
    /// What to tell whoever clicked.
    pub(super) async fn person(&self, payload: &Value, people: &People) -> Result<(PersonId, String), String> {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str);
        let user = text("/user/id").unwrap_or_default();
        let is_ours = match self.is_organization() {
            true => text("/enterprise/id") == Some(&self.workspace),
            false => {
                text("/team/id") == Some(&self.workspace)
                    && text("/user/team_id").is_none_or(|team| team == self.workspace)
            }
        };
        if !is_ours || user.is_empty() {
            return Err(format!("only members of {} decide here", self.workspace));
        }
        let info =
            self.web.user(user).await.map_err(|error: CallError| format!("who you are is not known: {error}"))?;
        if let Err(why) = check_member(&info, user, &self.workspace, self.is_organization()) {
            return Err(why.to_owned());
        }
        let account = Account::Slack { team: self.workspace.clone(), user: user.to_owned() };
        let by_email = || {
            let is_confirmed = info.get("is_email_confirmed") == Some(&Value::Bool(true));
            let email = info.pointer("/profile/email").and_then(Value::as_str);
            people.of_email(email.filter(|_| self.map_by_email && is_confirmed)?)
        };
        let credential = format!("{}/{user}", self.workspace);
        match people.holder(&account).or_else(by_email) {
            Some(person) => Ok((person.id.clone(), credential)),
            None => Err(format!("{credential} belongs to no person of countersign's configuration (`people`)")),
        }
    }

    fn is_organization(&self) -> bool {
        self.workspace.starts_with('E')
    }
}

/// Whether `users.info` says that somebody is a full member, a human, and of that workspace or organization. A field
/// that is missing counts against them: <https://docs.slack.dev/reference/objects/user-object>.
fn check_member(info: &Value, user: &str, workspace: &str, is_organization: bool) -> Result<(), &'static str> {
    let is = |name: &str| info.get(name).and_then(Value::as_bool);
    let home = if is_organization { "/enterprise_user/enterprise_id" } else { "/team_id" };
    let is_here = info.pointer(home).and_then(Value::as_str) == Some(workspace);
    if info.get("id").and_then(Value::as_str) != Some(user) || !is_here || is("is_stranger") == Some(true) {
        return Err("you are a member of another workspace");
    }
    if is("deleted") != Some(false) {
        return Err("this account is deactivated");
    }
    if is("is_bot") != Some(false) || user == "USLACKBOT" {
        return Err("an app decides nothing");
    }
    if is("is_restricted") != Some(false) || is("is_ultra_restricted") != Some(false) {
        return Err("guests decide nothing");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
