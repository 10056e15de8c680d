//! The machine that requests a boot menu. A menu without hardware names in its URL makes the loader repeat the
//! request with them (`docs/FLEET.md`, F5). A server without a fleet does not ask for names.

use axum::Extension;
use fleet::messages::{FetchedNote, MenuAnswer};
use fleet::record::Assignment;
use percent_encoding::percent_decode_str;
use wire::hello::Step;
use wire::machine::Identity;
use wire::manifest::{DEFAULT_RING, RevisionName};

use super::Server;
use super::connection::Peer;
use crate::netboot::MenuChoice;

/// The sender of a request for a menu.
#[derive(Debug)]
pub(super) enum MenuClient {
    /// Unknown: the server has no fleet, the request has no usable name, or the process does not
    /// answer.
    Nobody,
    /// The request has no names; the menu begins with a request for them.
    Unasked,
    /// The answer of the fleet about the machine.
    Machine(MenuAnswer),
}

/// Asks the fleet about the machine in a request's query.
pub(super) async fn of(
    server: &Server,
    peer: Option<Extension<Peer>>,
    query: Option<&str>,
) -> MenuClient {
    let Some(fleet) = &server.fleet else {
        return MenuClient::Nobody;
    };
    let Some(identity) = query.and_then(names) else {
        return MenuClient::Unasked;
    };
    let from = peer.map(|Extension(Peer(address))| address);
    if !identity.names_a_machine() {
        return MenuClient::Nobody;
    }
    match fleet.menu(identity, from).await {
        Some(answer) => MenuClient::Machine(answer),
        None => MenuClient::Nobody,
    }
}

/// Parses the note for the fleet in the query of a boot file; see [`MenuClient::mark`].
pub(super) fn fetched(query: &str) -> Option<FetchedNote> {
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    let (step, machine) = pairs().find_map(|(key, value)| {
        let step = Step::of_word(key)?;
        matches!(step, Step::Kernel | Step::Initramfs).then_some((step, value))
    })?;
    let (_, revision) = pairs().find(|(key, _)| *key == "revision")?;
    Some(FetchedNote {
        machine: machine.to_owned(),
        step,
        revision: decoded(revision),
    })
}

/// A value without the percent-encoding of loaders.
fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// Parses the names in `uuid=…&mac=…&asset=…`; `None` without a `mac`.
fn names(query: &str) -> Option<Identity> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let mac = value("mac")?;
    let asset = decoded(value("asset").unwrap_or_default());
    Some(Identity::of_words(
        value("uuid").unwrap_or_default(),
        mac,
        &asset,
    ))
}

impl MenuClient {
    /// The machine's assignment.
    pub(super) fn assignment(&self) -> Assignment {
        match self {
            Self::Machine(answer) => answer.assignment.clone(),
            Self::Nobody | Self::Unasked => Assignment::default(),
        }
    }

    /// The ring of the machine.
    pub(super) fn ring(&self) -> &str {
        match self {
            Self::Machine(answer) => answer.assignment.ring.as_deref().unwrap_or(DEFAULT_RING),
            Self::Nobody | Self::Unasked => DEFAULT_RING,
        }
    }

    /// The revision that the machine boots in place of `default` during a return.
    pub(super) fn back_from(&self, default: &RevisionName) -> Option<RevisionName> {
        let Self::Machine(answer) = self else {
            return None;
        };
        let returned = answer.returned.as_ref()?;
        let failed: RevisionName = returned.from.parse().ok()?;
        let good = returned.to.parse().ok()?;
        (failed == *default).then_some(good)
    }

    /// The machine's id; empty if the fleet does not know it.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Machine(answer) => &answer.machine,
            Self::Nobody | Self::Unasked => "",
        }
    }

    /// Adds the machine's id to the URLs of the boot files, so that the server can record the steps
    /// of the boot, and its card. Appends the number of its values record, and the assigned
    /// parameters, to those of the revision: the kernel uses the last of two.
    pub(super) fn mark(&self, choice: &mut MenuChoice) {
        let Self::Machine(MenuAnswer {
            machine,
            assignment,
            layer,
            card,
            ..
        }) = self
        else {
            return;
        };
        let RevisionName { name, revision } = &choice.name;
        let what = format!("{}@{}", name.full(), revision.unwrap_or_default());
        let mark = |step: Step| format!("?{step}={machine}&revision={what}");
        choice.kernel.push_str(&mark(Step::Kernel));
        choice.initrd.push_str(&mark(Step::Initramfs));
        choice.card = *card;
        if let Some(layer) = layer {
            choice.add_parameters(&format!("layerfs.values={machine}:{layer}"));
        }
        choice.add_parameters(assignment.parameters.as_deref().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::{fetched, names};

    #[test]
    fn loaders_may_escape_the_address_of_a_file() {
        for address in [
            "kernel=pc17&revision=kiosk/main@7",
            "kernel=pc17&revision=kiosk/main%407",
            "kernel=pc17&revision=kiosk/main@7&card=01-80-86-10-d3&disks",
        ] {
            let note = fetched(address).unwrap();
            assert_eq!(
                (note.machine.as_str(), note.revision.as_str()),
                ("pc17", "kiosk/main@7")
            );
        }
        for none in ["", "kernel=pc17", "mounted=pc17&revision=kiosk/main@7"] {
            assert!(fetched(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_query_names_a_machine_or_is_none() {
        let query = "uuid=4C4C4544-0042-3510-8051-B4C04F564433&mac=52-54-00-00-00-17&asset=PC%2017";
        let named = names(query).unwrap();
        assert_eq!(
            named.uuid.unwrap().to_string(),
            "4c4c4544-0042-3510-8051-b4c04f564433"
        );
        assert_eq!(named.macs[0].to_string(), "52:54:00:00:00:17");
        assert_eq!(named.asset, "PC 17");
        assert!(!names("uuid=&mac=").unwrap().names_a_machine());
        for none in ["", "uuid=x", "mac", "utm_source=x"] {
            assert!(names(none).is_none(), "{none}");
        }
    }
}
