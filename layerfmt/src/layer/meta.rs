//! The META section: the origin of a layer. The only module that uses bincode.

use bincode::{Decode, Encode};

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::limits;

/// Provenance of a layer. Holds no time unless a label contains one: equal input gives equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Program and version that wrote the layer.
    pub generator: String,
    /// The layers below it when it was baked, base first.
    pub base: Vec<Digest>,
    /// Free labels, in the order given: source, message, …
    pub labels: Vec<(String, String)>,
}

#[derive(Encode, Decode)]
struct Record {
    generator: String,
    base: Vec<[u8; 32]>,
    labels: Vec<(String, String)>,
}

// bincode 1's wire format: little-endian, fixed width, 64-bit lengths. FORMAT.md §6.3 describes it.
const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<{ limits::META_LEN_MAX as usize }>,
> = bincode::config::legacy().with_limit::<{ limits::META_LEN_MAX as usize }>();

impl Meta {
    /// The uncompressed section.
    ///
    /// # Errors
    /// When it is larger than `limits::META_LEN_MAX`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let record = Record {
            generator: self.generator.clone(),
            base: self.base.iter().map(|digest| digest.0).collect(),
            labels: self.labels.clone(),
        };
        let raw = bincode::encode_to_vec(record, CONFIG)
            .map_err(|e| FormatError::limit("META", 0, e.to_string()))?;
        if raw.len() as u64 > limits::META_LEN_MAX {
            return Err(FormatError::limit(
                "META",
                0,
                format!("{} bytes", raw.len()),
            ));
        }
        Ok(raw)
    }

    /// The record in an uncompressed, verified section.
    ///
    /// # Errors
    /// When it does not decode or leaves bytes over.
    pub fn decode(raw: &[u8]) -> Result<Meta> {
        let (record, used): (Record, usize) = bincode::decode_from_slice(raw, CONFIG)
            .map_err(|e| FormatError::corrupt("META", 0, e.to_string()))?;
        if used != raw.len() {
            return Err(FormatError::corrupt("META", used as u64, "bytes left over"));
        }
        Ok(Meta {
            generator: record.generator,
            base: record.base.into_iter().map(Digest).collect(),
            labels: record.labels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_hostile_lengths() {
        let meta = Meta {
            generator: "bakery".into(),
            base: vec![Digest::of(b"a")],
            labels: vec![("message".into(), "x".into())],
        };
        let raw = meta.encode().unwrap();
        assert_eq!(Meta::decode(&raw).unwrap(), meta);
        assert!(Meta::decode(&[&raw[..], &[0]].concat()).is_err());
        let mut hostile = (1u64 << 60).to_le_bytes().to_vec();
        hostile.push(0);
        assert!(Meta::decode(&hostile).is_err());
    }
}
