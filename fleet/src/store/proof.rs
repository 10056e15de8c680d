//! The proofs of hellos: refuses hellos without the necessary one.
//!
//! `docs/FLEET.md` (F7) is the specification.

use wire::hello::Hello;

use super::boot_row::{LATE_S, last_row};
use super::hello::{Found, MachineFacts};
use super::link::{Connection, params};
use super::{Database, Result};

/// The proof that a hello is of its machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// The server itself sends this request in place of the machine's firmware, which cannot prove
    /// anything.
    pub menu: bool,
    /// The sender has the room's token.
    pub token: bool,
    /// The key in the hello signed it.
    pub signed: bool,
}

impl Database {
    /// F7.2, F7.3: refuses a hello without the necessary proof, and records the refusal.
    pub(super) fn refuse(
        &self,
        found: &Found,
        hello: &Hello,
        proof: Proof,
        now: i64,
    ) -> Result<Option<MachineFacts>> {
        let work = &self.connection;
        let accepted = match found {
            Found::Machine(id) => accepted_key(work, id)?,
            Found::Stranger { .. } => None,
        };
        let is_proved = match accepted {
            Some(accepted) => {
                proof.signed && hello.key.is_some_and(|key| key.to_string() == accepted)
            }
            None => proof.token || !self.needs_token,
        };
        let is_old = accepted_boot_is_over(work, found, hello, now)?;
        if proof.menu || is_proved && !is_old {
            return Ok(None);
        }
        if let Found::Machine(id) = found {
            let sql = "UPDATE machines SET forged_seen = ?2 WHERE id = ?1";
            work.execute(sql, &params![id, now])?;
        }
        Ok(Some(MachineFacts {
            refused: true,
            ..MachineFacts::default()
        }))
    }
}

fn accepted_key(work: &Connection, id: &str) -> Result<Option<String>> {
    let select = "SELECT accepted FROM machines WHERE id = ?1";
    let keys = work.column::<Option<String>>(select, &params![id])?;
    Ok(keys.into_iter().next().flatten())
}

/// True for a hello of an earlier boot of a machine with an accepted key: somebody repeats it.
fn accepted_boot_is_over(
    work: &Connection,
    found: &Found,
    hello: &Hello,
    now: i64,
) -> Result<bool> {
    let Found::Machine(id) = found else {
        return Ok(false);
    };
    let Some(last) =
        last_row(work, id)?.filter(|last| !hello.boot.is_empty() && last.boot != hello.boot)
    else {
        return Ok(false);
    };
    let known = work.rows(
        "SELECT 1 FROM boots WHERE machine = ?1 AND boot = ?2",
        &params![id, &hello.boot],
    )?;
    Ok(!known.is_empty() && now - last.began > LATE_S && accepted_key(work, id)?.is_some())
}

/// Records the key that a machine without an accepted one offers.
pub(super) fn note_key(work: &Connection, id: &str, hello: &Hello, proof: Proof) -> Result<()> {
    let Some(key) = hello.key.filter(|_| proof.signed) else {
        return Ok(());
    };
    work.execute(
        "UPDATE machines SET offered = ?2 WHERE id = ?1 AND accepted IS NULL",
        &params![id, key.to_string()],
    )?;
    Ok(())
}
