//! The person behind a request, and the frame of the pages for this person.

use std::net::IpAddr;
use std::sync::Arc;

use crate::accounts::Role;
use crate::catalog::Language;
use crate::problem::{Problem, Result};
use crate::sessions::Member;
use crate::state::App;

/// The person behind a request.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// The console.
    pub(crate) app: Arc<App>,
    /// The logged-in member and the role; nobody on the pages before the log-in.
    pub(crate) member: Option<(Member, Role)>,
    /// The language of pages.
    pub(crate) language: Language,
    /// `light`, `dark`, or empty: as the system.
    pub(crate) theme: &'static str,
    /// The address of the browser.
    pub(crate) address: IpAddr,
    /// Path and query of the request.
    pub(crate) here: String,
    /// The notice of the previous action.
    pub(crate) notice: String,
}

impl Visitor {
    /// The account; empty before the log-in.
    pub(crate) fn name(&self) -> &str {
        self.member
            .as_ref()
            .map_or("", |(member, _)| member.name.as_str())
    }

    /// True if the account has this role, or a stronger one.
    pub(crate) fn may(&self, role: Role) -> bool {
        self.member.as_ref().is_some_and(|(_, own)| *own >= role)
    }

    /// Refuses an account with a weaker role.
    ///
    /// # Errors
    /// The account may not do this.
    pub(crate) fn require(&self, role: Role) -> Result<()> {
        match self.may(role) {
            true => Ok(()),
            false => Err(Problem::forbidden(format!(
                "this needs the role {}",
                role.word()
            ))),
        }
    }

    /// Runs an action between two lines of the audit log. Without the first line nothing is done.
    ///
    /// # Errors
    /// The log cannot be written, the role is too weak, or the action fails.
    pub(crate) fn act<T>(
        &self,
        role: Role,
        what: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let audit = &self.app.audit;
        let address = self.address.to_string();
        let write = |result: &str| audit.write(self.name(), &address, what, result);
        self.require(role).inspect_err(|problem| {
            let _ = write(&problem.text);
        })?;
        write("begins").map_err(|error| {
            Problem::failed(format!("the audit log cannot be written: {error}"))
        })?;
        let answer = work();
        let result = answer
            .as_ref()
            .map_or_else(|problem| problem.text.as_str(), |_| "done");
        if let Err(error) = write(result) {
            tracing::error!("the audit log cannot be written: {error}");
        }
        self.app.snapshots.forget();
        answer
    }

    /// Runs blocking work in a thread.
    ///
    /// # Errors
    /// The error of the work.
    pub(crate) async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&Visitor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(move || work(&self)).await;
        done.unwrap_or_else(|error| Err(Problem::failed(format!("the page crashed: {error}"))))
    }

    /// The frame of a page.
    pub(crate) fn frame(&self, title: &str) -> Frame {
        let member = self.member.as_ref();
        let path = self.here.split('?').next().unwrap_or("/").to_owned();
        Frame {
            title: title.to_owned(),
            language: self.language,
            theme: self.theme,
            name: self.name().to_owned(),
            role: member.map(|(_, role)| *role),
            token: member.map(|(member, _)| member.token()).unwrap_or_default(),
            here: self.here.clone(),
            path,
            notice: self.notice.clone(),
        }
    }
}

/// A number in a template.
pub(crate) trait Number {
    /// Its value; a negative one is 0.
    fn number(&self) -> u64;
}

impl<T: Number + ?Sized> Number for &T {
    fn number(&self) -> u64 {
        (**self).number()
    }
}

impl Number for u64 {
    fn number(&self) -> u64 {
        *self
    }
}

impl Number for usize {
    fn number(&self) -> u64 {
        *self as u64
    }
}

impl Number for i64 {
    fn number(&self) -> u64 {
        u64::try_from(*self).unwrap_or(0)
    }
}

/// The common part of all pages.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The title, translated.
    pub(crate) title: String,
    /// The language.
    pub(crate) language: Language,
    /// The colors.
    pub(crate) theme: &'static str,
    /// The account; empty before the log-in.
    pub(crate) name: String,
    /// The role of the account.
    pub(crate) role: Option<Role>,
    /// The token of forms.
    pub(crate) token: String,
    /// Path and query of the page.
    pub(crate) here: String,
    /// The path of the page.
    pub(crate) path: String,
    /// The notice of the action before.
    pub(crate) notice: String,
}

impl Frame {
    /// The translation of a text.
    pub(crate) fn t<'f>(&'f self, english: &'f str) -> &'f str {
        self.language.text(english)
    }

    /// The translation of a text with a number.
    pub(crate) fn n(&self, count: impl Number, one: &str, many: &str) -> String {
        self.language.count(count.number(), one, many)
    }

    /// True if the page is in this part of the console.
    pub(crate) fn is_in(&self, part: &str) -> bool {
        match part {
            "/" => self.path == "/" || self.path.starts_with("/systems"),
            part => self.path.starts_with(part),
        }
    }

    /// True if the account may publish.
    pub(crate) fn operates(&self) -> bool {
        self.role >= Some(Role::Operator)
    }

    /// True if the account manages the console.
    pub(crate) fn administers(&self) -> bool {
        self.role >= Some(Role::Admin)
    }

    /// A point in time for people.
    pub(crate) fn time(&self, seconds: impl Number) -> String {
        crate::text::time(seconds.number())
    }

    /// An age as text.
    pub(crate) fn ago(&self, then: impl Number) -> String {
        let then = then.number();
        let passed = crate::text::now().saturating_sub(then);
        match passed {
            0..60 => self.t("just now").to_owned(),
            60..3600 => self.n(passed / 60, "{} minute ago", "{} minutes ago"),
            3600..172_800 => self.n(passed / 3600, "{} hour ago", "{} hours ago"),
            _ => self.n(passed / 86_400, "{} day ago", "{} days ago"),
        }
    }

    /// A length in bytes for people.
    pub(crate) fn size(&self, bytes: impl Number) -> String {
        crate::text::length(bytes.number())
    }
}
