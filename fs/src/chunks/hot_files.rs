//! The files and pages of a boot pack, in the order of their arrival.

use std::sync::Arc;

use layerfmt::{Index, Ino};
use wire::trace::PAGE_LEN;

use crate::chunks::hot::HotFile;
use crate::chunks::remote::chunk_range;
use crate::limits::{HOT_PATH_LEN_MAX, HOT_RUNS_MAX};
use crate::names::Names;
use crate::net::object::Object;

/// The pages of the pack among `objects`, by files of `index`.
pub(crate) fn hot_files(index: &Index, objects: &[Arc<Object>]) -> Vec<HotFile> {
    // The place of each chunk in the pack, if it is there.
    let places: Vec<Option<u64>> = index
        .chunks()
        .map(|chunk| chunk_range(objects, &chunk).filter(|range| range.object.optional))
        .map(|packed| packed.map(|range| range.offset))
        .collect();
    let mut runs: Vec<(u64, Ino, u32, u32)> = Vec::new();
    for ino in 0..index.inode_count() {
        for extent in index.extents(ino, 0..u64::MAX) {
            let Some(Some(place)) = places.get(extent.chunk as usize) else {
                continue;
            };
            let end = (extent.file_offset + u64::from(extent.len)).div_ceil(PAGE_LEN);
            let first = extent.file_offset / PAGE_LEN;
            if let (Ok(first), Ok(end)) = (u32::try_from(first), u32::try_from(end)) {
                runs.push((*place, ino, first, end));
            }
        }
    }
    runs.sort_unstable();
    let names = Names::new(index);
    let mut files: Vec<HotFile> = Vec::new();
    let mut last = None;
    for (chunk, ino, first, end) in runs {
        let known = files.last_mut().filter(|_| last == Some((chunk, ino)));
        let begins_chunk = last.is_none_or(|(before, _)| before != chunk);
        last = Some((chunk, ino));
        let Some(file) = known.filter(|file| file.runs.len() < HOT_RUNS_MAX) else {
            let path = names.path(index, ino);
            files.push(HotFile {
                begins_chunk,
                row: ino,
                path: path.strip_prefix(b"/").unwrap_or_default().to_vec(),
                runs: vec![(first, end - first)],
            });
            continue;
        };
        match file.runs.last_mut() {
            Some((start, count)) if *start + *count >= first => {
                *count = end.max(*start + *count) - *start
            }
            _ => file.runs.push((first, end - first)),
        }
    }
    files.retain(|file| !file.path.is_empty() && file.path.len() <= HOT_PATH_LEN_MAX);
    files
}
