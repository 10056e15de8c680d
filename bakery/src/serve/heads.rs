//! Which revisions exist: the newest of a profile, and a listing of everything.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use serde::Serialize;
use wire::manifest::{Head, Manifest};
use wire::trust::Envelope;

use super::limits;
use super::object::{ObjectError, Objects};
use crate::jobs::is_name;

/// One profile of one system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Profile {
    /// Name of the system.
    pub system: String,
    /// Name of the profile.
    pub profile: String,
    /// Its newest revision.
    pub revision: u64,
}

/// The store's path of a head.
pub(crate) fn path(system: &str, profile: &str, revision: u64) -> String {
    format!("refs/{system}/{profile}/{revision:020}")
}

/// The newest revision. The hint is only a place to begin: it may be absent, behind or wrong.
///
/// # Errors
/// [`ObjectError::Missing`]: no such profile. Otherwise the store failed.
pub(crate) async fn newest(
    objects: &Objects,
    system: &str,
    profile: &str,
) -> Result<u64, ObjectError> {
    let hint = match objects.read(&format!("hints/{system}/{profile}")).await {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        Err(ObjectError::Missing) => None,
        Err(error) => return Err(error),
    };
    if let Some(hint) = hint
        && exists(objects, system, profile, hint).await?
    {
        let mut newest: u64 = hint;
        // Heads are numbered without gaps; each step is one more than the hint's writer knew.
        while let Some(next) = newest.checked_add(1)
            && exists(objects, system, profile, next).await?
        {
            newest = next;
        }
        return Ok(newest);
    }
    revisions(objects, system, profile)
        .await?
        .pop()
        .ok_or(ObjectError::Missing)
}

/// Every revision of a profile that is there, ascending.
///
/// # Errors
/// The store failed.
pub(crate) async fn revisions(
    objects: &Objects,
    system: &str,
    profile: &str,
) -> Result<Vec<u64>, ObjectError> {
    let prefix = format!("refs/{system}/{profile}");
    let mut found: Vec<u64> = list(objects, &prefix)
        .await?
        .iter()
        .filter_map(|path| path.rsplit('/').next()?.parse().ok())
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Every profile that is not closed, by name.
///
/// # Errors
/// The store failed.
pub(crate) async fn profiles(objects: &Objects) -> Result<Vec<Profile>, ObjectError> {
    let mut newest: BTreeMap<(String, String), u64> = BTreeMap::new();
    for path in list(objects, "refs").await? {
        let parts: Vec<&str> = path.split('/').collect();
        if let ["refs", system, profile, revision] = parts.as_slice()
            && is_name(system)
            && is_name(profile)
            && let Ok(revision) = revision.parse::<u64>()
        {
            let entry = newest
                .entry((String::from(*system), String::from(*profile)))
                .or_default();
            *entry = revision.max(*entry);
        }
    }
    for path in list(objects, "removed").await? {
        if let ["removed", system, profile] = path.split('/').collect::<Vec<_>>().as_slice() {
            newest.remove(&(String::from(*system), String::from(*profile)));
        }
    }
    let profiles = newest.into_iter().take(limits::LISTING_MAX);
    Ok(profiles
        .map(|((system, profile), revision)| Profile {
            system,
            profile,
            revision,
        })
        .collect())
}

async fn exists(
    objects: &Objects,
    system: &str,
    profile: &str,
    revision: u64,
) -> Result<bool, ObjectError> {
    match objects.read(&path(system, profile, revision)).await {
        Ok(_) => Ok(true),
        Err(ObjectError::Missing) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn list(objects: &Objects, prefix: &str) -> Result<Vec<String>, ObjectError> {
    let place = object_store::path::Path::from(prefix);
    let listed = objects
        .store()
        .list(Some(&place))
        .map_ok(|meta| meta.location.to_string());
    listed
        .try_collect()
        .await
        .map_err(|error| ObjectError::Store {
            path: prefix.to_owned(),
            message: error.to_string(),
        })
}

/// The manifest of a profile's revision. Not verified: it is our own store.
///
/// # Errors
/// It is not there or damaged; the store failed.
pub(crate) async fn manifest(objects: &Objects, of: &Profile) -> Result<Manifest, ObjectError> {
    Ok(records(objects, of).await?.1)
}

/// Reads like [`manifest`], with the head.
///
/// # Errors
/// A record is missing or damaged, or the store failed.
pub(crate) async fn records(
    objects: &Objects,
    of: &Profile,
) -> Result<(Head, Manifest), ObjectError> {
    let head_path = path(&of.system, &of.profile, of.revision);
    let head = Envelope::parse(&objects.read(&head_path).await?);
    let head = head.map_err(|error| damaged(&head_path, &error))?;
    let head = Head::parse(head.payload.as_bytes()).map_err(|error| damaged(&head_path, &error))?;
    let manifest_path = format!("manifests/{}", head.manifest.digest);
    let manifest = match objects.read(&manifest_path).await {
        Err(ObjectError::Missing) => Err(damaged(
            &manifest_path,
            &"a head names it, but it does not exist",
        )),
        other => other,
    }?;
    let manifest = Manifest::parse(&manifest).map_err(|error| damaged(&manifest_path, &error))?;
    Ok((head, manifest))
}

/// A record that cannot be read.
pub(crate) fn damaged(path: &str, why: &dyn std::fmt::Display) -> ObjectError {
    ObjectError::Store {
        path: path.to_owned(),
        message: format!("damaged: {why} (run `bakery verify --all`)"),
    }
}
