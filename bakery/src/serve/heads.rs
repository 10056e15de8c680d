//! The existing revisions: the newest of a profile, and a list of all.

use std::collections::BTreeMap;

use serde::Serialize;
use wire::manifest::{Head, Manifest, ProfileName};
use wire::paths::{Class, ObjectPath};
use wire::trust::Envelope;

use super::limits;
use super::object::{ObjectError, Objects};

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

impl Profile {
    /// Its name.
    pub(crate) fn name(&self) -> ProfileName {
        ProfileName {
            system: self.system.clone(),
            profile: self.profile.clone(),
        }
    }
}

/// The store's path of a head.
pub(crate) fn path(name: &ProfileName, revision: u64) -> String {
    ObjectPath::Head(name.clone(), revision).to_string()
}

/// The newest revision. The hint is only a place to begin: it may be absent, behind or wrong.
///
/// # Errors
/// [`ObjectError::Missing`]: no such profile. Otherwise the store failed.
pub(crate) async fn newest(objects: &Objects, name: &ProfileName) -> Result<u64, ObjectError> {
    let hint = ObjectPath::Hint(name.clone()).to_string();
    let hint = match objects.read(&hint).await {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        Err(ObjectError::Missing) => None,
        Err(error) => return Err(error),
    };
    if let Some(hint) = hint
        && exists(objects, name, hint).await?
    {
        let mut newest: u64 = hint;
        // Heads have no gaps, so each step is one more than the writer of the hint knew.
        while let Some(next) = newest.checked_add(1)
            && exists(objects, name, next).await?
        {
            newest = next;
        }
        return Ok(newest);
    }
    revisions(objects, name)
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
    name: &ProfileName,
) -> Result<Vec<u64>, ObjectError> {
    let mut found: Vec<u64> = objects
        .list(&ObjectPath::heads_of(name))
        .await?
        .iter()
        .filter_map(ObjectPath::number)
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The revisions from which update packs lead to a revision.
///
/// # Errors
/// The store failed.
pub(crate) async fn updates(
    objects: &Objects,
    name: &ProfileName,
    to: u64,
) -> Result<Vec<u64>, ObjectError> {
    let listed = objects.list(&ObjectPath::updates_to(name, to)).await?;
    let from = |path: ObjectPath| match path {
        ObjectPath::Update(_, _, from) => Some(from),
        _ => None,
    };
    Ok(listed.into_iter().filter_map(from).collect())
}

/// Every profile that is not closed, by name.
///
/// # Errors
/// The store failed.
pub(crate) async fn profiles(objects: &Objects) -> Result<Vec<Profile>, ObjectError> {
    let mut newest: BTreeMap<ProfileName, u64> = BTreeMap::new();
    for path in objects.list(Class::Head.directory()).await? {
        if let ObjectPath::Head(name, revision) = path {
            let entry = newest.entry(name).or_default();
            *entry = revision.max(*entry);
        }
    }
    for path in objects.list(Class::Removed.directory()).await? {
        if let ObjectPath::Removed(name) = path {
            newest.remove(&name);
        }
    }
    let profiles = newest.into_iter().take(limits::LISTING_MAX);
    Ok(profiles
        .map(|(name, revision)| Profile {
            system: name.system,
            profile: name.profile,
            revision,
        })
        .collect())
}

async fn exists(objects: &Objects, name: &ProfileName, revision: u64) -> Result<bool, ObjectError> {
    match objects.read(&path(name, revision)).await {
        Ok(_) => Ok(true),
        Err(ObjectError::Missing) => Ok(false),
        Err(error) => Err(error),
    }
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
    let head_path = path(&of.name(), of.revision);
    let head = Envelope::parse(&objects.read(&head_path).await?);
    let head = head.map_err(|error| damaged(&head_path, &error))?;
    let head = Head::parse(head.payload.as_bytes()).map_err(|error| damaged(&head_path, &error))?;
    let manifest_path = ObjectPath::Manifest(head.manifest.digest).to_string();
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
