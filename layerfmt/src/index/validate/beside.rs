//! The tables beside the tree: layers, chunks and attributes.

use super::values::Values;
use super::{Check, join};
use crate::error::{FormatError, Result};
use crate::layout::columns::{Area, Column};
use crate::layout::superblock::SUPERBLOCK_LEN;
use crate::limits;

impl<'i, V: Values<'i>> Check<'i, V> {
    /// The tables that are not the tree.
    pub(super) fn shared(&self, data_end: u64) -> Result<()> {
        self.layers()?;
        self.chunks(data_end)?;
        self.xattr_names()?;
        self.xattr_pairs()
    }

    fn layers(&self) -> Result<()> {
        let lens = self
            .column(Column::LayerLenLow)
            .zip(self.column(Column::LayerLenHigh));
        for (row, (low, high)) in lens.enumerate() {
            if join(low, high) < SUPERBLOCK_LEN as u64 {
                return Err(self.fail(Column::LayerLenLow, row, "shorter than a superblock"));
            }
        }
        Ok(())
    }

    fn chunks(&self, data_end: u64) -> Result<()> {
        let mut own_end = SUPERBLOCK_LEN as u64;
        let mut borrowed = false;
        let rows = self
            .column(Column::ChunkSource)
            .zip(self.column(Column::ChunkOffsetLow))
            .zip(self.column(Column::ChunkOffsetHigh))
            .zip(self.column(Column::ChunkStoredLen))
            .zip(self.column(Column::ChunkRawLen))
            .zip(self.column(Column::ChunkCodec));
        for (row, (((((source, low), high), stored_len), raw_len), codec)) in rows.enumerate() {
            if raw_len == 0 || raw_len > limits::CHUNK_RAW_LEN_MAX {
                return Err(self.fail(Column::ChunkRawLen, row, format!("length {raw_len}")));
            }
            let fits = match codec {
                0 => stored_len == raw_len,
                1 | 2 => stored_len > 0 && stored_len < raw_len,
                _ => return Err(self.fail(Column::ChunkCodec, row, format!("codec {codec}"))),
            };
            if !fits {
                let what = format!("{stored_len} bytes stored for {raw_len} with codec {codec}");
                return Err(self.fail(Column::ChunkStoredLen, row, what));
            }
            let offset = join(low, high);
            let end = offset.checked_add(stored_len.into());
            let limit = match source.checked_sub(1) {
                None if borrowed => {
                    return Err(self.fail(Column::ChunkSource, row, "own after borrowed"));
                }
                None => {
                    if offset != own_end {
                        return Err(self.fail(Column::ChunkOffsetLow, row, "gap or overlap"));
                    }
                    own_end = end.unwrap_or(u64::MAX);
                    data_end
                }
                Some(layer) if layer < self.columns.counts.layers => {
                    borrowed = true;
                    join(
                        self.value(Column::LayerLenLow, layer),
                        self.value(Column::LayerLenHigh, layer),
                    )
                }
                Some(_) => return Err(self.fail(Column::ChunkSource, row, "no such layer")),
            };
            if offset < SUPERBLOCK_LEN as u64 || end.is_none_or(|end| end > limit) {
                return Err(self.fail(Column::ChunkOffsetLow, row, "outside its file"));
            }
        }
        if own_end != data_end {
            let what = format!("own chunks end at {own_end}, the chunk data at {data_end}");
            return Err(FormatError::corrupt("INDEX", 0, what));
        }
        Ok(())
    }

    fn xattr_names(&self) -> Result<()> {
        self.ends(Column::XattrNameEnd, self.columns.counts.xattr_names_len)?;
        let names = self.area(Area::XattrNames);
        let mut start = 0;
        for (row, end) in self.column(Column::XattrNameEnd).enumerate() {
            let name = names.get(start..end as usize).unwrap_or_default();
            if name.is_empty() || name.len() > limits::XATTR_NAME_LEN_MAX || name.contains(&0) {
                return Err(self.fail(Column::XattrNameEnd, row, "not an attribute name"));
            }
            start = end as usize;
        }
        Ok(())
    }

    fn xattr_name(&self, row: u32) -> &'i [u8] {
        let start = row
            .checked_sub(1)
            .map_or(0, |before| self.value(Column::XattrNameEnd, before));
        let end = self.value(Column::XattrNameEnd, row);
        self.area(Area::XattrNames)
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    fn xattr_pairs(&self) -> Result<()> {
        self.ends(
            Column::XattrPairValueEnd,
            self.columns.counts.xattr_values_len,
        )?;
        self.ends(Column::XattrSetEnd, self.columns.counts.xattr_pairs)?;
        let mut value_start = 0;
        let mut pairs = self
            .column(Column::XattrPairName)
            .zip(self.column(Column::XattrPairValueEnd));
        let mut row = 0;
        for (set, end) in self.column(Column::XattrSetEnd).enumerate() {
            let mut last: &[u8] = &[];
            let first = row;
            for (name_row, value_end) in pairs.by_ref().take(end as usize - row) {
                if name_row >= self.columns.counts.xattr_names {
                    return Err(self.fail(Column::XattrPairName, row, "no such name"));
                }
                let name = self.xattr_name(name_row);
                if name <= last {
                    return Err(self.fail(Column::XattrPairName, row, "names out of order"));
                }
                if (value_end - value_start) as usize > limits::XATTR_VALUE_LEN_MAX {
                    return Err(self.fail(Column::XattrPairValueEnd, row, "value too long"));
                }
                last = name;
                value_start = value_end;
                row += 1;
            }
            if row == first || row - first > limits::XATTRS_PER_INODE_MAX {
                return Err(self.fail(Column::XattrSetEnd, set, "empty set or too many names"));
            }
        }
        Ok(())
    }
}
