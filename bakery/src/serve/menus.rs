//! Boot menus over HTTP: `/boot.ipxe`, `/ipxe/<system>[/<profile>][@revision]`, `/grub.cfg`,
//! `/pxelinux.cfg/default`; and `/`, the list for users.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, HOST, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use wire::manifest::{DEFAULT_PROFILE, DEFAULT_RING, ProfileName, RevisionName};
use wire::paths::{Request as RequestPath, route};

use super::answer::small;
use super::connection::{Peer, Port};
use super::heads::{self, Profile};
use super::menu_client::{self, MenuClient};
use super::object::ObjectError;
use super::routes::{absent, refused};
use super::{Server, limits, rings};
use crate::human;
use crate::netboot::{self, Choices, Menu, MenuChoice, PageEntry};

type MenuState = State<Arc<Server>>;
type MenuForm = fn(&Menu, &Choices) -> String;

/// The client's address, and the query with the machine's names.
type Asker = (Option<Extension<Peer>>, RawQuery);

/// The menu of everything.
pub(super) async fn ipxe(
    State(server): MenuState,
    (peer, RawQuery(query)): Asker,
    asked: HeaderMap,
) -> Response {
    let client = menu_client::of(&server, peer, query.as_deref()).await;
    answer(&server, &asked, (&client, route::IPXE), netboot::ipxe).await
}

/// The same for GRUB, which leaves the port out of its `Host`.
pub(super) async fn grub(
    State(server): MenuState,
    Extension(Port(port)): Extension<Port>,
    (peer, RawQuery(query)): Asker,
    mut asked: HeaderMap,
) -> Response {
    if let Some(host) = asked.get(HOST).and_then(|host| host.to_str().ok())
        && is_grub(&asked)
        && port != 80
        && !netboot::has_port(host)
        && let Ok(host) = HeaderValue::from_str(&format!("{host}:{port}"))
    {
        asked.insert(HOST, host);
    }
    let client = menu_client::of(&server, peer, query.as_deref()).await;
    answer(&server, &asked, (&client, route::GRUB), netboot::grub).await
}

fn is_grub(asked: &HeaderMap) -> bool {
    let program = asked.get(USER_AGENT).map(HeaderValue::as_bytes);
    program.is_some_and(|program| program.starts_with(b"GRUB "))
}

/// The same for pxelinux.
pub(super) async fn pxelinux(State(server): MenuState, asked: HeaderMap) -> Response {
    answer(
        &server,
        &asked,
        (&MenuClient::Nobody, ""),
        netboot::pxelinux,
    )
    .await
}

/// Lists the systems: a page for browsers, lines for other clients.
pub(super) async fn landing(State(server): MenuState, asked: HeaderMap) -> Response {
    let entries = match entries(&server).await {
        Ok(entries) => entries,
        Err(error) => return refused(&server, &error),
    };
    let wants = asked.get(ACCEPT).and_then(|value| value.to_str().ok());
    if wants.is_some_and(|kinds| kinds.contains("text/html"))
        && let Some(menu) = menu(&server, &asked, (&MenuClient::Nobody, ""))
    {
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        return small(&asked, netboot::page(&menu, &entries).into(), kind);
    }
    let text = format!(
        "This is a layerfs server. It has:\n{}",
        netboot::plain(&entries)
    );
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    small(&asked, text.into(), kind)
}

/// The main profile of a system: as [`profile`].
pub(super) async fn system(
    state: MenuState,
    Path(system): Path<String>,
    asker: Asker,
    asked: HeaderMap,
) -> Response {
    let (system, profile_name) = match system.split_once('@') {
        None => (system, DEFAULT_PROFILE.to_owned()),
        Some((system, revision)) => (system.to_owned(), format!("{DEFAULT_PROFILE}@{revision}")),
    };
    profile(state, Path((system, profile_name)), asker, asked).await
}

/// One profile: its revisions as a menu, or one revision without a question.
pub(super) async fn profile(
    State(server): MenuState,
    Path((system, profile)): Path<(String, String)>,
    (peer, RawQuery(query)): Asker,
    asked: HeaderMap,
) -> Response {
    let Ok(wanted) = format!("{system}/{profile}").parse::<RevisionName>() else {
        return absent();
    };
    let client = menu_client::of(&server, peer, query.as_deref()).await;
    let Some(menu) = menu(
        &server,
        &asked,
        (
            &client,
            &RequestPath::IpxeProfile(wanted.clone()).to_string(),
        ),
    ) else {
        return no_base();
    };
    if let Some(choices) = assigned(&server, &client).await {
        return text(&asked, netboot::ipxe(&menu, &choices));
    }
    let script = match wanted.revision {
        Some(revision) => one(&server, &wanted.name, revision)
            .await
            .map(|choice| match choice {
                Ok(mut choice) => {
                    client.mark(&mut choice);
                    Some(netboot::ipxe_entry(&menu, &choice))
                }
                Err(why) => Some(netboot::ipxe(
                    &menu,
                    &Choices {
                        unbootable: vec![why],
                        ..Choices::default()
                    },
                )),
            }),
        None => match history(&server, &wanted.name, client.ring()).await {
            Ok(Some(mut choices)) => {
                step_back(&server, &client, &mut choices).await;
                choices.newest.append(&mut choices.older);
                choices.newest.iter_mut().for_each(|one| client.mark(one));
                Ok(Some(netboot::ipxe(&menu, &choices)))
            }
            other => other.map(|_| None),
        },
    };
    match script {
        Ok(Some(script)) => text(&asked, script),
        Ok(None) | Err(ObjectError::Missing) => unknown(&server, &asked, &wanted.to_string()).await,
        Err(error) => refused(&server, &error),
    }
}

/// The answer to a request for a missing name: the existing ones. iPXE does not show the body of a
/// 404, so it gets a menu.
async fn unknown(server: &Server, asked: &HeaderMap, wanted: &str) -> Response {
    let program = asked.get(USER_AGENT).and_then(|value| value.to_str().ok());
    if program.is_some_and(|program| program.starts_with("iPXE"))
        && let Some(menu) = menu(server, asked, (&MenuClient::Nobody, ""))
    {
        return match everything(server, DEFAULT_RING).await {
            Ok(choices) => text(asked, netboot::ipxe_unknown(&menu, wanted, &choices)),
            Err(error) => refused(server, &error),
        };
    }
    listing(server, wanted).await
}

/// 404, with the existing names. Clients repeat such requests, so only names are read.
pub(super) async fn listing(server: &Server, wanted: &str) -> Response {
    match heads::profiles(&server.objects).await {
        Ok(profiles) => {
            let there: Vec<PageEntry> = profiles.into_iter().map(entry).collect();
            let there = netboot::plain(&there);
            let text = format!("This server has no {wanted}. It has:\n{there}");
            let never = [(axum::http::header::CACHE_CONTROL, "no-store")];
            (StatusCode::NOT_FOUND, never, text).into_response()
        }
        Err(error) => refused(server, &error),
    }
}

fn entry(profile: Profile) -> PageEntry {
    let name = ProfileName {
        system: profile.system,
        profile: profile.profile,
    };
    PageEntry {
        name: name.to_string(),
        revision: profile.revision,
        time: String::new(),
        message: String::new(),
    }
}

/// The newest revision of every history, for people.
async fn entries(server: &Server) -> Result<Vec<PageEntry>, ObjectError> {
    let mut entries = Vec::new();
    for profile in heads::profiles(&server.objects).await? {
        // A history that cannot be read is listed all the same.
        let manifest = heads::manifest(&server.objects, &profile).await.ok();
        let mut entry = entry(profile);
        if let Some(manifest) = manifest {
            entry.time = human::time(manifest.time);
            let subject = manifest.message.lines().next();
            subject.unwrap_or_default().clone_into(&mut entry.message);
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The menu of one machine. `client`: the machine, and the path of the menu.
async fn answer(
    server: &Server,
    asked: &HeaderMap,
    client: (&MenuClient, &str),
    form: MenuForm,
) -> Response {
    let Some(menu) = menu(server, asked, client) else {
        return no_base();
    };
    let (client, _) = client;
    if let Some(choices) = assigned(server, client).await {
        return text(asked, form(&menu, &choices));
    }
    match everything(server, client.ring()).await {
        Ok(mut choices) => {
            step_back(server, client, &mut choices).await;
            let all = choices.newest.iter_mut().chain(&mut choices.older);
            all.for_each(|one| client.mark(one));
            text(asked, form(&menu, &choices))
        }
        Err(error) => refused(server, &error),
    }
}

/// Replaces each default revision that the machine returned from by the last good one. The failed
/// revision stays in the menu, below.
async fn step_back(server: &Server, client: &MenuClient, choices: &mut Choices) {
    let Choices { newest, older, .. } = choices;
    for choice in newest {
        let Some(good) = client.back_from(&choice.name) else {
            continue;
        };
        let revision = good.revision.unwrap_or_default();
        match one(server, &good.name, revision).await {
            Ok(Ok(good)) => {
                older.retain(|one| one.name != good.name);
                older.insert(0, std::mem::replace(choice, good));
            }
            Ok(Err(why)) => tracing::warn!("{} cannot return to {good}: {why}", client.id()),
            Err(error) => tracing::warn!("{} cannot return to {good}: {error}", client.id()),
        }
    }
}

/// The assigned menu entries of a machine; `None`: the site's menu. An assignment that cannot be
/// booted is logged and ignored, so that the machine still boots.
async fn assigned(server: &Server, client: &MenuClient) -> Option<Choices> {
    let assignment = client.assignment();
    if assignment.localboot == Some(true) {
        return Some(Choices::default());
    }
    let name = assignment.history()?;
    let offered = match assignment.revision {
        None => history(server, &name, client.ring()).await,
        Some(revision) => one(server, &name, revision).await.map(|choice| {
            let mut choices = Choices::default();
            match choice {
                Ok(choice) => choices.newest.push(choice),
                Err(why) => choices.unbootable.push(why),
            }
            Some(choices)
        }),
    };
    match offered {
        Ok(Some(mut choices)) if !choices.newest.is_empty() => {
            if assignment.revision.is_none() {
                step_back(server, client, &mut choices).await;
            }
            let all = choices.newest.iter_mut().chain(&mut choices.older);
            all.for_each(|one| client.mark(one));
            Some(choices)
        }
        Ok(_) | Err(ObjectError::Missing) => {
            let id = client.id();
            tracing::warn!(
                "{id} is assigned {name}, which cannot be booted from this server: it gets the site's menu"
            );
            None
        }
        Err(error) => {
            tracing::warn!("{name}: {error}");
            None
        }
    }
}

/// The menu entries of every profile, for a machine of a ring.
async fn everything(server: &Server, ring: &str) -> Result<Choices, ObjectError> {
    let mut all = Choices::default();
    for profile in heads::profiles(&server.objects).await? {
        let name = ProfileName {
            system: profile.system,
            profile: profile.profile,
        };
        let Some(mut of) = history(server, &name, ring).await? else {
            continue;
        };
        all.newest.append(&mut of.newest);
        all.older.append(&mut of.older);
        all.unbootable.append(&mut of.unbootable);
    }
    Ok(all)
}

/// The menu entries of a profile's last revisions, the one of the ring first; `None` if it has none.
/// An unreadable revision is omitted: a damaged revision must not prevent the others from booting.
async fn history(
    server: &Server,
    name: &ProfileName,
    ring: &str,
) -> Result<Option<Choices>, ObjectError> {
    let numbers = heads::revisions(&server.objects, name).await?;
    let mut of = Choices::default();
    let Some(newest) = numbers.last().copied() else {
        return Ok(None);
    };
    let rings = match rings::newest(&server.objects, name).await {
        Ok(rings) => rings,
        Err(error) => {
            tracing::error!("the menu offers the newest revision of {name}: {error}");
            None
        }
    };
    let present = (rings.as_ref()).map_or(newest, |rings| rings.current(ring, newest));
    let is_good = |number: &u64| {
        let quarantined = |rings: &rings::Rings| rings.record.is_quarantined(*number);
        *number <= present && !rings.as_ref().is_some_and(quarantined)
    };
    let (good, other): (Vec<u64>, Vec<u64>) = numbers.into_iter().rev().partition(is_good);
    let most = limits::MENU_REVISIONS_MAX;
    let other = other.into_iter().take(most).map(|number| (number, false));
    let good = good.into_iter().take(most).map(|number| (number, true));
    for (number, is_good) in good.chain(other) {
        match one(server, name, number).await {
            Ok(Ok(choice)) if of.newest.is_empty() && is_good => of.newest.push(MenuChoice {
                follows: true,
                ..choice
            }),
            Ok(Ok(choice)) => of.older.push(choice),
            Ok(Err(why)) if number == present => of.unbootable.push(why),
            Ok(Err(_)) => {}
            Err(error) => {
                tracing::warn!("omitted from the menu: {name}@{number}: {error}")
            }
        }
    }
    Ok(Some(of))
}

/// The menu entry of one revision, which a machine keeps, or the reason for which it does not boot.
async fn one(
    server: &Server,
    name: &ProfileName,
    revision: u64,
) -> Result<Result<MenuChoice, String>, ObjectError> {
    let wanted = Profile {
        system: name.system.clone(),
        profile: name.profile.clone(),
        revision,
    };
    let manifest = heads::manifest(&server.objects, &wanted).await?;
    let mut choice = match MenuChoice::of(&manifest) {
        Ok(choice) => choice,
        Err(why) => return Ok(Err(why)),
    };
    let Some(initrd) = manifest.initrd else {
        return Ok(Err(MenuChoice::needs_initrd(&manifest, "has no initramfs")));
    };
    let found = server.initrds.of(&server.objects, &initrd.digest).await?;
    choice.follows = false;
    choice.is_divided = found.is_divided && server.divides_initramfs;
    Ok(if found.mounts_layerfs {
        Ok(choice)
    } else {
        let why = "has the initramfs of its distribution";
        Err(MenuChoice::needs_initrd(&manifest, why))
    })
}

/// The base URL, the timeout and the request for names of a menu.
fn menu(server: &Server, asked: &HeaderMap, (client, path): (&MenuClient, &str)) -> Option<Menu> {
    let base = match &server.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => netboot::base_of_host(asked.get(HOST)?.to_str().ok()?)?,
    };
    Some(Menu {
        base,
        timeout: server.menu_timeout,
        again: matches!(client, MenuClient::Unasked).then(|| path.to_owned()),
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
