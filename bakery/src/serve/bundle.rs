//! `GET /v1/bundle/<system>/<profile>[@revision]`: the records for a booting client, in one round
//! trip, and `GET /v1/systems`, the list of systems.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use wire::manifest::Head;
use wire::trust::{Bundle, Envelope};

use super::Server;
use super::heads::{self, damaged};
use super::menus;
use super::object::{ObjectError, Objects};
use super::routes::{absent, refused, small};
use crate::jobs::is_name;

/// Handles the request.
pub(super) async fn get(
    State(server): State<Arc<Server>>,
    Path((system, profile)): Path<(String, String)>,
    asked: HeaderMap,
) -> Response {
    let (profile, revision) = match profile.split_once('@') {
        None => (profile.as_str(), None),
        Some((profile, revision)) => match revision.parse::<u64>() {
            Ok(revision) => (profile, Some(revision)),
            Err(_) => return absent(),
        },
    };
    if !is_name(&system) || !is_name(profile) {
        return absent();
    }
    match collect(&server.objects, &system, profile, revision).await {
        Ok(bytes) => small(&asked, bytes, HeaderValue::from_static("application/json")),
        Err(ObjectError::Missing) => {
            let revision = revision
                .map(|revision| format!("@{revision}"))
                .unwrap_or_default();
            menus::listing(&server, &format!("{system}/{profile}{revision}")).await
        }
        Err(error) => refused(&server, &error),
    }
}

/// Handles `GET /v1/systems`.
pub(super) async fn systems(State(server): State<Arc<Server>>, asked: HeaderMap) -> Response {
    let profiles = match heads::profiles(&server.objects).await {
        Ok(profiles) => profiles,
        Err(error) => return refused(&server, &error),
    };
    match serde_json::to_vec(&profiles) {
        Ok(json) => small(
            &asked,
            json.into(),
            HeaderValue::from_static("application/json"),
        ),
        Err(error) => error.to_string().into_response(),
    }
}

async fn collect(
    objects: &Objects,
    system: &str,
    profile: &str,
    revision: Option<u64>,
) -> Result<Bytes, ObjectError> {
    let revision = match revision {
        Some(revision) => revision,
        None => heads::newest(objects, system, profile).await?,
    };
    let head_path = heads::path(system, profile, revision);
    let head = envelope(&objects.read(&head_path).await?, &head_path)?;
    let record =
        Head::parse(head.payload.as_bytes()).map_err(|error| damaged(&head_path, &error))?;
    let manifest_path = format!("manifests/{}", record.manifest.digest);
    let manifest = match objects.read(&manifest_path).await {
        Err(ObjectError::Missing) => Err(damaged(
            &manifest_path,
            &"a head names it, but it does not exist",
        )),
        other => other,
    }?;
    let manifest = String::from_utf8(manifest.to_vec());
    let bundle = Bundle {
        keysets: keysets(objects).await?,
        head,
        manifest: manifest.map_err(|error| damaged(&manifest_path, &error))?,
    };
    let bytes = bundle
        .render()
        .map_err(|error| damaged(&head_path, &error))?;
    Ok(bytes.into())
}

async fn keysets(objects: &Objects) -> Result<Vec<Envelope>, ObjectError> {
    let place = object_store::path::Path::from("keysets");
    let listed = objects
        .store()
        .list(Some(&place))
        .map_ok(|meta| meta.location.to_string());
    let mut paths: Vec<String> =
        listed
            .try_collect()
            .await
            .map_err(|error| ObjectError::Store {
                path: "keysets".to_owned(),
                message: error.to_string(),
            })?;
    paths.sort_unstable();
    let mut keysets = Vec::with_capacity(paths.len());
    for path in paths {
        keysets.push(envelope(&objects.read(&path).await?, &path)?);
    }
    Ok(keysets)
}

/// A signed record as stored. Its signature is the client's to check.
fn envelope(bytes: &[u8], path: &str) -> Result<Envelope, ObjectError> {
    Envelope::parse(bytes).map_err(|error| damaged(path, &error))
}
