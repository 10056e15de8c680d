//! The pages before the log-in, and the choices of language and colors.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use super::Answer;
use crate::accounts::{PASSWORD_LEN_MIN, Role};
use crate::problem::{Problem, Result};
use crate::text::query_text;
use crate::web::{Form, Frame, Visitor, clear_session, html, redirect, session_cookie};

/// Number of passwords that are checked at the same time: each takes 19 MiB and a processor.
static CHECKS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    s: Frame,
    to: String,
    name: String,
    problem: String,
    is_new: bool,
}

/// The form to log in.
pub(crate) async fn login(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    if visitor.member.is_some() {
        return Ok(redirect("/"));
    }
    form(
        &visitor,
        &query_text(query.as_deref(), "to"),
        "",
        String::new(),
    )
}

fn form(visitor: &Visitor, to: &str, name: &str, problem: String) -> Answer {
    html(&LoginPage {
        s: visitor.frame(visitor.language.text("Log in")),
        to: to.to_owned(),
        name: name.to_owned(),
        problem,
        is_new: visitor.app.accounts.is_empty(),
    })
}

/// Checks name and password, and logs in.
pub(crate) async fn enter(Extension(visitor): Extension<Visitor>, form_: Form) -> Answer {
    let (name, to) = (form_.get("name").to_owned(), form_.get("to").to_owned());
    let password = form_.raw("password").to_owned();
    let language = visitor.language;
    let must_wait = |visitor: &Visitor| visitor.app.lockout.wait(&name, visitor.address).is_some();
    let too_many = |visitor: &Visitor| {
        let text = language.text("Too many attempts: wait some minutes.");
        refuse(visitor, &name, &to, 429, text)
    };
    if must_wait(&visitor) {
        return too_many(&visitor);
    }
    let _permit = CHECKS
        .acquire()
        .await
        .map_err(|error| Problem::failed(error.to_string()))?;
    if must_wait(&visitor) {
        return too_many(&visitor);
    }
    let (app, known) = (visitor.app.clone(), name.clone());
    let checked = tokio::task::spawn_blocking(move || app.accounts.log_in(&known, &password)).await;
    let account = checked.map_err(|error| Problem::failed(error.to_string()))?;
    let address = visitor.address.to_string();
    let Some(account) = account else {
        visitor.app.lockout.failed(&name, visitor.address);
        let shown: String = name.chars().take(64).collect();
        visitor
            .app
            .audit
            .write(&shown, &address, "log in", "wrong name or password")?;
        return refuse(
            &visitor,
            &name,
            &to,
            401,
            language.text("The name or the password is wrong."),
        );
    };
    visitor.app.lockout.succeeded(&account.name);
    visitor
        .app
        .audit
        .write(&account.name, &address, "log in", "done")?;
    begin(&visitor, &account.name, &to)
}

fn refuse(visitor: &Visitor, name: &str, to: &str, status: u16, text: &str) -> Answer {
    let mut response = form(visitor, to, name, text.to_owned())?;
    *response.status_mut() = axum::http::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

/// Begins a session, and redirects to the requested page.
fn begin(visitor: &Visitor, name: &str, to: &str) -> Answer {
    let value = visitor.app.sessions.begin(name)?;
    let response = redirect(if to.is_empty() { "/" } else { to });
    set_cookie(response, &session_cookie(&visitor.app, &value))
}

fn set_cookie(mut response: Response, cookie: &str) -> Answer {
    let value =
        HeaderValue::from_str(cookie).map_err(|error| Problem::failed(error.to_string()))?;
    response.headers_mut().append(SET_COOKIE, value);
    Ok(response)
}

/// Ends the session of the browser.
pub(crate) async fn leave(
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    _: Form,
) -> Answer {
    let gone = clear_session(&visitor.app, &headers);
    visitor.app.audit.write(
        visitor.name(),
        &visitor.address.to_string(),
        "log out",
        "done",
    )?;
    set_cookie(redirect("/login"), &gone)
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct WelcomePage {
    s: Frame,
    link: String,
    name: String,
    role: Role,
    shortest: usize,
    problem: String,
}

fn welcome_form(visitor: &Visitor, link: &str, problem: String) -> Answer {
    let Some(invitee) = visitor.app.accounts.invitee(link) else {
        let text = "This link was used or has expired: ask for a new one.";
        return Err(Problem::absent(visitor.language.text(text)));
    };
    html(&WelcomePage {
        s: visitor.frame(visitor.language.text("Welcome")),
        link: link.to_owned(),
        name: invitee.name,
        role: invitee.role,
        shortest: PASSWORD_LEN_MIN,
        problem,
    })
}

/// The form of a one-time link.
pub(crate) async fn welcome(
    Extension(visitor): Extension<Visitor>,
    Path(link): Path<String>,
) -> Answer {
    welcome_form(&visitor, &link, String::new())
}

/// Makes the account of a one-time link, or sets its password.
pub(crate) async fn join(
    Extension(visitor): Extension<Visitor>,
    Path(link): Path<String>,
    form: Form,
) -> Answer {
    let password = form.raw("password").to_owned();
    if password != form.raw("again") {
        let text = visitor
            .language
            .text("The two passwords differ.")
            .to_owned();
        return welcome_form(&visitor, &link, text);
    }
    let (app, token, name) = (
        visitor.app.clone(),
        link.clone(),
        form.get("name").to_owned(),
    );
    let _permit = CHECKS
        .acquire()
        .await
        .map_err(|error| Problem::failed(error.to_string()))?;
    let made =
        tokio::task::spawn_blocking(move || app.accounts.accept(&token, &name, &password)).await;
    let made = made.map_err(|error| Problem::failed(error.to_string()))?;
    let account = match made {
        Ok(account) => account,
        Err(error) => return welcome_form(&visitor, &link, error.to_string()),
    };
    visitor.app.sessions.end_all(&account.name);
    let what = format!(
        "set the password of {} ({})",
        account.name,
        account.role.word()
    );
    visitor
        .app
        .audit
        .write(&account.name, &visitor.address.to_string(), &what, "done")?;
    begin(&visitor, &account.name, "/")
}

/// Stores language and colors in the browser.
pub(crate) async fn look(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    let mut response = redirect(form.get("to"));
    for key in ["language", "theme"] {
        let value = form.get(key);
        if matches!(value, "en" | "ru" | "light" | "dark" | "system") {
            let cookie =
                format!("{key}={value}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict");
            response = set_cookie(response, &cookie)?;
        }
    }
    drop(visitor);
    Result::Ok(response)
}
