//! The machine that asks for a boot menu, as far as its loader names it.
//!
//! A loader that fetches a menu by its plain address is told to come again with its hardware's names in the address
//! (`docs/FLEET.md`, F5). A server without a fleet asks nobody.

use axum::Extension;
use fleet::record::Assignment;
use fleet::server::{FetchedNote, MenuAnswer};
use wire::hello::Step;
use wire::machine::Identity;
use wire::manifest::RevisionName;

use super::Server;
use super::connection::Peer;
use crate::netboot::MenuChoice;

/// The sender of a request for a menu.
#[derive(Debug)]
pub(super) enum Guest {
    /// Nobody asks for names here, or the fleet's process does not answer.
    Nobody,
    /// It has not said its names: the menu begins by asking for them.
    Unasked,
    /// The fleet knows it.
    Machine(MenuAnswer),
}

/// Asks the fleet about the machine in a request's query.
pub(super) async fn of(
    server: &Server,
    peer: Option<Extension<Peer>>,
    query: Option<&str>,
) -> Guest {
    let Some(fleet) = &server.fleet else {
        return Guest::Nobody;
    };
    let Some(identity) = query.and_then(names) else {
        return Guest::Unasked;
    };
    let from = peer.map(|Extension(Peer(address))| address);
    if !identity.names_a_machine() {
        return Guest::Nobody;
    }
    match fleet.menu(identity, from).await {
        Some(answer) => Guest::Machine(answer),
        None => Guest::Nobody,
    }
}

/// The note for the fleet in the query of a file of a menu; see [`Guest::mark`].
pub(super) fn fetched(query: &str) -> Option<FetchedNote> {
    let (step, rest) = query.split_once('=')?;
    let (machine, revision) = rest.split_once("&revision=")?;
    let step = Step::of_word(step).filter(|step| matches!(step, Step::Kernel | Step::Initramfs))?;
    Some(FetchedNote {
        machine: machine.to_owned(),
        step,
        // iPXE escapes it.
        revision: revision.replace("%40", "@").replace("%2F", "/"),
    })
}

/// The names in `uuid=…&mac=…&asset=…`; none if that is not what the query is.
fn names(query: &str) -> Option<Identity> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let mac = value("mac")?;
    let asset = value("asset").unwrap_or_default().replace("%20", " ");
    Some(Identity::of_words(
        value("uuid").unwrap_or_default(),
        mac,
        &asset,
    ))
}

impl Guest {
    /// The machine's assignment.
    pub(super) fn assignment(&self) -> Assignment {
        match self {
            Self::Machine(answer) => answer.assignment.clone(),
            Self::Nobody | Self::Unasked => Assignment::default(),
        }
    }

    /// The revision that the machine is to boot in place of `default`, which failed on it again and again.
    pub(super) fn back_from(&self, default: &RevisionName) -> Option<RevisionName> {
        let Self::Machine(answer) = self else {
            return None;
        };
        let returned = answer.returned.as_ref()?;
        let failed: RevisionName = returned.from.parse().ok()?;
        let good = returned.to.parse().ok()?;
        (failed == *default).then_some(good)
    }

    /// The machine's id; empty if it has none.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Machine(answer) => &answer.machine,
            Self::Nobody | Self::Unasked => "",
        }
    }

    /// Puts the machine into the addresses of the files, so that the server sees how far the boot comes, and its
    /// parameters behind those of the revision: the kernel takes the last of two.
    pub(super) fn mark(&self, choice: &mut MenuChoice) {
        let Self::Machine(MenuAnswer {
            machine,
            assignment,
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
