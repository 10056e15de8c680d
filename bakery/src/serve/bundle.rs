//! `GET /v1/bundle/<system>/<profile>[@revision][?ring=NAME]`: the records for a booting client, in
//! one round trip, and `GET /v1/systems`, the list of systems.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use wire::manifest::{Head, RevisionName};
use wire::paths::{Class, ObjectPath, UPDATES_FIELD};
use wire::trust::{Bundle, Envelope};

use super::Server;
use super::answer::small;
use super::heads::{self, damaged};
use super::menus;
use super::object::{ObjectError, Objects};
use super::rings;
use super::routes::{absent, refused};
use super::shared_answers::SharedAnswers;

/// The bundles that are being collected, by the revision that a client wants and its ring.
pub(super) type Bundles =
    SharedAnswers<(RevisionName, Option<String>), Result<(Bytes, String), ObjectError>>;

/// Handles the request.
pub(super) async fn get(
    State(server): State<Arc<Server>>,
    Path((system, profile)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Response {
    let ring = rings::of_query(query.as_deref());
    let Ok(wanted) = format!("{system}/{profile}").parse::<RevisionName>() else {
        return absent();
    };
    let collected = {
        let (server, wanted, ring) = (Arc::clone(&server), wanted.clone(), ring.clone());
        async move { collect(&server.objects, &wanted, ring.as_deref()).await }
    };
    match server.bundles.get((wanted, ring), collected).await {
        Ok((bytes, updates)) => {
            let json = HeaderValue::from_static("application/json");
            let mut answer = small(&asked, bytes, json);
            if let Ok(updates) = HeaderValue::from_str(&updates) {
                answer.headers_mut().insert(UPDATES_FIELD, updates);
            }
            answer
        }
        Err(ObjectError::Missing) => menus::listing(&server, &format!("{system}/{profile}")).await,
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

/// The bundle, and the revisions from which update packs lead to it. For a client that names a ring:
/// of the ring's revision, and with the ring record.
async fn collect(
    objects: &Objects,
    wanted: &RevisionName,
    ring: Option<&str>,
) -> Result<(Bytes, String), ObjectError> {
    let ring_record = async {
        match ring {
            Some(_) => rings::newest(objects, &wanted.name).await,
            None => Ok(None),
        }
    };
    let named_or_newest = async {
        match wanted.revision {
            Some(revision) => Ok(revision),
            None => heads::newest(objects, &wanted.name).await,
        }
    };
    // A client waits for this answer: on a bucket each step is a round trip.
    let (keysets, rings, revision) = tokio::join!(keysets(objects), ring_record, named_or_newest);
    let rings = rings?;
    let revision = match (&rings, wanted.revision) {
        (Some(rings), None) => rings.current(ring.unwrap_or_default(), revision?),
        _ => revision?,
    };
    let head_path = heads::path(&wanted.name, revision);
    let head = envelope(&objects.read(&head_path).await?, &head_path)?;
    let record =
        Head::parse(head.payload.as_bytes()).map_err(|error| damaged(&head_path, &error))?;
    let manifest_path = ObjectPath::Manifest(record.manifest.digest).to_string();
    let (manifest, updates) = tokio::join!(
        objects.read(&manifest_path),
        heads::updates(objects, &wanted.name, revision)
    );
    let manifest = match manifest {
        Err(ObjectError::Missing) => Err(damaged(
            &manifest_path,
            &"a head names it, but it does not exist",
        )),
        other => other,
    }?;
    let manifest = String::from_utf8(manifest.to_vec());
    let bundle = Bundle {
        keysets: keysets?,
        head,
        manifest: manifest.map_err(|error| damaged(&manifest_path, &error))?,
        rings: rings.map(|rings| rings.envelope),
    };
    let bytes = bundle
        .render()
        .map_err(|error| damaged(&head_path, &error))?;
    let updates: Vec<String> = updates?.iter().map(u64::to_string).collect();
    Ok((bytes.into(), updates.join(",")))
}

async fn keysets(objects: &Objects) -> Result<Vec<Envelope>, ObjectError> {
    let mut paths = objects.list(Class::Keyset.directory()).await?;
    paths.sort_unstable();
    let mut keysets = Vec::with_capacity(paths.len());
    for path in paths {
        let path = path.to_string();
        keysets.push(envelope(&objects.read(&path).await?, &path)?);
    }
    Ok(keysets)
}

/// A signed record as it is stored. The client checks its signature.
fn envelope(bytes: &[u8], path: &str) -> Result<Envelope, ObjectError> {
    Envelope::parse(bytes).map_err(|error| damaged(path, &error))
}
