//! `GET /v1/bundle/<system>/<profile>[@revision]`: what a booting client needs first, in one
//! round trip, and `GET /v1/systems`, what there is to boot.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use serde::Serialize;

use super::object::{ObjectError, Objects};
use super::routes::{absent, refused, small};
use super::{Server, heads};
use crate::jobs::is_name;

/// The answer. The members are strings that hold the stored bytes unchanged, because the
/// client checks signatures and digests over exactly those bytes.
#[derive(Debug, Serialize)]
struct Bundle {
    /// Every signed keyset, oldest first: a client walks from the one it knows.
    keysets: Vec<String>,
    /// The signed head.
    head: String,
    /// The manifest the head names.
    manifest: String,
}

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
    let head = objects.read(&head_path).await?;
    let manifest = manifest_of(&head).ok_or_else(|| damaged(&head_path))?;
    let manifest = objects
        .read(&format!("manifests/{manifest}"))
        .await
        .map_err(|error| match error {
            ObjectError::Missing => damaged(&head_path),
            other => other,
        })?;
    let bundle = Bundle {
        keysets: keysets(objects).await?,
        head: text(&head, &head_path)?,
        manifest: text(&manifest, &head_path)?,
    };
    let json = serde_json::to_vec(&bundle).map_err(|_| damaged(&head_path))?;
    Ok(json.into())
}

async fn keysets(objects: &Objects) -> Result<Vec<String>, ObjectError> {
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
        keysets.push(text(&objects.read(&path).await?, &path)?);
    }
    Ok(keysets)
}

/// The manifest digest inside a signed head. The signature is the client's to check.
fn manifest_of(envelope: &[u8]) -> Option<String> {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).ok()?;
    let payload = envelope.get("payload")?;
    let inner;
    let head = match payload {
        serde_json::Value::String(text) => {
            inner = serde_json::from_str::<serde_json::Value>(text).ok()?;
            &inner
        }
        other => other,
    };
    let digest = head.get("manifest")?.as_str()?;
    super::key::is_digest(digest).then(|| digest.to_owned())
}

fn text(bytes: &[u8], path: &str) -> Result<String, ObjectError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged(path))
}

fn damaged(path: &str) -> ObjectError {
    ObjectError::Store {
        path: path.to_owned(),
        message: "damaged: it does not lead to a readable manifest (run `bakery verify --all`)"
            .to_owned(),
    }
}
