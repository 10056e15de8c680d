//! Boot menus over HTTP: `/boot.ipxe`, `/ipxe/<system>/<profile>[@revision]`, `/grub.cfg`,
//! `/pxelinux.cfg/default`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::heads::{self, Profile};
use super::object::ObjectError;
use super::routes::{absent, refused, small};
use super::{Server, limits};
use crate::jobs::is_name;
use crate::netboot::{self, Choice, Menu};

type Shared = State<Arc<Server>>;
type Form = fn(&Menu, &[Choice], &[Choice]) -> String;

/// The menu of everything.
pub(super) async fn ipxe(State(server): Shared, asked: HeaderMap) -> Response {
    answer(&server, &asked, netboot::ipxe).await
}

/// The same for GRUB.
pub(super) async fn grub(State(server): Shared, asked: HeaderMap) -> Response {
    answer(&server, &asked, netboot::grub).await
}

/// The same for pxelinux.
pub(super) async fn pxelinux(State(server): Shared, asked: HeaderMap) -> Response {
    answer(&server, &asked, netboot::pxelinux).await
}

/// One profile: its revisions as a menu, or one revision without a question.
pub(super) async fn profile(
    State(server): Shared,
    Path((system, profile)): Path<(String, String)>,
    asked: HeaderMap,
) -> Response {
    let (profile, revision) = profile.split_once('@').unwrap_or((&profile, ""));
    if !is_name(&system) || !is_name(profile) {
        return absent();
    }
    let Some(menu) = menu(&server, &asked) else {
        return no_base();
    };
    let script = match revision.parse::<u64>() {
        Ok(revision) => one(&server, &system, profile, revision)
            .await
            .map(|choice| choice.map(|choice| netboot::ipxe_entry(&menu, &choice))),
        Err(_) if revision.is_empty() => older(&server, &system, profile)
            .await
            .map(|choices| Some(netboot::ipxe(&menu, &choices, &[]))),
        Err(_) => return absent(),
    };
    match script {
        Ok(Some(script)) => text(&asked, script),
        Ok(None) => absent(),
        Err(error) => refused(&server, &error),
    }
}

async fn answer(server: &Server, asked: &HeaderMap, form: Form) -> Response {
    let Some(menu) = menu(server, asked) else {
        return no_base();
    };
    match everything(server).await {
        Ok((newest, older)) => text(asked, form(&menu, &newest, &older)),
        Err(error) => refused(server, &error),
    }
}

/// The newest revision of every profile, and the ones before.
async fn everything(server: &Server) -> Result<(Vec<Choice>, Vec<Choice>), ObjectError> {
    let (mut newest, mut older) = (Vec::new(), Vec::new());
    for profile in heads::profiles(&server.objects).await? {
        for (index, choice) in choices(server, &profile.system, &profile.profile)
            .await?
            .into_iter()
            .enumerate()
        {
            if index == 0 {
                newest.push(choice)
            } else {
                older.push(choice)
            }
        }
    }
    Ok((newest, older))
}

async fn older(server: &Server, system: &str, profile: &str) -> Result<Vec<Choice>, ObjectError> {
    let choices = choices(server, system, profile).await?;
    if choices.is_empty() {
        Err(ObjectError::Missing)
    } else {
        Ok(choices)
    }
}

/// What a profile's last revisions offer, newest first. One that cannot be read is left out:
/// a damaged revision must not keep the others from booting.
async fn choices(server: &Server, system: &str, profile: &str) -> Result<Vec<Choice>, ObjectError> {
    let numbers = heads::revisions(&server.objects, system, profile).await?;
    let mut choices = Vec::new();
    for number in numbers.into_iter().rev().take(limits::MENU_REVISIONS_MAX) {
        match one(server, system, profile, number).await {
            Ok(choice) => choices.extend(choice),
            Err(error) => {
                tracing::warn!("left out of the menu: {system}/{profile}@{number}: {error}")
            }
        }
    }
    Ok(choices)
}

async fn one(
    server: &Server,
    system: &str,
    profile: &str,
    revision: u64,
) -> Result<Option<Choice>, ObjectError> {
    let wanted = Profile {
        system: system.to_owned(),
        profile: profile.to_owned(),
        revision,
    };
    Ok(Choice::of(
        &heads::manifest(&server.objects, &wanted).await?,
    ))
}

fn menu(server: &Server, asked: &HeaderMap) -> Option<Menu> {
    let base = match &server.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => netboot::base_of_host(asked.get(HOST)?.to_str().ok()?)?,
    };
    Some(Menu {
        base,
        timeout: server.menu_timeout,
    })
}

fn no_base() -> Response {
    (
        StatusCode::BAD_REQUEST,
        "the request has no usable Host; start the server with --url\n",
    )
        .into_response()
}

fn text(asked: &HeaderMap, script: String) -> Response {
    small(
        asked,
        script.into(),
        HeaderValue::from_static("text/plain; charset=us-ascii"),
    )
}
