//! The command that a push starts to reach the server.

use std::path::{Path, PathBuf};

/// The key that `bakery client` puts into a system.
const KEY: &str = "/etc/layerfs/push_key";
/// The server's host keys, which the system contains.
const KNOWN_HOSTS: &str = "/etc/layerfs/known_hosts";
/// The file in which ssh looks for host keys for all accounts.
const KNOWN_HOSTS_OF_SSH: &str = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2";

/// The keys that ssh tries by itself, in a user's `.ssh`. It tries none of them once a key is named.
const KEYS_OF_USER: [&str; 5] = [
    "id_rsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
];

/// The words of `asked`, a command with its options. Plain `ssh` also gets the key and the host
/// keys that came with the system, after the user's own.
#[must_use]
pub(crate) fn command(asked: &str) -> Vec<String> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".ssh"));
    let own = KEYS_OF_USER
        .iter()
        .filter_map(|name| Some(home.as_ref()?.join(name)));
    let keys: Vec<String> = own
        .chain([PathBuf::from(KEY)])
        .filter(|key| key.exists())
        .map(|key| key.to_string_lossy().into_owned())
        .collect();
    let known_hosts = Some(KNOWN_HOSTS).filter(|place| Path::new(place).exists());
    words(asked, keys, known_hosts)
}

fn words(asked: &str, keys: Vec<String>, known_hosts: Option<&str>) -> Vec<String> {
    let mut words: Vec<String> = asked.split_whitespace().map(str::to_owned).collect();
    if words != ["ssh"] {
        return words;
    }
    words.extend(keys.into_iter().flat_map(|key| ["-i".to_owned(), key]));
    if let Some(known_hosts) = known_hosts {
        let files = format!("GlobalKnownHostsFile={KNOWN_HOSTS_OF_SSH} {known_hosts}");
        words.extend(["-o".to_owned(), files]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ssh_gets_what_came_with_the_system_and_a_command_stays_as_it_is() {
        let all = words("ssh", vec!["/own".into(), "/key".into()], Some("/hosts"));
        let files =
            "GlobalKnownHostsFile=/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2 /hosts";
        assert_eq!(all, ["ssh", "-i", "/own", "-i", "/key", "-o", files]);
        assert_eq!(words("ssh", Vec::new(), None), ["ssh"]);
        let own = words("ssh -i mine", vec!["/key".into()], Some("/hosts"));
        assert_eq!(own, ["ssh", "-i", "mine"]);
    }
}
