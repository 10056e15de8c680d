//! The result of a bake, for users, jobs and the web page.

use std::io::{self, Write};

use layerfmt::Digest;
use serde::{Deserialize, Serialize};
use wire::push::Change;

use crate::assemble::Excluded;
use crate::human::length;

/// The result of a bake.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BakeReport {
    /// Name of the input.
    pub source: String,
    /// The layer's name.
    #[serde(with = "hex")]
    pub layer: Digest,
    /// Digest of the layer's own tree (changes, if it is a layer of changes).
    #[serde(with = "hex_option")]
    pub tree_digest: Option<Digest>,
    /// Length of the layer file, bytes.
    pub file_len: u64,
    /// Bytes of compressed content in it.
    pub data_len: u64,
    /// Bytes of superblock, index and digests.
    pub index_len: u64,
    /// Objects in the layer.
    pub inodes: u32,
    /// Number of own chunks.
    pub own_chunks: u32,
    /// Chunks it borrows from the base.
    pub borrowed_chunks: u32,
    /// Bytes of content read.
    pub content_len: u64,
    /// Of these, bytes that the base or the layer already had.
    pub deduplicated_len: u64,
    /// True if the layer changes nothing on its base.
    pub is_empty: bool,
    /// Number of entries read.
    pub entries: u64,
    /// Whiteouts among them.
    pub whiteouts: u64,
    /// Entries dropped because the base has the same.
    pub no_ops: u64,
    /// Entries that the excludes drop.
    pub excluded_count: u64,
    /// The first of these entries, with the pattern that excludes each.
    pub excluded: Vec<Excluded>,
    /// Paths that an upload changes.
    #[serde(default)]
    pub changes_count: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Notes of the source.
    pub notes: Vec<String>,
    /// Findings for the user to inspect, such as likely secrets.
    pub warnings: Vec<String>,
    /// Durations of the steps.
    pub seconds: Seconds,
}

/// Wall time, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Reading and compressing.
    pub read: f64,
    /// Comparing with the base, the last chunks, the index, sync.
    pub write: f64,
    /// Verification of the written layer.
    pub verify: f64,
    /// The total.
    pub total: f64,
}

/// Most excluded entries shown to a person.
const EXCLUDED_SHOWN_MAX: usize = 20;

impl BakeReport {
    /// The report for a person.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "layer      {}", self.layer)?;
        writeln!(
            out,
            "size       {} ({} content, {} index)",
            length(self.file_len),
            length(self.data_len),
            length(self.index_len)
        )?;
        writeln!(
            out,
            "content    {} read, {} of it known; {} chunks, {} borrowed",
            length(self.content_len),
            length(self.deduplicated_len),
            self.own_chunks,
            self.borrowed_chunks
        )?;
        writeln!(
            out,
            "entries    {} read, {} whiteouts, {} unchanged, {} excluded; {} objects in the layer",
            self.entries, self.whiteouts, self.no_ops, self.excluded_count, self.inodes
        )?;
        let Seconds {
            read,
            write,
            verify,
            total,
        } = self.seconds;
        writeln!(
            out,
            "time       {total:.1} s ({read:.1} read, {write:.1} write, {verify:.1} verify)"
        )?;
        if self.is_empty {
            writeln!(out, "nothing    the layer changes nothing on its base")?;
        }
        for Excluded { path, pattern } in self.excluded.iter().take(EXCLUDED_SHOWN_MAX) {
            writeln!(out, "excluded   {path} ({pattern})")?;
        }
        let shown = EXCLUDED_SHOWN_MAX.min(self.excluded.len()) as u64;
        if self.excluded_count > shown {
            writeln!(out, "excluded   and {} more", self.excluded_count - shown)?;
        }
        for note in &self.notes {
            writeln!(out, "note       {note}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning    {warning}")?;
        }
        Ok(())
    }
}

/// Digests as 64 hex characters.
mod hex {
    use layerfmt::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(digest)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(input: D) -> Result<Digest, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(|_| D::Error::custom("not a digest"))
    }
}

/// The same, for an optional value.
mod hex_option {
    use layerfmt::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        digest: &Option<Digest>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => out.collect_str(digest),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        input: D,
    ) -> Result<Option<Digest>, D::Error> {
        let text = Option::<String>::deserialize(input)?;
        let digest = text.map(|text| text.parse()).transpose();
        digest.map_err(|_| D::Error::custom("not a digest"))
    }
}
