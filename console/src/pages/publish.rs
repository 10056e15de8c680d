//! Actions that publish a revision, each with its dry run.

use axum::Extension;
use axum::extract::{Path, RawQuery};
use bakery::graft::Resolution;
use bakery::history::Revision;
use bakery::publish::Publisher;
use wire::manifest::{ProfileName, RevisionName};

use super::Answer;
use super::action::{Action, Field, page};
use super::compare::named;
use crate::accounts::Role;
use crate::problem::{Problem, Result};
use crate::text::query_text;
use crate::web::{Form, Visitor, with_notice};

/// The request of a person: the verb and its values.
struct PublishRequest {
    verb: String,
    /// The values, by name.
    values: Vec<(&'static str, String)>,
}

/// Names of values.
const VALUES: [&str; 8] = [
    "to",
    "name",
    "onto",
    "resolution",
    "tag",
    "cmdline",
    "profile",
    "from",
];

impl PublishRequest {
    fn of(verb: &str, value: impl Fn(&str) -> String) -> PublishRequest {
        PublishRequest {
            verb: verb.to_owned(),
            values: VALUES.map(|name| (name, value(name))).to_vec(),
        }
    }

    fn get(&self, key: &str) -> &str {
        let found = self.values.iter().find(|(name, _)| *name == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Sets a value that the person left out.
    fn propose(&mut self, key: &str, value: String) {
        let found = self
            .values
            .iter_mut()
            .find(|(name, own)| *name == key && own.is_empty());
        if let Some(found) = found {
            found.1 = value;
        }
    }

    fn to(&self) -> Result<RevisionName> {
        named(self.get("to"))
    }

    fn name(&self, key: &str) -> Result<ProfileName> {
        let text = self.get(key);
        text.parse()
            .map_err(|error| Problem::bad(format!("“{text}”: {error}")))
    }

    fn resolution(&self) -> Resolution {
        match self.get("resolution") {
            "ours" => Resolution::Ours,
            "theirs" => Resolution::Theirs,
            _ => Resolution::Refuse,
        }
    }

    /// The text of the action: the line of the audit log, and the message of the revision.
    fn words(&self) -> String {
        let (to, name, onto) = (self.get("to"), self.get("name"), self.get("onto"));
        match self.verb.as_str() {
            "rollback" => format!("roll back to {to}"),
            "revert" => format!("revert {to}"),
            "cherry-pick" => format!("cherry-pick {to} onto {onto}"),
            "rebase" => format!("rebase {name}"),
            "parameters" => format!("kernel parameters of {name}: {}", self.get("cmdline")),
            "profile" => format!(
                "add the profile {} of {}",
                self.get("profile"),
                self.get("from")
            ),
            "tag" => format!("tag {to} {}", self.get("tag")),
            "untag" => format!("delete the tag {} of {name}", self.get("tag")),
            other => other.to_owned(),
        }
    }

    /// The same action as a command.
    fn command(&self) -> String {
        let (to, name, onto) = (self.get("to"), self.get("name"), self.get("onto"));
        let resolution = match self.resolution() {
            Resolution::Ours => " --ours",
            Resolution::Theirs => " --theirs",
            _ => "",
        };
        match self.verb.as_str() {
            "rollback" => format!("bakery rollback {to}"),
            "revert" => format!("bakery revert {to}{resolution}"),
            "cherry-pick" => format!("bakery cherry-pick {to} --onto {onto}{resolution}"),
            "rebase" => format!("bakery rebase {name}{resolution}"),
            "parameters" => format!("bakery set {name} --cmdline '…'"),
            "profile" => format!(
                "bakery profile add {} --from {}",
                self.get("profile"),
                self.get("from")
            ),
            "tag" => format!("bakery tag {to} {}", self.get("tag")),
            "untag" => format!("bakery tag {name} {} --delete", self.get("tag")),
            _ => String::new(),
        }
    }

    /// Publishes, or computes what would be published.
    fn publish(
        &self,
        publisher: &Publisher,
        author: &str,
        message: &str,
    ) -> Result<Option<Revision>> {
        let history = publisher.history();
        let resolution = self.resolution();
        let revision = match self.verb.as_str() {
            "rollback" => publisher.rollback(&self.to()?, author, message)?,
            "revert" => publisher.revert(&self.to()?, author, message, resolution)?,
            "cherry-pick" => {
                let onto = self.name("onto")?;
                publisher.cherry_pick(self.get("to"), &onto, author, message, resolution)?
            }
            "rebase" => publisher.rebase(&self.name("name")?, None, author, message, resolution)?,
            "parameters" => publisher.set_parameters(
                &self.name("name")?,
                self.get("cmdline"),
                author,
                message,
            )?,
            "profile" => publisher.add_profile(
                &self.name("profile")?,
                &named(self.get("from"))?,
                author,
                message,
            )?,
            "tag" => {
                history.tag(&self.to()?, self.get("tag"))?;
                return Ok(None);
            }
            "untag" => {
                history.untag(&self.name("name")?, self.get("tag"))?;
                return Ok(None);
            }
            _ => return Err(Problem::absent("there is no such action")),
        };
        Ok(Some(revision))
    }

    /// The page from which the action was chosen.
    fn back(&self) -> String {
        let to = self.to().ok();
        let revision = to.as_ref().and_then(|to| Some((to, to.revision?)));
        if let Some((to, number)) = revision {
            return format!("/systems/{}/{}/{number}", to.name.system, to.name.profile);
        }
        self.name("name")
            .map_or("/".into(), |name| crate::snapshot::page_of(&name))
    }

    /// Title, sentence, and the text of the button, in English.
    fn texts(&self, visitor: &Visitor) -> Option<(String, String)> {
        let l = visitor.language;
        let (title, lead) = match self.verb.as_str() {
            "rollback" => (l.text("Roll back"), l.text("A new revision gets the contents of this one. The history keeps every revision.")),
            "revert" => (l.text("Revert"), l.text("A new revision undoes the changes of this one. Later changes stay.")),
            "cherry-pick" => (l.text("Cherry-pick"), l.text("The changes of this revision are applied to another history.")),
            "rebase" => (l.text("Rebase"), l.text("The profile moves to the newest revision of its base.")),
            "parameters" => (l.text("Kernel parameters"), l.text("A new revision has the same tree and other kernel parameters.")),
            "profile" => (l.text("Add a profile"), l.text("A profile is a variant of a system with a history of its own.")),
            "tag" => (l.text("Tag"), l.text("A tag names a revision and protects it from the garbage collection.")),
            "untag" => (l.text("Delete the tag"), l.text("The revision is no longer protected from the garbage collection.")),
            _ => return None,
        };
        Some((title.to_owned(), lead.to_owned()))
    }
}

/// The page of an action, with its dry run.
pub(crate) async fn ask(
    Extension(visitor): Extension<Visitor>,
    Path(verb): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            visitor.require(Role::Operator)?;
            let request = PublishRequest::of(&verb, |key| query_text(query.as_deref(), key));
            form(visitor, request)
        })
        .await
}

fn form(visitor: &Visitor, mut request: PublishRequest) -> Answer {
    let (title, lead) = request
        .texts(visitor)
        .ok_or_else(|| Problem::absent("there is no such action"))?;
    prefill(visitor, &mut request)?;
    let verb = request.verb.clone();
    let mut action = Action::new(&title, &format!("/do/{verb}"), &request.back());
    action.again = format!("/do/{verb}");
    action.lead = vec![subject(&request), lead];
    action.lead.retain(|line| !line.is_empty());
    action.command = request.command();
    action.hidden = hidden(&request);
    let text = |english| visitor.language.text(english);
    let ready = settings(visitor, &request, &mut action)?;
    if !matches!(verb.as_str(), "tag" | "untag") {
        action
            .fields
            .push(Field::text("message", text("Reason"), ""));
        if ready {
            rehearse(visitor, &request, &mut action);
        }
    }
    page(visitor, action)
}

/// The object of an action.
fn subject(request: &PublishRequest) -> String {
    match request.get("to") {
        "" => request.get("name").to_owned(),
        to => to.to_owned(),
    }
}

/// Present values as the first proposal.
fn prefill(visitor: &Visitor, request: &mut PublishRequest) -> Result<()> {
    match request.verb.as_str() {
        "parameters" => {
            let name = request.name("name")?;
            let head = visitor.app.history()?.require_head(&name)?;
            request.propose("cmdline", head.manifest.cmdline);
        }
        "profile" => {
            let name = request.get("name").to_owned();
            let system = name.split('/').next().unwrap_or_default().to_owned();
            request.propose("from", name);
            request.propose("profile", format!("{system}/"));
        }
        _ => request.propose("resolution", "refuse".into()),
    }
    Ok(())
}

/// Values that are not fields of the form.
fn hidden(request: &PublishRequest) -> Vec<(&'static str, String)> {
    let mut hidden = request.values.clone();
    hidden.retain(|(key, value)| !value.is_empty() && matches!(*key, "to" | "name"));
    hidden
}

/// Adds the fields of a verb; false if a value is missing for a dry run.
fn settings(visitor: &Visitor, request: &PublishRequest, action: &mut Action) -> Result<bool> {
    let text = |english| visitor.language.text(english);
    let value = |key| request.get(key);
    let choices = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(value, text)| ((*value).to_owned(), (*text).to_owned()))
            .collect()
    };
    let conflicts = choices(&[
        ("refuse", text("publish nothing")),
        ("ours", text("keep the side of the target")),
        ("theirs", text("take the side of the change")),
    ]);
    let conflict = || {
        Field::choice(
            "resolution",
            text("If both sides changed a path"),
            value("resolution"),
            conflicts.clone(),
        )
    };
    match request.verb.as_str() {
        "cherry-pick" => {
            let names = visitor.app.history()?.names()?;
            let names = names
                .iter()
                .map(|name| (name.to_string(), name.to_string()));
            action.settings.push(Field::choice(
                "onto",
                text("Onto the history"),
                value("onto"),
                names.collect(),
            ));
            action.settings.push(conflict());
            return Ok(!value("onto").is_empty());
        }
        "revert" | "rebase" => action.settings.push(conflict()),
        "parameters" => {
            action.settings.push(Field::text(
                "cmdline",
                text("Kernel parameters"),
                value("cmdline"),
            ));
        }
        "profile" => {
            action.settings.push(
                Field::text(
                    "profile",
                    text("The new profile: SYSTEM/PROFILE"),
                    value("profile"),
                )
                .required(),
            );
            action.settings.push(
                Field::text("from", text("Made from the revision"), value("from")).required(),
            );
            return Ok(false);
        }
        "tag" => action
            .fields
            .push(Field::text("tag", text("Tag"), value("tag")).required()),
        "untag" => {
            action.is_dangerous = true;
            action.hidden.push(("tag", value("tag").to_owned()));
        }
        _ => {}
    }
    Ok(true)
}

fn rehearse(visitor: &Visitor, request: &PublishRequest, action: &mut Action) {
    let rehearsed = visitor.app.publisher(true).and_then(|publisher| {
        request.publish(&publisher, visitor.name(), "")?;
        Ok(publisher.preview())
    });
    match rehearsed {
        Ok(preview) => action.preview = preview,
        Err(problem) => action.problem = problem.text,
    }
}

/// Does the action.
pub(crate) async fn act(
    Extension(visitor): Extension<Visitor>,
    Path(verb): Path<String>,
    form: Form,
) -> Answer {
    visitor
        .work(move |visitor| {
            let request = PublishRequest::of(&verb, |key| form.get(key).to_owned());
            let (what, why) = (request.words(), form.get("message"));
            let message = match why {
                "" => what.clone(),
                why => format!("{why} ({what})"),
            };
            let published = visitor.act(Role::Operator, &message, || {
                let publisher = visitor.app.publisher(false)?;
                request.publish(&publisher, visitor.name(), &message)
            })?;
            Ok(match published {
                Some(revision) => {
                    let ProfileName { system, profile } = revision.manifest.name();
                    let place = format!("/systems/{system}/{profile}/{}", revision.number());
                    let text =
                        format!("{} {}", visitor.language.text("Published"), revision.name());
                    with_notice(&place, &text)
                }
                None => with_notice(&request.back(), visitor.language.text("Done.")),
            })
        })
        .await
}
