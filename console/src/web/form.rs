//! Forms: bounded, and accepted only with the token of the session.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;

use super::visitor::Visitor;
use crate::problem::{Problem, Result};

/// Longest form, bytes.
const FORM_LEN_MAX: usize = 256 << 10;
/// Time for a form to arrive.
const FORM_TIME_MAX: Duration = Duration::from_secs(30);
/// Maximum number of fields of a form.
const FIELDS_MAX: usize = 20_000;

/// The fields of a form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// The value of a field, trimmed; empty if absent.
    pub(crate) fn get(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value.trim())
    }

    /// The value of a field as it was typed.
    pub(crate) fn raw(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// True if a box is checked.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// All values of a field.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(name, _)| name == key);
        found.map(|(_, value)| value.clone()).collect()
    }

    /// A field, converted to the requested type.
    ///
    /// # Errors
    /// It is not of that form.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
    ) -> Result<T> {
        let value = self.get(key);
        value
            .parse()
            .map_err(|error| Problem::bad(format!("{key}: {error}")))
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Form> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let kind = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            return Err(Problem::bad("this is not a form"));
        }
        let body = tokio::time::timeout(FORM_TIME_MAX, to_bytes(request.into_body(), FORM_LEN_MAX));
        let body = body
            .await
            .map_err(|_| Problem::of(408, "the form did not arrive in time"))?;
        let body = body.map_err(|_| Problem::of(413, "the form is too long"))?;
        let fields = form_urlencoded::parse(&body).take(FIELDS_MAX);
        let form = Form(
            fields
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        );
        let member = visitor.and_then(|visitor| visitor.member);
        match member {
            Some((member, _)) if !member.knows(form.get("token")) => Err(Problem::forbidden(
                "this form is not of your session: load the page again",
            )),
            _ => Ok(form),
        }
    }
}
