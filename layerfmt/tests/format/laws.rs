//! The laws of the format on random trees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use layerfmt::compact::{self, KeepBorrowed};
use layerfmt::dump::dump;
use layerfmt::flatten::{FlattenInput, flatten, flatten_layers, squash};
use layerfmt::source::LayerSet;
use layerfmt::tree::apply::{apply, compose};
use layerfmt::tree::diff::diff;
use layerfmt::{
    Base, ContentReader, DirentTarget, Index, Ino, Layer, LayerWriter, MergedIndex, Meta, ROOT,
    check::check,
};
use proptest::prelude::*;

use crate::arbitrary::{Model, bake, changes, contents, edit, edits, model, options};

fn cases() -> ProptestConfig {
    let cases = std::env::var("LAWS_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(500);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A whole tree as text: baked alone, dumped with content digests.
fn text(tree: &Model) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (layer, _) = bake(tree, None, 1, &dir.path().join("t"));
    dump(layer.index(), layer.content().unwrap().as_ref())
}

fn merged_text(merged: &MergedIndex) -> String {
    dump(&merged.index, merged.content.as_ref())
}

/// A tree as paths, with everything but the rows.
fn paths(index: &Index) -> BTreeMap<Vec<u8>, String> {
    let mut seen = BTreeMap::new();
    let mut left = vec![(ROOT, Vec::new())];
    while let Some((row, path)) = left.pop() {
        let chunk = |extent: layerfmt::Extent| {
            let chunk = index.chunk(extent.chunk).unwrap();
            (
                extent.file_offset,
                extent.chunk_offset,
                extent.len,
                chunk.digest,
            )
        };
        let extents: Vec<_> = index.extents(row, 0..u64::MAX).map(chunk).collect();
        let xattrs: Vec<_> = index.xattrs(row).collect();
        let (inode, target) = (index.inode(row), index.symlink(row));
        seen.insert(
            path.clone(),
            format!("{inode:?} {target:?} {xattrs:?} {extents:?}"),
        );
        for entry in index.entries(row, 0) {
            if let DirentTarget::Inode(child) = entry.child {
                left.push((child, [&path[..], b"/", entry.name].concat()));
            }
        }
    }
    seen
}

/// The rows of each path.
fn rows(index: &Index) -> BTreeMap<Vec<u8>, Ino> {
    let mut rows = BTreeMap::new();
    let mut left = vec![(ROOT, Vec::new())];
    while let Some((row, path)) = left.pop() {
        for entry in index.entries(row, 0) {
            if let DirentTarget::Inode(child) = entry.child {
                left.push((child, [&path[..], b"/", entry.name].concat()));
            }
        }
        rows.insert(path, row);
    }
    rows
}

proptest! {
    #![proptest_config(cases())]

    /// Law 1: `apply(base, diff(base, t)) == t`.
    #[test]
    fn law_1_diff_is_the_inverse_of_apply(first in edits(24), second in edits(16)) {
        let base = model(&first);
        let mut target = base.clone();
        second.iter().for_each(|step| edit(&mut target, step));
        let delta = diff(&base, &target).unwrap();
        prop_assert_eq!(text(&apply(&base, &delta).unwrap()), text(&target));
        let nothing = diff(&target, &target).unwrap();
        prop_assert_eq!(nothing.entries(0).count(), 0);
    }

    /// Law 1: a layer written against a base, flattened over it, is the target; contents of the
    /// base are borrowed.
    #[test]
    fn law_1_through_layer_files(first in edits(24), second in edits(16)) {
        let dir = tempfile::tempdir().unwrap();
        let base = model(&first);
        let mut target = base.clone();
        second.iter().for_each(|step| edit(&mut target, step));
        let (base_layer, _) = bake(&base, None, 2, &dir.path().join("base"));
        let below = flatten_layers([&*base_layer], true).unwrap();

        let path = dir.path().join("delta");
        let base_tables = Base::new(&below).unwrap();
        let base_tree = base_tables.tree().unwrap();
        let mut writer = LayerWriter::create(&path, options(2), Some(base_tables)).unwrap();
        let target_tree = contents(&target, &mut writer);
        let delta = diff(&base_tree, &target_tree).unwrap();
        writer.finish(delta, &Meta::default()).unwrap();
        let delta_layer = Arc::new(Layer::open(&path).unwrap());

        let merged = flatten_layers([&*base_layer, &*delta_layer], true).unwrap();
        prop_assert_eq!(merged_text(&merged), text(&target));
        let set = LayerSet::new([base_layer]);
        check(&delta_layer, &set, |_| ()).unwrap();
        let (alone, _) = bake(&target, None, 1, &dir.path().join("alone"));
        prop_assert_eq!(
            merged.tree_digest().unwrap(),
            layerfmt::tree_digest(alone.index(), &alone.content().unwrap().unwrap())
        );
    }

    /// `flatten` and `squash` are `apply` and `compose` of the reference model.
    #[test]
    fn flatten_is_apply(stack in prop::collection::vec(changes(14), 1..5), cut in 0usize..5) {
        let dir = tempfile::tempdir().unwrap();
        let models: Vec<Model> = stack.iter().map(|layer| model(layer)).collect();
        let layers: Vec<_> = models
            .iter()
            .enumerate()
            .map(|(i, m)| bake(m, None, 1, &dir.path().join(i.to_string())).0)
            .collect();
        let nothing = Model::new(Default::default());
        let want = models.iter().fold(nothing, |tree, layer| apply(&tree, layer).unwrap());
        let got = flatten_layers(layers.iter().map(|l| &**l), true).unwrap();
        prop_assert_eq!(merged_text(&got), text(&want));

        // Composing any two neighbors first gives the same result.
        let cut = cut % models.len();
        if let [lower, upper, ..] = &models[cut..] {
            let one = compose(lower, upper).unwrap();
            let squashed = {
                let inputs: Vec<_> =
                    layers[cut..cut + 2].iter().map(|l| FlattenInput::of(l, true).unwrap()).collect();
                squash(&inputs).unwrap()
            };
            prop_assert_eq!(merged_text(&squashed), text(&one));
        }
    }

    /// Law 2: compaction, copying or recompressing, shows the same tree. Law 5: equal input gives
    /// equal bytes, whatever the number of threads.
    #[test]
    fn laws_2_and_5(stack in prop::collection::vec(changes(14), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<_> = stack
            .iter()
            .enumerate()
            .map(|(i, m)| bake(&model(m), None, 1 + i % 3, &dir.path().join(i.to_string())).0)
            .collect();
        let merged = flatten_layers(layers.iter().map(|l| &**l), true).unwrap();
        let set = LayerSet::new(layers.iter().cloned());
        let copied = dir.path().join("copied");
        let keep = KeepBorrowed { borrowed: &[] };
        let info =
            compact::copy(&merged, &set, &copied, keep, &Meta::default(), |_| ()).unwrap();
        let compacted = Arc::new(Layer::open(&copied).unwrap());
        prop_assert_eq!(compacted.digest(), info.digest);
        let report = check(&compacted, &LayerSet::default(), |_| ()).unwrap();
        prop_assert_eq!(report.tree_digest, merged.tree_digest());
        prop_assert_eq!(report.unused, 0);
        prop_assert_eq!(report.files_skipped, 0);

        let again = dir.path().join("again");
        compact::recompress(&merged, &set, &again, options(3), &Meta::default(), |_| ()).unwrap();
        let report = check(&Arc::new(Layer::open(&again).unwrap()), &set, |_| ()).unwrap();
        prop_assert_eq!(report.tree_digest, merged.tree_digest());
        let once_more = dir.path().join("once more");
        compact::recompress(&merged, &set, &once_more, options(1), &Meta::default(), |_| ())
            .unwrap();
        prop_assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&once_more).unwrap());
    }

    /// Contents read through extents and chunks equal the written contents.
    #[test]
    fn contents_read_back(steps in edits(30)) {
        let dir = tempfile::tempdir().unwrap();
        let tree = model(&steps);
        let (layer, _) = bake(&tree, None, 2, &dir.path().join("l"));
        let merged = flatten_layers([&*layer], false).unwrap();
        let set = LayerSet::new([layer]);
        let mut reader = ContentReader::new(&merged.index, &set);
        tree.walk(|visit| {
            let Some((_, node)) = visit.node else { return Ok(()) };
            let layerfmt::tree::Kind::File(want) = &node.kind else { return Ok(()) };
            let mut ino = 0;
            for part in visit.path.split(|&b| b == b'/') {
                ino = match merged.index.lookup(ino, part).unwrap().child {
                    layerfmt::DirentTarget::Inode(ino) => ino,
                    layerfmt::DirentTarget::Whiteout => unreachable!(),
                };
            }
            let mut got = vec![0; merged.index.inode(ino).unwrap().size as usize];
            reader
                .runs(ino, |offset, bytes| {
                    got[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
            if &got == want { Ok(()) } else { Err(visit.path.to_vec()) }
        })
        .unwrap();
    }
}

#[test]
fn an_empty_stack_is_refused() {
    assert!(flatten(&[]).is_err());
}

proptest! {
    #![proptest_config(cases())]

    /// A successor is the next tree, under the rows of the one before: the same objects keep theirs,
    /// and rows in use keep their objects, through any number of revisions.
    #[test]
    fn successors_are_the_next_tree_under_the_same_rows(
        first in edits(24),
        changes in proptest::collection::vec(edits(8), 1..5),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = model(&first);
        let flat = |tree: &Model, number: usize| {
            let (layer, _) = bake(tree, None, 1, &dir.path().join(format!("{number}")));
            flatten_layers([&*layer], false).unwrap().index
        };
        let mut index = flat(&tree, 0);
        for (number, change) in changes.iter().enumerate() {
            change.iter().for_each(|step| edit(&mut tree, step));
            let next = flat(&tree, number + 1);
            let in_use = |row| row % 3 == 0;
            let successor = index.succeed(&next, in_use, u32::MAX).unwrap();
            prop_assert_eq!(paths(&successor.index), paths(&next));
            let (before, after) = (rows(&index), rows(&successor.index));
            let changed: BTreeSet<Ino> = successor.changes.iter().filter_map(|one| one.after).collect();
            for (path, row) in &after {
                let stays = before.get(path) == Some(row);
                prop_assert_eq!(stays, !changed.contains(row), "{:?}", path);
            }
            for (path, row) in &before {
                if after.get(path) != Some(row) {
                    let (old, kept) = (index.inode(*row).unwrap(), successor.index.inode(*row).unwrap());
                    prop_assert_eq!(old, kept);
                    prop_assert!(successor.dropped.contains(row));
                }
            }
            let own = rows(&next);
            for (path, row) in &own {
                prop_assert_eq!(after[path], successor.rows[*row as usize]);
            }
            // A later mount of the next tree takes the same rows.
            let renumbered = next.renumbered(&successor.rows, &[]);
            prop_assert_eq!(rows(&renumbered), after);
            prop_assert_eq!(paths(&renumbered), paths(&next));
            index = Arc::new(successor.index);
        }
    }
}
