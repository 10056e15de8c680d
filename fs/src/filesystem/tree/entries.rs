//! The upper's entries of one directory, and the order in which they are listed. The order is
//! computed when the directory is first listed: most new names are never listed.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::sync::{Arc, OnceLock};

use super::Name;
use crate::filesystem::cookie::{ListingClock, Spot};
use crate::filesystem::reply::{DIRECTORY, NodeId};

/// The entry of one name in an upper directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The name is hidden.
    Whiteout,
    /// An object of the upper.
    Object {
        /// Its node; 0 before the first request. Otherwise the node is in the tree.
        id: NodeId,
        /// The type bits of the mode.
        kind: u32,
        /// When the name appeared here ([`ListingClock`]); 0: it was there from the start.
        born: u32,
    },
}

/// The upper's part of a directory, complete.
#[derive(Debug, Default)]
pub struct Listing {
    names: BTreeMap<Name, Entry>,
    /// Names that only the upper has, once they were listed. Other names keep their place in the
    /// lower.
    order: OnceLock<Box<Order>>,
    /// Objects, not whiteouts.
    objects: usize,
    /// Which names are new.
    pub clock: ListingClock,
    /// Visible subdirectories, those of the lower included.
    pub subdirectories: u32,
    /// True if new objects get their permissions from a default ACL; `None` if unknown.
    pub default_acl: Option<bool>,
}

impl Listing {
    /// The upper's entry of `name`.
    pub fn get(&self, name: &[u8]) -> Option<Entry> {
        self.names.get(name).copied()
    }

    /// Iterates over all entries.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.names.iter()
    }

    /// Objects that the lower has no name for, from `from` on, in their order. `lower_count` is the
    /// number of the lower's entries, `in_lower` is true for their names.
    pub(crate) fn objects_from(
        &self,
        from: Spot,
        lower_count: u32,
        in_lower: impl Fn(&[u8]) -> bool,
    ) -> impl Iterator<Item = (Spot, &Name, Entry)> {
        let order = self.order.get_or_init(|| {
            let mut order = Order::new(lower_count);
            let objects = self
                .names
                .iter()
                .filter(|(name, entry)| matches!(entry, Entry::Object { .. }) && !in_lower(name));
            objects.for_each(|(name, _)| order.add(name));
            Box::new(order)
        });
        order
            .by_spot
            .range(from..)
            .filter_map(|(spot, name)| self.names.get(name).map(|entry| (*spot, name, *entry)))
    }

    /// True if it contains an object (not only whiteouts).
    pub(crate) fn has_objects(&self) -> bool {
        self.objects > 0
    }

    /// Sets the object of `name`. Returns false if it was an object without a node. An object that
    /// replaces another, or the lower's, keeps its place in listings and its age.
    pub(super) fn set_object(
        &mut self,
        name: &Name,
        id: NodeId,
        kind: u32,
        in_lower: bool,
    ) -> bool {
        match self.names.entry(Arc::clone(name)) {
            btree_map::Entry::Occupied(mut known) => {
                if let Entry::Object {
                    id: known_id,
                    kind: known_kind,
                    ..
                } = known.get_mut()
                {
                    let was_unknown = *known_id == 0;
                    (*known_id, *known_kind) = (id, kind);
                    return !was_unknown;
                }
                let born = self.clock.birth();
                known.insert(Entry::Object { id, kind, born });
            }
            btree_map::Entry::Vacant(free) => {
                let born = if in_lower { 0 } else { self.clock.birth() };
                free.insert(Entry::Object { id, kind, born });
            }
        }
        self.objects += 1;
        self.put_in_order(name, in_lower);
        true
    }

    /// Adds an object that was found in the upper.
    pub(super) fn found_object(&mut self, name: &Name, kind: u32, in_lower: bool) {
        let (id, born) = (0, 0);
        self.take(name);
        let entry = Entry::Object { id, kind, born };
        self.names.insert(Arc::clone(name), entry);
        self.objects += 1;
        self.put_in_order(name, in_lower);
    }

    fn put_in_order(&mut self, name: &Name, in_lower: bool) {
        if let Some(order) = self.order.get_mut().filter(|_| !in_lower) {
            order.add(name);
        }
    }

    fn take(&mut self, name: &[u8]) {
        if let Some(Entry::Object { .. }) = self.names.remove(name) {
            self.objects = self.objects.saturating_sub(1);
            if let Some(order) = self.order.get_mut() {
                order.remove(name);
            }
        }
    }

    /// The lower part of the directory is another, with `lower_directories` subdirectories.
    pub(crate) fn lower_changed(
        &mut self,
        lower_directories: u32,
        is_lower_directory: impl Fn(&[u8]) -> bool,
    ) {
        // Names that only the upper has may now be in the lower, and the other way round.
        self.order = OnceLock::new();
        let mut count = lower_directories;
        for (name, entry) in &self.names {
            if is_lower_directory(name) {
                count = count.saturating_sub(1);
            }
            if matches!(entry, Entry::Object { kind, .. } if *kind == DIRECTORY) {
                count = count.saturating_add(1);
            }
        }
        self.subdirectories = count;
    }

    /// The node of `name` is no longer in the tree.
    pub(super) fn forget_node(&mut self, name: &[u8]) {
        if let Some(Entry::Object { id, .. }) = self.names.get_mut(name) {
            *id = 0;
        }
    }

    /// Hides `name` by a whiteout.
    pub(crate) fn set_whiteout(&mut self, name: &Name) {
        self.take(name);
        self.names.insert(Arc::clone(name), Entry::Whiteout);
    }

    /// The upper has no object of this name any more.
    pub fn clear(&mut self, name: &[u8]) {
        self.take(name);
    }
}

/// Names in the order of listings.
#[derive(Debug)]
struct Order {
    lower_count: u32,
    by_spot: BTreeMap<Spot, Name>,
    /// Names whose own place was occupied when they were added.
    displaced: BTreeMap<Name, Spot>,
}

impl Order {
    fn new(lower_count: u32) -> Order {
        Order {
            lower_count,
            by_spot: BTreeMap::new(),
            displaced: BTreeMap::new(),
        }
    }

    fn add(&mut self, name: &Name) {
        self.add_at(Spot::of(name, self.lower_count), name);
    }

    fn add_at(&mut self, own: Spot, name: &Name) {
        let mut spot = own;
        while self.by_spot.contains_key(&spot) {
            spot = spot.next();
        }
        if spot != own {
            self.displaced.insert(Arc::clone(name), spot);
        }
        self.by_spot.insert(spot, Arc::clone(name));
    }

    /// Removes `name` if it exists.
    fn remove(&mut self, name: &[u8]) {
        let own = || Spot::of(name, self.lower_count);
        let spot = self.displaced.remove(name).unwrap_or_else(own);
        if self.by_spot.get(&spot).is_some_and(|here| **here == *name) {
            self.by_spot.remove(&spot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::cookie::Cookie;

    fn name(text: &str) -> Name {
        Arc::from(text.as_bytes())
    }

    fn listed(listing: &Listing) -> Vec<Name> {
        let all = listing.objects_from(Cookie::after(0, 0).next(), 0, |name| {
            name.starts_with(b"low")
        });
        all.map(|(_, name, _)| Arc::clone(name)).collect()
    }

    #[test]
    fn the_order_is_the_same_whether_names_come_before_or_after_the_first_listing() {
        let names: Vec<Name> = (0..500).map(|number| name(&format!("n{number}"))).collect();
        let (mut before, mut after) = (Listing::default(), Listing::default());
        assert!(listed(&after).is_empty());
        for (listing, order) in [(&mut before, [0, 1]), (&mut after, [1, 0])] {
            for odd in order {
                for (_, name) in names.iter().enumerate().filter(|(at, _)| at % 2 == odd) {
                    assert!(listing.set_object(name, 7, 0, false));
                }
            }
            listing.set_object(&name("low"), 8, 0, true);
        }
        assert_eq!(listed(&before).len(), 500);
        assert_eq!(listed(&before), listed(&after));
        for listing in [&mut before, &mut after] {
            names.iter().take(100).for_each(|name| listing.clear(name));
            listing.set_whiteout(&names[100]);
            listing.clear(b"low");
        }
        assert_eq!(listed(&before).len(), 399);
        assert_eq!(listed(&before), listed(&after));
        assert!(!listed(&before).contains(&names[3]));
    }

    #[test]
    fn names_of_one_spot_come_and_go_apart() {
        let mut order = Order::new(0);
        let (one, two, three) = (name("one"), name("two"), name("three"));
        let spot = Spot::of(&one, 0);
        order.add_at(spot, &one);
        order.add_at(spot, &two);
        order.add_at(spot, &three);
        order.remove(&one);
        assert_eq!(order.by_spot.len(), 2);
        order.remove(&three);
        order.remove(&three);
        assert_eq!(order.by_spot.values().collect::<Vec<_>>(), [&two]);
        order.remove(&two);
        assert!(order.by_spot.is_empty() && order.displaced.is_empty());
    }

    #[test]
    fn only_what_nobody_had_asked_for_is_no_new_name() {
        let mut listing = Listing::default();
        let known = name("known");
        listing.found_object(&known, 0, false);
        assert!(!listing.set_object(&known, 5, 0, false));
        assert!(listing.set_object(&known, 6, 0, false));
        listing.set_whiteout(&known);
        assert!(!listing.has_objects());
        assert!(listing.set_object(&known, 7, 0, false));
        listing.forget_node(&known);
        assert!(matches!(
            listing.get(&known),
            Some(Entry::Object { id: 0, born: 1, .. })
        ));
    }
}
