//! What changes in a machine's state from one revision to the next?
//!
//! A [`Document`] is a state as JSON in pieces: its fields, and of long lists their items. Nothing
//! here knows what the pieces mean, so a field that this version does not know is kept and changed
//! like any other. Pieces are shared: control holds those of a site once for all machines and all
//! revisions in which the site is the same.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

use crate::{
    Digest,
    state::{MachineState, Revision},
};

/// The items of a list by their keys, in whose order they stand in the document.
pub type Items = BTreeMap<String, Arc<RawValue>>;

/// A machine's state in pieces.
#[derive(Clone, Default)]
pub struct Document {
    parts: BTreeMap<String, Part>,
}

/// The value of one field of a document.
#[derive(Clone)]
enum Part {
    Whole(Arc<RawValue>),
    Items(Arc<Items>),
}

/// What turns the document at one revision into that at a later one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Only the document at this very revision can be changed.
    pub since: Revision,
    pub revision: Revision,
    /// Fields whose values are replaced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Piece>,
    /// Fields that are there no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleared: Vec<String>,
    /// Lists of which some items are replaced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, ListChange>,
}

/// Items that are new or replace those of the same key, and keys that are there no longer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListChange {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<Piece>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// Some JSON, as it was written. Never logged: it may hold a private key.
#[derive(Clone)]
pub struct Piece(pub Arc<RawValue>);

/// Why a document cannot be changed, or read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("it is no document of the expected shape")]
    Shape(#[from] serde_json::Error),
    #[error("the change is for revision {}, and here is {}", since.0, current.0)]
    NotSince { since: Revision, current: Revision },
    #[error("the change does not lead to a later revision")]
    NotLater,
}

/// `value` as JSON text.
pub fn piece<T: Serialize>(value: &T) -> Arc<RawValue> {
    let text = serde_json::value::to_raw_value(value);
    Arc::from(text.expect("words and documents always have a JSON form"))
}

/// What an item is found by among those of its list: its `id`, else its `name`, else its digest.
pub fn key(item: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Keyed {
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        name: Option<String>,
    }
    let named = serde_json::from_str::<Keyed>(item.get()).ok();
    let named = named.and_then(|Keyed { id, name }| id.or(name));
    named.unwrap_or_else(|| Digest::of(item.get().as_bytes()).to_string())
}

/// The items of a list by key.
pub fn items(list: impl IntoIterator<Item = Arc<RawValue>>) -> Items {
    list.into_iter().map(|item| (key(&item), item)).collect()
}

impl Document {
    /// The document of `state`.
    pub fn of(state: &MachineState) -> Self {
        Self::fields(state)
    }

    /// A document of the fields of `value`, which is an object.
    pub fn fields<T: Serialize>(value: &T) -> Self {
        Self::parse(piece(value).get()).expect("states are objects")
    }

    /// Reads a document. What its fields hold is looked at by [`state`](Self::state).
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
        let parts = fields.into_iter().map(|(name, value)| (name, Part::Whole(value.into())));
        Ok(Document { parts: parts.collect() })
    }

    /// Puts `value` in place of the field `name`.
    #[must_use]
    pub fn with(mut self, name: &str, value: Arc<RawValue>) -> Self {
        self.parts.insert(name.to_owned(), Part::Whole(value));
        self
    }

    /// Puts a list in place of the field `name`.
    #[must_use]
    pub fn with_items(mut self, name: &str, items: Arc<Items>) -> Self {
        self.parts.insert(name.to_owned(), Part::Items(items));
        self
    }

    /// Takes the list `name` out, item by item; empty when there is no such list.
    pub fn take_items(&mut self, name: &str) -> Result<Items, DocumentError> {
        self.parts.remove(name).map_or_else(|| Ok(Items::new()), |part| part.items())
    }

    /// The document without those of its parts that are lists of items.
    #[must_use]
    pub fn without_items(mut self) -> Self {
        self.parts.retain(|_, part| matches!(part, Part::Whole(_)));
        self
    }

    /// Zero when it says none.
    pub fn revision(&self) -> Revision {
        let revision = match self.parts.get("revision") {
            Some(Part::Whole(value)) => serde_json::from_str(value.get()).ok(),
            _ => None,
        };
        revision.unwrap_or_default()
    }

    /// What the document says.
    pub fn state(&self) -> Result<MachineState, DocumentError> {
        Ok(serde_json::from_str(&self.text())?)
    }

    /// The document as JSON.
    pub fn text(&self) -> String {
        format!("{{{}}}", self.inner_text())
    }

    /// The fields of the document as JSON, without the braces around them.
    pub fn inner_text(&self) -> String {
        let bytes: usize = self.parts.iter().map(|(name, part)| name.len() + 4 + part.len()).sum();
        let mut text = String::with_capacity(bytes);
        for (name, part) in &self.parts {
            let comma = if text.is_empty() { "" } else { "," };
            text.push_str(comma);
            text.push_str(piece(name).get());
            text.push(':');
            part.write(&mut text);
        }
        text
    }

    /// What the document is known by: a digest of its fields, each by the digest of its value.
    pub fn digest(&self) -> Digest {
        let digest = |part: &Part| match part {
            Part::Whole(value) => Digest::of(value.get().as_bytes()),
            Part::Items(items) => items_digest(items),
        };
        digest_of(self.parts.iter().map(|(name, part)| (name.as_str(), digest(part))))
    }

    /// The digest of the document with `lists`, by the digests of their values, put in.
    pub fn digest_with<'a>(&'a self, lists: impl Iterator<Item = (&'a str, Digest)>) -> Digest {
        let own = self.parts.iter().filter_map(|(name, part)| match part {
            Part::Whole(value) => Some((name.as_str(), Digest::of(value.get().as_bytes()))),
            Part::Items(_) => None,
        });
        digest_of(own.chain(lists).collect::<BTreeMap<_, _>>().into_iter())
    }

    /// What turns this document into `newer`.
    pub fn change_to(&self, newer: &Document) -> Change {
        let mut change =
            Change { since: self.revision(), revision: newer.revision(), ..Change::default() };
        for (name, part) in &newer.parts {
            match (self.parts.get(name), part) {
                _ if name == "revision" => {}
                (Some(Part::Items(older)), Part::Items(newer)) => {
                    if let Some(list) = ListChange::between(older, newer) {
                        change.lists.insert(name.clone(), list);
                    }
                }
                (Some(Part::Whole(older)), Part::Whole(newer)) if older.get() == newer.get() => {}
                (_, part) => drop(change.fields.insert(name.clone(), part.piece())),
            }
        }
        let gone = self.parts.keys().filter(|name| !newer.parts.contains_key(*name));
        change.cleared = gone.cloned().collect();
        change
    }

    /// The document after `change`. This one stays as it is.
    pub fn changed(&self, change: &Change) -> Result<Self, DocumentError> {
        let (since, current) = (change.since, self.revision());
        if since != current {
            return Err(DocumentError::NotSince { since, current });
        }
        if change.revision <= since {
            return Err(DocumentError::NotLater);
        }
        let mut changed = self.clone();
        for (name, Piece(value)) in &change.fields {
            changed.parts.insert(name.clone(), Part::Whole(Arc::clone(value)));
        }
        for name in &change.cleared {
            changed.parts.remove(name);
        }
        for (name, list) in &change.lists {
            let items = list.applied_to(changed.parts.get(name).map(Part::items).transpose()?);
            changed.parts.insert(name.clone(), Part::Items(Arc::new(items)));
        }
        changed.parts.insert("revision".to_owned(), Part::Whole(piece(&change.revision)));
        Ok(changed)
    }
}

fn digest_of<'a>(fields: impl Iterator<Item = (&'a str, Digest)>) -> Digest {
    let mut text = String::new();
    for (name, digest) in fields {
        text.push_str(&format!("{digest} {name}\n"));
    }
    Digest::of(text.as_bytes())
}

/// A list of items as JSON.
pub fn items_text(items: &Items) -> String {
    let mut text = String::with_capacity(items.values().map(|item| item.get().len() + 1).sum());
    write_items(items, &mut text);
    text
}

/// The digest of a list's JSON.
pub fn items_digest(items: &Items) -> Digest {
    Digest::of(items_text(items).as_bytes())
}

fn write_items(items: &Items, text: &mut String) {
    text.push('[');
    for (index, item) in items.values().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(item.get());
    }
    text.push(']');
}

impl ListChange {
    /// What turns the list `older` into `newer`; `None` when they are the same.
    pub fn between(older: &Arc<Items>, newer: &Arc<Items>) -> Option<Self> {
        let mut change = ListChange::default();
        if Arc::ptr_eq(older, newer) {
            return None;
        }
        for (key, item) in newer.iter() {
            let is_same =
                older.get(key).is_some_and(|old| Arc::ptr_eq(old, item) || old.get() == item.get());
            if !is_same {
                change.put.push(Piece(Arc::clone(item)));
            }
        }
        change.drop = older.keys().filter(|key| !newer.contains_key(*key)).cloned().collect();
        (change != ListChange::default()).then_some(change)
    }

    fn applied_to(&self, items: Option<Items>) -> Items {
        let mut items = items.unwrap_or_default();
        for key in &self.drop {
            items.remove(key);
        }
        for Piece(item) in &self.put {
            items.insert(key(item), Arc::clone(item));
        }
        items
    }
}

impl Part {
    /// The items, of which a list that was read as a whole is cut into now.
    fn items(&self) -> Result<Items, DocumentError> {
        match self {
            Part::Items(items) => Ok(Items::clone(items)),
            Part::Whole(list) => {
                let list: Vec<Box<RawValue>> = serde_json::from_str(list.get())?;
                Ok(items(list.into_iter().map(Arc::from)))
            }
        }
    }

    fn piece(&self) -> Piece {
        match self {
            Part::Whole(value) => Piece(Arc::clone(value)),
            Part::Items(items) => Piece(piece(&items.values().collect::<Vec<_>>())),
        }
    }

    fn len(&self) -> usize {
        match self {
            Part::Whole(value) => value.get().len(),
            Part::Items(items) => {
                items.values().map(|item| item.get().len() + 1).sum::<usize>() + 2
            }
        }
    }

    fn write(&self, text: &mut String) {
        match self {
            Part::Whole(value) => text.push_str(value.get()),
            Part::Items(items) => write_items(items, text),
        }
    }
}

/// Shown by its size alone: states hold private keys.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.parts.values().map(Part::len).sum();
        f.debug_struct("Document")
            .field("revision", &self.revision())
            .field("bytes", &bytes)
            .finish()
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.inner_text() == other.inner_text()
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = RawValue::from_string(self.text()).map_err(serde::ser::Error::custom)?;
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Document::parse(text.get()).map_err(D::Error::custom)
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.0.get().len())
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Piece(Arc::from(Box::<RawValue>::deserialize(deserializer)?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A document of one field and two lists, of which one has items without a name.
    fn document(revision: u64, region: u8, sites: &BTreeMap<u8, u8>, others: &[u8]) -> Document {
        let sites = sites
            .iter()
            .map(|(name, value)| piece(&json!({"name": format!("site{name:03}"), "value": value})));
        let others = others.iter().map(|value| piece(&json!({"names": ["x"], "value": value})));
        let mut fields = json!({"role": "edge", "revision": revision});
        // A field that comes and goes.
        if region > 100 {
            fields["region"] = json!(region);
        }
        Document::fields(&fields)
            .with_items("sites", Arc::new(items(sites)))
            .with_items("others", Arc::new(items(others)))
    }

    prop_compose! {
        fn any_content()(
            region: u8,
            sites in proptest::collection::btree_map(0u8..12, 0u8..3, 0..12),
            others in proptest::collection::vec(0u8..6, 0..6),
        ) -> (u8, BTreeMap<u8, u8>, Vec<u8>) { (region, sites, others) }
    }

    proptest! {
        /// What a machine holds after any changes, sent as text, is what the whole state says.
        #[test]
        fn changes_lead_to_the_whole_document(
            contents in proptest::collection::vec(any_content(), 1..8),
        ) {
            let documents: Vec<_> = contents
                .iter()
                .zip(1..)
                .map(|((region, sites, others), revision)| document(revision, *region, sites, others))
                .collect();
            let mut held = Document::parse(&documents[0].text()).unwrap();
            for (older, newer) in documents.iter().zip(&documents[1..]) {
                let text = serde_json::to_string(&older.change_to(newer)).unwrap();
                held = held.changed(&serde_json::from_str(&text).unwrap()).unwrap();
                prop_assert_eq!(held.text(), newer.text());
                prop_assert_eq!(held.digest(), newer.digest());
            }
            // And at once from the first to the last.
            if let [first, .., last] = &documents[..] {
                let held = Document::parse(&first.text()).unwrap();
                prop_assert_eq!(held.changed(&first.change_to(last)).unwrap().text(), last.text());
            }
        }

        #[test]
        fn any_text_is_a_change_or_refused(text in "\\PC{0,200}", list in "\\PC{0,40}") {
            let held = Document::parse(r#"{"revision":1,"sites":[{"name":"a"}],"odd":3}"#).unwrap();
            let _ = serde_json::from_str::<Change>(&text).map(|change| held.changed(&change));
            let change = json!({"since": 1, "revision": 2, "lists": {list: {"put": [1], "drop": ["a"]}}});
            let _ = held.changed(&serde_json::from_value(change).unwrap());
        }
    }

    #[test]
    fn a_change_is_for_one_revision_and_leads_to_a_later_one() {
        let held = document(5, 0, &BTreeMap::new(), &[]);
        let change = |since, revision| Change {
            since: Revision(since),
            revision: Revision(revision),
            ..Change::default()
        };
        assert!(matches!(held.changed(&change(4, 6)), Err(DocumentError::NotSince { .. })));
        assert!(matches!(held.changed(&change(5, 5)), Err(DocumentError::NotLater)));
        assert_eq!(held.changed(&change(5, 6)).unwrap().revision(), Revision(6));
    }

    #[test]
    fn what_is_no_list_cannot_be_changed_item_by_item() {
        let held = Document::parse(r#"{"revision":1,"region":"eu"}"#).unwrap();
        let change = r#"{"since":1,"revision":2,"lists":{"region":{"put":[{"name":"a"}]}}}"#;
        assert!(held.changed(&serde_json::from_str(change).unwrap()).is_err());
        assert_eq!(held.text(), r#"{"region":"eu","revision":1}"#);
    }

    #[test]
    fn a_document_is_known_by_its_digest_however_it_is_held() {
        let whole = document(1, 200, &BTreeMap::from([(1, 1)]), &[7, 8]);
        let read = Document::parse(&whole.text()).unwrap();
        assert_eq!(read.digest(), whole.digest());
        let own = whole.clone().without_items();
        let lists = whole.parts.iter().filter_map(|(name, part)| match part {
            Part::Items(items) => Some((name.as_str(), items_digest(items))),
            Part::Whole(_) => None,
        });
        assert_eq!(own.digest_with(lists), whole.digest());
        assert_ne!(document(2, 200, &BTreeMap::from([(1, 1)]), &[7, 8]).digest(), whole.digest());
        assert_ne!(own.digest(), whole.digest());
    }

    #[test]
    fn only_what_changed_is_told() {
        let site = |value: u8| BTreeMap::from([(1, 1), (2, value)]);
        let change = document(1, 0, &site(1), &[7]).change_to(&document(2, 0, &site(2), &[7]));
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"since":1,"revision":2,"lists":{"sites":{"put":[{"name":"site002","value":2}]}}}"#
        );
    }

    #[test]
    fn what_a_document_holds_is_never_shown_by_accident() {
        let held = Document::parse(r#"{"revision":1,"key_pem":"secret"}"#).unwrap();
        let change = held.change_to(&Document::parse(r#"{"key_pem":"secret2"}"#).unwrap());
        assert!(!format!("{held:?} {change:?}").contains("secret"));
    }
}
