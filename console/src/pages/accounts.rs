//! The accounts of the console.

use askama::Template;
use axum::Extension;

use super::Answer;
use crate::accounts::{Account, Role};
use crate::problem::Problem;
use crate::web::{Form, Frame, Visitor, html, with_notice};

#[derive(Template)]
#[template(path = "accounts.html")]
struct AccountsPage {
    s: Frame,
    accounts: Vec<Account>,
    roles: [Role; 3],
    link: String,
    invited: String,
}

fn page(visitor: &Visitor, link: String, invited: String) -> Answer {
    html(&AccountsPage {
        s: visitor.frame(visitor.language.text("Accounts")),
        accounts: visitor.app.accounts.list(),
        roles: Role::ALL,
        link,
        invited,
    })
}

/// The list of accounts.
pub(crate) async fn accounts(Extension(visitor): Extension<Visitor>) -> Answer {
    visitor.require(Role::Admin)?;
    page(&visitor, String::new(), String::new())
}

/// Invites, changes a role, or deletes.
pub(crate) async fn change(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor.work(move |visitor| changed(visitor, &form)).await
}

fn changed(visitor: &Visitor, form: &Form) -> Answer {
    let (app, name) = (&visitor.app, form.get("name"));
    let role = || Role::of(form.get("role")).ok_or_else(|| Problem::bad("name a role"));
    match form.get("do") {
        "invite" => {
            let role = role()?;
            let what = format!("invite {name} as {}", role.word());
            let token = visitor.act(Role::Admin, &what, || {
                let known = app.accounts.role(name);
                Ok(app.accounts.invite(name, known.unwrap_or(role))?)
            })?;
            page(
                visitor,
                format!("{}/welcome/{token}", app.url),
                name.to_owned(),
            )
        }
        "role" => {
            let role = role()?;
            let what = format!("make {name} {}", role.word());
            visitor.act(Role::Admin, &what, || {
                Ok(app.accounts.set_role(name, role)?)
            })?;
            Ok(with_notice(
                "/accounts",
                visitor.language.text("The role was changed."),
            ))
        }
        "delete" => {
            visitor.act(Role::Admin, &format!("delete the account {name}"), || {
                app.accounts.delete(name)?;
                app.sessions.end_all(name);
                Ok(())
            })?;
            Ok(with_notice(
                "/accounts",
                visitor.language.text("The account was deleted."),
            ))
        }
        _ => Err(Problem::bad("there is no such action")),
    }
}
